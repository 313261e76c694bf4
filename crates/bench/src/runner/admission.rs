//! From the records of a dataset to those that a model is edited on.

use std::collections::{BTreeSet, HashMap};

use debias_core::{FilterCounts, ItemLine, Picture, Record, Split, Task, Verdict};
use debias_edit::{Error, Needs, RecordBatch, context_scores};
use debias_model::{Model, in_order};
use rayon::prelude::*;

use super::CellGroup;
use super::cell::tags;
use crate::planner::CHUNK;
use debias_model::engine::{Portion, retry_in_halves};

/// What became of a record: a verdict, or the line that says why there is none.
type Judged = Result<Verdict, ItemLine>;

/// Takes the record that `error` is about out of `records`; any other error is passed on.
fn refuse(records: &mut Vec<Record>, error: Error) -> anyhow::Result<ItemLine> {
    let at = match &error {
        Error::Record { id, .. } => records.iter().position(|record| record.id == *id),
        _ => None,
    };
    let Some(at) = at else {
        return Err(error.into());
    };
    let record = records.remove(at);
    Ok(ItemLine {
        error: Some(error.to_string()),
        tags: tags(&record),
        id: record.id,
        ..ItemLine::default()
    })
}

impl<'m> CellGroup<'m> {
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
        let portion = self.portion(&candidates, 0)?;
        // Waves of one chunk per thread: a limit then spares the rest of a large dataset, and
        // what is counted does not depend on the number of threads.
        'waves: for wave in candidates.chunks(portion.size * self.threads) {
            for judged in self.judge(wave, portion)? {
                match judged {
                    Ok(verdict) => {
                        counts.count(&verdict);
                        if let Verdict::Admitted(record) = verdict {
                            admitted.push(*record);
                        }
                    }
                    Err(refused) => {
                        counts.candidates += 1;
                        self.refused.push(refused);
                    }
                }
                if admitted.len() == limit {
                    break 'waves;
                }
            }
        }
        self.filter = counts;
        Ok(admitted)
    }

    /// What becomes of `records`, in order; in each chunk those that the model cannot read last.
    pub(super) fn judge(
        &self,
        records: &[Record],
        portion: Portion,
    ) -> anyhow::Result<Vec<Judged>> {
        let chunks: Vec<&[Record]> = records.chunks(portion.size).collect();
        let verdicts = in_order(chunks.len(), portion.workers, |at| {
            self.interrupt.check()?;
            let judged = retry_in_halves(chunks[at], &|n| self.too_many(n), &|records| {
                self.judge_chunk(records.to_vec())
            })?;
            self.progress.advance(chunks[at].len());
            anyhow::Ok(judged.concat())
        })?;
        Ok(verdicts.concat())
    }

    fn judge_chunk(&self, mut chunk: Vec<Record>) -> anyhow::Result<Vec<Judged>> {
        let admission = self.planned.protocol.admission();
        let mut refused = Vec::new();
        let scores = loop {
            let keys = chunk.iter().flat_map(|r| [&r.image, &r.image_rephrase]);
            let pictures = self.pictures(keys.flatten())?;
            match context_scores(self.model, &chunk, &pictures, self.templates) {
                _ if chunk.is_empty() => break Vec::new(),
                Ok(scores) => break scores,
                Err(error) => refused.push(Err(refuse(&mut chunk, error)?)),
            }
        };
        let judged = chunk.iter().zip(scores);
        let verdicts = judged.map(|(record, scores)| Ok(admission.judge(record, &scores)));
        Ok(verdicts.chain(refused).collect())
    }

    /// Cuts admitted records into chunks and scores them with the never-edited model, which must
    /// be its own reference.
    pub(super) fn chunks(&mut self, records: Vec<Record>) -> anyhow::Result<Vec<RecordBatch<'m>>> {
        let what = format!("{}: base scores", self.model.name());
        self.progress.start(&what, records.len());
        if self.model.room().is_some() {
            let each = Needs::of(self.model, &records, self.templates).kept;
            self.kept = each.saturating_mul(records.len() as u64);
        }
        let portion = self.portion(&records, 0)?;
        let pieces: Vec<&[Record]> = records.chunks(portion.size).collect();
        let (model, this) = (self.model, &*self);
        let chunks = in_order(pieces.len(), portion.workers, |at| {
            this.interrupt.check()?;
            let chunks = retry_in_halves(pieces[at], &|n| this.too_many(n), &|records| {
                this.chunk(model, records.to_vec())
            })?;
            this.progress.advance(pieces[at].len());
            anyhow::Ok(chunks)
        })?;
        let (chunks, refused): (Vec<_>, Vec<_>) = chunks.into_iter().flatten().unzip();
        let chunks: Vec<_> = chunks.into_iter().flatten().collect();
        let refused: Vec<_> = refused.into_iter().flatten().collect();
        let kept: usize = chunks.iter().map(|chunk| chunk.records().len()).sum();
        self.filter.admitted = kept;
        self.filter.unbiased += records.len() - kept - refused.len();
        self.refused.extend(refused);
        Ok(chunks)
    }

    /// How many of `records` are computed at once, each with `more` bytes of its own: [`CHUNK`], or
    /// what fits into the memory that may be taken.
    pub(super) fn portion(&self, records: &[Record], more: u64) -> anyhow::Result<Portion> {
        let usual = Portion {
            size: CHUNK,
            workers: self.workers,
        };
        let Some(room) = self.model.room() else {
            return Ok(usual);
        };
        let each = Needs::of(self.model, records, self.templates).passing;
        let left = room.saturating_sub(self.kept);
        Ok(usual.within(left, each.saturating_add(more), "record")?)
    }

    /// Says that the device has no room for more than `n` records at a time.
    pub(super) fn too_many(&self, n: usize) {
        self.progress.warn(&format!(
            "the device is out of memory; trying {n} records at a time, which may change last bits"
        ));
    }

    /// Records that are known to be admitted, scored again in chunks of another size.
    pub(super) fn rechunked(
        &self,
        records: &[Record],
        portion: Portion,
    ) -> anyhow::Result<Vec<RecordBatch<'m>>> {
        let pieces: Vec<&[Record]> = records.chunks(portion.size.max(1)).collect();
        let chunks = in_order(pieces.len(), portion.workers, |at| {
            self.interrupt.check()?;
            anyhow::Ok(self.chunk(self.model, pieces[at].to_vec())?.0)
        })?;
        Ok(chunks.into_iter().flatten().collect())
    }

    /// One chunk, `None` when no record is left in it; and the records the model cannot read.
    ///
    /// A record that the filter saw in other company, and whose margin is so small that the last
    /// bits decide, may turn out unbiased here; it is then left out.
    fn chunk(
        &self,
        model: &'m Model,
        mut records: Vec<Record>,
    ) -> anyhow::Result<(Option<RecordBatch<'m>>, Vec<ItemLine>)> {
        let admission = self.planned.protocol.admission();
        let mut refused = Vec::new();
        while !records.is_empty() {
            let pictures = self.pictures_of(&records)?;
            let count = records.len();
            let chunk = match RecordBatch::new(model, records.clone(), &pictures, self.templates) {
                Ok(chunk) => chunk,
                Err(error) => {
                    refused.push(refuse(&mut records, error)?);
                    continue;
                }
            };
            let scored = chunk.records().iter().zip(chunk.before());
            let biased: Vec<Record> = scored
                .clone()
                .filter(|(_, before)| admission.holds(&before.contexts()))
                .map(|(record, _)| record.clone())
                .collect();
            if biased.len() == count {
                for (record, before) in scored {
                    admission.check_unedited(&record.id, before, before)?;
                }
                return Ok((Some(chunk), refused));
            }
            records = biased;
        }
        Ok((None, refused))
    }

    /// Every picture that `records` name, decoded.
    pub(super) fn pictures_of(
        &self,
        records: &[Record],
    ) -> debias_data::Result<HashMap<String, Picture>> {
        self.pictures(records.iter().flat_map(Record::images).map(|(_, key)| key))
    }

    /// Decoded pictures by their keys.
    fn pictures<'k>(
        &self,
        keys: impl Iterator<Item = &'k String>,
    ) -> debias_data::Result<HashMap<String, Picture>> {
        let keys: BTreeSet<&String> = keys.collect();
        let pictures = keys.par_iter().map(|key| {
            let picture = self.data.collection.picture(key)?;
            Ok(((*key).clone(), picture))
        });
        pictures.collect()
    }

    /// One decoded picture.
    pub(super) fn picture(&self, key: &str) -> debias_data::Result<Picture> {
        self.data.collection.picture(key)
    }
}
