//! Spherical interpolation without the linear shortcut, of tensors, rows or columns.

use crate::card::{Base, Contract, MergerCard, WEIGHT, flag};
use crate::combine::{Combination, Gram, Products};
use crate::error::Result;
use crate::merger::{Facts, Merger};
use crate::stream::{Block, Each, Fold, Grain, Reading, dots};
use crate::target::Target;

static CARD: MergerCard = MergerCard {
    id: "nuslerp",
    version: 1,
    title: "Spherical interpolation by weights, of tensors or of their rows",
    summary: "Like slerp with t = w_2 / (w_1 + w_2), but curved for nearly parallel inputs too, and with a base applied to task vectors. Task vectors of different fine-tunes are nearly orthogonal, so the result is longer than their mean.",
    paper: "mergekit (Goddard et al., 2024, arXiv:2403.13257)",
    equation: "r = [sin((1-t) ω) x_1 + sin(t ω) x_2] / sin ω (+ θ), x = θ_i or δ_i; linear where 1 - cos² ω <= 1e-16",
    inputs: Contract {
        base: Base::Optional,
        min: 2,
        max: Some(2),
    },
    parameters: &[
        WEIGHT,
        flag("nuslerp_flatten", true, "take the tensor as one vector"),
        flag(
            "nuslerp_row_wise",
            false,
            "without flatten: take the columns of a matrix as vectors, else its rows (the name is mergekit's)",
        ),
    ],
    degenerate: "A zero vector counts as orthogonal; parallel vectors are interpolated linearly; weights that sum to zero mean t = 1/2.",
};

/// Norms below this are divided by this instead.
const VANISHING: f64 = 1e-7;

pub(super) struct NuSlerp;

/// What counts as one vector.
#[derive(Clone, Copy)]
enum Vectors {
    Whole,
    Rows(usize),
    Columns(usize),
}

impl Merger for NuSlerp {
    fn card(&self) -> &MergerCard {
        &CARD
    }

    fn passes(&self) -> usize {
        2
    }

    fn merge(&self, target: &Target, _facts: &Facts) -> Result<()> {
        let weights = target.of_others("weight");
        let total = weights[0] + weights[1];
        let t = if total.abs() < 1e-6 {
            0.5
        } else {
            weights[1] / total
        };
        let reading = target.deltas();
        let onto_base = reading.origin.is_some();
        match vectors(target) {
            Vectors::Whole => {
                let products = Products::sum(2, target.fold(reading, &Gram(2))?);
                let ends = ends([products.of(0, 0), products.of(0, 1), products.of(1, 1)], t);
                target.each(reading, &Combination::of(ends).onto(onto_base))
            }
            Vectors::Rows(length) => {
                let grain = reading.grain.of_rows(length);
                let rows = Rows {
                    length,
                    t,
                    onto_base,
                };
                target.each(Reading { grain, ..reading }, &rows)
            }
            Vectors::Columns(columns) => {
                let ends = column_ends(target, reading, columns, t)?;
                let grain = reading.grain.of_rows(columns);
                target.each(Reading { grain, ..reading }, &Columns { ends, onto_base })
            }
        }
    }
}

fn vectors(target: &Target) -> Vectors {
    match (target.flag("nuslerp_flatten"), target.shape()) {
        (true, _) | (_, [] | [_]) => Vectors::Whole,
        (false, [_, .., last]) if !target.flag("nuslerp_row_wise") => Vectors::Rows(*last),
        (false, [_, rest @ ..]) => Vectors::Columns(rest.iter().product()),
    }
}

/// Coefficients of two vectors with these inner products.
#[inline(always)]
fn ends([aa, ab, bb]: [f64; 3], t: f64) -> [f64; 2] {
    let norms = aa.sqrt().max(VANISHING) * bb.sqrt().max(VANISHING);
    let cosine = (ab / norms).clamp(-1.0, 1.0);
    // The comparison is mergekit's, in f32.
    let narrow = cosine as f32;
    if 1.0 - narrow * narrow <= 1e-16 {
        return [1.0 - t, t];
    }
    let angle = cosine.acos();
    let sine = angle.sin();
    [((1.0 - t) * angle).sin() / sine, (t * angle).sin() / sine]
}

struct Rows {
    length: usize,
    t: f64,
    onto_base: bool,
}

impl Each for Rows {
    #[inline(always)]
    fn block(&self, block: &mut Block, out: &mut [f32]) {
        let rows = block.input(0).chunks(self.length);
        let rows = rows.zip(block.input(1).chunks(self.length));
        for ((a, b), out) in rows.zip(out.chunks_mut(self.length)) {
            let [c, d] = ends(dots(a, b), self.t);
            let (c, d) = (c as f32, d as f32);
            for (out, (a, b)) in out.iter_mut().zip(a.iter().zip(b)) {
                *out = c * a + d * b;
            }
        }
        add_base(self.onto_base, block, out);
    }
}

#[inline(always)]
fn add_base(onto_base: bool, block: &Block, out: &mut [f32]) {
    if onto_base {
        for (out, base) in out.iter_mut().zip(block.base()) {
            *out += base;
        }
    }
}

/// Inner products of each column, `aa`, `ab` and `bb` one behind the other.
struct ColumnProducts(usize);

impl Fold for ColumnProducts {
    type Part = Vec<f64>;

    fn part(&self) -> Vec<f64> {
        vec![0.0; 3 * self.0]
    }

    #[inline(always)]
    fn block(&self, block: &mut Block, part: &mut Vec<f64>) {
        let (aa, rest) = part.split_at_mut(self.0);
        let (ab, bb) = rest.split_at_mut(self.0);
        let rows = block
            .input(0)
            .chunks(self.0)
            .zip(block.input(1).chunks(self.0));
        for (a, b) in rows {
            for (column, (a, b)) in a.iter().zip(b).enumerate() {
                let (a, b) = (f64::from(*a), f64::from(*b));
                aa[column] += a * a;
                ab[column] += a * b;
                bb[column] += b * b;
            }
        }
    }
}

/// Most parts of a sum over columns, each as long as three rows in f64.
const PARTS: usize = 64;

/// The coefficients of every column.
fn column_ends(target: &Target, reading: Reading, columns: usize, t: f64) -> Result<[Vec<f32>; 2]> {
    let grain = reading.grain.of_rows(columns);
    let blocks = target.len().div_ceil(grain.block).div_ceil(PARTS).max(1);
    let grain = Grain {
        chunk: grain.chunk.max(blocks * grain.block),
        ..grain
    };
    let mut sums = vec![0.0; 3 * columns];
    for part in target.fold(Reading { grain, ..reading }, &ColumnProducts(columns))? {
        sums.iter_mut().zip(part).for_each(|(sum, x)| *sum += x);
    }
    let each = |column: usize| {
        ends(
            [
                sums[column],
                sums[columns + column],
                sums[2 * columns + column],
            ],
            t,
        )
    };
    let (a, b): (Vec<_>, Vec<_>) = (0..columns)
        .map(|column| each(column).map(|c| c as f32))
        .map(|[a, b]| (a, b))
        .unzip();
    Ok([a, b])
}

struct Columns {
    ends: [Vec<f32>; 2],
    onto_base: bool,
}

impl Each for Columns {
    #[inline(always)]
    fn block(&self, block: &mut Block, out: &mut [f32]) {
        let [c, d] = &self.ends;
        let rows = block
            .input(0)
            .chunks(c.len())
            .zip(block.input(1).chunks(c.len()));
        for ((a, b), out) in rows.zip(out.chunks_mut(c.len())) {
            for (column, out) in out.iter_mut().enumerate() {
                *out = c[column] * a[column] + d[column] * b[column];
            }
        }
        add_base(self.onto_base, block, out);
    }
}
