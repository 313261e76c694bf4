//! The records that an editor may learn from, as the runner hands them out.

use std::collections::BTreeSet;

use debias_core::{Picture, Record, Split, Task, Verdict, seed};
use debias_edit::{Error, Example, Examples, RecordBatch, Request, Wording};
use debias_model::View;

use super::CellGroup;

/// One group in so many is held out where a dataset has no validation split.
const HELD_OUT: usize = 10;

/// What all editors of a group learn from: records that the filter admits, oriented.
#[derive(Clone, Debug, Default)]
pub(super) struct Admitted {
    pub(super) train: Vec<Record>,
    pub(super) val: Vec<Record>,
}

impl CellGroup<'_> {
    /// The admitted training and validation records. Without a validation split, a tenth of the
    /// training groups is held out.
    pub(super) fn admitted(&self, task: Task) -> anyhow::Result<Admitted> {
        let mut train = self.admit_all(&self.records(task, Split::Train)?)?;
        let mut val = self.admit_all(&self.records(task, Split::Val)?)?;
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

    fn admit_all(&self, records: &[Record]) -> anyhow::Result<Vec<Record>> {
        let mut admitted = Vec::with_capacity(records.len());
        let portion = self.portion(records, 0)?;
        for wave in records.chunks(portion.size * self.threads) {
            let verdicts = self.judge(wave, portion)?;
            for verdict in verdicts {
                match verdict {
                    Ok(Verdict::Admitted(record)) => admitted.push(*record),
                    Ok(_) => {}
                    Err(refused) => {
                        let problem = refused.error.unwrap_or_default();
                        self.progress
                            .warn(&format!("nothing is learnt from {problem}"));
                    }
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
    fn seen(&self, key: &str) -> debias_edit::Result<debias_model::ImageFeatures> {
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

    fn request(&self, at: usize) -> debias_edit::Result<Request> {
        let record = &self.records[at];
        let template = self.group.templates.of(record.task);
        Ok(Request {
            record: record.clone(),
            prompt: template.apply(&record.prompt),
            seen: self.seen(&record.image)?,
        })
    }

    fn example(&self, at: usize) -> debias_edit::Result<Example> {
        let record = &self.records[at];
        let templates = self.group.templates;
        Ok(Example {
            request: self.request(at)?,
            rephrase: templates.of(record.task).apply(&record.prompt_rephrase),
            seen_rephrase: self.seen(&record.image_rephrase)?,
            loc_q: templates.tloc.apply(&record.loc_q),
            mloc_q: templates.mloc.apply(&record.mloc_q),
            seen_mloc: self.seen(&record.mloc_image)?,
        })
    }

    fn wording(&self, at: usize) -> debias_edit::Result<Wording> {
        let record = &self.records[at];
        let templates = self.group.templates;
        Ok(Wording {
            prompt: templates.of(record.task).apply(&record.prompt),
            rephrase: templates.of(record.task).apply(&record.prompt_rephrase),
            loc_q: templates.tloc.apply(&record.loc_q),
            mloc_q: templates.mloc.apply(&record.mloc_q),
        })
    }
}

/// The evaluation requests themselves.
pub(super) struct OfChunks<'a> {
    chunks: &'a [RecordBatch<'a>],
    records: Vec<Record>,
}

impl<'a> OfChunks<'a> {
    pub(super) fn new(chunks: &'a [RecordBatch<'a>]) -> Self {
        let records = chunks.iter().flat_map(|chunk| chunk.records().to_vec());
        Self {
            records: records.collect(),
            chunks,
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

    fn request(&self, at: usize) -> debias_edit::Result<Request> {
        let (chunk, at) = self.place(at);
        Ok(chunk.request(at))
    }

    fn example(&self, at: usize) -> debias_edit::Result<Example> {
        let (chunk, at) = self.place(at);
        Ok(chunk.example(at))
    }
}
