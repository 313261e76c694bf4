//! Published benchmarks asked of models: what is planned, asked window by window, and stored.
//!
//! A cell is one model, one variant of it and one benchmark. Its lines are written as they come, so
//! that an interrupted cell goes on where it stopped; its numbers are computed from the stored lines,
//! as those of any cell.

mod asking;
mod plan;
mod report;

pub use self::asking::{Asking, Outcome};
pub use self::plan::{Chosen, EvalRequest, PlannedEval};
pub use self::report::{json, table};
