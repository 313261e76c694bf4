//! `bench tune`: a recipe, the items that it learns from, and the folder that comes of it.

mod adapter;
mod choices;
mod data;
mod keeper;
mod output;
mod pictures;
mod plan;
mod recipe;

pub use choices::{Kind, Lora, Over, Schedule, TargetWord, Targets, Trains, Word};
pub use output::{Cost, Losses, Report};
pub use plan::{Planned, Request, Watched};
pub use recipe::Recipe;
