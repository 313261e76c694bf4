//! Vision towers: pixels to image tokens.

mod blip2_vit;

pub use blip2_vit::{Blip2Vision, Blip2VisionConfig};
