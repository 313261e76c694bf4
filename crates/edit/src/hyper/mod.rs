//! What meta-learned editors share: the gradient of a linear layer as its two factors, and the
//! lesson by which a hyper-network learns to turn them into an edit.
//!
//! The gradient of the weight of a linear layer on one example is Σ_t δ_t x_tᵀ over its tokens
//! (Mitchell et al. 2022, section 3.1), so neither MEND nor KE ever forms it: what they propose is
//! a pair of thin factors per matrix and request.

mod factors;
mod lesson;
mod sites;

use std::collections::BTreeMap;

use burn::tensor::Tensor;

pub(crate) use self::factors::{Factors, Gathered};
pub(crate) use self::lesson::{Learner, Weights, changes};
pub(crate) use self::sites::{SETTINGS as SITE_SETTINGS, Sites, layer_index};
use crate::editor::Request;
use crate::training::Values;

/// Side-path factors of every edited matrix: a `[requests, r, columns]`, b `[requests, rows, r]`
/// in the published orientation.
pub(crate) type Sides = BTreeMap<String, (Tensor<3>, Tensor<3>)>;

/// A network that turns gradients into edits.
pub(crate) trait HyperNetwork: Sync {
    /// What it reads of a request besides the gradient.
    type Condition: Send + Sync;

    /// The parameters at the start.
    fn start(&self) -> Values;

    /// Learning rate of one parameter.
    fn rate(&self, parameter: &str) -> f64;

    /// Reads what [`HyperNetwork::propose`] needs of the requests.
    ///
    /// # Errors
    /// Text that cannot be tokenised.
    fn condition(&self, requests: &[&Request]) -> crate::Result<Self::Condition>;

    /// Takes notice of the factors of a training lesson, before they are used.
    fn observe(&mut self, _gathered: &Gathered) {}

    /// Running statistics.
    fn statistics(&self) -> Values {
        Values::new()
    }

    /// Goes on from stored statistics.
    fn restore(&mut self, _statistics: &Values) {}

    /// The edit of every request of `gathered`, alone.
    fn propose(&self, values: &Values, gathered: &Gathered, condition: &Self::Condition) -> Sides;
}

/// A plain tensor as `like` needs it: in the graph of a gradient, or not.
pub(crate) fn beside<const D: usize, const E: usize>(
    tensor: &Tensor<D>,
    like: &Tensor<E>,
) -> Tensor<D> {
    match like.is_autodiff() {
        true => tensor.clone().autodiff(),
        false => tensor.clone(),
    }
}
