//! The two factors of a gradient: what entered a linear layer, and the gradient at its output.

use std::collections::BTreeMap;
use std::sync::Arc;

use burn::tensor::{Int, Tensor, TensorData};
use debias_model::{
    Batch, Change, ImageFeatures, Model, Orientation, Parameter, Parameters, Question, Recorder,
    Row, Stage, answer_nll, host,
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
        model: &Model,
        sites: &[&Parameter],
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

/// A question to one of several requests, with the answer that is scored.
#[derive(Clone, Copy)]
pub(crate) struct Put<'r> {
    pub request: &'r Request,
    pub image: Option<&'r ImageFeatures>,
    pub prompt: &'r str,
    pub answer: &'r str,
}

/// One row per request: its prompt and target on its own picture.
pub(crate) fn target_batch(model: &Model, requests: &[&Request]) -> Result<(Vec<Row>, Batch)> {
    let targets = requests.iter().map(|request| Put {
        request,
        image: request.image.as_ref(),
        prompt: request.prompt.as_str(),
        answer: request.record.y_less.as_str(),
    });
    batch_of(model, targets.collect())
}

/// One row per question; all of them have a picture, or none has.
pub(crate) fn batch_of(model: &Model, asked: Vec<Put>) -> Result<(Vec<Row>, Batch)> {
    let seen = ImageFeatures::join(asked.iter().filter_map(|put| put.image.cloned()));
    let mut rows = Vec::with_capacity(asked.len());
    for (at, put) in asked.into_iter().enumerate() {
        let picture = seen.as_ref().map(|seen| seen.image_ref(at));
        let question = Question::new(picture, put.prompt, put.answer);
        let own = model.rows(&[question]);
        rows.extend(own.map_err(|source| put.request.refused(source))?);
    }
    Ok((rows.clone(), Batch::over(rows, seen)))
}
