//! Towards the centre of the fine-tunes, as far as their angles say (arXiv:2403.19522).

use crate::card::{Base, Contract, MergerCard, flag};
use crate::combine::{Combination, Gram, Products};
use crate::error::Result;
use crate::merger::{Facts, Merger};
use crate::stream::{Block, Each, Reading, dot};
use crate::target::Target;

static CARD: MergerCard = MergerCard {
    id: "model_stock",
    version: 1,
    title: "Interpolate between the base and the mean of fine-tunes by their angle",
    summary: "Fine-tunes of one base lie on a thin shell around a centre. The cosine between their task vectors says how far from the base towards their mean that centre is.",
    paper: "Jang et al., Model Stock, ECCV 2024, arXiv:2403.19522",
    equation: "t = k c / (1 + (k-1) c), c the mean cosine of δ_i and δ_j; r = t mean(θ_i) + (1-t) θ",
    inputs: Contract {
        base: Base::Required,
        min: 2,
        max: None,
    },
    parameters: &[flag(
        "filter_wise",
        false,
        "an angle for each row along the last axis in place of one per tensor",
    )],
    degenerate: "Norms whose product is below 1e-6 give cosine 0, hence the base; a vanishing denominator gives the base.",
};

pub(super) struct ModelStock;

impl Merger for ModelStock {
    fn card(&self) -> &MergerCard {
        &CARD
    }

    fn passes(&self) -> usize {
        2
    }

    fn merge(&self, target: &Target, _facts: &Facts) -> Result<()> {
        let reading = target.deltas();
        let k = reading.inputs.len();
        match (target.flag("filter_wise"), target.shape()) {
            (true, [_, .., last]) => {
                let grain = reading.grain.of_rows(*last);
                target.each(Reading { grain, ..reading }, &Rows { length: *last, k })
            }
            _ => {
                let products = Products::sum(k, target.fold(reading, &Gram(k))?);
                let share = share(k, |i, j| products.of(i, j)) / k as f64;
                let mean = std::iter::repeat_n(share, k);
                target.each(reading, &Combination::of(mean).onto(true))
            }
        }
    }
}

/// `t` from the inner products of `k` task vectors.
#[inline(always)]
fn share(k: usize, product: impl Fn(usize, usize) -> f64) -> f64 {
    let mut total = 0.0;
    for i in 0..k {
        for j in i + 1..k {
            let norms = product(i, i).sqrt() * product(j, j).sqrt();
            total += (product(i, j) / norms.max(1e-6)).clamp(-1.0, 1.0);
        }
    }
    let cosine = total / (k * (k - 1) / 2) as f64;
    let denominator = 1.0 + (k - 1) as f64 * cosine;
    if denominator.abs() < 1e-6 {
        0.0
    } else {
        k as f64 * cosine / denominator
    }
}

struct Rows {
    length: usize,
    k: usize,
}

impl Each for Rows {
    #[inline(always)]
    fn block(&self, block: &mut Block, out: &mut [f32]) {
        let length = self.length;
        for (row, out) in out.chunks_mut(length).enumerate() {
            let of = |i: usize| &block.input(i)[row * length..][..length];
            let share = share(self.k, |i, j| dot(of(i), of(j))) / self.k as f64;
            out.copy_from_slice(&block.base()[row * length..][..length]);
            for i in 0..self.k {
                for (out, x) in out.iter_mut().zip(of(i)) {
                    *out += share as f32 * x;
                }
            }
        }
    }
}
