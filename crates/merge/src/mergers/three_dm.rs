//! Dynamic drop of opposite biases (3DM).
//!
//! Where a positively and a negatively biased model pull a weight in opposite directions, the more
//! they cancel the likelier both task vectors are dropped there; survivors are scaled up, so that
//! the expectation is the plain average.

use rayon::prelude::*;
use serde_json::{Map, json};

use crate::card::{
    Base, Contract, Fallback, Kind, MergerCard, Parameter, ParameterScope, number, word,
};
use crate::error::Result;
use crate::merger::{Facts, Merger};
use crate::random::Draws;
use crate::stream::{Block, Each, Fold};
use crate::target::Target;

static CARD: MergerCard = MergerCard {
    id: "3dm",
    version: 1,
    title: "Drop what two opposite biases cancel, at random and together",
    summary: "Merges a positively and a negatively biased fine-tune: the first model listed and the second, unless `sign` says otherwise (several of one sign are averaged first). Same-sign changes are averaged; opposite ones are dropped with a probability that grows with their cancellation, by one draw for both.",
    paper: "3DM: distill, dynamic drop and merge for debiasing multimodal models",
    equation: "p = 1 - |d⁺ + d⁻| / (|d⁺| + |d⁻|) where d⁺ d⁻ < 0, else 0; r = θ + Σ w d [u >= p] / (1 - p)",
    inputs: Contract {
        base: Base::Required,
        min: 2,
        max: None,
    },
    parameters: &[
        Parameter {
            name: "weight",
            scope: ParameterScope::Other,
            kind: Kind::Number,
            default: Fallback::Number(0.5),
            help: "of each sign; several models of one sign share it",
        },
        Parameter {
            name: "sign",
            scope: ParameterScope::Other,
            kind: Kind::Word(&["by_order", "positive", "negative"]),
            default: Fallback::Word("by_order"),
            help: "which way this model is biased; by order, the first is positive and the others are negative",
        },
        word(
            "mode",
            &["sync", "async"],
            "one draw for both models, or one for each (ablation)",
        ),
        word(
            "ablation",
            &["none", "bias_free", "uni_bi"],
            "fixed rate at opposite positions (bias_free), or at all others (uni_bi)",
        ),
        number("fixed_rate", 0.7, "drop rate of the ablations"),
    ],
    degenerate: "Zero changes count as of the same sign. Exact cancellation is always dropped. Equal fine-tunes give themselves. A base that is itself one of the two makes every rate 0.",
};

pub(super) struct ThreeDm;

impl Merger for ThreeDm {
    fn card(&self) -> &MergerCard {
        &CARD
    }

    fn check(
        &self,
        shared: &crate::card::Values,
        others: &[&crate::card::Values],
    ) -> std::result::Result<(), (&'static str, String)> {
        let rate = shared.number("fixed_rate");
        if !(0.0..1.0).contains(&rate) {
            return Err(("fixed_rate", format!("{rate} is outside [0, 1)")));
        }
        let signs: Vec<_> = (0..others.len()).map(|at| positive(others, at)).collect();
        if signs.contains(&true) && signs.contains(&false) {
            Ok(())
        } else {
            Err((
                "sign",
                "all models have one sign; 3dm needs a positively and a negatively biased one"
                    .to_owned(),
            ))
        }
    }

    fn passes(&self) -> usize {
        2
    }

    /// How often the two agree: the paper's figure of sign shares, per tensor.
    fn survey(&self, targets: &[&Target]) -> Result<Facts> {
        let each: Result<Vec<_>> = targets
            .par_iter()
            .map(|target| Ok((target.name(), shares(target)?)))
            .collect();
        let mut total = Shares::default();
        let mut statistics = Map::new();
        for (name, shares) in each? {
            total.join(&shares);
            statistics.insert(name.to_owned(), shares.json());
        }
        let mut remarks = vec![total.sentence()];
        if total.same + total.opposite == 0 && total.zero > 0 {
            remarks.push("one of the two models is the base itself: nothing is dropped".to_owned());
        }
        Ok(Facts {
            remarks,
            statistics,
            ..Facts::default()
        })
    }

    fn merge(&self, target: &Target, _facts: &Facts) -> Result<()> {
        target.each(target.deltas(), &Drop::of(target))
    }
}

/// Whether the model at place `at` besides the base is positively biased.
fn positive(others: &[&crate::card::Values], at: usize) -> bool {
    match others[at].text("sign") {
        "positive" => true,
        "negative" => false,
        _ => at == 0,
    }
}

#[derive(Clone, Copy, PartialEq)]
enum Ablation {
    None,
    BiasFree,
    UniBi,
}

/// Everything that one tensor needs.
struct Drop {
    positive: Vec<bool>,
    /// Of the positive and of the negative side.
    weights: [f32; 2],
    draws: [Draws; 2],
    ablation: Ablation,
    rate: f32,
}

impl Drop {
    fn of(target: &Target) -> Self {
        let values: Vec<_> = target.others().iter().map(|at| &target.each[*at]).collect();
        let signs: Vec<bool> = (0..values.len()).map(|at| positive(&values, at)).collect();
        let weights = target.of_others("weight");
        let mean = |side: bool| {
            let of: Vec<f64> = weights
                .iter()
                .zip(&signs)
                .filter(|(_, sign)| **sign == side)
                .map(|(weight, _)| *weight)
                .collect();
            (of.iter().sum::<f64>() / of.len().max(1) as f64) as f32
        };
        let draws = |stream| Draws::new(target.run.seed, target.name(), stream);
        let second = u64::from(target.text("mode") == "async");
        Self {
            weights: [mean(true), mean(false)],
            positive: signs,
            draws: [draws(0), draws(second)],
            ablation: match target.text("ablation") {
                "bias_free" => Ablation::BiasFree,
                "uni_bi" => Ablation::UniBi,
                _ => Ablation::None,
            },
            rate: target.number("fixed_rate") as f32,
        }
    }

    /// The mean change of each sign, over the block's first two inputs' places.
    #[inline(always)]
    fn sides(&self, block: &Block, lane: usize) -> [f32; 2] {
        let mut sums = [0.0f32; 2];
        let mut counts = [0.0f32; 2];
        for (i, positive) in self.positive.iter().enumerate() {
            let side = usize::from(!positive);
            sums[side] += block.input(i)[lane];
            counts[side] += 1.0;
        }
        [sums[0] / counts[0], sums[1] / counts[1]]
    }

    /// Merges the two changes of one element, given its two draws.
    #[inline(always)]
    fn merged(&self, [p, n]: [f32; 2], draws: [f64; 2]) -> f32 {
        let opposite = p * n < 0.0;
        let fixed = match self.ablation {
            Ablation::None => false,
            Ablation::BiasFree => opposite,
            Ablation::UniBi => !opposite,
        };
        let [wp, wn] = self.weights;
        if !opposite && !fixed {
            return wp * p + wn * n;
        }
        let (sum, size) = (p + n, p.abs() + n.abs());
        let rate = if fixed {
            self.rate
        } else {
            1.0 - sum.abs() / size
        };
        let survives = draws.map(|u| u >= f64::from(rate));
        if !fixed && survives[0] && survives[1] && wp == wn {
            // (d⁺ + d⁻) / (1 - p), without dividing by a tiny 1 - p.
            return wp * size.copysign(sum);
        }
        let scale = |survives: bool| if survives { 1.0 / (1.0 - rate) } else { 0.0 };
        wp * p * scale(survives[0]) + wn * n * scale(survives[1])
    }
}

impl Each for Drop {
    #[inline(always)]
    fn block(&self, block: &mut Block, out: &mut [f32]) {
        for (lane, out) in out.iter_mut().enumerate() {
            let at = block.at + lane;
            let draws = self.draws.map(|draws| draws.uniform(at));
            *out = block.base()[lane] + self.merged(self.sides(block, lane), draws);
        }
    }
}

/// How the changes of two models agree.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Shares {
    same: u64,
    opposite: u64,
    zero: u64,
    /// Largest 1 / (1 - p).
    factor: f64,
}

impl Shares {
    fn join(&mut self, other: &Self) {
        self.same += other.same;
        self.opposite += other.opposite;
        self.zero += other.zero;
        self.factor = self.factor.max(other.factor);
    }

    fn shares(&self) -> [f64; 3] {
        let total = (self.same + self.opposite + self.zero).max(1) as f64;
        [self.same, self.opposite, self.zero].map(|count| count as f64 / total)
    }

    fn json(&self) -> serde_json::Value {
        let [same, opposite, zero] = self.shares();
        json!({"same_sign": same, "opposite_sign": opposite, "zero": zero, "largest_factor": self.factor})
    }

    fn sentence(&self) -> String {
        let [same, opposite, zero] = self.shares().map(|share| 100.0 * share);
        format!(
            "the two change {same:.1} % of the weights in the same direction, {opposite:.1} % in opposite ones; {zero:.1} % are left alone by one of them; the largest 1 / (1 - p) is {:.3e}",
            self.factor
        )
    }
}

struct Count(Drop);

impl Fold for Count {
    type Part = Shares;

    fn part(&self) -> Shares {
        Shares::default()
    }

    #[inline(always)]
    fn block(&self, block: &mut Block, part: &mut Shares) {
        for lane in 0..block.len() {
            let [p, n] = self.0.sides(block, lane);
            let product = p * n;
            part.same += u64::from(product > 0.0);
            part.opposite += u64::from(product < 0.0);
            part.zero += u64::from(product == 0.0);
            if product < 0.0 && p + n != 0.0 {
                let factor = f64::from(p.abs() + n.abs()) / f64::from((p + n).abs());
                part.factor = part.factor.max(factor);
            }
        }
    }
}

fn shares(target: &Target) -> Result<Shares> {
    let mut total = Shares::default();
    let parts = target.fold(target.deltas(), &Count(Drop::of(target)))?;
    parts.iter().for_each(|part| total.join(part));
    Ok(total)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::{close, reference};

    fn rule(mode_async: bool, ablation: Ablation) -> Drop {
        let draws = |stream| Draws::new(0, "unused", stream);
        Drop {
            positive: vec![true, false],
            weights: [0.5, 0.5],
            draws: [draws(0), draws(u64::from(mode_async))],
            ablation,
            rate: 0.7,
        }
    }

    #[test]
    fn every_mode_gives_what_the_reference_draws_give() {
        let Some(file) = reference("threedm") else {
            return;
        };
        let f32s = |name: &str| file.f32s(name);
        let (base, pos, neg) = (f32s("base"), f32s("w_pos"), f32s("w_neg"));
        let (u_pos, u_neg) = (file.f64s("u_pos"), file.f64s("u_neg"));
        for (name, asynchronous, ablation) in [
            ("sync", false, Ablation::None),
            ("async_", true, Ablation::None),
            ("bias_free_fixed07", false, Ablation::BiasFree),
            ("uni_bi_fixed07", false, Ablation::UniBi),
        ] {
            let rule = rule(asynchronous, ablation);
            let got: Vec<f32> = (0..base.len())
                .map(|i| {
                    let second = if asynchronous { u_neg[i] } else { u_pos[i] };
                    let changes = [pos[i] - base[i], neg[i] - base[i]];
                    base[i] + rule.merged(changes, [u_pos[i], second])
                })
                .collect();
            close(name, &got, &f32s(name), 1e-6, 1e-5);
        }
    }

    #[test]
    fn the_expectation_is_the_average() {
        let rule = rule(false, Ablation::None);
        let noise = Draws::new(4, "noise", 0);
        let (p, n) = (0.8f32, -0.5f32);
        let draws = 40_000;
        let mean: f64 = (0..draws)
            .map(|at| {
                let u = noise.uniform(at);
                f64::from(rule.merged([p, n], [u, u]))
            })
            .sum::<f64>()
            / f64::from(draws as u32);
        // Survivors are 0.65, so a standard error is at most 0.65 / 2 / sqrt(draws).
        assert!((mean - 0.15).abs() < 4.0 * 0.325 / 200.0, "{mean}");
        assert_eq!(rule.merged([0.5, -0.5], [0.999, 0.999]), 0.0);
        assert_eq!(rule.merged([0.25, 0.25], [0.0, 0.0]), 0.25);
    }
}
