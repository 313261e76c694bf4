//! Another model in place of the one a chunk was scored with: how a merge is judged.

use debias_core::{Picture, RecordScores};
use debias_model::{Batch, Mllm, Parameters, Stage};

use super::{Chunk, Probes, look};
use crate::error::{Error, Result};

impl Chunk<'_> {
    /// Scores every record with `by` in place of this chunk's model, which stays the reference of
    /// both localities.
    ///
    /// `pictures` holds [`PICTURES`](super::PICTURES) per record, those that the chunk was made
    /// with: the tower may be another one too.
    ///
    /// # Errors
    /// [`Error::OtherTokens`] when `by` reads a text in other tokens or has another vocabulary; a
    /// record that it cannot read; logits that are not finite.
    pub fn replaced(&self, by: &Mllm, pictures: &[&Picture]) -> Result<Vec<RecordScores>> {
        let (seen, elsewhere) = look(by, pictures)?;
        let probes = Probes::new(by, &self.records, (&seen, &elsewhere), &self.templates)?;
        let vocabulary = |model: &Mllm| model.decoder().outline().vocabulary;
        let same = |own: &Batch, other: &Batch| own.rows() == other.rows();
        let comparable = vocabulary(self.model) == vocabulary(by)
            && same(&self.start.m_locality, &probes.m_locality)
            && same(&self.start.t_locality, &probes.t_locality);
        if !comparable {
            return Err(Error::OtherTokens {
                model: by.name().to_owned(),
            });
        }
        let view = by.base();
        self.score(by, probes.run(by, Stage::Head, &view), &view)
    }
}
