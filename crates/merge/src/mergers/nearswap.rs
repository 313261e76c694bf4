//! A clipped step from the base towards the other model (alchemonaut, QuartetAnemoi-70B).

use crate::card::{Base, Contract, Fallback, Kind, MergerCard, Parameter, ParameterScope};
use crate::error::Result;
use crate::merger::{Facts, Merger};
use crate::stream::{Block, Each};
use crate::target::Target;

static CARD: MergerCard = MergerCard {
    id: "nearswap",
    version: 1,
    title: "Take over what is near, step towards what is far",
    summary: "Where the two models differ by at most t, the result is the other model; elsewhere the base moves by exactly t towards it. Useful t are of the size of weight changes (1e-4 to 1e-2); it is no mixing ratio.",
    paper: "alchemonaut, QuartetAnemoi-70B-t0.0001, 2024 (model card)",
    equation: "s = clamp(t / max(|a - b|, 1e-6), 0, 1); r = s b + (1 - s) a",
    inputs: Contract {
        base: Base::Required,
        min: 1,
        max: Some(1),
    },
    parameters: &[Parameter {
        name: "t",
        scope: ParameterScope::Shared,
        kind: Kind::Number,
        default: Fallback::Required,
        help: "largest step of a weight",
    }],
    degenerate: "t <= 0 gives the base; equal models give themselves.",
};

pub(super) struct NearSwap;

impl Merger for NearSwap {
    fn card(&self) -> &MergerCard {
        &CARD
    }

    fn merge(&self, target: &Target, _facts: &Facts) -> Result<()> {
        let step = Step {
            t: target.number("t") as f32,
        };
        target.each(target.base_first(), &step)
    }
}

struct Step {
    t: f32,
}

impl Each for Step {
    #[inline(always)]
    fn block(&self, block: &mut Block, out: &mut [f32]) {
        let values = block.input(0).iter().zip(block.input(1));
        for (out, (a, b)) in out.iter_mut().zip(values) {
            let distance = (a - b).abs().max(1e-6);
            let share = (self.t / distance).clamp(0.0, 1.0);
            *out = share * b + (1.0 - share) * a;
        }
    }
}
