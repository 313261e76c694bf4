//! What enters an encoder and what comes out of its last block.

use burn::tensor::Tensor;

/// One input: a text, or a pair of texts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tokens {
    /// Its ids, special tokens included; at least one.
    pub ids: Vec<u32>,
    /// For each id the number of its text: 0, or 1 in the second of a pair.
    pub types: Vec<u32>,
}

/// What the last block makes of a batch.
#[derive(Clone, Debug)]
pub struct Hidden {
    pub(super) states: Tensor<3>,
    pub(super) lengths: Vec<usize>,
}

impl Hidden {
    /// The last hidden states `[b, t, d]`; those of padding are finite and mean nothing.
    pub fn states(&self) -> &Tensor<3> {
        &self.states
    }
}
