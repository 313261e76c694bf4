//! The editor's contract: propose a change, never make one.

use std::collections::BTreeMap;
use std::sync::Arc;

use burn::tensor::Tensor;
use debias_core::{Preset, Record};
use debias_model::{Change, Mllm, Seen};

use crate::card::Card;
use crate::error::{Error, Result};
use crate::settings::Settings;

/// One edit request: make the model prefer `record.y_less` on this prompt and picture.
#[derive(Clone)]
pub struct Request {
    /// The record, answers oriented for the model being edited.
    pub record: Record,
    /// `record.prompt` in the task's template.
    pub prompt: String,
    /// Vision features of the record's picture, encoded once.
    pub seen: Seen,
}

/// What an editor may know besides the model and the requests.
pub struct Ctx<'a> {
    /// Seed of everything the editor declares random.
    pub seed: u64,
    /// Merged settings.
    pub settings: &'a Settings,
}

/// What [`Editor::prepare`] learned, as named tensors that can be stored.
#[derive(Clone, Default)]
pub struct Prepared {
    /// Tensors by name.
    pub tensors: BTreeMap<String, Tensor<2>>,
}

/// A model editor.
pub trait Editor: Sync {
    /// Name, paper, equation, cost, failures.
    fn card(&self) -> &'static Card;

    /// The scope of settings it reads: its own name, unless it must follow another editor's.
    fn scope(&self) -> &'static str {
        self.card().id
    }

    /// Settings under `preset`, before `--set`.
    fn defaults(&self, preset: Preset) -> Settings;

    /// Whether `settings` can be used with `model`; called before any work.
    ///
    /// # Errors
    /// A setting of the wrong type, or one that names what the model lacks.
    fn check(&self, model: &Mllm, settings: &Settings) -> Result<()>;

    /// Learns from training requests (and, where a protocol says so, from the evaluation
    /// requests themselves). Most editors learn nothing.
    ///
    /// # Errors
    /// Whatever the model refuses.
    fn prepare(
        &self,
        _model: &Mllm,
        _train: &mut dyn Iterator<Item = Result<Request>>,
        _eval: &mut dyn Iterator<Item = Result<Request>>,
        _ctx: &Ctx,
    ) -> Result<Prepared> {
        Ok(Prepared::default())
    }

    /// One change per request, each as if it were the only one.
    ///
    /// # Errors
    /// [`Error::EmptyEdit`] without requests, or whatever the editor or the model refuses.
    fn edit_each(
        &self,
        model: &Mllm,
        prepared: &Prepared,
        requests: &[Request],
        ctx: &Ctx,
    ) -> Result<Vec<Arc<Change>>>;
}

/// Refuses an empty list of requests.
///
/// # Errors
/// [`Error::EmptyEdit`].
pub(crate) fn not_empty(requests: &[Request]) -> Result<()> {
    match requests.is_empty() {
        true => Err(Error::EmptyEdit),
        false => Ok(()),
    }
}

/// The same change for every request; the judge then looks through one view.
pub(crate) fn for_all(change: Change, requests: &[Request]) -> Vec<Arc<Change>> {
    let change = Arc::new(change);
    requests.iter().map(|_| change.clone()).collect()
}
