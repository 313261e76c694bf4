//! Weighted sum of task vectors (Ilharco et al.).

use crate::card::{MergerCard, WEIGHT};
use crate::task_vectors::parameters::{DENSITY, INPUTS, INT8_MASK, LAMBDA, normalize, rescale};
use crate::task_vectors::{Sparsifier, TaskVectors};

pub(super) static MERGER: TaskVectors = TaskVectors {
    sparsifier: Sparsifier::Dense,
    elects: false,
    card: MergerCard {
        id: "task_arithmetic",
        version: 1,
        title: "Weighted sum of task vectors",
        summary: "Adds the weighted differences between fine-tuned models and their base to the base. A negative weight takes a behaviour away: -1 on a biased model gives 2 θ - θ_bias.",
        paper: "Ilharco et al., Editing Models with Task Arithmetic, ICLR 2023, arXiv:2212.04089",
        equation: "r = θ + λ (Σ w_i δ_i) / D, D = Σ w_i with normalize, else 1",
        inputs: INPUTS,
        parameters: &[
            WEIGHT,
            DENSITY,
            LAMBDA,
            normalize(false),
            rescale(false),
            INT8_MASK,
        ],
        degenerate: "No other input: the base. Equal models: the base, exactly. Weights whose sum vanishes are not divided by.",
    },
};
