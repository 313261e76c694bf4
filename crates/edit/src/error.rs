//! What can go wrong while editing.

/// Result of this crate.
pub type Result<T> = std::result::Result<T, Error>;

/// An edit that cannot be made or scored.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The model refused.
    #[error(transparent)]
    Model(#[from] debias_model::Error),
    /// A name or setting that cannot be used.
    #[error(transparent)]
    Core(#[from] debias_core::Error),
    /// No request was given.
    #[error("an edit needs at least one request")]
    EmptyEdit,
    /// A record could not be turned into model input.
    #[error("record `{id}`: {source}")]
    Record {
        /// The record.
        id: String,
        /// Why.
        #[source]
        source: debias_model::Error,
    },
    /// A chosen parameter got no gradient: the edit would silently leave it as it is.
    #[error(
        "{editor}: parameter `{site}` received no gradient; choose parameters that the answer depends on"
    )]
    NoGradient {
        /// The editor.
        editor: &'static str,
        /// The parameter.
        site: String,
    },
    /// The optimiser left the finite numbers.
    #[error(
        "{editor}: record `{id}`: the loss or an update is not finite; lower the learning rate"
    )]
    Diverged {
        /// The editor.
        editor: &'static str,
        /// The record.
        id: String,
    },
    /// A layer that the model does not have.
    #[error("{editor}.layers: layer {layer} does not exist; the language model has {depth}")]
    Layer {
        /// The editor.
        editor: &'static str,
        /// As given.
        layer: i64,
        /// Number of layers.
        depth: usize,
    },
    /// A parameter of the vision tower, whose output is computed once for all edits.
    #[error(
        "`{site}` is part of the vision tower, which is not edited; choose parameters of the projector or of the language model"
    )]
    BehindTheTower {
        /// The parameter.
        site: String,
    },
    /// A model whose positions and distributions cannot be compared with another's.
    #[error(
        "{model} reads texts in other tokens, or has another vocabulary, than the model it is compared with; give the merge the base's tokenizer"
    )]
    OtherTokens {
        /// The other model.
        model: String,
    },
    /// Edits that act on different things cannot be one edit.
    #[error("edits that change weights, prompts and answers cannot be joined into one")]
    MixedEdits,
    /// The training data holds nothing that the model is biased on.
    #[error(
        "{editor}: there is no training record; give some with --train or a dataset with a training split"
    )]
    NothingToLearn {
        /// The editor.
        editor: &'static str,
    },
    /// A trained part that does not fit.
    #[error("{file}: {problem}")]
    Trained {
        /// The stored file.
        file: String,
        /// What does not fit, and how to mend it.
        problem: String,
    },
    /// The user wants it to end.
    #[error("stopped")]
    Stopped,
    /// An editor outside this program that cannot go on: no record of its cell has a result.
    #[error("{editor}: {problem}")]
    Ended {
        /// The editor.
        editor: &'static str,
        /// Why.
        problem: String,
    },
    /// Whatever an editor outside this crate reports, or a file that it could not use.
    #[error("{editor}: {problem}")]
    Elsewhere {
        /// The editor.
        editor: &'static str,
        /// Why.
        problem: String,
    },
}

impl Error {
    /// Whether it is about the editor as a whole rather than about one record.
    pub fn fails_cell(&self) -> bool {
        matches!(
            self,
            Error::Ended { .. } | Error::OtherTokens { .. } | Error::Stopped
        )
    }
}
