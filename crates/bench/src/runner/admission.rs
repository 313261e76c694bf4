//! From the records of a dataset to those that a model is edited on.

use debias_core::{FilterCounts, Picture, Record, Split, Task, Verdict};
use debias_edit::{Chunk, context_scores};
use debias_model::{Mllm, in_order};

use super::Group;
use crate::planner::CHUNK;

impl<'m> Group<'m> {
    /// The records of one split, in the dataset's order.
    pub(super) fn records(&self, task: Task, split: Split) -> anyhow::Result<Vec<Record>> {
        let mut records = self.data.collection.records(task)?;
        records.retain(|record| record.split == split);
        Ok(records)
    }

    /// The evaluation records on which the model shows the bias, oriented; at most the plan's
    /// limit, counted in the dataset's order.
    pub(super) fn admit(&mut self, task: Task) -> anyhow::Result<Vec<Record>> {
        let candidates = self.records(task, Split::Eval)?;
        let limit = self.planned.limit.unwrap_or(usize::MAX);
        let what = format!("{} {}: filtering", self.model.name(), task.name());
        self.progress.start(&what, candidates.len());
        let mut counts = FilterCounts::default();
        let mut admitted = Vec::new();
        // Waves of one chunk per thread: a limit then spares the rest of a large dataset, and
        // what is counted does not depend on the number of threads.
        'waves: for wave in candidates.chunks(CHUNK * self.threads) {
            for verdict in self.judge(wave)? {
                counts.count(&verdict);
                if let Verdict::Admitted(record) = verdict {
                    admitted.push(*record);
                }
                if admitted.len() == limit {
                    break 'waves;
                }
            }
        }
        self.filter = counts;
        Ok(admitted)
    }

    /// Verdicts on `records`, in order.
    pub(super) fn judge(&self, records: &[Record]) -> anyhow::Result<Vec<Verdict>> {
        let chunks: Vec<&[Record]> = records.chunks(CHUNK).collect();
        let admission = self.planned.protocol.admission();
        let verdicts = in_order(chunks.len(), self.threads, |at| {
            self.interrupt.check()?;
            let chunk = chunks[at];
            let pictures = self.pictures(
                chunk
                    .iter()
                    .flat_map(|record| [&record.image, &record.image_rephrase]),
            )?;
            let pictures: Vec<&Picture> = pictures.iter().collect();
            let scores = context_scores(self.model, chunk, &pictures, self.templates)?;
            self.progress.advance(chunk.len());
            anyhow::Ok(
                chunk
                    .iter()
                    .zip(scores)
                    .map(|(record, scores)| admission.judge(record, &scores))
                    .collect::<Vec<_>>(),
            )
        })?;
        Ok(verdicts.into_iter().flatten().collect())
    }

    /// Cuts admitted records into chunks and scores them with the never-edited model, which must
    /// be its own reference.
    pub(super) fn chunks(&mut self, records: Vec<Record>) -> anyhow::Result<Vec<Chunk<'m>>> {
        let what = format!("{}: base scores", self.model.name());
        self.progress.start(&what, records.len());
        let pieces: Vec<&[Record]> = records.chunks(CHUNK).collect();
        let (model, this) = (self.model, &*self);
        let chunks = in_order(pieces.len(), self.threads, |at| {
            this.interrupt.check()?;
            let chunk = this.chunk(model, pieces[at].to_vec())?;
            this.progress.advance(pieces[at].len());
            anyhow::Ok(chunk)
        })?;
        let chunks: Vec<_> = chunks.into_iter().flatten().collect();
        let kept: usize = chunks.iter().map(|chunk| chunk.records().len()).sum();
        self.filter.admitted = kept;
        self.filter.unbiased += records.len() - kept;
        Ok(chunks)
    }

    /// One chunk; `None` when no record is left in it.
    ///
    /// A record that the filter saw in other company, and whose margin is so small that the last
    /// bits decide, may turn out unbiased here; it is then left out.
    fn chunk(
        &self,
        model: &'m Mllm,
        mut records: Vec<Record>,
    ) -> anyhow::Result<Option<Chunk<'m>>> {
        let admission = self.planned.protocol.admission();
        while !records.is_empty() {
            let keys = records
                .iter()
                .flat_map(|record| [&record.image, &record.image_rephrase, &record.mloc_image]);
            let pictures = self.pictures(keys)?;
            let pictures: Vec<&Picture> = pictures.iter().collect();
            let count = records.len();
            let chunk = Chunk::new(model, records, &pictures, self.templates)?;
            let scored = chunk.records().iter().zip(chunk.before());
            let biased: Vec<Record> = scored
                .clone()
                .filter(|(_, before)| admission.holds(before.contexts()))
                .map(|(record, _)| record.clone())
                .collect();
            if biased.len() == count {
                for (record, before) in scored {
                    admission.check_unedited(&record.id, before, before)?;
                }
                return Ok(Some(chunk));
            }
            records = biased;
        }
        Ok(None)
    }

    fn pictures<'k>(
        &self,
        keys: impl Iterator<Item = &'k String>,
    ) -> debias_data::Result<Vec<Picture>> {
        keys.map(|key| self.data.collection.picture(key)).collect()
    }

    /// One decoded picture.
    pub(super) fn picture(&self, key: &str) -> debias_data::Result<Picture> {
        self.data.collection.picture(key)
    }
}
