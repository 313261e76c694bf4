//! Model families: which vision tower, bridge and decoder a `config.json` composes.

mod blip2;

pub use blip2::Blip2Config;
pub(crate) use blip2::{Parts, config, parts};
