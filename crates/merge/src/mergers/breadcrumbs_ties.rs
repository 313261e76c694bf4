//! Drop both tails, then elect a sign (Davari and Belilovsky).

use crate::card::{MergerCard, WEIGHT};
use crate::task_vectors::parameters::{
    CONSENSUS, DENSITY, GAMMA, INPUTS, INT8_MASK, LAMBDA, RESCALE_MODE, normalize, rescale,
};
use crate::task_vectors::{Sparsifier, TaskVectors};

pub(super) static MERGER: TaskVectors = TaskVectors {
    sparsifier: Sparsifier::Outliers,
    elects: true,
    card: MergerCard {
        id: "breadcrumbs_ties",
        version: 1,
        title: "Drop both tails, then elect a sign",
        summary: "The mask of Breadcrumbs, then the election of signs of TIES.",
        paper: "Davari and Belilovsky, arXiv:2312.06795; Yadav et al., arXiv:2306.01708",
        equation: "r = θ + λ Σ w_i δ_i b_i m_i",
        inputs: INPUTS,
        parameters: &[
            WEIGHT,
            DENSITY,
            GAMMA,
            LAMBDA,
            normalize(false),
            rescale(false),
            RESCALE_MODE,
            CONSENSUS,
            INT8_MASK,
        ],
        degenerate: "Density 1 keeps all. Where density and gamma leave no room, fewer small values are dropped.",
    },
};
