//! Model editors, and the judge that looks at a model before and after an edit.
//!
//! An editor proposes a [`debias_model::Change`]; it never writes to the model. To add one, write
//! `editors/<name>.rs` and add its line to the registry in `editors/mod.rs`.

mod card;
mod editor;
pub mod editors;
mod error;
mod fine_tune;
mod judge;
mod settings;

pub use card::Card;
pub use editor::{Ctx, Editor, Prepared, Request};
pub use error::{Error, Result};
pub use judge::{Chunk, PICTURES, context_scores};
pub use settings::Settings;
