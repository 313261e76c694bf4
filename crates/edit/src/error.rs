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
}
