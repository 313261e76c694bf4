//! The bias-inverse model: the base minus the bias vector, at the base's norm.

use rayon::prelude::*;

use crate::card::{Base, Contract, MergerCard, word};
use crate::combine::{Combination, Gram, Products};
use crate::error::Result;
use crate::merger::{Facts, Merger};
use crate::target::Target;

static CARD: MergerCard = MergerCard {
    id: "bias_vector",
    version: 1,
    title: "The base minus what a biased fine-tune has added",
    summary: "A model trained on stereotypes differs from its base by a bias vector. Subtracting it gives a model biased the other way, which is scaled to the base's norm; other merges then mix it with the base.",
    paper: "the survey of merging debiasers (bias vectors after Ilharco et al., arXiv:2212.04089)",
    equation: "θ_inv = c (2 θ - θ_bias), c = |θ| / |2 θ - θ_bias| over the whole model",
    inputs: Contract {
        base: Base::Required,
        min: 1,
        max: Some(1),
    },
    parameters: &[word(
        "norm_match",
        &["model", "tensor", "none"],
        "one factor for the whole model (as the paper), one per tensor, or none",
    )],
    degenerate: "A zero result is not scaled. Equal models give the base.",
};

pub(super) struct BiasVector;

impl Merger for BiasVector {
    fn card(&self) -> &MergerCard {
        &CARD
    }

    fn passes(&self) -> usize {
        2
    }

    fn survey(&self, targets: &[&Target]) -> Result<Facts> {
        let asking = targets.iter().filter(|t| t.text("norm_match") == "model");
        let asking: Vec<_> = asking.collect();
        if asking.is_empty() {
            return Ok(Facts::default());
        }
        let norms: Result<Vec<_>> = asking.par_iter().map(|target| norms(target)).collect();
        let (base, inverse) = norms?
            .into_iter()
            .fold((0.0, 0.0), |sum, norm| (sum.0 + norm.0, sum.1 + norm.1));
        let c = factor(base, inverse);
        Ok(Facts {
            numbers: vec![c],
            remarks: vec![format!(
                "the inverse was scaled by c = {c:.6} (|θ| = {:.6}, |2θ - θ_bias| = {:.6}); c far from 1 means a biased model far from its base",
                base.sqrt(),
                inverse.sqrt()
            )],
            ..Facts::default()
        })
    }

    fn merge(&self, target: &Target, facts: &Facts) -> Result<()> {
        let c = match target.text("norm_match") {
            "model" => facts.numbers[0],
            "tensor" => {
                let (base, inverse) = norms(target)?;
                factor(base, inverse)
            }
            _ => 1.0,
        };
        target.each(target.base_first(), &Combination::of([2.0 * c, -c]))
    }
}

/// `|θ|²` and `|2θ - θ_bias|²` of one tensor.
fn norms(target: &Target) -> Result<(f64, f64)> {
    let products = Products::sum(2, target.fold(target.base_first(), &Gram(2))?);
    let inverse = products.between(&[2.0, -1.0], &[2.0, -1.0]).max(0.0);
    Ok((products.of(0, 0), inverse))
}

fn factor(base: f64, inverse: f64) -> f64 {
    if base > 0.0 && inverse > 0.0 {
        (base / inverse).sqrt()
    } else {
        1.0
    }
}
