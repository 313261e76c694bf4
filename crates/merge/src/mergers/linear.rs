//! Weighted average (Wortsman et al., Model soups, arXiv:2203.05482).

use crate::adapter::{Factors, concatenate};
use crate::card::{
    Base, Contract, Fallback, Kind, MergerCard, Parameter, ParameterScope, Value, Values, flag,
};
use crate::combine::Combination;
use crate::error::Result;
use crate::merger::{AdapterMerger, AdapterModule, Facts, Merger};
use crate::target::{Run, Target};

static CARD: MergerCard = MergerCard {
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
            scope: ParameterScope::Input,
            kind: Kind::Number,
            default: Fallback::Required,
            help: "share of this model; a base_model counts as an input and needs one too",
        },
        flag("normalize", true, "divide by the sum of the weights"),
        Parameter {
            name: "lora_factors",
            scope: ParameterScope::Shared,
            kind: Kind::Word(&["concatenate", "separate"]),
            default: Fallback::Absent,
            help: "for adapters among themselves: concatenate (if absent) gives the exact sum of their products in as many ranks as all have together, separate averages A and B each for itself and keeps the rank",
        },
    ],
    degenerate: "Weights that sum to zero are refused with normalize.",
};

pub(super) struct Linear;

impl Merger for Linear {
    fn card(&self) -> &MergerCard {
        &CARD
    }

    fn check(
        &self,
        shared: &Values,
        inputs: &[&Values],
    ) -> std::result::Result<(), (&'static str, String)> {
        let total: f64 = inputs.iter().map(|values| values.number("weight")).sum();
        if shared.flag("normalize") && total.abs() < 1e-12 {
            Err((
                "weight",
                "the weights sum to zero and cannot be normalized; set normalize: false, or change a weight".to_owned(),
            ))
        } else {
            Ok(())
        }
    }

    fn on_adapters(&self) -> Option<&dyn AdapterMerger> {
        Some(self)
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

/// The weighted sum of the adapters' products, exactly: their factors stand side by side.
impl AdapterMerger for Linear {
    fn rank(&self, shared: &Values, ranks: &[usize]) -> Option<usize> {
        let separate = shared.get("lora_factors") == Some(&Value::Word("separate"));
        (!separate).then(|| ranks.iter().sum())
    }

    fn takes_any_rank(&self) -> bool {
        true
    }

    fn weight(&self, values: &Values) -> f64 {
        values.number("weight")
    }

    fn merge(&self, module: &AdapterModule, _run: &Run) -> Factors {
        let weights = module.each.iter().map(|values| self.weight(values));
        let total: f64 = if module.shared.flag("normalize") {
            weights.sum()
        } else {
            1.0
        };
        let changing = module.changing.iter();
        let shares = changing.map(|at| self.weight(&module.each[*at]) / total);
        concatenate(&module.factors, &shares.collect::<Vec<f64>>())
    }
}
