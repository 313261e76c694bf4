//! Trim, elect a sign, merge what agrees (Yadav et al.).

use crate::card::{MergerCard, WEIGHT};
use crate::task_vectors::parameters::{
    CONSENSUS, DENSITY, INPUTS, INT8_MASK, LAMBDA, RESCALE_MODE, normalize, rescale,
};
use crate::task_vectors::{Sparsifier, TaskVectors};

pub(super) static MERGER: TaskVectors = TaskVectors {
    sparsifier: Sparsifier::Magnitude,
    elects: true,
    card: MergerCard {
        id: "ties",
        version: 1,
        title: "Trim, elect a sign, merge what agrees",
        summary: "Keeps the largest values of every task vector, elects one sign per element by the weighted sum, and averages the values of that sign.",
        paper: "Yadav et al., TIES-Merging, NeurIPS 2023, arXiv:2306.01708",
        equation: "r = θ + λ Σ w_i δ_i m_i / Σ w_i m_i, m_i = [sign(w_i δ_i) = sign(Σ w_j δ_j)] over top-k(δ_i)",
        inputs: INPUTS,
        parameters: &[
            WEIGHT,
            DENSITY,
            LAMBDA,
            normalize(true),
            rescale(false),
            RESCALE_MODE,
            CONSENSUS,
            INT8_MASK,
        ],
        degenerate: "Density 1 keeps all, a smaller one at least one value. Equal magnitudes at the cut: the lower index is kept. One model with normalize: its weight cancels.",
    },
};
