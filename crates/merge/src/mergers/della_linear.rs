//! Drop small values more often, then sum (Deep et al.).

use crate::card::{MergerCard, WEIGHT};
use crate::task_vectors::parameters::{
    DENSITY, EPSILON, INPUTS, INT8_MASK, LAMBDA, RESCALE_MODE, normalize, rescale,
};
use crate::task_vectors::{Sparsifier, TaskVectors};

pub(super) static MERGER: TaskVectors = TaskVectors {
    sparsifier: Sparsifier::Ranked,
    elects: false,
    card: MergerCard {
        id: "della_linear",
        version: 1,
        title: "Drop small values more often, then sum",
        summary: "The drop of DELLA without an election of signs.",
        paper: "Deep et al., DELLA-Merging, 2024, arXiv:2406.11617",
        equation: "p = (density - ε) + 2 ε (rank - 1) / (m - 1); r = θ + λ Σ w_i c_i δ_i b_i",
        inputs: INPUTS,
        parameters: &[
            WEIGHT,
            DENSITY,
            EPSILON,
            LAMBDA,
            normalize(false),
            rescale(true),
            RESCALE_MODE,
            INT8_MASK,
        ],
        degenerate: "Density 1 drops nothing. A row of one value is kept with probability density. Equal magnitudes rank by index. More than two axes are ranked along the second.",
    },
};
