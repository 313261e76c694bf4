//! PyTorch's `.bin`, `.pt` and `.pth` files, read without executing their pickle.
//!
//! Such a file is a pickle, a program for a small stack machine that may call any function of
//! Python, and the raw storages that its tensors view. The machine here ([`pickle`]) knows only
//! the opcodes and the handful of constructors that `torch.save` needs for a dictionary of
//! tensors, and builds a description instead of calling anything. Two containers exist: a zip
//! archive ([`zip`], torch 1.6 and later) and the older row of pickles ([`legacy`]). Storages stay
//! where they are: like safetensors entries, tensors are ranges of the memory map.

mod layout;
mod legacy;
mod operands;
mod pickle;
mod rebuild;
mod state;
mod storages;
mod value;
mod zip;

use crate::error::{Error, Result};
use crate::header::Entry;

pub(crate) use layout::gather;
use pickle::Machine;
use storages::Storages;

/// Whether `bytes` begins as a PyTorch file does.
pub(crate) fn recognized(bytes: &[u8]) -> bool {
    // The length in front of a safetensors header may look like either signature; the brace after
    // it occurs in neither.
    bytes.get(8) != Some(&b'{') && (bytes.starts_with(zip::SIGNATURE) || legacy::recognized(bytes))
}

/// The tensors of `bytes`, the whole of `file`.
pub(crate) fn parse(bytes: &[u8], file: &str) -> Result<Vec<Entry>> {
    if !bytes.starts_with(zip::SIGNATURE) {
        return legacy::parse(bytes, file);
    }
    let broken = |problem: String| Error::pytorch(file, &problem);
    let archive = zip::Archive::open(bytes).map_err(broken)?;
    let pickle = archive.pickle().map_err(broken)?;
    let pickled = Machine::new(&bytes[pickle], 0, file).run()?;
    state::entries(&pickled, archive.storages(), file)
}
