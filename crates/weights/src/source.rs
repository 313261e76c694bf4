//! Where a checkpoint's files are: a folder on disk, or tables compiled into the binary.

use std::borrow::Cow;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Component, Path, PathBuf};

use bytes::Bytes;
use debias_core::Foreign;

use crate::error::{Error, Result, one_line};
use crate::map::Mapped;

/// Largest file read into memory: every JSON and tokenizer file of a checkpoint. Published ones
/// stay below 40 MiB.
pub(crate) const SMALL_LIMIT: u64 = 64 << 20;

/// Files by name.
#[derive(Debug)]
pub(crate) enum Source {
    /// A folder on disk.
    Folder(PathBuf),
    /// Files compiled into the binary.
    Embedded {
        /// The model's name.
        name: &'static str,
        /// File names and contents.
        files: &'static [(&'static str, &'static [u8])],
    },
    /// One weight file in memory, without small files.
    Memory {
        /// The file's name.
        name: String,
    },
}

impl Source {
    /// For messages: the path, or `embedded:<name>`.
    pub(crate) fn location(&self) -> String {
        match self {
            Self::Folder(dir) => dir.display().to_string(),
            Self::Embedded { name, .. } => format!("embedded:{name}"),
            Self::Memory { name } => name.clone(),
        }
    }

    /// For messages: `file` with its location.
    pub(crate) fn describe(&self, file: &str) -> String {
        match self {
            Self::Folder(dir) => dir.join(file).display().to_string(),
            Self::Embedded { name, .. } => format!("embedded:{name}/{file}"),
            Self::Memory { name } if name == file => name.clone(),
            Self::Memory { name } => format!("{name}/{file}"),
        }
    }

    /// Reads a small file whole; `None` when there is none.
    pub(crate) fn read(&self, file: &str) -> Result<Option<Cow<'static, [u8]>>> {
        plain(file, || self.location())?;
        match self {
            Self::Folder(dir) => {
                let read = read_small(&dir.join(file))?;
                if let Some(bytes) = &read {
                    itself(bytes, || self.describe(file))?;
                }
                Ok(read.map(Cow::Owned))
            }
            Self::Embedded { files, .. } => Ok(find(files, file).map(Cow::Borrowed)),
            Self::Memory { .. } => Ok(None),
        }
    }

    /// Whether there is a file `file`.
    pub(crate) fn has(&self, file: &str) -> Result<bool> {
        plain(file, || self.location())?;
        Ok(match self {
            Self::Folder(dir) => dir.join(file).is_file(),
            Self::Embedded { files, .. } => find(files, file).is_some(),
            Self::Memory { .. } => false,
        })
    }

    /// Where the folder `name` inside this one would be; `None` where there are no folders.
    pub(crate) fn subfolder(&self, name: &str) -> Result<Option<PathBuf>> {
        plain(name, || self.location())?;
        match self {
            Self::Folder(dir) => Ok(Some(dir.join(name))),
            Self::Embedded { .. } | Self::Memory { .. } => Ok(None),
        }
    }

    /// Opens a weight file; `None` when there is none.
    pub(crate) fn weights(&self, file: &str) -> Result<Option<Bytes>> {
        plain(file, || self.location())?;
        match self {
            Self::Folder(dir) => {
                let path = dir.join(file);
                let Some(open) = open_regular(&path)? else {
                    return Ok(None);
                };
                let bytes = Bytes::from_owner(Mapped::new(&open, &path)?);
                itself(&bytes, || path.display().to_string())?;
                Ok(Some(bytes))
            }
            Self::Embedded { files, .. } => Ok(find(files, file).map(Bytes::from_static)),
            Self::Memory { .. } => Ok(None),
        }
    }
}

/// Refuses what stands in the place of the file `place`: a pointer of a repository, a page of a server.
pub(crate) fn itself(bytes: &[u8], place: impl FnOnce() -> String) -> Result<()> {
    let Some(found) = Foreign::of(bytes) else {
        return Ok(());
    };
    let file = place();
    // A template may hold markup of its own.
    if file.ends_with(".jinja") && matches!(found, Foreign::HtmlPage | Foreign::XmlDocument) {
        return Ok(());
    }
    Err(Error::Foreign { file, found })
}

fn find(files: &[(&str, &'static [u8])], file: &str) -> Option<&'static [u8]> {
    files
        .iter()
        .find(|(name, _)| *name == file)
        .map(|(_, bytes)| *bytes)
}

/// Refuses a file name that would leave the folder, or that is no name at all.
pub(crate) fn plain(name: &str, location: impl FnOnce() -> String) -> Result<()> {
    let mut parts = Path::new(name).components();
    let single = matches!(
        (parts.next(), parts.next()),
        (Some(Component::Normal(part)), None) if part == name
    );
    // The backslash parts folders on some systems only; an index must not depend on that.
    if !single || name.contains('\\') || name.chars().any(char::is_control) {
        return Err(Error::FileName {
            location: location(),
            name: one_line(name),
            mend: "name a file of the same folder",
        });
    }
    Ok(())
}

/// Opens a regular file, following links (caches of downloads link to their blobs); `None` when
/// there is none.
fn open_regular(path: &Path) -> Result<Option<File>> {
    // Looked at before it is opened, because opening a pipe would wait for a writer.
    match fs::metadata(path) {
        Err(source) if source.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(Error::io("read", path)(source)),
        Ok(meta) if meta.is_file() => {}
        Ok(_) => {
            return Err(Error::Target {
                path: path.to_owned(),
                problem: "is not a regular file; put the file itself there",
            });
        }
    }
    File::open(path).map(Some).map_err(Error::io("open", path))
}

fn read_small(path: &Path) -> Result<Option<Vec<u8>>> {
    let Some(file) = open_regular(path)? else {
        return Ok(None);
    };
    let bytes = file.metadata().map_err(Error::io("read", path))?.len();
    let too_large = |bytes| Error::TooLarge {
        file: path.display().to_string(),
        bytes,
        limit: SMALL_LIMIT,
    };
    if bytes > SMALL_LIMIT {
        return Err(too_large(bytes));
    }
    let mut content = Vec::with_capacity(bytes as usize);
    // The file may grow while it is read: one byte above the limit is enough to know.
    file.take(SMALL_LIMIT + 1)
        .read_to_end(&mut content)
        .map_err(Error::io("read", path))?;
    if content.len() as u64 > SMALL_LIMIT {
        return Err(too_large(content.len() as u64));
    }
    Ok(Some(content))
}
