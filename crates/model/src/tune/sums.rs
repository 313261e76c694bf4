//! Gradients of a batch: added piece by piece, measured, shortened.

use std::collections::BTreeMap;

use rayon::prelude::*;

/// Values per piece of parallel work; fixed, so that sums do not depend on the number of threads.
const PIECE: usize = 1 << 16;

/// Gradients by parameter, row-major.
#[derive(Default)]
pub(super) struct Sums(BTreeMap<String, Vec<f32>>);

impl Sums {
    /// Adds the gradients of one more piece.
    pub fn add(&mut self, gradients: Vec<(String, Vec<f32>)>) {
        for (name, gradient) in gradients {
            match self.0.get_mut(&name) {
                None => {
                    self.0.insert(name, gradient);
                }
                Some(sum) => {
                    let pieces = sum.par_chunks_mut(PIECE).zip(gradient.par_chunks(PIECE));
                    pieces.for_each(|(sum, piece)| {
                        for (sum, value) in sum.iter_mut().zip(piece) {
                            *sum += value;
                        }
                    });
                }
            }
        }
    }

    /// The norm of all of them together.
    pub fn norm(&self) -> f64 {
        let squares = self.0.values().map(|gradient| {
            let pieces: Vec<f64> = gradient.par_chunks(PIECE).map(square).collect();
            pieces.iter().sum::<f64>()
        });
        squares.sum::<f64>().sqrt()
    }

    /// Multiplies all of them.
    pub fn scale(&mut self, factor: f32) {
        for gradient in self.0.values_mut() {
            gradient.par_chunks_mut(PIECE).for_each(|piece| {
                for value in piece {
                    *value *= factor;
                }
            });
        }
    }

    /// The gradients, in order.
    pub fn into_iter(self) -> impl Iterator<Item = (String, Vec<f32>)> {
        self.0.into_iter()
    }
}

/// The sum of squares in eight partial sums.
fn square(values: &[f32]) -> f64 {
    let mut sums = [0.0f64; 8];
    for piece in values.chunks(8) {
        for (sum, value) in sums.iter_mut().zip(piece) {
            *sum += f64::from(*value) * f64::from(*value);
        }
    }
    sums.iter().sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gradients_are_added_and_measured_together() {
        let mut sums = Sums::default();
        sums.add(vec![("a".into(), vec![1.0, 2.0]), ("b".into(), vec![4.0])]);
        sums.add(vec![("a".into(), vec![2.0, -2.0])]);
        assert_eq!(sums.norm(), 5.0);
        sums.scale(0.5);
        let found: Vec<_> = sums.into_iter().collect();
        assert_eq!(
            found,
            [
                ("a".to_owned(), vec![1.5, 0.0]),
                ("b".to_owned(), vec![2.0])
            ]
        );
    }
}
