//! Requests edited one after the other, each at the model that the ones before have left
//! (`spec/editors.md` section 5).

use std::sync::Arc;

use debias_model::Change;

use crate::edit::Edit;
use crate::editor::{Prepared, Request};
use crate::error::{Error, Result};

/// A growing edit.
pub struct Sequence<'p> {
    prepared: &'p dyn Prepared,
    edit: Option<Arc<Edit>>,
}

impl<'p> Sequence<'p> {
    /// Starts from the never-edited model.
    pub fn new(prepared: &'p dyn Prepared) -> Self {
        Self {
            prepared,
            edit: None,
        }
    }

    /// Edits one more request on top of what is there. After an error everything is as before.
    ///
    /// # Errors
    /// Whatever the editor refuses.
    pub fn add(&mut self, request: &Request) -> Result<()> {
        let start = self.edit.as_ref().and_then(|edit| edit.change()).cloned();
        let request = std::slice::from_ref(request);
        let mut more = self
            .prepared
            .edit_each(request, &start.unwrap_or_else(Change::default))?;
        let more = more.pop().ok_or(Error::EmptyEdit)?;
        self.edit = Some(match &self.edit {
            None => more,
            Some(edit) => Arc::new(Edit::joined(&[edit.clone(), more])?),
        });
        Ok(())
    }

    /// What is in place; the identity before the first request.
    pub fn edit(&self) -> Arc<Edit> {
        self.edit.clone().unwrap_or_default()
    }
}
