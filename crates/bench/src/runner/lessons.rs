//! The records that an editor may learn from, as the runner hands them out.

use std::collections::BTreeSet;

use debias_core::{Cell, Picture, Record, Split, Templates, Verdict, seed};
use debias_edit::{Error, Examples, RecordBatch};
use debias_model::{ImageFeatures, View};

use super::group::{Admitted, CellGroup};

/// One group in so many is held out where a dataset has no validation split.
const HELD_OUT: usize = 10;

impl CellGroup<'_> {
    /// The admitted training and validation records. Without a validation split, a tenth of the
    /// training groups is held out.
    pub(super) fn admitted(&self, cell: &Cell) -> anyhow::Result<Admitted> {
        let mut train = self.admit_all(cell, Split::Train)?;
        let mut val = self.admit_all(cell, Split::Val)?;
        if val.is_empty() {
            let groups: BTreeSet<&str> = train.iter().map(|record| record.group.as_str()).collect();
            let mut groups: Vec<String> = groups.into_iter().map(str::to_owned).collect();
            seed::seeded_order(self.data.seed, "held-out", &mut groups);
            let held: BTreeSet<&String> = groups.iter().step_by(HELD_OUT).collect();
            // One group alone is for training.
            if groups.len() > 1 {
                let (out, rest) = train.into_iter().partition(|r| held.contains(&r.group));
                (val, train) = (out, rest);
            }
        }
        Ok(Admitted { train, val })
    }

    fn admit_all(&self, cell: &Cell, split: Split) -> anyhow::Result<Vec<Record>> {
        let records = self.records(cell, split)?;
        let mut admitted = Vec::with_capacity(records.len());
        let lines = self.base_lines(cell, split, &records)?;
        for (record, line) in records.iter().zip(lines) {
            match self.verdict(record, &line)? {
                Some(Verdict::Admitted(record)) => admitted.push(*record),
                Some(_) => {}
                None => {
                    let problem = line.error.unwrap_or_default();
                    self.progress
                        .warn(&format!("nothing is learnt from {problem}"));
                }
            }
        }
        Ok(admitted)
    }
}

/// Records of one split, their pictures encoded when asked for.
pub(super) struct OfSplit<'a> {
    pub(super) group: &'a CellGroup<'a>,
    pub(super) records: &'a [Record],
}

impl OfSplit<'_> {
    fn seen(&self, key: &str) -> debias_edit::Result<ImageFeatures> {
        let picture = self.group.picture(key).map_err(|error| Error::Elsewhere {
            editor: "training data",
            problem: error.to_string(),
        })?;
        let pictures: [&Picture; 1] = [&picture];
        Ok(self.group.model.see(&pictures, &View::base())?)
    }
}

impl Examples for OfSplit<'_> {
    fn records(&self) -> &[Record] {
        self.records
    }

    fn templates(&self) -> &Templates {
        self.group.templates
    }

    fn see(&self, _at: usize, key: &str) -> debias_edit::Result<ImageFeatures> {
        self.seen(key)
    }
}

/// The evaluation requests themselves.
pub(super) struct OfChunks<'a> {
    chunks: &'a [RecordBatch<'a>],
    records: Vec<Record>,
    templates: &'a Templates,
}

impl<'a> OfChunks<'a> {
    pub(super) fn new(chunks: &'a [RecordBatch<'a>], templates: &'a Templates) -> Self {
        let records = chunks.iter().flat_map(|chunk| chunk.records().to_vec());
        Self {
            records: records.collect(),
            chunks,
            templates,
        }
    }

    /// The chunk of record `at`, and its place there.
    fn place(&self, mut at: usize) -> (&RecordBatch<'a>, usize) {
        for chunk in self.chunks {
            match at.checked_sub(chunk.records().len()) {
                Some(rest) => at = rest,
                None => return (chunk, at),
            }
        }
        unreachable!("`at` is below the number of records, which is that of all chunks")
    }
}

impl Examples for OfChunks<'_> {
    fn records(&self) -> &[Record] {
        &self.records
    }

    fn templates(&self) -> &Templates {
        self.templates
    }

    fn see(&self, at: usize, key: &str) -> debias_edit::Result<ImageFeatures> {
        let (chunk, at) = self.place(at);
        chunk.see(at, key)
    }
}
