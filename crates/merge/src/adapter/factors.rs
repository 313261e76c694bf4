//! The two factors of one module's change.

use std::sync::Arc;

use crate::stream::LowRank;

/// `scale · B A` of one module, as PEFT stores it.
#[derive(Clone, Debug, PartialEq)]
pub struct Factors {
    /// `A`, `[rank, inputs]`.
    pub a: Vec<f32>,
    /// `B`, `[outputs, rank]`.
    pub b: Vec<f32>,
    /// Inner dimension.
    pub rank: usize,
    /// What the product is multiplied by.
    pub scale: f64,
    /// How the product lies on the model's weight.
    pub layout: Layout,
}

/// How a product `B A` of sides `[outputs, inputs]` lies on a weight.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    /// A weight `[outputs, inputs]`, or a convolution's `[outputs, inputs, …]`; `[in, out]` where
    /// the flag is set and the sides allow it.
    Matrix {
        /// `fan_in_fan_out` of the adapter.
        transposed: bool,
    },
    /// An embedding's weight `[inputs, outputs]`.
    Embedding,
}

impl Factors {
    /// Width of `A`.
    pub fn inputs(&self) -> usize {
        self.a.len() / self.rank
    }

    /// Height of `B`.
    pub fn outputs(&self) -> usize {
        self.b.len() / self.rank
    }

    /// The factors that a change was made from, its scale in `B`.
    pub(crate) fn of(change: &LowRank) -> Self {
        let (a, b) = if change.turned {
            (
                transpose(&change.b, change.rank),
                transpose(&change.a, change.columns),
            )
        } else {
            (change.a.to_vec(), change.b.to_vec())
        };
        Self {
            a,
            b,
            rank: change.rank,
            scale: 1.0,
            layout: Layout::Matrix {
                transposed: change.turned,
            },
        }
    }

    /// `B` for another scale of the same product.
    pub(crate) fn rescaled(&self, scale: f64) -> Vec<f32> {
        if self.scale == scale {
            self.b.clone()
        } else {
            let factor = self.scale / scale;
            let pieces = self.b.iter();
            pieces.map(|x| (f64::from(*x) * factor) as f32).collect()
        }
    }

    /// The same as it is added to a weight of this shape; `None` where it does not fit.
    pub fn on(&self, shape: &[usize]) -> Option<LowRank> {
        let turned = self.layout.turned(self.outputs(), self.inputs(), shape)?;
        let scaled = |value: &f32| (f64::from(*value) * self.scale) as f32;
        Some(match turned {
            false => LowRank {
                a: Arc::new(self.a.clone()),
                b: Arc::new(self.b.iter().map(scaled).collect()),
                rank: self.rank,
                columns: self.inputs(),
                turned,
            },
            // (s B A)^T = A^T (s B)^T.
            true => {
                let scaled: Vec<f32> = self.b.iter().map(scaled).collect();
                LowRank {
                    a: Arc::new(transpose(&scaled, self.rank)),
                    b: Arc::new(transpose(&self.a, self.inputs())),
                    rank: self.rank,
                    columns: self.outputs(),
                    turned,
                }
            }
        })
    }
}

impl Layout {
    /// The names of `A` and `B` of a module in an adapter's file.
    pub(crate) fn names(self, module: &str) -> [String; 2] {
        let name = |factor: &str| format!("base_model.model.{module}.lora_{factor}");
        match self {
            Self::Matrix { .. } => [name("A.weight"), name("B.weight")],
            Self::Embedding => [name("embedding_A"), name("embedding_B")],
        }
    }

    /// Whether a product of these sides lies turned on a weight of this shape; `None` where it does
    /// not fit.
    pub(super) fn turned(self, outputs: usize, inputs: usize, shape: &[usize]) -> Option<bool> {
        let (rows, rest) = shape.split_first()?;
        if rest.is_empty() {
            return None;
        }
        let sides = (*rows, rest.iter().product());
        let straight = sides == (outputs, inputs);
        let across = sides == (inputs, outputs) && rest.len() == 1;
        match self {
            Self::Embedding => across.then_some(true),
            // PEFT looks at the kind of layer and corrects a wrong flag; sides that differ tell it.
            Self::Matrix { transposed } => match (straight, across) {
                (true, true) => Some(transposed),
                (true, false) => Some(false),
                (false, true) => Some(true),
                (false, false) => None,
            },
        }
    }
}

/// The scale that factors of one module are converted to: the first, or the first that is not 0.
pub(crate) fn common_scale(scales: impl IntoIterator<Item = f64>) -> f64 {
    let mut scales = scales.into_iter();
    scales.find(|scale| *scale != 0.0).unwrap_or_default()
}

/// Factors side by side: their product is the sum of the products, each times its weight.
pub(crate) fn concatenate(factors: &[Factors], weights: &[f64]) -> Factors {
    let scale = common_scale(factors.iter().map(|one| one.scale));
    let weighed = factors.iter().zip(weights).map(|(one, weight)| {
        let values = one.rescaled(scale).into_iter();
        let values = values.map(|x| (f64::from(x) * weight) as f32);
        (one.rank, values.collect::<Vec<_>>())
    });
    let weighed: Vec<_> = weighed.collect();
    let rows = (0..factors[0].outputs()).flat_map(|row| {
        let pieces = weighed.iter();
        pieces.flat_map(move |(rank, b)| &b[row * rank..][..*rank])
    });
    Factors {
        a: factors.iter().flat_map(|one| &one.a).copied().collect(),
        b: rows.copied().collect(),
        rank: factors.iter().map(|one| one.rank).sum(),
        scale,
        layout: factors[0].layout,
    }
}

/// A row-major matrix of `columns` columns, turned.
fn transpose(values: &[f32], columns: usize) -> Vec<f32> {
    let column = |j: usize| values.iter().skip(j).step_by(columns);
    (0..columns).flat_map(column).copied().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn factors(outputs: usize, inputs: usize, layout: Layout) -> Factors {
        Factors {
            a: (0..2 * inputs).map(|i| i as f32).collect(),
            b: (0..2 * outputs).map(|i| 1.0 - i as f32).collect(),
            rank: 2,
            scale: 0.5,
            layout,
        }
    }

    fn product(change: &LowRank) -> Vec<f32> {
        let rows = change.b.len() / change.rank;
        let value = |row: usize, column: usize| {
            (0..change.rank)
                .map(|r| change.b[row * change.rank + r] * change.a[r * change.columns + column])
                .sum()
        };
        (0..rows)
            .flat_map(|row| (0..change.columns).map(move |column| (row, column)))
            .map(|(row, column)| value(row, column))
            .collect()
    }

    #[test]
    fn sides_tell_the_layout_and_the_flag_decides_for_squares() {
        let layout = |transposed| Layout::Matrix { transposed };
        let plain = factors(3, 4, layout(false));
        let straight = product(&plain.on(&[3, 4]).expect("fits"));
        let across = product(&plain.on(&[4, 3]).expect("fits when turned"));
        assert_eq!(transpose(&straight, 4), across);
        assert_eq!(
            product(&plain.on(&[3, 2, 2]).expect("a convolution")),
            straight
        );
        assert!(plain.on(&[3, 5]).is_none() && plain.on(&[12]).is_none());
        assert!(plain.on(&[]).is_none() && plain.on(&[4, 3, 1]).is_none());

        let square = product(&factors(3, 3, layout(false)).on(&[3, 3]).expect("fits"));
        let turned = product(&factors(3, 3, layout(true)).on(&[3, 3]).expect("fits"));
        assert_eq!(transpose(&square, 3), turned);
        assert_ne!(square, turned);

        let embedding = factors(3, 4, Layout::Embedding);
        assert_eq!(product(&embedding.on(&[4, 3]).expect("fits")), across);
        assert!(embedding.on(&[3, 4]).is_none());
    }
}
