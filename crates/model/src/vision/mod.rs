//! Vision towers: pixels to features.
//!
//! A tower is a [`Tower`] of blocks; one file per family says which, and under which names it is
//! published.

mod blip2_vit;
mod block;
mod clip;
mod glm4v_vit;
mod intern_vit;
mod tower;

pub(crate) use blip2_vit::Blip2VisionConfig;
pub(crate) use clip::ClipConfig;
pub(crate) use glm4v_vit::Glm4vVisionConfig;
pub(crate) use intern_vit::InternVitConfig;
pub(crate) use tower::Tower;
