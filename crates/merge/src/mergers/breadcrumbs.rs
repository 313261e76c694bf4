//! Drop the smallest and the largest values, then sum (Davari and Belilovsky).

use crate::card::{MergerCard, WEIGHT};
use crate::task_vectors::parameters::{
    DENSITY, GAMMA, INPUTS, INT8_MASK, LAMBDA, RESCALE_MODE, normalize, rescale,
};
use crate::task_vectors::{Sparsifier, TaskVectors};

pub(super) static MERGER: TaskVectors = TaskVectors {
    sparsifier: Sparsifier::Outliers,
    elects: false,
    card: MergerCard {
        id: "breadcrumbs",
        version: 1,
        title: "Drop the smallest and the largest values, then sum",
        summary: "Leaves out both tails of every task vector: the largest values as outliers, the smallest as noise.",
        paper: "Davari and Belilovsky, Model Breadcrumbs, ECCV 2024, arXiv:2312.06795",
        equation: "r = θ + λ Σ w_i δ_i [γ n < rank(|δ_i|) <= (γ + density) n]",
        inputs: INPUTS,
        parameters: &[
            WEIGHT,
            DENSITY,
            GAMMA,
            LAMBDA,
            normalize(false),
            rescale(false),
            RESCALE_MODE,
            INT8_MASK,
        ],
        degenerate: "Density 1 keeps all. Where density and gamma leave no room, fewer small values are dropped.",
    },
};
