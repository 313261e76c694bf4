//! What a tensor of one input model is: stored numbers, perhaps with an adapter on top, perhaps
//! with its rows in another order.

use std::sync::Arc;

use debias_weights::Dtype;

use super::number::{decode, width};

/// Numbers as they lie in a file.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Stored<'a> {
    dtype: Dtype,
    width: usize,
    bytes: &'a [u8],
}

impl<'a> Stored<'a> {
    /// Numbers of a float format of 16 to 64 bits; `None` for other formats.
    pub fn new(dtype: Dtype, bytes: &'a [u8]) -> Option<Self> {
        Some(Self {
            dtype,
            width: width(dtype)?,
            bytes,
        })
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.bytes.len() / self.width
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// The number format.
    pub fn dtype(&self) -> Dtype {
        self.dtype
    }

    /// Widens the values from `at` on into `out`; whether they are finite.
    #[inline(always)]
    pub(crate) fn read(&self, at: usize, out: &mut [f32]) -> bool {
        let start = at * self.width;
        let end = start + out.len() * self.width;
        decode(self.dtype, &self.bytes[start..end], out)
    }

    /// All values, for small tensors.
    pub fn all(&self) -> Vec<f32> {
        let mut values = vec![0.0; self.len()];
        self.read(0, &mut values);
        values
    }
}

/// An adapter's `scale · B A`, added to a matrix `[out, in]` while it is read.
#[derive(Clone, Debug)]
pub struct LowRank {
    /// `A`, `[rank, in]`, widened.
    pub a: Arc<Vec<f32>>,
    /// `scale · B`, `[out, rank]`, widened.
    pub b: Arc<Vec<f32>>,
    /// Inner dimension.
    pub rank: usize,
    /// Width of the matrix.
    pub columns: usize,
    /// Whether these are an adapter's factors turned and exchanged, as an embedding's are: `a` is
    /// then its `scale · B` turned, and `b` its `A` turned.
    pub turned: bool,
}

impl LowRank {
    /// Adds the product's values from `at` on. Each is summed in f64 and rounded once: in f32 a large
    /// rank would cost the last digits of the weight.
    #[inline(always)]
    fn add(&self, at: usize, out: &mut [f32]) {
        let mut done = 0;
        while done < out.len() {
            let (row, column) = ((at + done) / self.columns, (at + done) % self.columns);
            let length = (self.columns - column).min(out.len() - done).min(TILE);
            let mut sums = [0f64; TILE];
            for r in 0..self.rank {
                let factor = f64::from(self.b[row * self.rank + r]);
                let a = &self.a[r * self.columns + column..][..length];
                for (sum, a) in sums.iter_mut().zip(a) {
                    *sum += factor * f64::from(*a);
                }
            }
            for (out, sum) in out[done..done + length].iter_mut().zip(&sums) {
                *out = (f64::from(*out) + sum) as f32;
            }
            done += length;
        }
    }
}

/// Values of a product that are summed at a time.
const TILE: usize = 256;

/// Where a row of a vocabulary matrix comes from.
#[derive(Clone, Debug, PartialEq)]
pub enum VocabularyRow {
    /// A row of this model.
    Own(usize),
    /// A row of another model, by its place among [`VocabularyRows::others`].
    Other(usize, usize),
    /// The mean of rows of several models.
    Mean(Vec<(usize, usize)>),
    /// Zeros.
    Zero,
    /// The mean of all rows that are not padding.
    Padding,
}

/// A matrix whose rows are put in another order: a vocabulary after a union.
#[derive(Clone, Debug)]
pub struct VocabularyRows<'a> {
    /// The rows, in their new order.
    pub rows: Arc<Vec<VocabularyRow>>,
    /// The matrices of all models, which [`VocabularyRow`] counts.
    pub others: Arc<Vec<Stored<'a>>>,
    /// Values in a row; 1 for a bias.
    pub columns: usize,
    /// What [`VocabularyRow::Padding`] is.
    pub padding: Arc<Vec<f32>>,
}

impl VocabularyRows<'_> {
    fn read(&self, own: &Stored, at: usize, out: &mut [f32]) -> bool {
        let mut finite = true;
        let mut done = 0;
        while done < out.len() {
            let (row, column) = ((at + done) / self.columns, (at + done) % self.columns);
            let length = (self.columns - column).min(out.len() - done);
            let out = &mut out[done..done + length];
            let place = |row: usize| row * self.columns + column;
            finite &= match &self.rows[row] {
                VocabularyRow::Own(row) => own.read(place(*row), out),
                VocabularyRow::Other(model, row) => self.others[*model].read(place(*row), out),
                VocabularyRow::Mean(rows) => self.mean(rows, column, out),
                VocabularyRow::Zero => {
                    out.fill(0.0);
                    true
                }
                VocabularyRow::Padding => {
                    out.copy_from_slice(&self.padding[column..column + length]);
                    true
                }
            };
            done += length;
        }
        finite
    }

    fn mean(&self, rows: &[(usize, usize)], column: usize, out: &mut [f32]) -> bool {
        let mut finite = true;
        let mut one = vec![0.0; out.len()];
        out.fill(0.0);
        for (model, row) in rows {
            finite &= self.others[*model].read(row * self.columns + column, &mut one);
            out.iter_mut().zip(&one).for_each(|(sum, x)| *sum += x);
        }
        let n = rows.len().max(1) as f32;
        out.iter_mut().for_each(|sum| *sum /= n);
        finite
    }

    /// The mean of all rows of `own` that are not padding, for [`VocabularyRows::padding`].
    pub(crate) fn mean_row(&self, own: &Stored) -> Vec<f32> {
        let mut sums = vec![0.0f64; self.columns];
        let mut row = vec![0.0; self.columns];
        let mut count = 0u64;
        for (at, kind) in self.rows.iter().enumerate() {
            if *kind != VocabularyRow::Padding {
                self.read(own, at * self.columns, &mut row);
                let pairs = sums.iter_mut().zip(&row);
                pairs.for_each(|(sum, x)| *sum += f64::from(*x));
                count += 1;
            }
        }
        let n = count.max(1) as f64;
        sums.iter().map(|sum| (sum / n) as f32).collect()
    }
}

/// One tensor of one input model, as f32 values by place.
#[derive(Clone, Debug)]
pub enum Input<'a> {
    /// As it is stored.
    Stored(Stored<'a>),
    /// A stored matrix with an adapter on top.
    Adapted(Stored<'a>, LowRank),
    /// A stored matrix with its rows in another order.
    Rows(Stored<'a>, VocabularyRows<'a>),
    /// Zeros: the base of adapters that are merged among themselves.
    Zero,
}

impl Input<'_> {
    /// Reads the values from `at` on; whether they are finite.
    #[inline(always)]
    pub(crate) fn read(&self, at: usize, out: &mut [f32]) -> bool {
        match self {
            Self::Stored(stored) => stored.read(at, out),
            Self::Adapted(stored, adapter) => {
                let finite = stored.read(at, out);
                adapter.add(at, out);
                finite
            }
            Self::Rows(stored, rows) => rows.read(stored, at, out),
            Self::Zero => {
                out.fill(0.0);
                true
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(values: &[f32]) -> Vec<u8> {
        values.iter().flat_map(|v| v.to_le_bytes()).collect()
    }

    #[test]
    fn an_adapter_is_added_wherever_reading_begins() {
        let (rows, columns, rank) = (3, 5, 2);
        let w: Vec<f32> = (0..15).map(|i| i as f32).collect();
        let a: Vec<f32> = (0..10).map(|i| (i as f32) * 0.5 - 2.0).collect();
        let b: Vec<f32> = (0..6).map(|i| 1.0 - i as f32).collect();
        let stored = bytes(&w);
        let input = Input::Adapted(
            Stored::new(Dtype::F32, &stored).expect("floats"),
            LowRank {
                a: Arc::new(a.clone()),
                b: Arc::new(b.clone()),
                rank,
                columns,
                turned: false,
            },
        );
        let mut want = w;
        for o in 0..rows {
            for i in 0..columns {
                for r in 0..rank {
                    want[o * columns + i] += b[o * rank + r] * a[r * columns + i];
                }
            }
        }
        for start in 0..15 {
            for end in start..15 {
                let mut out = vec![0.0; end - start];
                assert!(input.read(start, &mut out));
                assert_eq!(out, want[start..end]);
            }
        }
    }

    #[test]
    fn rows_come_from_where_they_are_said_to_come_from() {
        let (own, other) = (bytes(&[1., 2., 3., 4.]), bytes(&[5., 6., 7., 8.]));
        let own = Stored::new(Dtype::F32, &own).expect("floats");
        let other = Stored::new(Dtype::F32, &other).expect("floats");
        let mut rows = VocabularyRows {
            rows: Arc::new(vec![
                VocabularyRow::Own(1),
                VocabularyRow::Other(1, 0),
                VocabularyRow::Mean(vec![(0, 0), (1, 1)]),
                VocabularyRow::Zero,
                VocabularyRow::Padding,
            ]),
            others: Arc::new(vec![own, other]),
            columns: 2,
            padding: Arc::new(vec![]),
        };
        rows.padding = Arc::new(rows.mean_row(&own));
        let want = [3., 4., 5., 6., 4., 5., 0., 0., 3., 3.75];
        let input = Input::Rows(own, rows);
        let mut out = [0.0; 10];
        assert!(input.read(0, &mut out));
        assert_eq!(out, want);
        assert!(input.read(3, &mut out[..4]));
        assert_eq!(out[..4], want[3..7]);
    }
}
