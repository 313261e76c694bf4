//! Training a model on a task: all its weights, some of them by name, or a LoRA adapter.
//!
//! The arithmetic is that of a plain PyTorch loop at dropout 0, so that losses, norms and weights can
//! be compared with one: the mean loss of all learnt tokens of a batch, gradients clipped to a joint
//! norm, AdamW with decoupled decay of matrices alone, a linear or cosine rate behind a warm-up. A
//! batch is cut into pieces whose sizes depend on nothing but its rows, and their gradients are added
//! in order: the number of threads changes no byte.

mod course;
mod lesson;
mod loss;
mod memory;
mod pieces;
mod pupil;
mod state;
mod sums;
mod tuner;

pub use course::{Course, Pace, Reduction, Shape};
pub use lesson::{Answered, Lesson, Primer};
pub use memory::Need;
pub use pupil::{AdapterPlan, Factor, Pupil, lora_sites, trained_sites};
pub use state::{Best, State, Step, Validated};
pub use tuner::Tuner;
