//! What is kept on disk, under the digest of what made it, and what is computed from it again.

pub mod artifacts;
pub mod digest;
pub mod history;
mod measuring;
pub mod provenance;
pub mod store;
pub mod unfinished;

pub use measuring::{columns, current_versions, measured};
