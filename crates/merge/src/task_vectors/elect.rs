//! The weighted, thinned out task vectors become one: summed, or summed where they agree.

use crate::stream::{Block, Each};

use super::keep::{Thinning, thin};

/// How the sign of an element is chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Election {
    /// It is not: everything is summed.
    None,
    /// By the sign of `Σ x_i`; a zero sum elects plus (TIES, step 2).
    Sum,
    /// By the sign of `Σ sign x_i`.
    Count,
}

/// `θ + λ Σ x_i m_i / D` with `x_i = w_i sparse(δ_i)`.
pub(crate) struct Elect {
    pub kept: Vec<Thinning>,
    pub weights: Vec<f32>,
    /// `Σ w_i`, or 1 where that vanishes; for merges without election.
    pub divisor: f32,
    pub election: Election,
    pub normalize: bool,
    pub lambda: f32,
}

/// Elements whose votes are counted at a time: one or two vector registers.
const LANES: usize = 16;

impl Each for Elect {
    #[inline(always)]
    fn block(&self, block: &mut Block, out: &mut [f32]) {
        for (i, kept) in self.kept.iter().enumerate() {
            thin(kept, i, self.weights[i], block);
        }
        match self.election {
            Election::None => self.sum(block, out),
            Election::Sum => self.elected(block, out, |x| x),
            Election::Count => self.elected(block, out, sign),
        }
        if self.lambda != 1.0 {
            out.iter_mut().for_each(|out| *out *= self.lambda);
        }
        for (out, base) in out.iter_mut().zip(block.base()) {
            *out += base;
        }
    }
}

impl Elect {
    #[inline(always)]
    fn sum(&self, block: &Block, out: &mut [f32]) {
        out.fill(0.0);
        for i in 0..self.weights.len() {
            for (out, x) in out.iter_mut().zip(block.input(i)) {
                *out += x;
            }
        }
        if self.normalize {
            out.iter_mut().for_each(|out| *out /= self.divisor);
        }
    }

    #[inline(always)]
    fn elected(&self, block: &Block, out: &mut [f32], vote: impl Fn(f32) -> f32) {
        let (pieces, rest) = out.as_chunks_mut::<LANES>();
        let end = LANES * pieces.len();
        for (start, out) in (0..).step_by(LANES).zip(pieces) {
            *out = self.agreed(&vote, |i| {
                let x = block.input(i)[start..].first_chunk();
                *x.expect("the input is as long as the output")
            });
        }
        let last = self.agreed(&vote, |i| {
            let mut lanes = [0.0; LANES];
            lanes[..rest.len()].copy_from_slice(&block.input(i)[end..]);
            lanes
        });
        rest.copy_from_slice(&last[..rest.len()]);
    }

    /// Votes, then sums what agrees, for as many elements as fit into registers.
    #[inline(always)]
    fn agreed(
        &self,
        vote: &impl Fn(f32) -> f32,
        x: impl Fn(usize) -> [f32; LANES],
    ) -> [f32; LANES] {
        let mut votes = [0.0f32; LANES];
        for i in 0..self.weights.len() {
            let x = x(i);
            for lane in 0..LANES {
                votes[lane] += vote(x[lane]);
            }
        }
        let mut sums = [0.0f32; LANES];
        let mut divisors = [0.0f32; LANES];
        for (i, w) in self.weights.iter().enumerate() {
            let x = x(i);
            for lane in 0..LANES {
                // A zero has no sign and never agrees.
                let plus = votes[lane] >= 0.0;
                let agrees = (plus & (x[lane] > 0.0)) | (!plus & (x[lane] < 0.0));
                let share = if agrees { 1.0 } else { 0.0 };
                sums[lane] += share * x[lane];
                divisors[lane] += share * w;
            }
        }
        if self.normalize {
            for lane in 0..LANES {
                let divisor = divisors[lane];
                sums[lane] /= if divisor == 0.0 { 1.0 } else { divisor };
            }
        }
        sums
    }
}

#[inline(always)]
fn sign(x: f32) -> f32 {
    f32::from(x > 0.0) - f32::from(x < 0.0)
}
