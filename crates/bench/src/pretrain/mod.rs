//! How the embedded models were made, reproducibly: recipe, training, and proof of the world in them.

pub mod check_world;
mod context;
pub mod recipe;
pub mod training;
