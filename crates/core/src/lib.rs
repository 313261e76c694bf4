//! The nouns of debias-bench: items, answers, columns, estimates, records, cells and suites.
//!
//! Nothing here touches a tensor, a file or a clock, so the crate compiles in seconds and holds
//! the tests that a statistician would ask for.

mod answer;
mod batching;
mod canonical;
mod cell;
mod column;
pub mod demonstration;
mod draws;
mod error;
mod estimate;
mod filter;
mod foreign;
mod item;
mod merger;
pub mod metrics;
mod picture;
mod plan;
mod record;
mod record_scores;
pub mod registry;
mod score;
pub mod seed;
mod settings;
mod suite;
mod template;

pub use answer::{Answer, Answers, Applied, ItemLine, Named, OWN_ANSWER, Y_LESS, Y_MORE};
pub use batching::{Batching, GAP_RECORDS, Mode, RetentionPoint, retention};
pub use canonical::{canonical_json, sha256_hex};
pub use cell::{
    BenchmarkIdentity, Cell, CellKey, CellResult, Cost, DEBIAS_EDIT, EditorIdentity, FORMAT,
    FORMAT_MAJOR, Identity, MergeIdentity, STORED, Status, Variant, records_path,
};
pub use column::{Better, Column, Statistic, measure, versions};
pub use draws::Draws;
pub use error::{Error, Result, nearest};
pub use estimate::{CONFIDENCE, Estimate, RESAMPLES, Ratio, Taken, Weighed};
pub use filter::{Admission, FilterContexts, FilterCounts, MIN_PREFERENCE, Verdict};
pub use foreign::Foreign;
pub use item::{Ask, Choice, Choosing, Decoding, Framing, Item, Probe, Sampling};
pub use merger::{Grid, Intermediate, Merged, Merger, Merging, Moved, Point, symbol, written};
pub use picture::Picture;
pub use plan::{Plan, Shard};
pub use record::{Record, Split, TargetRule, Task, Unrelated};
pub use record_scores::{CONTEXTS, LOCALITIES, RecordScores};
pub use score::{AnswerScore, ContextScore, LocalityScore, Norm};
pub use settings::{KnownSettings, Overrides, Preset, Protocol};
pub use suite::Suite;
pub use template::{Template, Templates};
