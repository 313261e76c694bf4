//! `bench list`: the catalogue.

use serde_json::{Map, Value, json};

use super::Session;
use crate::catalogue::{Kind, entries};
use crate::terminal::exit::Exit;
use crate::terminal::printer::wrapped;

/// List models, editors, datasets, benchmarks, suites and metrics
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  bench list
  bench list editors
  bench list metrics --json")]
pub struct Args {
    /// Only this kind
    #[arg(value_enum)]
    kind: Option<Kind>,
}

impl Args {
    pub(super) fn execute(self, session: Session) -> anyhow::Result<Exit> {
        let kinds = match self.kind {
            Some(kind) => vec![kind],
            None => Kind::ALL.to_vec(),
        };
        let mut object = Map::new();
        let mut blocks = Vec::new();
        for kind in kinds {
            let entries = entries(kind)?;
            let width = entries
                .iter()
                .map(|entry| entry.name.len())
                .max()
                .unwrap_or(0);
            let lines: Vec<_> = entries
                .iter()
                .map(|entry| {
                    let title = wrapped(&entry.title, &" ".repeat(width + 4));
                    format!("  {:width$}  {}", entry.name, title.trim_start())
                })
                .collect();
            blocks.push(format!("{}\n{}", kind.name(), lines.join("\n")));
            let items: Vec<Value> = entries
                .iter()
                .map(|entry| json!({"name": entry.name, "title": entry.title}))
                .collect();
            object.insert(kind.name().to_owned(), items.into());
        }
        match session.json {
            true => session.print_json(&object)?,
            false => session.printer.result(&blocks.join("\n\n"))?,
        }
        Ok(Exit::Done)
    }
}
