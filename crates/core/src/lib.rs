//! The nouns of debias-bench: records, scores, metrics, estimates, cells and suites.
//!
//! Nothing here touches a tensor, a file or a clock, so the crate compiles in seconds and holds
//! the tests that a statistician would ask for.

mod batching;
mod canonical;
mod cell;
pub mod demonstration;
mod error;
mod estimate;
mod filter;
mod merger;
pub mod metrics;
mod picture;
mod plan;
mod record;
mod score;
pub mod seed;
mod settings;
mod suite;
mod template;

pub use batching::{Applied, Batching, GAP_RECORDS, Kept, Mode, retention};
pub use canonical::{canonical_json, sha256_hex};
pub use cell::{
    Cell, CellKey, CellResult, Cost, EditorIdentity, FORMAT, FORMAT_MAJOR, Identity, Status,
    records_path,
};
pub use error::{Error, Result, nearest};
pub use estimate::{CONFIDENCE, Estimate, RESAMPLES, Share, paired_bootstrap};
pub use filter::{Admission, FilterContexts, FilterCounts, MIN_PREFERENCE, Verdict};
pub use merger::{Grid, Intermediate, Merged, Merger, Merging, Moved, Point, symbol, written};
pub use picture::Picture;
pub use plan::{Plan, Shard};
pub use record::{Record, Split, TargetRule, Task};
pub use score::{AnswerScore, ContextScore, LocalityScore, Norm, RecordLine, RecordScores};
pub use settings::{KnownSettings, Overrides, Preset, Protocol};
pub use suite::Suite;
pub use template::{Template, Templates};
