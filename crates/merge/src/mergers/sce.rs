//! Select, calculate, erase (arXiv:2408.07990).

use crate::card::{Base, Contract, MergerCard, number};
use crate::error::Result;
use crate::merger::{Facts, Merger};
use crate::stream::{Block, Cut, Each, Fold, Key, Reading, dot, largest};
use crate::target::Target;
use crate::task_vectors::parameters::INT8_MASK;

static CARD: MergerCard = MergerCard {
    id: "sce",
    version: 1,
    title: "Keep where models disagree most, weigh by energy, erase minority signs",
    summary: "Selects the elements whose task vectors vary most between models, weighs each model by the mean square of what is left of its task vector, and leaves out values of the minority's sign.",
    paper: "Wan et al., FuseChat, 2024, arXiv:2408.07990, section 3.3",
    equation: "r = θ + Σ w_i m_i δ_i / max(Σ w_i m_i, 1e-6), w_i = mean(δ_i²) / Σ_j mean(δ_j²) over the selected",
    inputs: Contract {
        base: Base::Required,
        min: 0,
        max: None,
    },
    parameters: &[
        number(
            "select_topk",
            1.0,
            "share of the elements of non-zero variance that is kept",
        ),
        INT8_MASK,
    ],
    degenerate: "One model, or equal ones: with select_topk below 1 the base. Vanishing task vectors are weighed alike.",
};

pub(super) struct Sce;

impl Merger for Sce {
    fn card(&self) -> &MergerCard {
        &CARD
    }

    fn passes(&self) -> usize {
        4
    }

    fn merge(&self, target: &Target, _facts: &Facts) -> Result<()> {
        let reading = target.deltas();
        let cut = select(target, reading)?;
        let mut energies = vec![0.0; reading.inputs.len()];
        for part in target.fold(
            reading,
            &Energy {
                cut,
                models: reading.inputs.len(),
            },
        )? {
            energies.iter_mut().zip(part).for_each(|(sum, x)| *sum += x);
        }
        let n = target.len().max(1) as f64;
        energies.iter_mut().for_each(|energy| *energy /= n);
        let total: f64 = energies.iter().sum();
        let weights = energies.iter().map(|energy| {
            if total.abs() < 1e-6 {
                1.0 / energies.len() as f32
            } else {
                (energy / total) as f32
            }
        });
        let weights = weights.collect();
        target.each(reading, &Erase { cut, weights })
    }
}

/// The elements of largest variance; `None` keeps all.
fn select(target: &Target, reading: Reading) -> Result<Option<Cut>> {
    let share = target.number("select_topk");
    if share >= 1.0 {
        return Ok(None);
    }
    let varying: usize = target.fold(reading, &Varying)?.into_iter().sum();
    let rank = (varying as f64 * share.max(0.0)) as usize;
    Ok(Some(largest(target, reading, &Variance, &[rank])?[0]))
}

/// Elements of which a variance is computed at a time.
const LANES: usize = 64;

/// Population variances of the elements of a block, piece by piece.
#[inline(always)]
fn variances(block: &mut Block, mut see: impl FnMut(&mut Block, usize, &[f32])) {
    let models = block.count();
    let n = models.max(1) as f32;
    for start in (0..block.len()).step_by(LANES) {
        let lanes = LANES.min(block.len() - start);
        let mut means = [0.0f32; LANES];
        let mut variances = [0.0f32; LANES];
        for i in 0..models {
            let x = &block.input(i)[start..start + lanes];
            means.iter_mut().zip(x).for_each(|(mean, x)| *mean += x);
        }
        means.iter_mut().for_each(|mean| *mean /= n);
        for i in 0..models {
            let x = &block.input(i)[start..start + lanes];
            for ((variance, mean), x) in variances.iter_mut().zip(&means).zip(x) {
                *variance += (x - mean) * (x - mean);
            }
        }
        variances.iter_mut().for_each(|variance| *variance /= n);
        see(block, start, &variances[..lanes]);
    }
}

struct Variance;

impl Key for Variance {
    #[inline(always)]
    fn keys(&self, block: &mut Block) {
        variances(block, |block, start, variances| {
            block.input_mut(0)[start..start + variances.len()].copy_from_slice(variances);
        });
    }
}

struct Varying;

impl Fold for Varying {
    type Part = usize;

    fn part(&self) -> usize {
        0
    }

    #[inline(always)]
    fn block(&self, block: &mut Block, part: &mut usize) {
        variances(block, |_, _, variances| {
            *part += variances
                .iter()
                .filter(|variance| **variance != 0.0)
                .count();
        });
    }
}

/// Zeroes every task vector where its element was not selected.
#[inline(always)]
fn keep(cut: Option<&Cut>, block: &mut Block) {
    let Some(cut) = cut else {
        return;
    };
    let (at, models) = (block.at, block.count());
    variances(block, |block, start, variances| {
        for (lane, variance) in variances.iter().enumerate() {
            if !cut.keeps(*variance, at + start + lane) {
                (0..models).for_each(|i| block.input_mut(i)[start + lane] = 0.0);
            }
        }
    });
}

struct Energy {
    cut: Option<Cut>,
    models: usize,
}

impl Fold for Energy {
    type Part = Vec<f64>;

    fn part(&self) -> Vec<f64> {
        vec![0.0; self.models]
    }

    #[inline(always)]
    fn block(&self, block: &mut Block, part: &mut Vec<f64>) {
        keep(self.cut.as_ref(), block);
        for (i, energy) in part.iter_mut().enumerate() {
            *energy += dot(block.input(i), block.input(i));
        }
    }
}

struct Erase {
    cut: Option<Cut>,
    weights: Vec<f32>,
}

impl Each for Erase {
    #[inline(always)]
    fn block(&self, block: &mut Block, out: &mut [f32]) {
        keep(self.cut.as_ref(), block);
        for (lane, out) in out.iter_mut().enumerate() {
            let mut votes = 0.0f32;
            for i in 0..self.weights.len() {
                votes += block.input(i)[lane];
            }
            let (mut sum, mut divisor) = (0.0f32, 0.0f32);
            for (i, w) in self.weights.iter().enumerate() {
                let x = block.input(i)[lane];
                let agrees = if votes >= 0.0 { x > 0.0 } else { x < 0.0 };
                sum += if agrees { w * x } else { 0.0 };
                divisor += if agrees { *w } else { 0.0 };
            }
            *out = block.base()[lane] + sum / divisor.max(1e-6);
        }
    }
}
