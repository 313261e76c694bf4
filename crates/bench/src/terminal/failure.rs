//! From an error to an exit status and a line of help.

use std::fmt;

use debias_model::device::Fault;

use crate::terminal::exit::Exit;

/// An error of the program itself, with its exit status and what to do about it.
#[derive(Debug)]
pub struct Refusal {
    exit: Exit,
    message: String,
    help: Option<String>,
}

impl Refusal {
    /// An error that ends the program with `exit`.
    pub fn new(exit: Exit, message: impl Into<String>) -> Self {
        Self {
            exit,
            message: message.into(),
            help: None,
        }
    }

    /// Adds what to do about it; a sentence.
    #[must_use]
    pub fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Refusal {}

/// What to do after a fault of the device.
fn help_after(fault: &Fault) -> &'static str {
    match fault {
        Fault::OutOfMemory => {
            "Give --dtype bf16, or a --device with more memory; `bench doctor` says how much is free."
        }
        Fault::Lost(_) => "Run again: what is finished is kept. Look at nvidia-smi if it persists.",
    }
}

/// The exit status and the help line of an error, by what it is rather than by what it says.
pub fn classify(error: &anyhow::Error) -> (Exit, Option<String>) {
    // A context added on the way up may be a refusal that knows more than the cause below it.
    if let Some(refusal) = error.downcast_ref::<Refusal>() {
        return (refusal.exit, refusal.help.clone());
    }
    for cause in error.chain() {
        if let Some(refusal) = cause.downcast_ref::<Refusal>() {
            return (refusal.exit, refusal.help.clone());
        }
        if let Some(core) = core_of(cause) {
            return of_core(core);
        }
        match cause.downcast_ref::<debias_data::Error>() {
            Some(debias_data::Error::NoSuchTask { .. }) => return (Exit::Usage, None),
            Some(debias_data::Error::NewerFormat { .. }) => return (Exit::NewerFormat, None),
            _ => {}
        }
        if let Some(fault) = cause.downcast_ref() {
            return (Exit::Device, Some(help_after(fault).to_owned()));
        }
        if let Some(device) = model_of(cause).and_then(of_device) {
            return (Exit::Device, device);
        }
        if let Some(debias_edit::Error::Layer { .. }) = cause.downcast_ref() {
            return (Exit::Usage, None);
        }
    }
    (Exit::Refused, None)
}

/// The model's error that `cause` is, or passes on under its own name.
fn model_of<'e>(cause: &'e (dyn std::error::Error + 'static)) -> Option<&'e debias_model::Error> {
    match cause.downcast_ref() {
        Some(debias_edit::Error::Model(model)) => Some(model),
        _ => cause.downcast_ref(),
    }
}

/// What may help, where a device has no room or cannot go on.
fn of_device(error: &debias_model::Error) -> Option<Option<String>> {
    use debias_model::Error;
    match error {
        Error::NoRoom { .. } => Some(None),
        Error::NoRoomFor { what: "record", .. } => Some(Some(
            "A larger --max-memory, a smaller --limit, --dtype bf16 or another --device may do."
                .to_owned(),
        )),
        Error::NoRoomFor { .. } => Some(Some(
            "A larger --max-memory, --dtype bf16 or another --device may do.".to_owned(),
        )),
        Error::Device(fault) => Some(Some(help_after(fault).to_owned())),
        _ => None,
    }
}

/// The core error that `cause` is, or passes on under its own name.
fn core_of<'e>(cause: &'e (dyn std::error::Error + 'static)) -> Option<&'e debias_core::Error> {
    if let Some(debias_data::Error::Core(core)) = cause.downcast_ref() {
        return Some(core);
    }
    if let Some(debias_model::Error::Unknown(core)) = cause.downcast_ref() {
        return Some(core);
    }
    match cause.downcast_ref() {
        Some(debias_edit::Error::Core(core)) => return Some(core),
        Some(debias_edit::Error::Model(debias_model::Error::Unknown(core))) => return Some(core),
        _ => {}
    }
    cause.downcast_ref()
}

fn of_core(error: &debias_core::Error) -> (Exit, Option<String>) {
    use debias_core::Error;
    match error {
        Error::Unknown { kind, .. } => {
            let help = match *kind {
                "setting" => "`bench show EDITOR` lists an editor's settings.".to_owned(),
                "part" => "`bench show BENCHMARK` lists its parts.".to_owned(),
                "parameter" | "request" => return (Exit::Refused, None),
                "name" => "`bench list` shows what there is.".to_owned(),
                kind => format!("`bench list {kind}s` shows what there is."),
            };
            (Exit::Usage, Some(help))
        }
        Error::Setting { .. } | Error::Suite { .. } | Error::Shard { .. } => (Exit::Usage, None),
        Error::Control { .. } => (
            Exit::Gate,
            Some("The computation is not deterministic on this machine; no number of it can be trusted.".to_owned()),
        ),
        _ => (Exit::Refused, None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use anyhow::Context;

    #[test]
    fn an_unknown_name_is_wrong_usage_and_says_where_to_look() {
        let error = debias_core::Error::unknown("editor", "ftl", ["ft-l"]);
        let (exit, help) = classify(&anyhow::Error::new(error).context("planning"));
        assert_eq!(exit, Exit::Usage);
        assert_eq!(
            help.as_deref(),
            Some("`bench list editors` shows what there is.")
        );
    }

    #[test]
    fn weights_that_do_not_fit_are_no_bad_input() {
        let error = debias_model::Error::NoRoom {
            name: "lm_head.weight".to_owned(),
            needed: (9 << 20) + 1,
            limit: 8 << 20,
        };
        let said = error.to_string();
        assert!(said.contains("`lm_head.weight` they take 10 MiB"), "{said}");
        assert!(said.contains("has 8 MiB"), "{said}");
        let error = anyhow::Error::new(error).context("opening");
        assert_eq!(classify(&error).0, Exit::Device);
        let error = debias_model::Error::NoRoomFor {
            what: "line",
            each: 2 << 20,
            room: 1 << 20,
        };
        let (exit, help) = classify(&debias_edit::Error::from(error).into());
        assert!(exit == Exit::Device && help.is_some_and(|help| help.contains("--max-memory")));
        let fault = debias_model::device::Fault::OutOfMemory;
        for error in [
            anyhow::Error::new(fault.clone()),
            debias_model::Error::from(fault).into(),
        ] {
            let (exit, help) = classify(&error);
            assert!(exit == Exit::Device && help.is_some_and(|help| help.contains("--dtype bf16")));
        }
    }

    #[test]
    fn a_refusal_on_top_decides() {
        let error = Err::<(), _>(std::io::Error::other("disk"))
            .context(Refusal::new(Exit::NewerFormat, "too new").help("Upgrade."))
            .expect_err("an error");
        assert_eq!(
            classify(&error),
            (Exit::NewerFormat, Some("Upgrade.".to_owned()))
        );
    }

    #[test]
    fn anything_else_is_a_refused_input() {
        assert_eq!(classify(&anyhow::anyhow!("?")).0, Exit::Refused);
    }
}
