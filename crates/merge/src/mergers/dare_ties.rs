//! Drop at random and rescale, then elect a sign (Yu et al.).

use crate::card::{MergerCard, WEIGHT};
use crate::task_vectors::parameters::{
    CONSENSUS, DENSITY, INPUTS, INT8_MASK, LAMBDA, RESCALE_MODE, normalize, rescale,
};
use crate::task_vectors::{Sparsifier, TaskVectors};

pub(super) static MERGER: TaskVectors = TaskVectors {
    sparsifier: Sparsifier::Bernoulli,
    elects: true,
    card: MergerCard {
        id: "dare_ties",
        version: 1,
        title: "Drop at random and rescale, then elect a sign",
        summary: "DARE for sparsity, TIES for the election of signs; the sum is not divided unless asked.",
        paper: "Yu et al., arXiv:2311.03099; Yadav et al., arXiv:2306.01708",
        equation: "r = θ + λ Σ w_i c_i δ_i b_i m_i",
        inputs: INPUTS,
        parameters: &[
            WEIGHT,
            DENSITY,
            LAMBDA,
            normalize(false),
            rescale(true),
            RESCALE_MODE,
            CONSENSUS,
            INT8_MASK,
        ],
        degenerate: "Density 1 drops nothing and rescales nothing. Norms below 1e-7 are not rescaled.",
    },
};
