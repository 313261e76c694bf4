//! The dataset's name, which is part of every draw.

/// The name under which everything is hashed.
pub(super) const NAME: &str = "pairs";
