//! The models of a merge as their tokenizers are asked.

use std::rc::Rc;

use debias_weights::Checkpoint;

use super::messages::refused;
use super::tokens::Tokens;
use crate::error::Error;

/// One model of the merge.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Speaker<'a> {
    /// As the recipe names it.
    pub label: &'a str,
    /// Its folder.
    pub checkpoint: &'a Checkpoint,
    /// Rows of its embedding matrix.
    pub rows: usize,
}

impl Speaker<'_> {
    pub(super) fn error(&self, problem: impl Into<String>) -> Error {
        refused(self.label, problem)
    }
}

/// The model or folder whose tokenizer the output takes.
pub(super) struct Voice<'a> {
    pub label: &'a str,
    pub checkpoint: &'a Checkpoint,
    /// Its place among the speakers.
    pub at: Option<usize>,
    /// Rows of its embedding matrix, if it has a part in the merge.
    pub rows: Option<usize>,
    pub tokens: Rc<Tokens>,
}
