//! Hugging Face folders: safetensors and PyTorch files, shards and JSON, read by memory map and
//! written atomically.
//!
//! Every byte read here may be hostile. A file that breaks the published rules of its format is
//! refused with one line that names the file, the place and the mend; nothing panics, and nothing
//! is read outside a tensor's own bytes. PyTorch's pickles are read as data: what they would call is
//! never called. No tensor library is named here.

mod checkpoint;
mod companions;
mod digest;
mod edited;
mod error;
mod float;
mod header;
mod index;
mod json;
mod map;
mod parts;
mod pytorch;
mod quantised;
mod source;
mod streamed;
mod tensors;
mod write;

#[cfg(test)]
mod tests;

pub use bytes::Bytes;
pub use checkpoint::Checkpoint;
pub use companions::Belonging;
pub use edited::{check_editable, write_edited};
pub use error::{Error, Result};
pub use header::TensorInfo;
pub use parts::{LazyTensor, PartsFile, read_notes, write_lazily};
pub use safetensors::Dtype;
pub use streamed::{Sharding, StreamedFolder};
pub use tensors::{Raw, Shared};
pub use write::{Tensor, check_target, write_adapter, write_atomic, write_folder};
