//! What can be wrong with data.

use std::fmt;
use std::path::{Path, PathBuf};

use crate::mistakes::Mistakes;

/// Result of this crate.
pub type Result<T> = std::result::Result<T, Error>;

/// How many entries of a [`Listing`] are written out.
const LISTED: usize = 10;

/// Several things in one line: the first ten, then a count.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listing(pub Vec<String>);

impl fmt::Display for Listing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = self.0.len().min(LISTED);
        write!(f, "{}", self.0[..shown].join("; "))?;
        match self.0.len() - shown {
            0 => Ok(()),
            more => write!(f, "; and {more} more"),
        }
    }
}

/// A file, record or picture that cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The operating system refused.
    #[error("cannot {action} {}", path.display())]
    Io {
        /// What was tried: read, write, rename, …
        action: &'static str,
        /// On which file or folder.
        path: PathBuf,
        /// The operating system's words.
        #[source]
        source: std::io::Error,
    },
    /// A dataset that was opened without its folder.
    #[error(
        "dataset `{dataset}` needs its files; give their folder with --data {dataset}=DIR or set DEBIAS_BENCH_DATA"
    )]
    NeedsFolder {
        /// The dataset.
        dataset: &'static str,
    },
    /// What a dataset's authors publish, in the place of a folder that this program reads.
    #[error("{}: is `{dataset}` as it is published, without questions; build the dataset first: bench data build {dataset} --from {} --out DIR, then give --data {dataset}=DIR", clone.display(), clone.display())]
    NotBuilt {
        /// The dataset.
        dataset: &'static str,
        /// The folder.
        clone: PathBuf,
    },
    /// A dataset that is not built from a clone.
    #[error("dataset `{dataset}` is not built from anybody's repository; leave --from away")]
    NoClone {
        /// The dataset.
        dataset: String,
    },
    /// A dataset folder that lacks files.
    #[error("{}: {} of the files of `{dataset}` are missing: {missing}; fetch the dataset again", root.display(), missing.0.len())]
    MissingFiles {
        /// The dataset.
        dataset: String,
        /// The folder in which the files were looked for.
        root: PathBuf,
        /// The files, relative to the folder.
        missing: Listing,
    },
    /// A benchmark that was opened without a folder.
    #[error(
        "benchmark `{benchmark}` needs its files; give their folder with --data {benchmark}=DIR or set DEBIAS_BENCH_DATA. {obtained}"
    )]
    NeedsData {
        /// The benchmark.
        benchmark: String,
        /// How its files are obtained.
        obtained: String,
    },
    /// A benchmark's folder that lacks files.
    #[error("{}: {} of the files of `{benchmark}` are missing: {missing}. {obtained}", root.display(), missing.0.len())]
    MissingData {
        /// The benchmark.
        benchmark: String,
        /// The folder in which the files were looked for, plain and gzipped.
        root: PathBuf,
        /// The files, relative to the folder.
        missing: Listing,
        /// How they are obtained.
        obtained: String,
    },
    /// Rows that break the rules, each kind of mistake said once with its lines.
    #[error("{}: {problems}", path.display())]
    Rows {
        /// The file.
        path: PathBuf,
        /// One sentence per kind of mistake: lines, field, what is wrong.
        problems: Listing,
    },
    /// A dataset that has no records for a task.
    #[error("dataset `{dataset}` has no `{task}` records; see its card for the tasks it has")]
    NoSuchTask {
        /// The dataset.
        dataset: String,
        /// The task.
        task: &'static str,
    },
    /// A file above its size limit.
    #[error("{}: holds {bytes} bytes, the limit is {limit}; it is not what its name says", path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// Its size, or the size reached when reading stopped.
        bytes: u64,
        /// The limit in force.
        limit: u64,
    },
    /// A text file that does not have the expected form.
    #[error("{}: {problem}", path.display())]
    Format {
        /// The file.
        path: PathBuf,
        /// What is wrong, where, and how to mend it.
        problem: String,
    },
    /// A stored format that this build does not know yet.
    #[error("{}: format {found} is newer than this build, which reads up to {known}; update bench", path.display())]
    NewerFormat {
        /// The file.
        path: PathBuf,
        /// The format found.
        found: u32,
        /// The newest format this build reads.
        known: u32,
    },
    /// Records that break the rules, each named with its field.
    #[error("{}: {problems}", path.display())]
    Records {
        /// The file or folder that holds them.
        path: PathBuf,
        /// Records, fields, what is wrong.
        problems: Mistakes,
    },
    /// A picture that is corrupt, too large or of an unknown kind.
    #[error("{name}: {problem}")]
    Picture {
        /// The file, or the name under which the bytes were given.
        name: String,
        /// What is wrong with it, and how to mend it.
        problem: String,
    },
    /// A picture key that the collection does not have.
    #[error("dataset `{dataset}` has no picture `{key}`; keys come from its records")]
    UnknownPicture {
        /// The dataset.
        dataset: String,
        /// The key as given.
        key: String,
    },
    /// An output folder that already holds something.
    #[error("{}: {problem}", path.display())]
    Occupied {
        /// The folder.
        path: PathBuf,
        /// Why it cannot be written, and what to do.
        problem: &'static str,
    },
    /// A broken record or an unknown name.
    #[error(transparent)]
    Core(#[from] debias_core::Error),
}

impl Error {
    /// Turns an operating system error into [`Error::Io`]; for `map_err`.
    pub(crate) fn io(action: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io {
            action,
            path,
            source,
        }
    }

    pub(crate) fn format(path: &Path, problem: impl Into<String>) -> Self {
        Self::Format {
            path: path.to_owned(),
            problem: problem.into(),
        }
    }
}
