//! The reader of the condition: a token table, a bidirectional LSTM, a linear layer and tanh.
//!
//! Every row ends where its text ends; what is padding changes no state.

use burn::tensor::activation::{sigmoid, tanh};
use burn::tensor::{Device, Int, Tensor, TensorData};
use debias_core::seed;
use debias_model::host;
use rand::Rng;

use crate::hyper::beside;
use crate::training::Values;

/// Name of the copied token table.
pub(super) const TABLE: &str = "reader.table";

/// Widths of the reader.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reader {
    /// Columns of the token table.
    pub d: usize,
    /// Width of each direction.
    pub h: usize,
    /// Width of the condition.
    pub c: usize,
}

/// Texts as ids, each at least one token long.
pub(crate) struct Texts {
    pub ids: Vec<Vec<u32>>,
}

impl Reader {
    /// Parameters at the start, PyTorch's defaults: uniform within one over the root of the width.
    pub fn start(&self, seed: u64, device: &Device) -> Values {
        let Self { d, h, c } = *self;
        let mut values = Values::new();
        for way in ["forward", "backward"] {
            for (part, rows, columns) in [
                ("input", 4 * h, d),
                ("hidden", 4 * h, h),
                ("input_bias", 1, 4 * h),
                ("hidden_bias", 1, 4 * h),
            ] {
                let name = format!("reader.{way}.{part}");
                values.insert(
                    name.clone(),
                    uniform(seed, &name, [rows, columns], h, device),
                );
            }
        }
        for (name, shape) in [("reader.out", [c, 2 * h]), ("reader.out_bias", [1, c])] {
            values.insert(name.to_owned(), uniform(seed, name, shape, 2 * h, device));
        }
        values
    }

    /// Texts → conditions `[b, c]`.
    pub fn read(&self, values: &Values, table: &Tensor<2>, texts: &Texts) -> Tensor<2> {
        let forward = self.last_state(values, table, texts, "forward");
        let backward = self.last_state(values, table, texts, "backward");
        let both = Tensor::cat(vec![forward, backward], 1);
        tanh(
            both.matmul(values["reader.out"].clone().transpose())
                + values["reader.out_bias"].clone(),
        )
    }

    /// The hidden state of each row after its last token (first token, backward): `[b, h]`.
    fn last_state(
        &self,
        values: &Values,
        table: &Tensor<2>,
        texts: &Texts,
        way: &str,
    ) -> Tensor<2> {
        let h = self.h;
        let b = texts.ids.len();
        let longest = texts.ids.iter().map(Vec::len).max().unwrap_or(0);
        let part = |name: &str| &values[&format!("reader.{way}.{name}")];
        let plain = if table.is_autodiff() {
            table.device().inner()
        } else {
            table.device()
        };
        let zero: Tensor<2> = Tensor::zeros([b, h], &plain);
        let (mut state, mut cell) = (beside(&zero, part("input")), beside(&zero, part("input")));
        let bias = part("input_bias").clone() + part("hidden_bias").clone();
        for step in 0..longest {
            let token = |ids: &Vec<u32>| match (step < ids.len(), way) {
                (false, _) => 0,
                (true, "forward") => ids[step],
                (true, _) => ids[ids.len() - 1 - step],
            };
            let ids: Vec<i64> = texts.ids.iter().map(|ids| i64::from(token(ids))).collect();
            let ids: Tensor<1, Int> = Tensor::from_data(TensorData::new(ids, [b]), &plain);
            let x = beside(&table.clone().select(0, ids), part("input"));
            let gates = x.matmul(part("input").clone().transpose())
                + state.clone().matmul(part("hidden").clone().transpose())
                + bias.clone();
            let gate = |at: usize| gates.clone().slice([0..b, at * h..(at + 1) * h]);
            let fresh = sigmoid(gate(1)) * cell.clone() + sigmoid(gate(0)) * tanh(gate(2));
            let output = sigmoid(gate(3)) * tanh(fresh.clone());
            let goes_on = texts
                .ids
                .iter()
                .map(|ids| f32::from(u8::from(step < ids.len())));
            let goes_on: Tensor<2> = host::tensor(goes_on.collect(), [b, 1], &plain);
            let stays = beside(&goes_on.clone().neg().add_scalar(1.0), &state);
            let goes_on = beside(&goes_on, &state);
            state = output * goes_on.clone() + state * stays.clone();
            cell = fresh * goes_on + cell * stays;
        }
        state
    }
}

/// Uniform within one over the root of `width`.
pub(super) fn uniform(
    seed: u64,
    name: &str,
    shape: [usize; 2],
    width: usize,
    device: &Device,
) -> Tensor<2> {
    let mut stream = seed::stream(seed, &["ke", name]);
    let bound = 1.0 / (width as f32).sqrt();
    let values = (0..shape[0] * shape[1])
        .map(|_| stream.random_range(-bound..bound))
        .collect();
    host::tensor(values, shape, device)
}
