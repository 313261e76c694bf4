//! Edits of the output: remembered requests and a counterfactual model for what is in scope.

use debias_core::RecordScores;

use crate::error::Result;
use crate::judge::Asked;

/// Remembered requests.
#[derive(Clone, Debug, Default)]
pub struct Memory {}

impl Memory {
    /// The entries of both.
    #[must_use]
    pub fn with(self, _more: &Self) -> Self {
        todo!("SERAC")
    }

    /// Bytes of the entries.
    pub fn bytes(&self) -> usize {
        todo!("SERAC")
    }

    /// Scores one record with the memory in place.
    pub(crate) fn scores(&self, _asked: &Asked) -> Result<RecordScores> {
        todo!("SERAC")
    }
}
