//! Multimodal language models on burn: published checkpoints, named edit sites, and views.
//!
//! A model is loaded once and never written. What an editor proposes is a [`Change`]; a forward
//! pass looks at the weights through a [`View`] that lays changes over them, one for all rows or
//! one per group of rows.

mod batch;
mod change;
mod chat;
mod choosing;
mod complete;
mod cpu;
mod decoders;
pub mod device;
mod dtype;
mod encoders;
pub mod engine;
mod error;
mod families;
mod footprint;
mod generate;
pub mod host;
mod human_bytes;
mod image_embedding;
mod layers;
mod likelihood;
mod loader;
mod locality;
mod logits;
mod mean_token_embedding;
mod model;
mod names;
pub mod optim;
mod parallel;
mod parameter;
mod passes;
mod pixels;
mod positions;
pub mod pretrain;
mod projector;
mod prompt;
mod question;
mod recorder;
mod score;
mod text;
pub mod tune;
pub mod verify;
mod vision;

pub use batch::{Batch, ImageFeatures, ImageRef, ImageSpan, Row};
pub use burn::tensor::{DType, Device};
pub use change::{Change, Delta, Parameters, View};
pub use chat::{ChatTemplate, Content, Message, Part};
pub use choosing::continued;
pub use decoders::{Decoder, Outline};
pub use encoders::{Encoder, Hidden, Tokens};
pub use error::{Error, Result};
pub use families::{VisionSide, family, open_folder};
pub use footprint::Footprint;
pub use generate::{Continuation, Limits, Steps, greedy};
pub use likelihood::{
    AnswerLikelihood, answer_likelihoods, answer_means, answer_nll, answer_scores,
    divergence_per_row,
};
pub use loader::{Fresh, Weights};
pub use locality::{locality, locality_of_pairs};
pub use mean_token_embedding::MeanTokenEmbedding;
pub use model::Model;
pub use parallel::{Workers, in_order};
pub use parameter::{Orientation, Parameter, Side, Stage};
pub use passes::passes;
pub use pixels::{Colours, PixelConfig, resize_bicubic};
pub use question::{Question, Style};
pub use recorder::Recorder;
pub use text::{IMAGE_TOKEN, Marks, Text, train_byte_level_bpe, train_metaspace_bpe};
