//! What a caller decides of a merge beside its recipe.

use std::path::PathBuf;

/// How a merge is carried out.
#[derive(Clone, Debug)]
pub struct Options {
    /// Seed of everything random, in the place of the recipe's.
    pub seed: Option<u64>,
    /// Worker threads; the number changes no result.
    pub threads: usize,
    /// Bytes of weights per output file.
    pub shard: u64,
    /// Keep masks in the place of draws.
    pub masks: Option<PathBuf>,
    /// Whether NaN and infinity pass.
    pub allow_nonfinite: bool,
    /// Bound on the memory of the merge itself; mapped files are apart.
    pub max_memory: Option<u64>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            seed: None,
            threads: std::thread::available_parallelism().map_or(1, usize::from),
            shard: 5_000_000_000,
            masks: None,
            allow_nonfinite: false,
            max_memory: None,
        }
    }
}
