//! Edit sites: the parameters an editor may address, by their published names.

use serde::Serialize;

/// Which modality a parameter belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Side {
    /// Vision tower, projector and projection.
    Vision,
    /// The language model.
    Language,
}

/// Where in the forward pass a parameter is first used.
///
/// Everything before the earliest stage that an edit touches is the same for all edits and is
/// computed once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
pub enum Stage {
    /// Pixels through the vision tower.
    Vision,
    /// Vision features through projector and projection.
    Projector,
    /// Token and position embeddings.
    Embed,
    /// Attention block of a decoder layer.
    Attention(usize),
    /// Feed-forward block of a decoder layer.
    FeedForward(usize),
    /// Final norm and head.
    Head,
}

impl Stage {
    // Attention and feed-forward of one layer alternate.
    fn rank(self) -> usize {
        match self {
            Stage::Vision => 0,
            Stage::Projector => 1,
            Stage::Embed => 2,
            Stage::Attention(layer) => 3 + 2 * layer,
            Stage::FeedForward(layer) => 4 + 2 * layer,
            Stage::Head => usize::MAX,
        }
    }

    /// Whether `self` is computed strictly before `other`.
    pub fn precedes(self, other: Stage) -> bool {
        self.rank() < other.rank()
    }

    /// The earlier of two stages.
    #[must_use]
    pub fn earliest(self, other: Stage) -> Stage {
        if other.precedes(self) { other } else { self }
    }
}

/// How a linear layer's weight is published.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Orientation {
    /// `[d_out, d_in]`, PyTorch's `Linear`.
    OutIn,
    /// `[d_in, d_out]`, GPT-2's `Conv1D`.
    InOut,
}

/// One named parameter of a model.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Parameter {
    /// The name in the published checkpoint.
    pub name: String,
    /// The published shape.
    pub shape: Vec<usize>,
    /// Vision or language.
    pub side: Side,
    /// First stage that reads it.
    pub stage: Stage,
    /// Set where the parameter is the weight of a linear layer, whose input and output gradient
    /// can be watched (see [`Recorder`](crate::Recorder)).
    pub linear: Option<Orientation>,
}

impl Parameter {
    /// Output and input width of the linear layer whose weight this is, `[d_out, d_in]`, however
    /// it is published.
    pub fn linear_shape(&self) -> [usize; 2] {
        let [rows, columns] = self.matrix_shape();
        match self.linear {
            Some(Orientation::InOut) => [columns, rows],
            _ => [rows, columns],
        }
    }

    /// Rows and columns of the matrix that stores the parameter: vectors are `[1, n]`,
    /// convolutions `[c_out, c_in * h * w]`, and the unit axes in front of a table are dropped.
    pub fn matrix_shape(&self) -> [usize; 2] {
        match self.shape.as_slice() {
            [] => [1, 1],
            [n] => [1, *n],
            [rows, kernel @ ..] if kernel.len() == 3 => [*rows, kernel.iter().product()],
            [rows @ .., columns] => [rows.iter().product(), *columns],
        }
    }
}
