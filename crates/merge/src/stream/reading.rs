//! What a pass reads of a tensor, and how the tensor is cut.

/// How a tensor is cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Grain {
    /// Values that are decoded at a time; a few inputs of this length stay in the first-level cache.
    pub block: usize,
    /// Values that one thread takes at a time, a multiple of `block`. Partial sums are one per
    /// chunk, so this number is part of a result's last bits.
    pub chunk: usize,
}

impl Default for Grain {
    fn default() -> Self {
        Self {
            block: 4096,
            chunk: 65_536,
        }
    }
}

impl Grain {
    /// The same with blocks and chunks that hold whole rows of `columns` values.
    #[must_use]
    pub fn of_rows(self, columns: usize) -> Self {
        let columns = columns.max(1);
        let rows = (self.block / columns).max(1);
        let blocks = (self.chunk / (rows * columns)).max(1);
        Self {
            block: rows * columns,
            chunk: blocks * rows * columns,
        }
    }

    pub(crate) fn chunks(self, len: usize) -> usize {
        len.div_ceil(self.chunk)
    }
}

/// Which inputs a pass reads.
#[derive(Clone, Copy, Debug)]
pub struct Reading<'a> {
    /// Inputs by place in the target, in the order of [`Block::input`](super::Block::input).
    pub inputs: &'a [usize],
    /// The input that is subtracted from all others, and given as [`Block::base`](super::Block::base).
    pub origin: Option<usize>,
    /// How the tensor is cut.
    pub grain: Grain,
}
