//! Model editors, and the judge that looks at a model before and after an edit.
//!
//! An editor proposes an [`Edit`]; it never writes to the model. To add one, write
//! `editors/<name>.rs` and add its line to the registry in `editors/mod.rs`.

mod card;
pub mod conformance;
mod context;
mod edit;
mod editor;
pub mod editors;
mod embedding;
mod error;
mod fine_tune;
mod hyper;
mod judge;
mod memory;
mod own_answer;
mod probing;
mod respondent;
mod sequence;
mod settings;
mod training;
mod training_store;

pub use card::{Card, Footprint};
pub use context::Context;
pub use edit::{Edit, Touches, Wrap};
pub use editor::{
    Claims, Comparison, Ctx, Editor, Effect, Example, Examples, GradientProbe, Learns, Lessons,
    Posed, Prepared, Request, Wording, check_requests,
};
pub use embedding::{TextEmbedding, cosine};
pub use error::{Error, Result};
pub use judge::{Needs, PICTURES, RecordBatch, context_scores};
pub use memory::Memory;
pub use own_answer::answer_by_itself;
pub use probing::{Answered, answers};
pub use respondent::{Direct, Each, Respondent};
pub use sequence::Sequence;
pub use settings::Settings;
pub use training::{SCOPE as TRAINING, keys as training_keys};
pub use training_store::{History, Losses, Matrix, Nowhere, Parts, TrainingStore};
