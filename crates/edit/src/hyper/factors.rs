//! The two factors of a gradient: what entered a linear layer, and the gradient at its output.

use std::collections::BTreeMap;
use std::sync::Arc;

use burn::tensor::{Int, Tensor, TensorData};
use debias_model::{
    Batch, Change, Mllm, Orientation, Parameters, Question, Recorder, Row, Seen, Site, Stage,
    answer_nll, host,
};

use crate::editor::Request;
use crate::error::{Error, Result};

/// The factors of one matrix for some requests: only tokens with a gradient, requests in order.
#[derive(Clone)]
pub(crate) struct Factors {
    /// Inputs `[n, d_in]`.
    pub x: Tensor<2>,
    /// Output gradients `[n, d_out]` of each request's own token-mean loss.
    pub delta: Tensor<2>,
    /// Tokens of each request; their sum is n.
    pub tokens: Vec<usize>,
    /// How the weight is published.
    pub orientation: Orientation,
}

/// The factors of every edited matrix, by published name.
pub(crate) struct Gathered {
    /// By matrix.
    pub factors: BTreeMap<String, Factors>,
}

impl Gathered {
    /// Runs the edit target of every request forward and backward at the weights that `start`
    /// leaves. The losses are summed, not averaged, so each request's factors are those that it
    /// has alone.
    ///
    /// # Errors
    /// A request that cannot be tokenised, a loss that is not finite, or a matrix that the answer
    /// does not depend on.
    pub fn new(
        editor: &'static str,
        model: &Mllm,
        sites: &[&Site],
        requests: &[&Request],
        start: &Change,
    ) -> Result<Self> {
        let first = sites
            .iter()
            .fold(Stage::Head, |first, site| first.earliest(site.stage))
            .earliest(model.first_stage(&[start])?);
        let (rows, batch) = target_batch(model, requests)?;
        let last = Stage::FeedForward(model.decoder().outline().depth.saturating_sub(1));
        let batch = model.run(batch, first.earliest(last), &model.base());
        let names = sites.iter().map(|site| site.name.clone());
        let recorder = Arc::new(Recorder::of_sites(names));
        let view = model.view(&[start])?.tracked().watched(recorder.clone());
        let sums = answer_nll(&rows, model.answer_logits(batch, &view));
        let lengths: Vec<f32> = rows.iter().map(|row| row.answer().len() as f32).collect();
        let lengths = host::tensor(lengths, [rows.len()], model.device()).autodiff();
        let losses = sums / lengths;
        let values = host::values(losses.clone().inner());
        if let Some(bad) = values.iter().position(|loss| !loss.is_finite()) {
            return Err(Error::Diverged {
                editor,
                id: requests[bad].record.id.clone(),
            });
        }
        let gradients = losses.sum().backward();
        let mut factors = BTreeMap::new();
        for site in sites {
            let missing = || Error::NoGradient {
                editor,
                site: site.name.clone(),
            };
            let x = recorder.input_of(&site.name).ok_or_else(missing)?;
            let delta = recorder
                .output_gradient(&site.name, &gradients)
                .ok_or_else(missing)?;
            let x = match x.is_autodiff() {
                true => x.inner(),
                false => x,
            };
            let orientation = site.linear.unwrap_or(Orientation::OutIn);
            factors.insert(site.name.clone(), Factors::of(x, delta, orientation));
        }
        Ok(Self { factors })
    }
}

impl Gathered {
    /// Tokens of one request at every matrix: the rank of its gradient.
    pub fn ranks(&self, request: usize) -> BTreeMap<String, usize> {
        let factors = self.factors.iter();
        factors
            .map(|(name, factors)| (name.clone(), factors.tokens[request]))
            .collect()
    }
}

impl Factors {
    /// Keeps the tokens whose input and gradient are not zero throughout; x `[b, t, d_in]`,
    /// delta `[b, t, d_out]`.
    fn of(x: Tensor<3>, delta: Tensor<3>, orientation: Orientation) -> Self {
        let [b, t, d_in] = x.dims();
        let d_out = delta.dims()[2];
        let device = x.device();
        let (xs, deltas) = (host::values(x), host::values(delta));
        let (mut kept_x, mut kept_delta) = (Vec::new(), Vec::new());
        let mut tokens = vec![0; b];
        for (row, count) in tokens.iter_mut().enumerate() {
            for token in row * t..(row + 1) * t {
                let x = &xs[token * d_in..][..d_in];
                let delta = &deltas[token * d_out..][..d_out];
                if x.iter().any(|v| *v != 0.0) && delta.iter().any(|v| *v != 0.0) {
                    kept_x.extend_from_slice(x);
                    kept_delta.extend_from_slice(delta);
                    *count += 1;
                }
            }
        }
        let n = tokens.iter().sum();
        Self {
            x: host::tensor(kept_x, [n, d_in], &device),
            delta: host::tensor(kept_delta, [n, d_out], &device),
            tokens,
            orientation,
        }
    }

    /// Rank-one terms `δ̃_t x̃_tᵀ` of all requests as factors in the published orientation:
    /// x̃ `[n, d_in]`, δ̃ `[n, d_out]` → a `[requests, r, columns]`, b `[requests, rows, r]`, r the
    /// largest number of tokens; requests with fewer end in zeros.
    pub fn sides(&self, x: Tensor<2>, delta: Tensor<2>) -> (Tensor<3>, Tensor<3>) {
        let (x, delta) = (self.by_request(x), self.by_request(delta));
        match self.orientation {
            Orientation::OutIn => (x, delta.swap_dims(1, 2)),
            Orientation::InOut => (delta, x.swap_dims(1, 2)),
        }
    }

    /// `[n, d]` → `[requests, r, d]`.
    pub fn by_request(&self, rows: Tensor<2>) -> Tensor<3> {
        let [n, d] = rows.dims();
        // Without any token there is still one row of zeros: an edit that does nothing.
        let longest = self.tokens.iter().copied().max().unwrap_or(0).max(1);
        let mut index = Vec::with_capacity(self.tokens.len() * longest);
        let mut first = 0;
        for count in &self.tokens {
            // Row n is the zero behind the others.
            index.extend((0..longest).map(|i| if i < *count { first + i } else { n } as i64));
            first += count;
        }
        let zero: Tensor<2> = Tensor::zeros([1, d], &rows.device());
        let device = match rows.is_autodiff() {
            true => rows.device().inner(),
            false => rows.device(),
        };
        let count = index.len();
        let index: Tensor<1, Int> = Tensor::from_data(TensorData::new(index, [count]), &device);
        Tensor::cat(vec![rows, zero], 0)
            .select(0, index)
            .reshape([self.tokens.len(), longest, d])
    }

    /// Whether no token has a gradient.
    pub fn is_empty(&self) -> bool {
        self.tokens.iter().all(|count| *count == 0)
    }

    /// Bytes of both factors.
    pub fn bytes(&self) -> usize {
        let size = |tensor: &Tensor<2>| tensor.dims().iter().product::<usize>();
        (size(&self.x) + size(&self.delta)) * size_of::<f32>()
    }
}

/// One row per request: its prompt and target on its own picture.
pub(crate) fn target_batch(model: &Mllm, requests: &[&Request]) -> Result<(Vec<Row>, Batch)> {
    let items = requests.iter().map(|request| {
        let answer = request.record.y_less.as_str();
        (*request, &request.seen, request.prompt.as_str(), answer)
    });
    pictured_batch(model, items)
}

/// One row per (request, picture, prompt, answer).
pub(crate) fn pictured_batch<'r>(
    model: &Mllm,
    items: impl Iterator<Item = (&'r Request, &'r Seen, &'r str, &'r str)>,
) -> Result<(Vec<Row>, Batch)> {
    let items: Vec<_> = items.collect();
    let seen = Seen::join(items.iter().map(|item| item.1.clone())).ok_or(Error::EmptyEdit)?;
    let mut rows = Vec::with_capacity(items.len());
    for (at, (request, _, prompt, answer)) in items.into_iter().enumerate() {
        let question = Question::new(Some(seen.sighting(at)), prompt, answer);
        rows.extend(in_record(request, model.rows(&[question]))?);
    }
    Ok((rows.clone(), Batch::with_pictures(rows, seen)))
}

/// One row per (request, prompt, answer), without pictures.
pub(crate) fn text_batch<'r>(
    model: &Mllm,
    items: impl Iterator<Item = (&'r Request, &'r str, &'r str)>,
) -> Result<(Vec<Row>, Batch)> {
    let mut rows = Vec::new();
    for (request, prompt, answer) in items {
        let question = Question::new(None, prompt, answer);
        rows.extend(in_record(request, model.rows(&[question]))?);
    }
    Ok((rows.clone(), Batch::text(rows)))
}

fn in_record<T>(request: &Request, result: debias_model::Result<T>) -> Result<T> {
    result.map_err(|source| Error::Record {
        id: request.record.id.clone(),
        source,
    })
}
