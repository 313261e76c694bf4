//! What meta-learned editors share: the gradient of a linear layer as its two factors, the training
//! by which a hyper-network learns to turn them into an edit, and the editor around it.
//!
//! The gradient of the weight of a linear layer on one example is Σ_t δ_t x_tᵀ over its tokens
//! (Mitchell et al. 2022, section 3.1), so no hyper-network ever forms it: what it proposes is
//! a pair of thin factors per matrix and request. An editor of this kind is its card, a
//! [`HyperNetwork`] and an [`EditObjective`]; everything else is [`HyperEditor`].

mod blocks;
mod config;
mod editor;
mod factors;
mod learner;
mod network;
mod objective;
mod ridge;
mod said;
mod sites;
mod statistics;
mod subject;

pub(crate) use self::blocks::{BlockPlan, BlockSettings, Blocks, open_clamp};
pub(crate) use self::config::{Config, TRAINED};
pub(crate) use self::editor::HyperEditor;
pub(crate) use self::factors::{Factors, Gathered};
pub(crate) use self::network::{HyperNetwork, LearnedParts, Sides};
pub(crate) use self::objective::{EditObjective, Generalise, beside};
pub(crate) use self::ridge::coefficients;
pub(crate) use self::said::{Divergence, Meaningless, Said};
pub(crate) use self::sites::{Matrices, Sites, layer_index};
pub(crate) use self::subject::Subject;
