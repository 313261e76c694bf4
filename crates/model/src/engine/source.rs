//! Where the pictures come from that items show.

use debias_core::Picture;

use crate::error::Error;

/// Where pictures come from.
pub trait Pictures: Sync {
    /// The picture called `key`.
    ///
    /// # Errors
    /// Why there is none.
    fn picture(&self, key: &str) -> std::result::Result<Picture, Unreadable>;
}

/// A picture that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{path}: {problem}")]
pub struct Unreadable {
    /// The file, or the name that was asked for.
    pub path: String,
    /// What is wrong, and how to mend it.
    pub problem: String,
}

impl From<Unreadable> for Error {
    fn from(Unreadable { path, problem }: Unreadable) -> Self {
        Self::Picture { path, problem }
    }
}

/// A collection without pictures, for questions of text alone.
pub struct NoPictures;

impl Pictures for NoPictures {
    fn picture(&self, key: &str) -> std::result::Result<Picture, Unreadable> {
        Err(Unreadable {
            path: key.to_owned(),
            problem: "there are no pictures here; give their folder".to_owned(),
        })
    }
}
