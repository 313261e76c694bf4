//! Where the models of a recipe are found.

use std::path::{Path, PathBuf};

use debias_weights::Checkpoint;

/// Finds models by the names that a recipe uses.
pub trait Library: Sync {
    /// Where the model is; `None` when there is none of that name.
    fn locate(&self, name: &str) -> Option<Location>;
}

/// Where a model is.
#[derive(Debug)]
pub enum Location {
    /// A Hugging Face folder, or an adapter's.
    Folder(PathBuf),
    /// A model that is no folder.
    Open(Checkpoint),
}

/// Folders, looked up below several others in turn.
#[derive(Clone, Debug)]
pub struct Folders(Vec<PathBuf>);

impl Folders {
    /// Below these folders, in this order.
    pub fn below(dirs: impl IntoIterator<Item = PathBuf>) -> Self {
        Self(dirs.into_iter().collect())
    }

    /// From the working directory, as mergekit does, then from the folder of `recipe`.
    pub fn of(recipe: &Path) -> Self {
        let beside = recipe.parent().unwrap_or(Path::new("")).to_owned();
        Self(vec![PathBuf::new(), beside])
    }

    /// Whether there is a folder of that name.
    pub fn has(&self, name: &str) -> bool {
        self.0.iter().any(|dir| dir.join(name).is_dir())
    }
}

impl Library for Folders {
    fn locate(&self, name: &str) -> Option<Location> {
        let mut places = self.0.iter().map(|dir| dir.join(name));
        places.find(|dir| dir.is_dir()).map(Location::Folder)
    }
}
