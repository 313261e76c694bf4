//! What can be wrong with a merge.

use std::path::PathBuf;

use debias_weights::Dtype;

/// Result of this crate.
pub type Result<T> = std::result::Result<T, Error>;

/// A recipe, an input or a tensor that cannot be merged.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A recipe that cannot be read.
    #[error("cannot read the recipe {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The operating system's words.
        #[source]
        source: std::io::Error,
    },
    /// A recipe that is no YAML.
    #[error("{origin}: not valid YAML: {problem}")]
    Yaml {
        /// The recipe.
        origin: String,
        /// What is wrong, with line and column.
        problem: String,
    },
    /// A part of a recipe that cannot be carried out.
    #[error("{origin}: {}{problem}", if field.is_empty() { String::new() } else { format!("`{field}`: ") })]
    Recipe {
        /// The recipe.
        origin: String,
        /// The key, as in `models[0].parameters.weight`.
        field: String,
        /// What is wrong with it, and what to do.
        problem: String,
    },
    /// A model folder, or an adapter, that cannot be opened or does not fit the others.
    #[error("model `{model}`: {problem}")]
    Model {
        /// The model as the recipe names it.
        model: String,
        /// What is wrong, and what to do.
        problem: String,
    },
    /// A tensor that one model lacks.
    #[error("tensor `{tensor}` is missing from model `{model}`; merge models of one architecture")]
    MissingTensor {
        /// The tensor.
        tensor: String,
        /// The model.
        model: String,
    },
    /// Tensors that cannot be merged value by value, all of them.
    #[error("{}", problems.join("\n"))]
    Shapes {
        /// One line per tensor: its name and the shape in each model; the last says what to do.
        problems: Vec<String>,
    },
    /// A number format that is not merged.
    #[error(
        "tensor `{tensor}` of model `{model}` has dtype {found}; convert it to F32, F16 or BF16"
    )]
    Dtype {
        /// The tensor.
        tensor: String,
        /// The model.
        model: String,
        /// Its dtype.
        found: Dtype,
    },
    /// A buffer of whole numbers that is not the same everywhere.
    #[error(
        "tensor `{tensor}` holds no floats and differs between models `{first}` and `{second}`"
    )]
    NonFloatDiffers {
        /// The tensor.
        tensor: String,
        /// One model.
        first: String,
        /// Another.
        second: String,
    },
    /// NaN or infinity in an input.
    #[error(
        "tensor `{tensor}` of model `{model}` holds {count} values that are NaN or infinite, the first at flat index {index}; mend the checkpoint, or accept them with --allow-nonfinite"
    )]
    NonFinite {
        /// The tensor.
        tensor: String,
        /// The model.
        model: String,
        /// How many.
        count: usize,
        /// Row-major place of the first.
        index: usize,
    },
    /// A result that the output format cannot hold.
    #[error(
        "tensor `{tensor}`: the merged value {value} at flat index {index} does not fit {dtype}; choose another out_dtype, or smaller weights"
    )]
    Overflow {
        /// The tensor.
        tensor: String,
        /// Row-major place.
        index: usize,
        /// The value in f32.
        value: f32,
        /// The output format.
        dtype: Dtype,
    },
    /// A parameter outside its range for one tensor.
    #[error("parameter `{parameter}` for tensor `{tensor}`: {problem}")]
    Range {
        /// The tensor.
        tensor: String,
        /// The parameter.
        parameter: &'static str,
        /// What is wrong, and what would be right.
        problem: String,
    },
    /// Inputs that a method has no result for.
    #[error("tensor `{tensor}`: {problem}")]
    Degenerate {
        /// The tensor.
        tensor: String,
        /// Why there is no result, and what to do.
        problem: String,
    },
    /// A file of keep masks that does not fit.
    #[error("mask `{name}` {problem}")]
    Mask {
        /// The mask's tensor.
        name: String,
        /// What is wrong.
        problem: String,
    },
    /// A tokenizer that cannot be read or united.
    #[error("tokenizer of model `{model}`: {problem}")]
    Tokenizer {
        /// The model.
        model: String,
        /// What is wrong, and what to do.
        problem: String,
    },
    /// A bound on memory that cannot be kept.
    #[error(
        "this merge needs about {needed} bytes of memory, --max-memory allows {given}; raise it, or take fewer --threads"
    )]
    Memory {
        /// Bytes needed.
        needed: u64,
        /// Bytes allowed.
        given: u64,
    },
    /// The caller asked to stop.
    #[error("interrupted; nothing was written")]
    Interrupted,
    /// A checkpoint that cannot be read or written.
    #[error(transparent)]
    Weights(#[from] debias_weights::Error),
}
