//! The two factors of a gradient: what entered a linear layer, and the gradient at its output.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use burn::tensor::{Int, Tensor, TensorData};
use debias_model::{Change, Orientation, Parameter, Parameters, Recorder, Row, Stage, host};

use super::objective::EditObjective;
use super::subject::Subject;
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
    /// Runs what `objective` asks of every request forward and backward at the weights that `start`
    /// leaves. The losses are summed, not averaged, so each request's factors are those that it
    /// has alone.
    ///
    /// # Errors
    /// A request that cannot be tokenised, a loss that is not finite, or a matrix that the answer
    /// does not depend on.
    pub fn new<O: EditObjective>(
        subject: &Subject,
        objective: &O,
        requests: &[&Request],
        start: &Change,
    ) -> Result<Self> {
        let Subject {
            editor,
            model,
            sites,
        } = subject;
        let first = subject.first().earliest(model.first_stage(&[start])?);
        let (rows, batch) = objective.asked(subject, requests)?;
        let batch = model.run(batch, first.earliest(subject.last()), &model.base());
        let names = sites.iter().map(|site| site.name.clone());
        let recorder = Arc::new(Recorder::of_sites(names));
        let view = model.view(&[start])?.tracked().watched(recorder.clone());
        let losses = objective.told(&rows, model.answer_logits(batch, &view));
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
            let x = if x.is_autodiff() { x.inner() } else { x };
            let orientation = site.linear.unwrap_or(Orientation::OutIn);
            let labels = if objective.labelled_alone() {
                labels(&rows, site, x.dims()[1])
            } else {
                None
            };
            let found = Factors::of(x, delta, orientation, labels, requests.len());
            factors.insert(site.name.clone(), found);
        }
        Ok(Self { factors })
    }

    /// The same factors as those of one request.
    pub fn joined(&self) -> Self {
        let one = |factors: &Factors| Factors {
            tokens: vec![factors.tokens.iter().sum()],
            ..factors.clone()
        };
        let factors = self.factors.iter();
        Self {
            factors: factors.map(|(name, f)| (name.clone(), one(f))).collect(),
        }
    }

    /// Tokens of one request at every matrix: the rank of its gradient.
    pub fn ranks(&self, request: usize) -> BTreeMap<String, usize> {
        let factors = self.factors.iter();
        factors
            .map(|(name, factors)| (name.clone(), factors.tokens[request]))
            .collect()
    }

    /// Bytes of all factors.
    pub fn bytes(&self) -> usize {
        self.factors.values().map(Factors::bytes).sum()
    }
}

/// The positions of each row that predict its answer, at a layer that sees `seen` positions of each;
/// none where it sees no positions of rows (the vision side), or these alone (the last feed-forward
/// block).
fn labels(rows: &[Row], site: &Parameter, seen: usize) -> Option<Vec<Range<usize>>> {
    let whole = rows.iter().map(|row| row.ids.len()).max() == Some(seen);
    let positions = || rows.iter().map(Row::answer_positions).collect();
    (whole && Stage::Projector.precedes(site.stage)).then(positions)
}

impl Factors {
    /// Keeps the tokens whose input and gradient are not zero throughout, and that stand at the
    /// `labels` of their row where there are any; x `[b, t, d_in]`, delta `[b, t, d_out]`, the rows
    /// of each of the `requests` side by side.
    fn of(
        x: Tensor<3>,
        delta: Tensor<3>,
        orientation: Orientation,
        labels: Option<Vec<Range<usize>>>,
        requests: usize,
    ) -> Self {
        let [b, t, d_in] = x.dims();
        let d_out = delta.dims()[2];
        let device = x.device();
        let (xs, deltas) = (host::values(x), host::values(delta));
        let (mut kept_x, mut kept_delta) = (Vec::new(), Vec::new());
        let mut tokens = vec![0; requests];
        for row in 0..b {
            for at in 0..t {
                let token = row * t + at;
                let x = &xs[token * d_in..][..d_in];
                let delta = &deltas[token * d_out..][..d_out];
                let labelled = labels.as_ref().is_none_or(|of| of[row].contains(&at));
                if labelled && x.iter().any(|v| *v != 0.0) && delta.iter().any(|v| *v != 0.0) {
                    kept_x.extend_from_slice(x);
                    kept_delta.extend_from_slice(delta);
                    tokens[row * requests / b] += 1;
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
        self.oriented(self.by_request(x), self.by_request(delta))
    }

    /// Both sides by request, x̃ `[requests, r, d_in]` and δ̃ `[requests, r, d_out]`, as factors in the
    /// published orientation.
    pub fn oriented(&self, x: Tensor<3>, delta: Tensor<3>) -> (Tensor<3>, Tensor<3>) {
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
        let device = if rows.is_autodiff() {
            rows.device().inner()
        } else {
            rows.device()
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
