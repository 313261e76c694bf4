//! RobustMerge (Zeng et al.): prune the factors of adapters, amplify what little is left of weak
//! directions, and add them up.
//!
//! It works on the factors `A` and `B` of LoRA adapters, paired by module. Onto a base, each input is
//! that base with an adapter on top; tensors that adapters trained whole are averaged. Without a
//! base, [`crate::Planned`] merges the adapters to one adapter.

use crate::adapter::Factors;
use crate::adapter::robust::{Settings, merge};
use crate::card::{Base, Contract, MergerCard, Values, number, word};
use crate::error::{Error, Result};
use crate::merger::{AdapterMerger, AdapterModule, Facts, Merger};
use crate::stream::{Block, Each, Input};
use crate::target::{Run, Target};

static CARD: MergerCard = MergerCard {
    id: "robust_merge",
    version: 1,
    title: "LoRA adapters pruned and rescaled by direction",
    summary: "Prunes the factors of every adapter, measures for each rank how much of A was lost, and weighs the columns of B by that, so that weak directions are not drowned by strong ones.",
    paper: "Zeng et al., RobustMerge, NeurIPS 2025, arXiv:2502.17159",
    equation: "released: A = c Σ Ã_n, B = c Σ Ŝ_n B̃_n / Σ Ŝ_n; paper: ΔW = Σ B̃_n diag(S_n / Σ_m S_m) Ã_n; S_n^i = Σ_j|A_n^ij| / Σ_j|Ã_n^ij|, Ŝ_n clamped from below at its (1 - att_ratio) quantile",
    inputs: Contract {
        base: Base::Required,
        min: 1,
        max: None,
    },
    parameters: &[
        number(
            "keep_ratio",
            0.2,
            "share of each factor that is kept, the largest magnitudes (the authors' program calls it a mask ratio)",
        ),
        number(
            "att_ratio",
            0.2,
            "released: share of the ranks whose S is above the clamp",
        ),
        number("coef", 2.0, "released: multiplies both merged factors"),
        word(
            "variant",
            &["released", "paper"],
            "released: the authors' program, one adapter of the same rank; paper: the paper's formula, of as many ranks as all adapters have together",
        ),
    ],
    degenerate: "A row of A that is pruned to nothing has S = 0 and is reported. Without base_model the output is an adapter. Tensors trained whole are averaged.",
};

pub(super) struct RobustMerge;

impl Merger for RobustMerge {
    fn card(&self) -> &MergerCard {
        &CARD
    }

    fn check(
        &self,
        shared: &Values,
        _others: &[&Values],
    ) -> std::result::Result<(), (&'static str, String)> {
        let inside = |name: &'static str, open: bool| {
            let share = shared.number(name);
            if (0.0..=1.0).contains(&share) && (share > 0.0 || !open) {
                Ok(())
            } else {
                Err((name, format!("{share} is no share between 0 and 1")))
            }
        };
        inside("keep_ratio", true)?;
        inside("att_ratio", false)
    }

    fn on_adapters(&self) -> Option<&dyn AdapterMerger> {
        Some(self)
    }

    fn merge(&self, target: &Target, _facts: &Facts) -> Result<()> {
        let base = target.base.expect("the card requires a base");
        let mut factors = Vec::new();
        let mut stored = Vec::new();
        for place in target.others() {
            match target.input(*place) {
                Input::Adapted(whole, change) => {
                    factors.push(Factors::of(change));
                    stored.push(Input::Stored(*whole));
                }
                plain => stored.push(plain.clone()),
            }
        }
        if !factors.is_empty() && factors.len() < stored.len() {
            return Err(Error::Degenerate {
                tensor: target.name().to_owned(),
                problem: "some of the adapters change it and others do not; merge adapters of the same target_modules".to_owned(),
            });
        }
        let origin = target.input(base).clone();
        let mut inputs = vec![match factors.as_slice() {
            [] => origin.clone(),
            _ => onto(
                target,
                &origin,
                merge_factors(&factors, Settings::of(target.shared), target)?,
            )?,
        }];
        inputs.extend(stored);
        inputs.push(origin);
        let others = target.others().iter().copied();
        let places = std::iter::once(base).chain(others).chain([base]);
        let labels = places.map(|place| target.label(place)).collect();
        let whole = target.with(inputs, labels);
        whole.each(whole.values(), &Average)
    }
}

impl AdapterMerger for RobustMerge {
    fn rank(&self, shared: &Values, ranks: &[usize]) -> Option<usize> {
        Some(Settings::of(shared).rank(*ranks.first()?, ranks.len()))
    }

    fn takes_any_rank(&self) -> bool {
        false
    }

    fn takes_only_adapters(&self) -> bool {
        true
    }

    fn weight(&self, _values: &Values) -> f64 {
        1.0
    }

    fn merge(&self, module: &AdapterModule, run: &Run) -> Factors {
        merge_and_warn(
            &module.factors,
            Settings::of(module.shared),
            module.name,
            run,
        )
    }
}

/// `origin` with the merged factors on top.
fn onto<'a>(target: &Target, origin: &Input<'a>, merged: Factors) -> Result<Input<'a>> {
    match (origin, merged.on(target.shape())) {
        (Input::Stored(stored), Some(change)) => Ok(Input::Adapted(*stored, change)),
        _ => Err(Error::Degenerate {
            tensor: target.name().to_owned(),
            problem: "base_model is itself changed here; give a base_model without an adapter"
                .to_owned(),
        }),
    }
}

/// The first input, and what the mean of those in the middle differs from the last by: nothing,
/// exactly, where all are the same.
struct Average;

impl Each for Average {
    #[inline(always)]
    fn block(&self, block: &mut Block, out: &mut [f32]) {
        let last = block.count() - 1;
        let n = (last - 1) as f32;
        out.copy_from_slice(block.input(0));
        for i in 1..last {
            let pairs = block.input(i).iter().zip(block.input(last));
            for (out, (x, base)) in out.iter_mut().zip(pairs) {
                *out += (x - base) / n;
            }
        }
    }
}

/// Merges one module's factors; tells of rows that are pruned to nothing.
///
/// # Errors
/// Adapters of different ranks.
fn merge_factors(factors: &[Factors], settings: Settings, target: &Target) -> Result<Factors> {
    if factors.iter().any(|other| other.rank != factors[0].rank) {
        return Err(Error::Degenerate {
            tensor: target.name().to_owned(),
            problem: "the adapters have different ranks there; merge adapters of one rank"
                .to_owned(),
        });
    }
    Ok(merge_and_warn(factors, settings, target.name(), target.run))
}

/// Merges factors of one rank, those of `name`; tells of rows that are pruned to nothing.
fn merge_and_warn(factors: &[Factors], settings: Settings, name: &str, run: &Run) -> Factors {
    let (merged, emptied) = merge(factors, settings);
    if emptied > 0 {
        run.warn(format!(
            "`{name}`: {emptied} rows of lora_A are pruned to nothing and count with S = 0; a larger keep_ratio keeps some of them"
        ));
    }
    merged
}
