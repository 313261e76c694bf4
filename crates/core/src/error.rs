//! What can go wrong without files, tensors or a terminal.

/// Result of this crate.
pub type Result<T> = std::result::Result<T, Error>;

/// A record, name or setting that cannot be used.
#[derive(Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A record breaks a rule of [`crate::Record`].
    #[error("record `{id}`: `{field}` {problem}")]
    Record {
        /// The record's id.
        id: String,
        /// The offending field.
        field: String,
        /// What is wrong with it.
        problem: String,
    },
    /// A name that is in no registry.
    #[error("unknown {kind} `{name}`{}", suggestion.as_ref().map(|s| format!(" — did you mean `{s}`?")).unwrap_or_default())]
    Unknown {
        /// What was looked for: editor, model, setting, …
        kind: &'static str,
        /// The name as given.
        name: String,
        /// The nearest known name.
        suggestion: Option<String>,
    },
    /// A setting whose value cannot be used.
    #[error("setting `{key}`: {problem}")]
    Setting {
        /// The setting's key, as in `--set KEY=VALUE`.
        key: String,
        /// What is wrong with its value.
        problem: String,
    },
    /// A suite file that cannot be planned.
    #[error("suite {name}: {problem}")]
    Suite {
        /// The suite's name or file.
        name: String,
        /// What is wrong with it.
        problem: String,
    },
    /// A shard that is not `I/N` with `1 <= I <= N`.
    #[error("shard `{given}`: expected I/N with 1 <= I <= N, for example 3/16")]
    Shard {
        /// What was given.
        given: String,
    },
    /// The never-edited model does not agree with itself; no number of this run could be trusted.
    #[error("record `{id}`: the unedited model is not its own reference: {problem}")]
    Control {
        /// The record that shows it.
        id: String,
        /// Which exact value is missed.
        problem: String,
    },
}

impl Error {
    /// An [`Error::Unknown`] with the nearest of `known` as suggestion.
    pub fn unknown<'a>(
        kind: &'static str,
        name: &str,
        known: impl IntoIterator<Item = &'a str>,
    ) -> Self {
        Self::Unknown {
            kind,
            name: name.to_owned(),
            suggestion: nearest(name, known),
        }
    }
}

/// The entry of `known` that a typist of `name` most likely meant.
pub fn nearest<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> Option<String> {
    known
        .into_iter()
        .map(|candidate| (strsim::damerau_levenshtein(name, candidate), candidate))
        .filter(|(distance, candidate)| *distance <= (candidate.len().max(name.len()) / 2).max(1))
        .min()
        .map(|(_, candidate)| candidate.to_owned())
}
