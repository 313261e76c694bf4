//! Rows of tokens on their way through the stages of a model.

use burn::tensor::Tensor;

use crate::change::View;
use crate::host;
use crate::site::Stage;

/// One tokenised sequence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// All ids; at the places of image vectors they mean nothing.
    pub ids: Vec<u32>,
    /// Where the image vectors stand, if the row has a picture.
    pub image: Option<ImageSpan>,
    /// Index in `ids` of the first answer token.
    pub answer_start: usize,
}

/// The places of one picture's vectors in a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ImageSpan {
    /// Index of the picture in the batch.
    pub picture: usize,
    /// First place.
    pub at: usize,
    /// Number of vectors.
    pub len: usize,
}

impl Row {
    /// The answer's ids.
    pub fn answer(&self) -> &[u32] {
        &self.ids[self.answer_start..]
    }

    /// Positions whose logits predict the answer tokens.
    ///
    /// Logits at position j predict the token at j + 1, so the first answer token is predicted by
    /// the last prompt position (spec `editors.md` 2.1).
    pub fn answer_positions(&self) -> std::ops::Range<usize> {
        let first = self.answer_start.saturating_sub(1);
        first..first + self.answer().len()
    }
}

/// Rows of one kind (all with a picture, or all without) and how far they have come.
#[derive(Clone)]
pub struct Batch {
    pub(crate) rows: Vec<Row>,
    pub(crate) width: usize,
    pub(crate) state: State,
}

/// What has been computed of a batch.
#[derive(Clone)]
pub(crate) enum State {
    /// Vision features `[n, tokens, c]`.
    Seen(Tensor<3>),
    /// Decoder-width image vectors `[n, queries, d]`, or none for text.
    Prefixed(Option<Tensor<3>>),
    /// Residual stream `[b, t, d]` in front of a stage.
    Hidden(Tensor<3>, Stage),
}

impl Batch {
    /// Rows over the pictures whose vision features are `seen`, `[n, tokens, c]`.
    pub fn with_pictures(rows: Vec<Row>, seen: Tensor<3>) -> Self {
        Self::new(rows, State::Seen(seen))
    }

    /// Rows over image vectors that are already decoder-wide, `[n, queries, d]`.
    pub(crate) fn with_queries(rows: Vec<Row>, prefix: Tensor<3>) -> Self {
        Self::new(rows, State::Prefixed(Some(prefix)))
    }

    /// Rows of text alone.
    pub fn text(rows: Vec<Row>) -> Self {
        Self::new(rows, State::Prefixed(None))
    }

    fn new(rows: Vec<Row>, state: State) -> Self {
        Self {
            width: rows.iter().map(|row| row.ids.len()).max().unwrap_or(0),
            rows,
            state,
        }
    }

    /// The rows.
    pub fn rows(&self) -> &[Row] {
        &self.rows
    }

    /// The residual stream; callers have run the batch past the embedding.
    pub(crate) fn hidden(&self, view: &View) -> Tensor<3> {
        match &self.state {
            State::Hidden(x, _) => view.lift(x),
            _ => unreachable!("run() ends in State::Hidden for every stage behind the embedding"),
        }
    }

    /// Keeps only the positions that predict answers: `[b, t, d]` → `[b, a, d]`.
    pub(crate) fn answers(self, view: &View) -> Self {
        let x = self.hidden(view);
        let [b, t, d] = x.dims();
        let a = self
            .rows
            .iter()
            .map(|row| row.answer().len())
            .max()
            .unwrap_or(0);
        let mut index = Vec::with_capacity(b * a);
        for (r, row) in self.rows.iter().enumerate() {
            let positions = row.answer_positions();
            for i in 0..a {
                let position = (positions.start + i).min(positions.end.saturating_sub(1));
                index.push((r * t + position) as i64);
            }
        }
        let device = x.device().inner();
        let x = x
            .reshape([b * t, d])
            .select(0, host::indices(index, &device))
            .reshape([b, a, d]);
        let State::Hidden(_, stage) = self.state else {
            unreachable!("hidden() above has seen the state");
        };
        Self {
            width: a,
            rows: self.rows,
            state: State::Hidden(x, stage),
        }
    }
}
