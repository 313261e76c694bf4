//! What can go wrong between a checkpoint folder and logits.

use crate::device::Fault;
use crate::human_bytes::human_bytes;

/// Result of this crate.
pub type Result<T> = std::result::Result<T, Error>;

/// A model, tokenizer, picture or edit that cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The checkpoint folder could not be read.
    #[error(transparent)]
    Weights(#[from] debias_weights::Error),
    /// A configuration value this build cannot honour.
    #[error("{location}: config.json: `{field}` {problem}")]
    Config {
        /// Folder or embedded name.
        location: String,
        /// The offending field.
        field: String,
        /// What is wrong and how to mend it.
        problem: String,
    },
    /// Weights that are larger than what may be taken of a device.
    #[error(
        "the weights do not fit: with `{name}` they take {} MiB of a device that has {} MiB for them; `bench doctor` says how much is free, --place puts parts of a model on other devices",
        .needed.div_ceil(1 << 20), .limit >> 20
    )]
    NoRoom {
        /// The tensor that is too much.
        name: String,
        /// Bytes that it and those before it take.
        needed: u64,
        /// Bytes that may be taken.
        limit: u64,
    },
    /// Work of which not even one piece fits into the memory that may be taken.
    #[error(
        "one {what} takes about {} of memory to compute, and {} is left beside what is held",
        human_bytes(*.each), human_bytes(*.room)
    )]
    NoRoomFor {
        /// A piece: a record, a line, a picture.
        what: &'static str,
        /// Bytes that one takes.
        each: u64,
        /// Bytes that may be taken.
        room: u64,
    },
    /// A device that cannot go on.
    #[error(transparent)]
    Device(#[from] Fault),
    /// Tensors that the architecture does not know.
    #[error(
        "{location}: tensors unknown to this architecture: {names}; remove them or use the matching config.json"
    )]
    UnusedTensors {
        /// Folder or embedded name.
        location: String,
        /// The first of them, with a count.
        names: String,
    },
    /// Tensors that the architecture needs and no file holds.
    #[error(
        "{location}: tensors missing: {names}; the weights do not belong to this config.json, or are incomplete"
    )]
    MissingTensors {
        /// Folder or embedded name.
        location: String,
        /// The first of them, with a count.
        names: String,
    },
    /// tokenizer.json is unusable, or a text cannot be tokenised.
    #[error("{location}: {problem}")]
    Text {
        /// Where the tokenizer came from.
        location: String,
        /// What is wrong.
        problem: String,
    },
    /// The picture processor's configuration is unusable, or a picture cannot be prepared.
    #[error("{location}: {problem}")]
    Pixels {
        /// Folder or file that the configuration came from.
        location: String,
        /// What is wrong.
        problem: String,
    },
    /// A picture file that cannot be read.
    #[error("{path}: {problem}")]
    Picture {
        /// The file.
        path: String,
        /// What is wrong.
        problem: String,
    },
    /// A prompt and its answer cannot be made a row of tokens.
    #[error("the prompt `{prompt}` {problem}")]
    Prompt {
        /// The beginning of the prompt.
        prompt: String,
        /// What is wrong and how to mend it.
        problem: String,
    },
    /// A picture for a model without a vision side.
    #[error(
        "{model} is a text model and cannot look at pictures; leave the picture away or give a multimodal model"
    )]
    NoVisionSide {
        /// The model.
        model: String,
    },
    /// A sequence is longer than the model's position table.
    #[error("{}", too_long(text, *more, *length, *limit))]
    TooLong {
        /// The beginning of the text.
        text: String,
        /// Tokens that are to be written behind it.
        more: usize,
        /// Positions needed, those included.
        length: usize,
        /// Positions available.
        limit: usize,
    },
    /// An edit names a parameter that the model lacks.
    #[error(transparent)]
    Unknown(debias_core::Error),
    /// An edit's tensor does not fit its parameter.
    #[error("change of `{site}` has shape {found:?}, the parameter has {expected:?}")]
    ChangeShape {
        /// The parameter.
        site: String,
        /// Shape of the change.
        found: Vec<usize>,
        /// Shape of the parameter.
        expected: Vec<usize>,
    },
    /// A file that holds no state of a training, or none that goes on here.
    #[error(
        "{path}: not the state of a training: {problem}; remove it and train from the beginning"
    )]
    State {
        /// The file.
        path: String,
        /// What is wrong.
        problem: String,
    },
    /// The model produced NaN or infinity.
    #[error("{what} is not finite; the weights or the edit have diverged")]
    NotFinite {
        /// Which quantity.
        what: String,
    },
}

/// What is said of a text that is too long, alone or for what is to be written behind it.
fn too_long(text: &str, more: usize, length: usize, limit: usize) -> String {
    match more {
        0 => format!(
            "the text `{text}…` needs {length} positions but the model has {limit}; shorten it"
        ),
        _ => format!(
            "the prompt `{text}…` and the {more} tokens that may be written behind it need {length} positions but the model has {limit}; shorten it, or let fewer be written (--max-tokens)"
        ),
    }
}
