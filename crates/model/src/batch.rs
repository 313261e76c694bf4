//! Rows of tokens on their way through the stages of a model.

use burn::tensor::Tensor;

use crate::change::View;
use crate::host;
use crate::parameter::Stage;

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
    /// Number of vectors, those of all its tiles.
    pub len: usize,
}

impl Row {
    /// A token alone.
    pub(crate) fn of_token(id: u32) -> Self {
        Self {
            ids: vec![id],
            image: None,
            answer_start: 1,
        }
    }

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

/// What the vision side has made of some pictures: features `[tiles, tokens, c]`, or decoder-wide
/// vectors `[tiles, vectors, d]`.
#[derive(Clone, Debug)]
pub struct ImageFeatures {
    pub(crate) features: Tensor<3>,
    /// Tiles of each picture.
    tiles: Vec<usize>,
}

/// One of the pictures of a batch: its index, and the number of tiles it was cut into.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ImageRef {
    /// Index of the picture in the batch.
    pub index: usize,
    /// Tiles.
    pub tiles: usize,
}

impl ImageFeatures {
    /// Features of pictures that were cut into `tiles`.
    pub(crate) fn new(features: Tensor<3>, tiles: Vec<usize>) -> Self {
        Self { features, tiles }
    }

    /// Other values for the same pictures.
    pub(crate) fn with(&self, features: Tensor<3>) -> Self {
        Self {
            features,
            tiles: self.tiles.clone(),
        }
    }

    /// Number of pictures.
    pub fn pictures(&self) -> usize {
        self.tiles.len()
    }

    /// The picture of index `i`.
    pub fn image_ref(&self, i: usize) -> ImageRef {
        ImageRef {
            index: i,
            tiles: self.tiles.get(i).copied().unwrap_or(1),
        }
    }

    /// Index of the first tile of picture `i`.
    pub(crate) fn first_tile(&self, i: usize) -> usize {
        self.tiles.iter().take(i).sum()
    }

    /// The picture of index `i` alone.
    #[must_use]
    pub fn only(&self, i: usize) -> Self {
        let ImageRef { tiles, .. } = self.image_ref(i);
        let features = self.features.clone().narrow(0, self.first_tile(i), tiles);
        Self::new(features, vec![tiles])
    }

    /// Waits until the pictures are seen, so that a fault of the device shows here.
    pub fn settle(&self) {
        host::values(
            self.features
                .clone()
                .narrow(0, 0, 1)
                .narrow(1, 0, 1)
                .narrow(2, 0, 1),
        );
    }

    /// The pictures of all `parts`, in order; `None` when there are none.
    pub fn join(parts: impl IntoIterator<Item = ImageFeatures>) -> Option<Self> {
        let (features, tiles): (Vec<_>, Vec<_>) = parts
            .into_iter()
            .map(|seen| (seen.features, seen.tiles))
            .unzip();
        match features.is_empty() {
            true => None,
            false => Some(Self::new(Tensor::cat(features, 0), tiles.concat())),
        }
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
    /// Vision features.
    ImageFeatures(ImageFeatures),
    /// Decoder-width image vectors `[tiles, vectors, d]`, or none for text.
    Prefixed(Option<ImageFeatures>),
    /// Residual stream `[b, t, d]` in front of a stage.
    Hidden(Tensor<3>, Stage),
}

impl Batch {
    /// Rows over the pictures whose vision features are `seen`; of text alone without any.
    pub fn over(rows: Vec<Row>, seen: Option<ImageFeatures>) -> Self {
        match seen {
            Some(seen) => Self::with_pictures(rows, seen),
            None => Self::text(rows),
        }
    }

    /// Rows over the pictures whose vision features are `seen`.
    pub fn with_pictures(rows: Vec<Row>, seen: ImageFeatures) -> Self {
        Self::new(rows, State::ImageFeatures(seen))
    }

    /// Rows over image vectors that are already decoder-wide.
    pub(crate) fn with_vectors(rows: Vec<Row>, vectors: ImageFeatures) -> Self {
        Self::new(rows, State::Prefixed(Some(vectors)))
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

    /// Bytes of what has been computed.
    pub fn bytes(&self) -> usize {
        let x = match &self.state {
            State::ImageFeatures(seen) | State::Prefixed(Some(seen)) => &seen.features,
            State::Prefixed(None) => return 0,
            State::Hidden(x, _) => x,
        };
        x.dims().iter().product::<usize>() * size_of::<f32>()
    }

    /// Rows `from .. from + count` of a batch whose rows are already residual streams, padded as
    /// before; a batch that has not come so far is returned whole.
    #[must_use]
    pub fn part(&self, from: usize, count: usize) -> Self {
        match &self.state {
            State::Hidden(x, stage) => Self {
                rows: self.rows[from..from + count].to_vec(),
                width: self.width,
                state: State::Hidden(x.clone().narrow(0, from, count), *stage),
            },
            State::ImageFeatures(_) | State::Prefixed(_) => self.clone(),
        }
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
