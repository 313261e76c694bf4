//! How a check is carried out, and what it finds.

use serde::Serialize;

/// How a check is carried out.
#[derive(Clone, Copy, Default)]
pub struct Options<'a> {
    /// Seed of everything random.
    pub seed: u64,
    /// Highest resident memory of the process so far, where the system says it (C20).
    pub peak_bytes: Option<fn() -> u64>,
    /// [`digest`](super::digest) of the same editor, world, settings and seed, computed by another process (C4).
    pub elsewhere: Option<&'a dyn Fn() -> std::result::Result<String, String>>,
}

/// Whether an editor has a property.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "verdict", content = "detail", rename_all = "snake_case")]
pub enum Verdict {
    /// It has; with what was seen.
    Passed(String),
    /// It has not; why, with numbers.
    Failed(String),
    /// It does not apply; why.
    NotApplicable(String),
}

impl Verdict {
    /// What was seen.
    pub fn detail(&self) -> &str {
        match self {
            Self::Passed(detail) | Self::Failed(detail) | Self::NotApplicable(detail) => detail,
        }
    }

    /// Whether the property is missing.
    pub fn is_failed(&self) -> bool {
        matches!(self, Self::Failed(_))
    }

    /// Failed where there are `problems`, else passed with what was seen.
    pub(super) fn of(problems: Vec<String>, seen: impl Into<String>) -> Self {
        match problems.is_empty() {
            true => Self::Passed(seen.into()),
            false => Self::Failed(problems.join("; ")),
        }
    }
}
