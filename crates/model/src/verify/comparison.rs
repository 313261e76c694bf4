//! How far a tensor is from the reference.

use serde::Serialize;

/// One compared tensor.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Comparison {
    /// Its name in the golden file.
    pub name: String,
    /// Its shape there.
    pub shape: Vec<usize>,
    /// Largest absolute difference; `None` where it was not computed.
    pub max_abs: Option<f64>,
    /// Largest absolute difference over the reference's largest entry.
    pub max_rel: Option<f64>,
    /// What `max_abs` may be.
    pub tolerance: f64,
    /// `f64` where f32 was not within tolerance because of the rounding of both sides (see
    /// [`verify`](super::verify)); then `max_abs` is that of f64.
    pub computed_in: &'static str,
    /// Whether it is within; `None` where this build cannot compute it.
    pub ok: Option<bool>,
}
