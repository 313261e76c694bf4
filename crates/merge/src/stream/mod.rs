//! The engine: tensors flow block by block from the maps of the inputs through a kernel to their
//! final place, and nothing larger than a block is held.
//!
//! A tensor is cut into chunks at fixed places. Threads take chunks; partial sums of chunks are
//! added in their order. So a result depends on neither the number of threads nor their timing.

mod input;
pub(crate) mod number;
mod pass;
mod reading;
mod select;
mod sums;

pub use input::{Input, LowRank, Stored, VocabularyRow, VocabularyRows};
pub use pass::{Block, Each, Fold};
pub use reading::{Grain, Reading};
pub(crate) use select::{Cut, Key, largest};
pub(crate) use sums::{dot, dots, sum};
