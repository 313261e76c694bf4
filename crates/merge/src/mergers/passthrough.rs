//! The only input, perhaps scaled: what recipes that stack layers are made of.

use crate::card::{Base, Contract, Fallback, Kind, MergerCard, Parameter, ParameterScope, Value};
use crate::combine::Combination;
use crate::error::Result;
use crate::merger::{Facts, Merger};
use crate::target::Target;

static CARD: MergerCard = MergerCard {
    id: "passthrough",
    version: 1,
    title: "The input as it is",
    summary: "Copies tensors of one model; with slices, layers of several models are stacked.",
    paper: "mergekit (Goddard et al., 2024, arXiv:2403.13257)",
    equation: "r = scale θ",
    inputs: Contract {
        base: Base::Ignored,
        min: 1,
        max: Some(1),
    },
    parameters: &[Parameter {
        name: "scale",
        scope: ParameterScope::Input,
        kind: Kind::Number,
        default: Fallback::Absent,
        help: "multiplies every value",
    }],
    degenerate: "None: without scale the bytes are the input's.",
};

pub(super) struct Passthrough;

impl Merger for Passthrough {
    fn card(&self) -> &MergerCard {
        &CARD
    }

    fn merge(&self, target: &Target, _facts: &Facts) -> Result<()> {
        let scale = match target.given(0, "scale") {
            Some(Value::Number(scale)) => *scale,
            _ => 1.0,
        };
        target.each(target.values(), &Combination::of([scale]))
    }
}
