//! Another model in place of the one a chunk was scored with: how a merge is judged.

use std::collections::HashMap;

use debias_core::{Picture, RecordScores};
use debias_model::{Batch, Model, Parameters, Stage};

use super::{Probes, RecordBatch, look};
use crate::error::{Error, Result};

impl RecordBatch<'_> {
    /// Scores every record with `by` in place of this chunk's model, which stays the reference of
    /// both localities.
    ///
    /// `pictures` holds those that the chunk was made with: the tower may be another one too.
    ///
    /// # Errors
    /// [`Error::OtherTokens`] when `by` reads a text in other tokens or has another vocabulary; a
    /// record that it cannot read; logits that are not finite.
    pub fn replaced(
        &self,
        by: &Model,
        pictures: &HashMap<String, Picture>,
    ) -> Result<Vec<RecordScores>> {
        let (seen, elsewhere) = look(by, &self.records, pictures)?;
        let (probes, _) = Probes::new(by, &self.records, (&seen, &elsewhere), &self.templates)?;
        let vocabulary = |model: &Model| model.decoder().outline().vocabulary;
        let rows = |items: &Option<Batch>| items.as_ref().map(|items| items.rows().to_vec());
        let comparable = vocabulary(self.model) == vocabulary(by)
            && rows(&self.start.m_locality) == rows(&probes.m_locality)
            && rows(&self.start.t_locality) == rows(&probes.t_locality);
        if !comparable {
            return Err(Error::OtherTokens {
                model: by.name().to_owned(),
            });
        }
        let view = by.base();
        self.score(by, probes.run(by, Stage::Head, &view), &view)
    }
}
