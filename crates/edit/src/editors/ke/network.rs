//! The conditioners: from a condition to mask, offset and gate of every edited matrix.

use burn::tensor::activation::{sigmoid, softmax, tanh};
use burn::tensor::{Device, Int, Tensor, TensorData};

use super::Ke;
use super::reader::{Reader, TABLE, Texts, uniform};
use crate::hyper::{Factors, Gathered, LearnedParts, Sides, Subject};
use crate::training::Values;

/// One edited matrix.
pub(super) struct Matrix {
    pub name: String,
    pub d_in: usize,
    pub d_out: usize,
}

/// Reader and conditioners.
pub(crate) struct Network {
    matrices: Vec<Matrix>,
    reader: Reader,
    /// The language model's token table; a parameter unless frozen.
    table: Tensor<2>,
    freeze_embedding: bool,
    max_scale: f64,
    lr: f64,
    seed: u64,
    device: Device,
}

/// Mask, offset and gate of one matrix for every request.
pub(super) struct Gates {
    /// `c_a` `[requests, d_in]`.
    pub column_a: Tensor<2>,
    /// `softmax(r_a)` `[requests, d_out]`.
    pub row_a: Tensor<2>,
    /// `c_b` `[requests, d_in]`.
    pub column_b: Tensor<2>,
    /// `softmax(r_b)` `[requests, d_out]`.
    pub row_b: Tensor<2>,
    /// `m σ(η)` `[requests, 1]`.
    pub scale: Tensor<2>,
}

impl Gates {
    /// A = 1, B = 0 and a gate of 1: the gradient as it is.
    pub fn open(factors: &Factors) -> Self {
        let requests = factors.tokens.len();
        let (d_in, d_out) = (factors.x.dims()[1], factors.delta.dims()[1]);
        let device = factors.x.device();
        Self {
            column_a: Tensor::ones([requests, d_in], &device),
            row_a: Tensor::ones([requests, d_out], &device),
            column_b: Tensor::zeros([requests, d_in], &device),
            row_b: Tensor::zeros([requests, d_out], &device),
            scale: Tensor::ones([requests, 1], &device),
        }
    }
}

/// `weight_norm(linear)`: every row of the weight is g v/‖v‖ (Salimans and Kingma 2016).
fn normed(values: &Values, name: &str, x: Tensor<2>) -> Tensor<2> {
    let part = |part: &str| values[&format!("{name}.{part}")].clone();
    let v = part("v");
    let norm = v.clone().square().sum_dim(1).sqrt();
    let weight = v / norm * part("g");
    x.matmul(weight.transpose()) + part("b")
}

/// What the conditioner of `matrix` makes of the conditions `[requests, c]`.
pub(super) fn gates(
    values: &Values,
    matrix: &Matrix,
    conditions: Tensor<2>,
    max_scale: f64,
) -> Gates {
    let inner = format!("{}.inner", matrix.name);
    let outer = format!("{}.outer", matrix.name);
    let all = normed(values, &outer, tanh(normed(values, &inner, conditions)));
    let n = all.dims()[0];
    let mut first = 0;
    let mut take = |width: usize| {
        first += width;
        all.clone().slice([0..n, first - width..first])
    };
    let column_a = take(matrix.d_in);
    let row_a = take(matrix.d_out);
    let column_b = take(matrix.d_in);
    let row_b = take(matrix.d_out);
    Gates {
        column_a,
        row_a: softmax(row_a, 1),
        column_b,
        row_b: softmax(row_b, 1),
        scale: sigmoid(take(1)).mul_scalar(max_scale),
    }
}

/// `dW = scale (G ⊙ A + B)` of every request as factors: the gradient's tokens gated, and one more.
pub(super) fn gated(factors: &Factors, gates: &Gates) -> (Tensor<3>, Tensor<3>) {
    let owners: Vec<i64> = factors
        .tokens
        .iter()
        .enumerate()
        .flat_map(|(request, count)| vec![request as i64; *count])
        .collect();
    let n = owners.len();
    let owners: Tensor<1, Int> =
        Tensor::from_data(TensorData::new(owners, [n]), &factors.x.device());
    let of_tokens = |rows: &Tensor<2>, gate: &Tensor<2>| {
        let rows = crate::hyper::beside(rows, &gates.scale);
        if factors.is_empty() {
            rows
        } else {
            rows * gate.clone().select(0, owners.clone())
        }
    };
    let x = factors.by_request(of_tokens(&factors.x, &gates.column_a));
    let delta = factors.by_request(of_tokens(&factors.delta, &gates.row_a));
    let one = |gate: &Tensor<2>| gate.clone().unsqueeze_dim::<3>(1);
    let x = Tensor::cat(vec![x, one(&gates.column_b)], 1);
    let delta = Tensor::cat(vec![delta, one(&gates.row_b)], 1);
    let delta = delta * one(&gates.scale);
    factors.oriented(x, delta)
}

impl Network {
    /// The network for the model and the weights of `subject`.
    pub fn new(own: &Ke, subject: &Subject, seed: u64) -> Self {
        let matrices = subject.sites.iter().map(|site| {
            let [d_out, d_in] = site.linear_shape();
            Matrix {
                name: site.name.clone(),
                d_in,
                d_out,
            }
        });
        let table = subject.model.token_table();
        Self {
            matrices: matrices.collect(),
            reader: Reader {
                d: table.dims()[1],
                h: own.h,
                c: own.c,
            },
            table,
            freeze_embedding: own.freeze_embedding,
            max_scale: own.max_scale,
            lr: own.lr,
            seed,
            device: subject.model.device().clone(),
        }
    }

    /// The edit of every request of `gathered`, alone.
    pub fn propose(&self, values: &Values, gathered: &Gathered, texts: &Texts) -> Sides {
        let table = values.get(TABLE).unwrap_or(&self.table);
        let conditions = self.reader.read(values, table, texts);
        let mut sides = Sides::new();
        for matrix in &self.matrices {
            let Some(factors) = gathered.factors.get(&matrix.name) else {
                continue;
            };
            let gates = gates(values, matrix, conditions.clone(), self.max_scale);
            sides.insert(matrix.name.clone(), gated(factors, &gates));
        }
        sides
    }
}

impl LearnedParts for Network {
    fn start(&self) -> Values {
        let mut values = self.reader.start(self.seed, &self.device);
        if !self.freeze_embedding {
            values.insert(TABLE.to_owned(), self.table.clone());
        }
        let Reader { h, c, .. } = self.reader;
        for matrix in &self.matrices {
            let wide = 2 * (matrix.d_in + matrix.d_out) + 1;
            for (layer, rows, columns) in [("inner", h, c), ("outer", wide, h)] {
                let name = |part: &str| format!("{}.{layer}.{part}", matrix.name);
                let drawn = |part: &str, shape| {
                    uniform(self.seed, &name(part), shape, columns, &self.device)
                };
                let v = drawn("v", [rows, columns]);
                values.insert(name("g"), v.clone().square().sum_dim(1).sqrt());
                values.insert(name("v"), v);
                values.insert(name("b"), drawn("b", [1, rows]));
            }
        }
        values
    }

    fn rate(&self, _parameter: &str) -> f64 {
        self.lr
    }
}
