//! Drop at random and rescale, then sum (Yu et al.).

use crate::card::{MergerCard, WEIGHT};
use crate::task_vectors::parameters::{
    DENSITY, INPUTS, INT8_MASK, LAMBDA, RESCALE_MODE, normalize, rescale,
};
use crate::task_vectors::{Sparsifier, TaskVectors};

pub(super) static MERGER: TaskVectors = TaskVectors {
    sparsifier: Sparsifier::Bernoulli,
    elects: false,
    card: MergerCard {
        id: "dare_linear",
        version: 1,
        title: "Drop at random and rescale, then sum",
        summary: "Drops values of every task vector at random and scales the survivors up, then sums them.",
        paper: "Yu et al., Language Models are Super Mario, ICML 2024, arXiv:2311.03099",
        equation: "r = θ + λ Σ w_i c_i δ_i b_i, b_i ~ Bernoulli(density), c_i restores Σ|δ_i|",
        inputs: INPUTS,
        parameters: &[
            WEIGHT,
            DENSITY,
            LAMBDA,
            normalize(false),
            rescale(true),
            RESCALE_MODE,
            INT8_MASK,
        ],
        degenerate: "Density 1 drops nothing and rescales nothing. Norms below 1e-7 are not rescaled.",
    },
};
