//! Barycentric interpolation on the sphere (Goddard, Multi-SLERP, 2024).
//!
//! The published rule adds a tangent step at the weighted mean of directions. That step is
//! `Σ w_i û_i - (Σ w_i û_i · m) m` with `m` along `Σ w_i û_i`: zero for any inputs. What is left is
//! the normalised mean of directions, scaled by the weighted norm.

use crate::card::{Base, Contract, MergerCard, WEIGHT, flag, number};
use crate::combine::{Combination, Gram, Products};
use crate::error::{Error, Result};
use crate::merger::{Facts, Merger};
use crate::target::Target;

static CARD: MergerCard = MergerCard {
    id: "multislerp",
    version: 1,
    title: "Weighted mean of directions, with the weighted norm",
    summary: "Spherical interpolation between any number of models, or of their task vectors when a base is given.",
    paper: "Goddard, Multi-SLERP, 2024, goddard.blog/posts/multislerp-wow-what-a-cool-idea",
    equation: "m = Σ w_i x_i / (|x_i| + eps); r = (Σ w_i |x_i|) m / |m| (+ θ), x = θ_i or δ_i",
    inputs: Contract {
        base: Base::Optional,
        min: 1,
        max: None,
    },
    parameters: &[
        WEIGHT,
        flag("normalize_weights", true, "divide weights by their sum"),
        number(
            "eps",
            1e-8,
            "added to norms; a mean direction below it is none",
        ),
    ],
    degenerate: "One model is returned as it is. Directions that cancel: linear for two models, refused for more.",
};

pub(super) struct MultiSlerp;

impl Merger for MultiSlerp {
    fn card(&self) -> &MergerCard {
        &CARD
    }

    fn check(
        &self,
        shared: &crate::card::Values,
        others: &[&crate::card::Values],
    ) -> std::result::Result<(), (&'static str, String)> {
        let total: f64 = others.iter().map(|values| values.number("weight")).sum();
        if shared.flag("normalize_weights") && others.len() > 1 && total.abs() < 1e-12 {
            Err((
                "weight",
                "the weights sum to zero and cannot be normalized; set normalize_weights: false, or change a weight".to_owned(),
            ))
        } else {
            Ok(())
        }
    }

    fn passes(&self) -> usize {
        2
    }

    fn merge(&self, target: &Target, _facts: &Facts) -> Result<()> {
        let n = target.others().len();
        if n == 1 {
            return target.each(target.only_others(), &Combination::of([1.0]));
        }
        let reading = target.deltas();
        let onto_base = reading.origin.is_some();
        let products = Products::sum(n, target.fold(reading, &Gram(n))?);
        let mut weights = target.of_others("weight");
        if target.flag("normalize_weights") {
            let total: f64 = weights.iter().sum();
            weights.iter_mut().for_each(|w| *w /= total);
        }
        let eps = target.number("eps");
        let mean: Vec<f64> = (0..n)
            .map(|i| weights[i] / (products.norm(i) + eps))
            .collect();
        let length = products.between(&mean, &mean).max(0.0).sqrt();
        let coefficients = if length >= eps {
            let norm: f64 = (0..n).map(|i| weights[i] * products.norm(i)).sum();
            mean.iter().map(|c| c / length * norm).collect()
        } else if n == 2 {
            weights
        } else {
            return Err(Error::Degenerate {
                tensor: target.name().to_owned(),
                problem: "the weighted directions cancel, so there is no mean direction; change the weights".to_owned(),
            });
        };
        target.each(reading, &Combination::of(coefficients).onto(onto_base))
    }
}
