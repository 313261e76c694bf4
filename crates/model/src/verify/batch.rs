//! Batches of golden files: rows of ids in the reference's padded layout.

use burn::tensor::Tensor;

use super::case::Case;
use super::golden::Golden;
use crate::batch::{Batch, ImageFeatures, ImageSpan, Row};
use crate::error::Result;
use crate::host;
use crate::likelihood::AnswerLikelihood;

/// A label that is not to be predicted.
const IGNORED: i64 = -100;

/// One batch of a golden file. Inside this crate rows have no padding of their own; `columns`
/// remembers where each token stands in the reference's layout.
pub(super) struct GoldenBatch {
    prefix: String,
    /// Columns of the reference's layout.
    width: usize,
    pub rows: Vec<Row>,
    columns: Vec<Vec<usize>>,
    labels: Option<Vec<Vec<i64>>>,
}

impl GoldenBatch {
    /// Reads the batch `prefix`; `None` when its ids are not integers `[b, t]`.
    ///
    /// # Errors
    /// None of its own today.
    pub fn read(golden: &Golden, prefix: &str, case: &Case) -> Result<Option<Self>> {
        let name = |last: &str| format!("{prefix}{last}");
        let ids = golden.ints(&name("input_ids"));
        let shape = golden.shape(&name("input_ids")).map(<[usize]>::to_vec);
        let (Some(ids), Some(&[b, width])) = (ids, shape.as_deref()) else {
            return Ok(None);
        };
        let mask = golden.ints(&name("attention_mask"));
        let labels = golden.ints(&name("labels"));
        let mut batch = Self {
            prefix: prefix.to_owned(),
            width,
            rows: Vec::new(),
            columns: Vec::new(),
            labels: labels.as_ref().map(|_| Vec::new()),
        };
        let mut pictures = 0;
        for r in 0..b {
            let at = |column: &usize| r * width + column;
            let kept = |column: &usize| mask.as_ref().is_none_or(|mask| mask[at(column)] != 0);
            let columns: Vec<usize> = (0..width).filter(kept).collect();
            let ids: Vec<i64> = columns.iter().map(|column| ids[at(column)]).collect();
            if let (Some(labels), Some(all)) = (&labels, &mut batch.labels) {
                all.push(columns.iter().map(|column| labels[at(column)]).collect());
            }
            let row_labels = batch.labels.as_ref().and_then(|labels| labels.last());
            batch.rows.push(row(&ids, row_labels, case, &mut pictures));
            batch.columns.push(columns);
        }
        Ok(Some(batch))
    }

    /// The golden file's name for `last` of this batch.
    pub fn name(&self, last: &str) -> String {
        format!("{}{last}", self.prefix)
    }

    /// Whether any row has a picture.
    pub fn pictured(&self) -> bool {
        self.rows.iter().any(|row| row.image.is_some())
    }

    /// Whether there is something to be predicted.
    pub fn has_labels(&self) -> bool {
        self.labels.is_some()
    }

    /// Gradients were taken of `right`, or of the only batch there is.
    pub fn owns_gradients(&self, golden: &Golden) -> bool {
        self.prefix == "right." || !golden.has("right.input_ids")
    }

    /// The rows over what the vision side has made of their pictures.
    pub fn batch(&self, seen: Option<&ImageFeatures>) -> Batch {
        match seen {
            Some(seen) => Batch::with_pictures(self.rows.clone(), seen.clone()),
            None => Batch::text(self.rows.clone()),
        }
    }

    /// Whether `x` has one entry per token of this batch.
    pub fn fits(&self, x: &Tensor<3>) -> bool {
        let longest = self.columns.iter().map(Vec::len).max().unwrap_or(0);
        x.dims()[..2] == [self.rows.len(), longest]
    }

    /// `[b, t, d]` of unpadded rows in the reference's layout, zeros where it is padded.
    pub fn scatter(&self, x: &Tensor<3>) -> Vec<f32> {
        let [_, t, d] = x.dims();
        let values = host::values(x.clone());
        let mut out = vec![0.0; self.rows.len() * self.width * d];
        for (r, columns) in self.columns.iter().enumerate() {
            for (i, column) in columns.iter().enumerate() {
                let from = &values[(r * t + i) * d..][..d];
                out[(r * self.width + column) * d..][..d].copy_from_slice(from);
            }
        }
        out
    }

    /// A number per token in the reference's layout; what stands at padding means nothing and is
    /// left as in `reference`.
    pub fn scatter_ids(
        &self,
        mut reference: Vec<i64>,
        of: impl Fn(&Row, usize) -> i64,
    ) -> Vec<i64> {
        for (r, (row, columns)) in self.rows.iter().zip(&self.columns).enumerate() {
            for (i, column) in columns.iter().enumerate() {
                if let Some(place) = reference.get_mut(r * self.width + column) {
                    *place = of(row, i);
                }
            }
        }
        reference
    }

    /// The last `n` tokens of each row, `[b, n, d]`.
    pub fn tail(&self, x: &Tensor<3>, n: usize) -> Vec<f32> {
        let [_, t, d] = x.dims();
        let values = host::values(x.clone());
        let mut out = Vec::with_capacity(self.rows.len() * n * d);
        for (r, row) in self.rows.iter().enumerate() {
            let length = row.ids.len();
            for i in length.saturating_sub(n)..length {
                out.extend_from_slice(&values[(r * t + i) * d..][..d]);
            }
        }
        out
    }

    /// Log-probabilities of answers at the places that predict them, `[b, width - 1]`.
    pub fn scatter_scores(&self, scores: &[AnswerLikelihood]) -> Vec<f32> {
        let columns = self.width.saturating_sub(1);
        let mut out = vec![0.0; self.rows.len() * columns];
        for (r, (row, score)) in self.rows.iter().zip(scores).enumerate() {
            for (i, value) in row.answer_positions().zip(&score.tokens) {
                out[r * columns + self.columns[r][i]] = *value as f32;
            }
        }
        out
    }

    /// Mean cross-entropy of all labels that are to be predicted, `[1]`; logits `[b, t, v]`.
    pub fn loss(&self, logits: Tensor<3>) -> Tensor<1> {
        let [b, t, v] = logits.dims();
        let device = logits.device().inner();
        let mut places = Vec::new();
        let mut targets = Vec::new();
        for (r, labels) in self.labels.iter().flatten().enumerate() {
            for (i, label) in labels.iter().enumerate().skip(1) {
                if *label != IGNORED {
                    places.push((r * t + i - 1) as i64);
                    targets.push(*label);
                }
            }
        }
        let n = targets.len().max(1);
        let x = logits.reshape([b * t, v]);
        let x = x.select(0, host::indices(places, &device));
        let x = burn::tensor::activation::log_softmax(x, 1);
        let targets = host::indices(targets, &device).unsqueeze_dim(1);
        x.gather(1, targets).sum().neg().div_scalar(n as f64)
    }
}

/// A row of the reference's ids; the k-th row with image places has the k-th picture.
fn row(ids: &[i64], labels: Option<&Vec<i64>>, case: &Case, pictures: &mut usize) -> Row {
    let at = ids.iter().position(|id| case.is_image(*id));
    let image = at.map(|at| {
        let len = ids[at..]
            .iter()
            .take_while(|id| case.is_image(**id))
            .count();
        *pictures += 1;
        ImageSpan {
            picture: *pictures - 1,
            at,
            len,
        }
    });
    let first = labels.and_then(|labels| labels.iter().position(|label| *label != IGNORED));
    let id = |id: &i64| match case.is_image(*id) {
        true => 0,
        false => u32::try_from(*id).unwrap_or(0),
    };
    Row {
        ids: ids.iter().map(id).collect(),
        image,
        answer_start: first.unwrap_or(ids.len()),
    }
}
