//! The seed of the one town that there is.

/// The seed of everything that must be the same for every run: splits, looks, town facts.
pub(crate) const WORLD_SEED: u64 = 2024;
