//! Weighted average (Wortsman et al., Model soups, arXiv:2203.05482).

use crate::card::{Base, Card, Contract, Fallback, Kind, Parameter, Scope, Values, flag};
use crate::combine::Combination;
use crate::error::Result;
use crate::merger::{Facts, Merger, OnAdapters};
use crate::target::Target;

static CARD: Card = Card {
    id: "linear",
    version: 1,
    title: "Weighted average of weights",
    summary: "The model soup: every weight is the weighted mean of the inputs' weights. All weights equal give the plain average.",
    paper: "Wortsman et al., Model soups, ICML 2022, arXiv:2203.05482",
    equation: "r = Σ w_i θ_i / D, D = Σ w_i with normalize, else 1",
    inputs: Contract {
        base: Base::Ignored,
        min: 1,
        max: None,
    },
    parameters: &[
        Parameter {
            name: "weight",
            scope: Scope::Input,
            kind: Kind::Number,
            default: Fallback::Required,
            help: "share of this model; a base_model counts as an input and needs one too",
        },
        flag("normalize", true, "divide by the sum of the weights"),
        Parameter {
            name: "lora_factors",
            scope: Scope::Shared,
            kind: Kind::Word(&["concatenate", "separate"]),
            default: Fallback::Absent,
            help: "for adapters among themselves: concatenate (if absent) gives the exact sum of their products in as many ranks as all have together, separate averages A and B each for itself and keeps the rank",
        },
    ],
    degenerate: "Weights that sum to zero are refused with normalize.",
};

pub(super) struct Linear;

impl Merger for Linear {
    fn card(&self) -> &Card {
        &CARD
    }

    fn check(
        &self,
        shared: &Values,
        inputs: &[&Values],
    ) -> std::result::Result<(), (&'static str, String)> {
        let total: f64 = inputs.iter().map(|values| values.number("weight")).sum();
        match shared.flag("normalize") && total.abs() < 1e-12 {
            true => Err((
                "weight",
                "the weights sum to zero and cannot be normalized; set normalize: false, or change a weight".to_owned(),
            )),
            false => Ok(()),
        }
    }

    fn on_adapters(&self) -> OnAdapters {
        OnAdapters::Concatenated
    }

    fn merge(&self, target: &Target, _facts: &Facts) -> Result<()> {
        let weights = target.of_all("weight");
        // The divisor is the sum of f32 weights, added in f32: what mergekit divides by.
        let total = weights.iter().fold(0.0, |sum, w| sum + *w as f32);
        let mut mean = Combination::of(weights);
        if target.flag("normalize") {
            mean.divisor = total;
        }
        target.each(target.values(), &mean)
    }
}
