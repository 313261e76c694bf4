//! Watching a forward pass: named intermediate values, the inputs of linear layers, and the
//! gradients at their outputs.
//!
//! Meta-learned editors work on exactly these (MEND, Mitchell et al. 2022, section 3.1: the
//! gradient of a linear layer is the outer product of its input and its output's gradient), and
//! `bench verify` compares them with a reference.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard};

use burn::tensor::{Gradients, Tensor};

/// What to watch and what was seen. A name that is passed twice keeps its last value.
#[derive(Debug, Default)]
pub struct Recorder {
    sites: BTreeSet<String>,
    notes: bool,
    seen: Mutex<Watched>,
}

#[derive(Debug, Default)]
struct Watched {
    notes: BTreeMap<String, Tensor<3>>,
    inputs: BTreeMap<String, Tensor<3>>,
    outputs: BTreeMap<String, Tensor<3>>,
}

impl Recorder {
    /// Watches the linear layers whose weights are named `sites`.
    pub fn of_sites(sites: impl IntoIterator<Item = String>) -> Self {
        Self {
            sites: sites.into_iter().collect(),
            ..Self::default()
        }
    }

    /// Also keeps intermediate values such as `hidden.layer0` or `projected`.
    #[must_use]
    pub fn with_notes(mut self) -> Self {
        self.notes = true;
        self
    }

    /// The intermediate values seen, by name.
    pub fn notes(&self) -> BTreeMap<String, Tensor<3>> {
        self.lock().notes.clone()
    }

    /// The watched weights.
    pub fn parameters(&self) -> impl Iterator<Item = String> + '_ {
        self.sites.iter().cloned()
    }

    /// What entered the layer of weight `site`, `[b, t, d_in]`.
    pub fn input_of(&self, site: &str) -> Option<Tensor<3>> {
        self.lock().inputs.get(site).cloned()
    }

    /// The gradient at the output of the layer of weight `site`, `[b, t, d_out]`, after a pass
    /// through a tracked view.
    pub fn output_gradient(&self, site: &str, gradients: &Gradients) -> Option<Tensor<3>> {
        self.lock().outputs.get(site)?.grad(gradients)
    }

    pub(crate) fn watches(&self, site: &str) -> bool {
        self.sites.contains(site)
    }

    /// Whether intermediate values are kept.
    pub(crate) fn keeps_notes(&self) -> bool {
        self.notes
    }

    pub(crate) fn note(&self, name: &str, x: &Tensor<3>) {
        if self.notes {
            self.lock().notes.insert(name.to_owned(), x.clone());
        }
    }

    pub(crate) fn input(&self, site: &str, x: &Tensor<3>) {
        self.lock().inputs.insert(site.to_owned(), x.clone());
    }

    /// The output itself, plus a zero whose gradient is that of the output.
    pub(crate) fn output(&self, site: &str, y: Tensor<3>) -> Tensor<3> {
        if !y.is_autodiff() {
            return y;
        }
        let zero = y.clone().inner().zeros_like().autodiff().require_grad();
        self.lock().outputs.insert(site.to_owned(), zero.clone());
        y + zero
    }

    fn lock(&self) -> MutexGuard<'_, Watched> {
        self.seen
            .lock()
            .unwrap_or_else(|poison| poison.into_inner())
    }
}
