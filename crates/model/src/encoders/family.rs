//! What a family of encoders is, and what it loads.

use super::stack::{Head, Stack};
use crate::decoders::Home;
use crate::error::Result;
use crate::loader::Loader;

/// What a family loads.
pub(super) struct EncoderParts {
    pub stack: Stack,
    pub head: Option<Head>,
    /// Of the classifier, by index; empty without one.
    pub labels: Vec<String>,
    /// Names that a file may hold and no layer reads (see [`crate::names::refuse_unused`]).
    pub optional: Vec<String>,
}

/// A family: its name in `config.json`, and how to load it.
pub(super) struct EncoderFamily {
    pub model_type: &'static str,
    pub load: fn(&mut Loader, Home) -> Result<EncoderParts>,
}
