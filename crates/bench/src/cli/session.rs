//! What every command is given.

use crate::terminal::printer::Printer;

/// What every command gets besides its own arguments.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Session {
    /// Where to print.
    pub printer: Printer,
    /// Whether results are JSON.
    pub json: bool,
}

impl Session {
    /// Prints one JSON object.
    pub(super) fn print_json(&self, value: &impl serde::Serialize) -> anyhow::Result<()> {
        self.printer.result(&serde_json::to_string_pretty(value)?)
    }
}
