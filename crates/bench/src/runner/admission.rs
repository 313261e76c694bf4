//! From the records of a dataset to those that a model is edited on.

use std::collections::{BTreeSet, HashMap};

use anyhow::Context;
use debias_core::{
    CONTEXTS, Cell, FilterCounts, ItemLine, OWN_ANSWER, Picture, Record, Split, Verdict,
};
use debias_edit::{Error, Needs, RecordBatch};
use debias_model::engine::{Portion, retry_in_halves};
use debias_model::{Model, in_order};
use rayon::prelude::*;

use super::computed::tags;
use super::group::CellGroup;
use crate::planner::CHUNK;

/// Takes the record that `error` is about out of `records`; any other error is passed on.
pub(super) fn refuse(records: &mut Vec<Record>, error: Error) -> anyhow::Result<ItemLine> {
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
    pub(super) fn records(&self, cell: &Cell, split: Split) -> anyhow::Result<Vec<Record>> {
        let task = cell.benchmark.task().context("records belong to a task")?;
        let mut records = self.data.collection.records(task)?;
        records.retain(|record| record.split == split);
        Ok(records)
    }

    /// The evaluation records on which the model shows the bias, oriented; at most the plan's
    /// limit, counted in the dataset's order.
    pub(super) fn admit(&mut self, cell: &Cell) -> anyhow::Result<Vec<Record>> {
        let candidates = self.records(cell, Split::Eval)?;
        let mut counts = FilterCounts::default();
        let mut admitted = Vec::new();
        let lines = self.base_lines(cell, Split::Eval, &candidates)?;
        for (record, line) in candidates.iter().zip(lines) {
            match self.verdict(record, &line)? {
                Some(verdict) => {
                    counts.count(&verdict);
                    if let Verdict::Admitted(record) = verdict {
                        admitted.push(*record);
                    }
                }
                None => {
                    counts.candidates += 1;
                    self.refused.push(ItemLine {
                        after: None,
                        ..line
                    });
                }
            }
        }
        self.filter = counts;
        Ok(admitted)
    }

    /// What the filter says of a record by the base model's answers; none where it has none.
    pub(super) fn verdict(
        &self,
        record: &Record,
        line: &ItemLine,
    ) -> anyhow::Result<Option<Verdict>> {
        anyhow::ensure!(
            record.id == line.id,
            "the stored answers of the base model are not in the order of the records"
        );
        let answers = line.after.as_ref();
        let scores = answers.map(|answers| {
            let contexts = CONTEXTS.into_iter();
            contexts
                .filter_map(|probe| answers.context(probe))
                .collect::<Vec<_>>()
        });
        let admission = self.planned.protocol.admission();
        let mut record = record.clone();
        if record.awaits_answer() {
            line.tag(OWN_ANSWER).clone_into(&mut record.y_more);
        }
        Ok(scores.map(|scores| admission.judge(&record, &scores)))
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
    pub(super) fn pictures<'k>(
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
