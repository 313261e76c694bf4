//! Running mean and deviation over all tokens ever seen in training, merged token set by token
//! set (Chan et al. 1983): the numbers of the reference's token-by-token loop, up to rounding.

use burn::tensor::Tensor;
use debias_model::host;

/// Count, mean and sum of squared deviations of vectors, in `f64`.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Running {
    count: f64,
    mean: Vec<f64>,
    squares: Vec<f64>,
}

impl Running {
    /// Takes in the rows of `[n, d]`.
    pub fn add(&mut self, rows: &Tensor<2>) {
        let [n, d] = rows.dims();
        if n == 0 {
            return;
        }
        let values = host::values(rows.clone());
        let mut mean = vec![0.0; d];
        for row in values.chunks(d) {
            for (mean, value) in mean.iter_mut().zip(row) {
                *mean += f64::from(*value) / n as f64;
            }
        }
        let mut squares = vec![0.0; d];
        for row in values.chunks(d) {
            for ((squares, mean), value) in squares.iter_mut().zip(&mean).zip(row) {
                *squares += (f64::from(*value) - mean).powi(2);
            }
        }
        self.merge(n as f64, &mean, &squares);
    }

    fn merge(&mut self, n: f64, mean: &[f64], squares: &[f64]) {
        if self.count == 0.0 {
            self.mean = vec![0.0; mean.len()];
            self.squares = vec![0.0; mean.len()];
        }
        let total = self.count + n;
        let own = self.mean.iter_mut().zip(&mut self.squares);
        for ((own_mean, own_squares), (mean, squares)) in own.zip(mean.iter().zip(squares)) {
            let gap = mean - *own_mean;
            *own_mean += gap * n / total;
            *own_squares += squares + gap * gap * self.count * n / total;
        }
        self.count = total;
    }

    /// `(rows - μ) / (σ + ε)` with σ over k - 1; the rows as they are before two were seen.
    ///
    /// A unit that never varied in training (behind a ReLU many never fire) becomes 0: divided by
    /// an ε of 1e-7, its first firing would be an edit a million times too large.
    pub fn normalise(&self, rows: Tensor<2>, epsilon: f64) -> Tensor<2> {
        if self.count < 2.0 {
            return rows;
        }
        let device = rows.device();
        let d = self.mean.len();
        let vector = |values: Vec<f32>| host::tensor::<2>(values, [1, d], &device);
        let mean = vector(self.mean.iter().map(|v| *v as f32).collect());
        let spread = self.squares.iter().map(|s| {
            if *s == 0.0 {
                0.0
            } else {
                (1.0 / ((s / (self.count - 1.0)).sqrt() + epsilon)) as f32
            }
        });
        (rows - mean) * vector(spread.collect())
    }

    /// As one tensor `[3, 2 d]`: every `f64` as two `f32`, whose sum it is to 48 bits.
    pub fn stored(&self) -> Tensor<2> {
        let d = self.mean.len();
        let mut rows = Vec::with_capacity(6 * d);
        let count = vec![self.count; d];
        for values in [&count, &self.mean, &self.squares] {
            for value in values {
                let high = *value as f32;
                rows.extend([high, (value - f64::from(high)) as f32]);
            }
        }
        host::tensor(rows, [3, 2 * d], &Default::default())
    }

    /// What [`Running::stored`] was made of.
    pub fn from_stored(tensor: &Tensor<2>) -> Self {
        let values: Vec<f64> = host::values(tensor.clone())
            .chunks(2)
            .map(|pair| f64::from(pair[0]) + f64::from(pair[1]))
            .collect();
        let d = values.len() / 3;
        Self {
            count: values.first().copied().unwrap_or(0.0),
            mean: values[d..2 * d].to_vec(),
            squares: values[2 * d..].to_vec(),
        }
    }

    /// Rounded to what can be stored, so that a resumed training goes on from the same numbers.
    pub fn settle(&mut self) {
        if self.count > 0.0 {
            *self = Self::from_stored(&self.stored());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(values: &[f32]) -> Tensor<2> {
        host::tensor(values.to_vec(), [values.len() / 2, 2], &Default::default())
    }

    #[test]
    fn merged_sets_have_the_moments_of_all_tokens() {
        let (a, b) = ([1.0, 10.0, 2.0, 20.0], [6.0, 30.0]);
        let mut running = Running::default();
        running.add(&rows(&a));
        running.add(&rows(&b));
        // Tokens 1, 2, 6: mean 3, squares 4 + 1 + 9 = 14; 10, 20, 30: mean 20, squares 200.
        assert_eq!(running.mean, [3.0, 20.0]);
        assert!((running.squares[0] - 14.0).abs() < 1e-12);
        assert!((running.squares[1] - 200.0).abs() < 1e-9);
        let normal = host::values(running.normalise(rows(&[3.0, 30.0]), 1e-7));
        assert!(
            normal[0].abs() < 1e-6 && (normal[1] - 1.0).abs() < 1e-6,
            "{normal:?}"
        );
    }

    #[test]
    fn a_unit_that_never_varied_says_nothing() {
        let mut running = Running::default();
        running.add(&rows(&[0.0, 1.0, 0.0, 2.0]));
        let normal = host::values(running.normalise(rows(&[0.3, 1.5]), 1e-7));
        assert_eq!(normal, [0.0, 0.0]);
    }

    #[test]
    fn one_token_is_not_normalised_by_a_deviation_of_nothing() {
        let mut running = Running::default();
        running.add(&rows(&[1.0, 10.0]));
        let same = host::values(running.normalise(rows(&[5.0, 7.0]), 1e-7));
        assert_eq!(same, [5.0, 7.0]);
    }

    #[test]
    fn stored_and_settled_moments_are_the_same() {
        let mut running = Running::default();
        running.add(&rows(&[0.1, 0.7, 0.3, 1e-5, -4.2, 3.3]));
        running.settle();
        assert_eq!(Running::from_stored(&running.stored()), running);
    }
}
