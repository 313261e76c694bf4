//! Greedy continuation with remembered keys and values.

use burn::tensor::Tensor;
use debias_core::Decoding;

use crate::batch::{ImageFeatures, Row};
use crate::change::View;
use crate::error::{Error, Result};
use crate::host;
use crate::logits::argmax;
use crate::model::Model;
use crate::parameter::Stage;
use crate::passes;
use crate::positions::{KvCache, Pass, Positions};

/// When a continuation ends.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Most tokens added.
    pub max_tokens: usize,
    /// Tokens that end it; kept as its last.
    pub stops: Vec<u32>,
}

impl Limits {
    /// Those of `how`: `model` ends a text where it says so, unless `how` goes on behind that.
    pub fn of(model: &Model, how: &Decoding) -> Self {
        let ends = model.marks().ends().iter().copied();
        Self {
            max_tokens: how.max_tokens,
            stops: ends.filter(|_| !how.ignore_end).collect(),
        }
    }
}

/// Rows that are continued a token at a time.
pub trait Steps {
    /// Logits of what follows each open row, `[open rows, vocabulary]`.
    fn next(&self) -> Tensor<2>;

    /// Adds `ids[i]` to open row `going[i]`; rows that are not named are closed, those named more than
    /// once go on as often, and all are open in that order.
    fn add(&mut self, going: &[usize], ids: &[u32]);
}

/// Continues `n` rows greedily: the tokens added to each, the stop token included. At equal logits the
/// lower id is taken.
///
/// # Errors
/// [`Error::NotFinite`] in the place of a row whose logits are not finite.
pub fn greedy(steps: &mut dyn Steps, n: usize, limits: &Limits) -> Vec<Result<Vec<u32>>> {
    let mut added: Vec<Result<Vec<u32>>> = (0..n).map(|_| Ok(Vec::new())).collect();
    let mut open: Vec<usize> = (0..n).collect();
    for step in 0..limits.max_tokens {
        let (mut going, mut ids) = (Vec::new(), Vec::new());
        for (at, next) in likeliest(steps.next()).into_iter().enumerate() {
            match (&mut added[open[at]], next) {
                (Ok(added), Some(id)) => {
                    added.push(id);
                    if !limits.stops.contains(&id) {
                        going.push(at);
                        ids.push(id);
                    }
                }
                (row, _) => {
                    *row = Err(Error::NotFinite {
                        what: "a logit of the next token".into(),
                    });
                }
            }
        }
        if going.is_empty() || step + 1 == limits.max_tokens {
            break;
        }
        steps.add(&going, &ids);
        open = going.iter().map(|at| open[*at]).collect();
    }
    added
}

/// The likeliest of each row of `[n, vocabulary]`; none where a logit is not finite.
fn likeliest(logits: Tensor<2>) -> Vec<Option<u32>> {
    let [_, vocabulary] = logits.dims();
    let values = host::values(logits);
    let rows = values.chunks(vocabulary);
    rows.map(|row| {
        let finite = row.iter().all(|value| value.is_finite());
        finite.then(|| argmax(row) as u32)
    })
    .collect()
}

/// Rows that a model continues, and what it remembers of them.
pub struct Continuation<'a> {
    model: &'a Model,
    view: &'a View,
    rows: Vec<Row>,
    /// Those that are still open, in the order of `cache` and `state`.
    open: Vec<usize>,
    /// Tokens added so far.
    step: usize,
    cache: KvCache,
    /// The residual stream at each open row's last token, `[b, 1, d]`.
    state: Tensor<3>,
}

impl<'a> Continuation<'a> {
    /// Reads whole rows; all have a picture of `seen`, or none has.
    pub fn of(
        model: &'a Model,
        rows: Vec<Row>,
        seen: Option<&ImageFeatures>,
        view: &'a View,
    ) -> Self {
        let mut cache = KvCache::new(model.decoder().outline().depth, rows.len());
        let vectors = seen.and_then(|seen| model.vectors(seen, view));
        let width = rows.iter().map(|row| row.ids.len()).max().unwrap_or(0);
        let starts = vec![0; rows.len()];
        let stretch = (starts.as_slice(), width);
        let kept = Some(&mut cache);
        let x = model.read_from(&rows, stretch, vectors.as_ref(), kept, Stage::Head, view);
        let last = rows.iter().enumerate();
        let last = last.map(|(r, row)| (r * width + row.ids.len() - 1) as i64);
        let d = x.dims()[2];
        let state = x
            .reshape([rows.len() * width, d])
            .select(0, host::indices(last.collect(), model.device()))
            .unsqueeze_dim(1);
        Self {
            model,
            view,
            open: (0..rows.len()).collect(),
            rows,
            step: 0,
            cache,
            state,
        }
    }
}

impl Steps for Continuation<'_> {
    fn next(&self) -> Tensor<2> {
        self.model
            .head(self.state.clone(), self.view)
            .squeeze_dim(1)
    }

    fn add(&mut self, going: &[usize], ids: &[u32]) {
        if !going.iter().copied().eq(0..self.open.len()) {
            self.cache = self.cache.of_rows(going, self.model.device());
            self.open = going.iter().map(|at| self.open[*at]).collect();
        }
        let rows: Vec<&Row> = self.open.iter().map(|row| &self.rows[*row]).collect();
        let places = Positions::next(&rows, self.step, self.model.image_positions());
        let ids: Vec<Row> = ids.iter().map(|id| Row::of_token(*id)).collect();
        let x = self
            .model
            .embed(&ids, &vec![0; ids.len()], 1, None, self.view);
        let kept = Some(&mut self.cache);
        self.state = self.model.through(x, &places, kept, Stage::Head, self.view);
        self.step += 1;
    }
}

impl Model {
    /// Continues each of `rows` greedily: the tokens added, the stop token included.
    ///
    /// All rows have a picture of `seen`, or none has. At equal logits the lower id is taken.
    ///
    /// # Errors
    /// [`Error::TooLong`] when a row would leave the model's positions, [`Error::NotFinite`] when
    /// logits are not finite.
    pub fn generate(
        &self,
        rows: &[Row],
        seen: Option<&ImageFeatures>,
        limits: &Limits,
        view: &View,
    ) -> Result<Vec<Vec<u32>>> {
        if rows.is_empty() || limits.max_tokens == 0 {
            return Ok(vec![Vec::new(); rows.len()]);
        }
        rows.iter()
            .try_for_each(|row| self.check_room(row, "", limits.max_tokens))?;
        let mut steps = Continuation::of(self, rows.to_vec(), seen, view);
        greedy(&mut steps, rows.len(), limits).into_iter().collect()
    }

    /// Whether `more` tokens fit behind `row`, the row of `prompt`; the last one is never read.
    ///
    /// # Errors
    /// [`Error::TooLong`].
    pub(crate) fn check_room(&self, row: &Row, prompt: &str, more: usize) -> Result<()> {
        let limit = self.decoder().outline().max_positions;
        let length = row.ids.len() + more;
        if length > limit + 1 {
            return Err(Error::TooLong {
                text: prompt.chars().take(40).collect(),
                more,
                length,
                limit,
            });
        }
        Ok(())
    }

    /// Reads the tokens `starts[r] ..` of each row r, padded to `width`, behind what `cache`
    /// holds and into it; their residual stream in front of `to`, `[b, width, d]`.
    pub(crate) fn read_from(
        &self,
        rows: &[Row],
        (starts, width): (&[usize], usize),
        vectors: Option<&ImageFeatures>,
        cache: Option<&mut KvCache>,
        to: Stage,
        view: &View,
    ) -> Tensor<3> {
        let places = Positions::stretch(rows, starts, width, self.image_positions());
        let x = self.embed(rows, starts, width, vectors, view);
        self.through(x, &places, cache, to, view)
    }

    fn through(
        &self,
        x: Tensor<3>,
        places: &Positions,
        cache: Option<&mut KvCache>,
        to: Stage,
        view: &View,
    ) -> Tensor<3> {
        passes::count();
        let decoder = self.decoder();
        let x = decoder.place(x, places, view);
        let from = Stage::Attention(0);
        match cache {
            None => decoder.advance(x, &mut Pass::alone(places), from, to, view),
            Some(cache) => {
                let mut pass = Pass::remembering(places, cache);
                let x = decoder.advance(x, &mut pass, from, to, view);
                cache.keep(places);
                x
            }
        }
    }
}
