//! What can be wrong with a checkpoint.

use std::path::PathBuf;

use safetensors::Dtype;

/// Result of this crate.
pub type Result<T> = std::result::Result<T, Error>;

/// A folder, file or tensor that cannot be used.
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
    /// The named folder or file is not there.
    #[error("{location}: {missing} is missing; {mend}")]
    Missing {
        /// Folder, file or embedded name in which it was looked for.
        location: String,
        /// What is missing.
        missing: String,
        /// What to do about it.
        mend: &'static str,
    },
    /// A file name from a caller or an index that would leave the folder.
    #[error("{location}: `{name}` is not a plain file name; {mend}")]
    FileName {
        /// Where the name was written.
        location: String,
        /// The name.
        name: String,
        /// What to do about it.
        mend: &'static str,
    },
    /// A file above its size limit.
    #[error("{file}: holds {bytes} bytes, the limit is {limit}; it is not what its name says")]
    TooLarge {
        /// The file.
        file: String,
        /// Its size.
        bytes: u64,
        /// The limit in force.
        limit: u64,
    },
    /// What stands in the place of a file: a pointer, or a page.
    #[error("{file}: {found}")]
    Foreign {
        /// The file.
        file: String,
        /// What it is.
        found: debias_core::Foreign,
    },
    /// Weights in a format of few bits.
    #[error(
        "{location}: the weights are quantised ({method}), which this program does not compute with; give the checkpoint that they were made from, or one with weights in F32, F16 or BF16"
    )]
    Quantised {
        /// The folder or file.
        location: String,
        /// By which method, and how that is known.
        method: String,
    },
    /// A JSON file that is malformed or lacks what is needed.
    #[error("{file}: {}{problem}; {mend}", field.as_ref().map(|field| format!("field `{field}`: ")).unwrap_or_default())]
    Json {
        /// The file.
        file: String,
        /// The field's path, as in `text_config.hidden_size`; `None` for the file as a whole.
        field: Option<String>,
        /// What is wrong with it.
        problem: String,
        /// What to do about it.
        mend: &'static str,
    },
    /// A safetensors file shorter than its header promises.
    #[error(
        "{file}: truncated: {found} bytes are there, the header promises {promised}; fetch the file again"
    )]
    Truncated {
        /// The file.
        file: String,
        /// Bytes in the file.
        found: u64,
        /// Bytes that it should have.
        promised: u64,
    },
    /// A safetensors file that breaks the rules of the format.
    #[error("{file}: not a valid safetensors file: {problem}; fetch or export the file again")]
    Format {
        /// The file.
        file: String,
        /// Which rule.
        problem: String,
    },
    /// A PyTorch file that is damaged, or of a kind that is not read here.
    #[error(
        "{file}: not a readable PyTorch file: {problem}; fetch it again, or convert it to safetensors"
    )]
    Pytorch {
        /// The file.
        file: String,
        /// What is wrong with it.
        problem: String,
    },
    /// A pickle that asks for more than plain tensors; no part of it was executed.
    #[error("{file}: {problem} (byte {offset} of the pickle); {mend}")]
    Pickle {
        /// The file.
        file: String,
        /// Where in the pickle.
        offset: usize,
        /// What it asks for.
        problem: String,
        /// What to do about it.
        mend: &'static str,
    },
    /// A tensor stored as a view with gaps, asked for in place.
    #[error(
        "{location}: tensor `{name}` is a strided view, which cannot be borrowed; read a shared copy of it"
    )]
    Strided {
        /// The file.
        location: String,
        /// The tensor.
        name: String,
    },
    /// A pickle holds, or the index lists twice, the same tensor.
    #[error("{location}: tensor `{name}` is stored twice ({places}); keep one of them")]
    Duplicate {
        /// The folder.
        location: String,
        /// The tensor.
        name: String,
        /// Where the two are.
        places: String,
    },
    /// A tensor that the checkpoint does not hold.
    #[error("{location}: tensor `{name}` is missing; {mend}")]
    MissingTensor {
        /// The folder, or the shard that should hold it.
        location: String,
        /// The tensor.
        name: String,
        /// What to do about it.
        mend: &'static str,
    },
    /// A tensor of another shape than its reader needs.
    #[error(
        "{location}: tensor `{name}` has shape {found:?}, expected {expected:?}; weights and config.json do not belong together"
    )]
    Shape {
        /// The folder.
        location: String,
        /// The tensor.
        name: String,
        /// Shape in the file.
        found: Vec<usize>,
        /// Shape that was asked for.
        expected: Vec<usize>,
    },
    /// A tensor whose numbers are not floats this program reads.
    #[error("{location}: tensor `{name}` has dtype {found}; convert it to F64, F32, F16 or BF16")]
    NotFloat {
        /// The folder.
        location: String,
        /// The tensor.
        name: String,
        /// Dtype in the file.
        found: Dtype,
    },
    /// A tensor that holds NaN or infinity.
    #[error(
        "{location}: tensor `{name}` holds {value} at flat index {index}; the weights are damaged: {mend}"
    )]
    NotFinite {
        /// The folder.
        location: String,
        /// The tensor.
        name: String,
        /// Row-major position of the first such value.
        index: usize,
        /// That value.
        value: f32,
        /// What to do about it.
        mend: &'static str,
    },
    /// A disk with less room than the weights need.
    #[error("{}: {needed} bytes are needed, {free} are free; make room or write elsewhere", path.display())]
    NoRoom {
        /// The folder that was to hold them.
        path: PathBuf,
        /// Bytes needed.
        needed: u64,
        /// Bytes free.
        free: u64,
    },
    /// A tensor to be written whose shape and values disagree.
    #[error("tensor `{name}` of shape {shape:?} was given {found} values")]
    Length {
        /// The tensor.
        name: String,
        /// Its shape.
        shape: Vec<usize>,
        /// The number of values.
        found: usize,
    },
    /// A checkpoint that is not one folder.
    #[error(
        "{location}: is put together from several files or folders and cannot be copied as one; save it as a Hugging Face folder first"
    )]
    Composed {
        /// Where it begins.
        location: String,
    },
    /// The target of a write exists, or cannot be replaced safely.
    #[error("{}: {problem}", path.display())]
    Target {
        /// The target.
        path: PathBuf,
        /// Why it stays as it is, and what to do.
        problem: &'static str,
    },
}

impl Error {
    /// A failed system call on `path`.
    pub(crate) fn io(
        action: &'static str,
        path: &std::path::Path,
    ) -> impl FnOnce(std::io::Error) -> Self {
        move |source| Self::Io {
            action,
            path: path.to_owned(),
            source,
        }
    }

    /// A PyTorch file that cannot be read.
    pub(crate) fn pytorch(file: &str, problem: &str) -> Self {
        Self::Pytorch {
            file: file.to_owned(),
            problem: one_line(problem),
        }
    }

    /// A broken rule of the safetensors format.
    pub(crate) fn format(file: &str, problem: &str) -> Self {
        Self::Format {
            file: file.to_owned(),
            problem: one_line(problem),
        }
    }
}

/// Text that quotes a hostile file, made fit for one line of a terminal.
pub(crate) fn one_line(text: &str) -> String {
    const LONGEST: usize = 400;
    let mut line: String = text
        .chars()
        .take(LONGEST)
        .map(|c| if c.is_control() { '\u{fffd}' } else { c })
        .collect();
    if text.chars().nth(LONGEST).is_some() {
        line.push('…');
    }
    line
}
