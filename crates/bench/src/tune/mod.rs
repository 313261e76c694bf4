//! `bench tune`: a recipe, the items that it learns from, and the folder that comes of it.

mod adapter;
mod data;
mod output;
mod pictures;
mod plan;
mod recipe;

pub use output::Report;
pub use plan::{Planned, Request, Watched};
pub use recipe::{Kind, Lora, Recipe, Trains};
