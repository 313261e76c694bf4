//! Linear combinations of inputs: what most merges come to once their coefficients are known.

use crate::stream::{Block, Each, Fold, dot, dots};

/// `r = (Σ c_i x_i) / d + θ` with f32 coefficients, summed in the order of the inputs.
pub(crate) struct Combination {
    /// One per input of the reading.
    pub coefficients: Vec<f32>,
    /// Divides the sum; 1 leaves it as it is.
    pub divisor: f32,
    /// Whether the origin of the reading is added back.
    pub onto_base: bool,
}

impl Combination {
    /// The plain sum `Σ c_i x_i`.
    pub(crate) fn of(coefficients: impl IntoIterator<Item = f64>) -> Self {
        Self {
            coefficients: coefficients.into_iter().map(|c| c as f32).collect(),
            divisor: 1.0,
            onto_base: false,
        }
    }

    /// The sum on top of the origin, where there is one.
    pub(crate) fn onto(mut self, base: bool) -> Self {
        self.onto_base = base;
        self
    }
}

impl Each for Combination {
    #[inline(always)]
    fn block(&self, block: &mut Block, out: &mut [f32]) {
        out.fill(0.0);
        for (i, c) in self.coefficients.iter().enumerate() {
            for (out, x) in out.iter_mut().zip(block.input(i)) {
                *out += c * x;
            }
        }
        if self.divisor != 1.0 {
            out.iter_mut().for_each(|out| *out /= self.divisor);
        }
        if self.onto_base {
            for (out, base) in out.iter_mut().zip(block.base()) {
                *out += base;
            }
        }
    }
}

/// The Gram matrix `[x_i · x_j]` of the inputs of a reading, accumulated in f64.
pub(crate) struct Gram(pub usize);

impl Fold for Gram {
    type Part = Vec<f64>;

    fn part(&self) -> Vec<f64> {
        vec![0.0; self.0 * self.0]
    }

    #[inline(always)]
    fn block(&self, block: &mut Block, part: &mut Vec<f64>) {
        if self.0 == 2 {
            let [xx, xy, yy] = dots(block.input(0), block.input(1));
            part[0] += xx;
            part[1] += xy;
            part[3] += yy;
            return;
        }
        for i in 0..self.0 {
            for j in i..self.0 {
                part[i * self.0 + j] += dot(block.input(i), block.input(j));
            }
        }
    }
}

/// A symmetric matrix of inner products.
#[derive(Clone, Debug)]
pub(crate) struct Products {
    n: usize,
    values: Vec<f64>,
}

impl Products {
    /// The sum of the parts of a [`Gram`], in order.
    pub(crate) fn sum(n: usize, parts: Vec<Vec<f64>>) -> Self {
        let mut values = vec![0.0; n * n];
        for part in parts {
            values.iter_mut().zip(part).for_each(|(sum, x)| *sum += x);
        }
        for i in 0..n {
            for j in 0..i {
                values[i * n + j] = values[j * n + i];
            }
        }
        Self { n, values }
    }

    /// Number of inputs.
    pub(crate) fn len(&self) -> usize {
        self.n
    }

    /// `x_i · x_j`.
    pub(crate) fn of(&self, i: usize, j: usize) -> f64 {
        self.values[i * self.n + j]
    }

    /// `‖x_i‖`.
    pub(crate) fn norm(&self, i: usize) -> f64 {
        self.of(i, i).sqrt()
    }

    /// `(Σ a_i x_i) · (Σ b_j x_j)`.
    pub(crate) fn between(&self, a: &[f64], b: &[f64]) -> f64 {
        let mut total = 0.0;
        for (i, a) in a.iter().enumerate() {
            for (j, b) in b.iter().enumerate() {
                total += a * b * self.of(i, j);
            }
        }
        total
    }
}
