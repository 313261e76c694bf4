//! The one place of the project that needs `unsafe`: a read-only memory map.

use std::fs::File;
use std::path::Path;

use memmap2::Mmap;

use crate::error::{Error, Result};

/// The bytes of a file, paged in by the operating system when they are read.
#[derive(Debug)]
pub(crate) struct Mapped(Mmap);

impl Mapped {
    /// Maps the whole of `file`, which was opened at `path`.
    #[allow(unsafe_code)]
    pub(crate) fn new(file: &File, path: &Path) -> Result<Self> {
        // SAFETY: the map is private to this value, read-only, and handed out only as `&[u8]`
        // borrowed from it (`bytes::Bytes` counts its readers and unmaps after the last), so no
        // reference outlives the map. What the type system cannot rule
        // out is another process that rewrites or truncates the file meanwhile: rewriting gives
        // other numbers (u8 has no invalid value, and every offset was checked against the map's
        // fixed length), truncating ends the process with SIGBUS. Checkpoints are many gigabytes,
        // so reading them into memory first is no alternative, and this program itself replaces
        // checkpoint files only by rename, which leaves a mapped file as it was.
        let map = unsafe { Mmap::map(file) };
        Ok(Self(map.map_err(Error::io("map", path))?))
    }
}

impl AsRef<[u8]> for Mapped {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}
