//! How often this process has read tokens through a decoder: what a run that only measures stored
//! lines must leave at zero.

use std::sync::atomic::{AtomicU64, Ordering};

static PASSES: AtomicU64 = AtomicU64::new(0);

/// Counts one pass, or a stretch of one.
pub(crate) fn count() {
    PASSES.fetch_add(1, Ordering::Relaxed);
}

/// Passes through decoders so far, those of training included; a pass that goes on from an earlier
/// stage counts again.
pub fn passes() -> u64 {
    PASSES.load(Ordering::Relaxed)
}
