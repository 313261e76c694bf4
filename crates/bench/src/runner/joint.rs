//! All requests of a group as one edit: what `bench edit --save` writes.

use std::collections::BTreeMap;

use debias_core::Cell;
use debias_edit::{Edit, RecordBatch, Request};

use super::group::CellGroup;
use crate::terminal::exit::Exit;
use crate::terminal::failure::Refusal;

/// One edit for several requests.
#[derive(Clone, Debug)]
pub struct Joint {
    /// The edit.
    pub edit: Edit,
    /// How many requests it is for.
    pub requests: usize,
    /// Tensors of the model's files that repeat changed ones, by the names of those.
    pub copies: BTreeMap<String, String>,
}

impl CellGroup<'_> {
    /// One edit for every admitted request, all computed at the never-edited weights.
    ///
    /// # Errors
    /// When there is no request, or whatever the editor refuses.
    pub(super) fn joint(&self, cell: &Cell, chunks: &[RecordBatch]) -> anyhow::Result<Joint> {
        let failed = |why: String| {
            anyhow::Error::new(Refusal::new(
                Exit::CellsFailed,
                format!("nothing is edited: {why}"),
            ))
        };
        let requests: Vec<Request> = chunks.iter().flat_map(RecordBatch::requests).collect();
        if requests.is_empty() {
            return Err(failed(self.without_requests()));
        }
        let planned = self.planned_editor(cell)?;
        let store = self.store(cell, planned);
        let prepared = self.prepare(cell, planned, chunks, &store)?;
        let edit = prepared.and_then(|prepared| prepared.edit_jointly(&requests));
        self.interrupt.check()?;
        let edit = edit.map_err(|error| failed(error.to_string()))?;
        let changed = edit
            .change()
            .into_iter()
            .flat_map(|change| change.weights.keys());
        let copies = changed.filter_map(|name| {
            let copy = self.model.copy_of(name)?;
            Some((name.clone(), copy.to_owned()))
        });
        Ok(Joint {
            copies: copies.collect(),
            edit,
            requests: requests.len(),
        })
    }
}
