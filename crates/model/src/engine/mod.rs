//! One engine by which a model is asked: items in, answers out, each item's own error beside the
//! answers of the others.
//!
//! Items are computed together where they share pictures, and in batches of like length; every
//! picture is seen once, every shared beginning is read once. How much is computed at a time follows
//! from the shapes of the model and the memory that may be taken ([`Portion`]); where a device runs
//! out of it all the same, halves are tried ([`retry_in_halves`]). Batches do not depend on the
//! number of threads, so neither does any byte.

mod asked;
mod asking;
mod pictures;
mod portion;
mod readings;
mod scoring;
mod source;
mod writing;

pub use asked::{Asked, ChoiceRow, Joining};
pub use asking::{Batching, Each, Engine, Watch};
pub use portion::{Portion, retry_in_halves};
pub use readings::{Reading, Wanted};
pub use source::{NoPictures, Pictures, Unreadable};
pub use writing::Written;

pub use crate::human_bytes::human_bytes;
