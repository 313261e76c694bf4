//! The small world in which editors are tested: a model, a few records, and their pictures.

use std::collections::{BTreeMap, HashMap};
use std::sync::Mutex;

use debias_core::{Admission, Picture, Record, Templates};
use debias_model::{ImageFeatures, Model, Parameters};

use crate::editor::Examples;
use crate::error::{Error, Result};
use crate::judge::RecordBatch;

/// What an editor is tested on. A handful of records of each split is enough; a check takes
/// time in proportion to their number.
pub struct World<'m> {
    /// The model; on a tiny one a check takes seconds.
    pub model: &'m Model,
    /// Text around prompts.
    pub templates: Templates,
    /// The rule by which the records were admitted, which the base row must confirm (C13).
    pub admission: Admission,
    /// What editors may learn from, at least three, admitted and oriented for the model.
    pub train: Vec<Record>,
    /// What editors may stop on.
    pub val: Vec<Record>,
    /// What is edited, at least three; different in id and group from the two above.
    pub eval: Vec<Record>,
    /// Every picture that a record names.
    pub pictures: HashMap<String, Picture>,
}

impl<'m> World<'m> {
    /// `records` with everything the base model says of them.
    pub(super) fn chunk(&self, records: Vec<Record>) -> Result<RecordBatch<'m>> {
        self.chunk_in(records, &self.templates)
    }

    /// The same with other text around prompts.
    pub(super) fn chunk_in(
        &self,
        records: Vec<Record>,
        templates: &Templates,
    ) -> Result<RecordBatch<'m>> {
        RecordBatch::new(self.model, records, &self.pictures, templates)
    }

    /// `records` as something to learn from.
    pub(super) fn split(&self, records: Vec<Record>) -> Split<'_> {
        Split {
            world: self,
            records,
            seen: Mutex::default(),
        }
    }

    fn picture(&self, record: &Record, key: &str) -> Result<&Picture> {
        self.pictures.get(key).ok_or_else(|| Error::Record {
            id: record.id.clone(),
            source: debias_model::Error::Picture {
                path: key.to_owned(),
                problem: "is not among the pictures of the world".to_owned(),
            },
        })
    }
}

/// Records of one split; every picture is encoded once.
pub(super) struct Split<'a> {
    world: &'a World<'a>,
    records: Vec<Record>,
    seen: Mutex<BTreeMap<String, ImageFeatures>>,
}

impl Split<'_> {
    fn seen(&self, record: &Record, key: &str) -> Result<ImageFeatures> {
        let mut known = self
            .seen
            .lock()
            .unwrap_or_else(|poison| poison.into_inner());
        if let Some(seen) = known.get(key) {
            return Ok(seen.clone());
        }
        let picture = self.world.picture(record, key)?;
        let seen = self.world.model.see(&[picture], &self.world.model.base())?;
        known.insert(key.to_owned(), seen.clone());
        Ok(seen)
    }
}

impl Examples for Split<'_> {
    fn records(&self) -> &[Record] {
        &self.records
    }

    fn templates(&self) -> &Templates {
        &self.world.templates
    }

    fn see(&self, at: usize, key: &str) -> Result<ImageFeatures> {
        self.seen(&self.records[at], key)
    }
}
