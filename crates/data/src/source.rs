//! Reads source files: plain or gzipped, bounded in size, UTF-8.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use flate2::read::MultiGzDecoder;

use crate::{Error, Result};

/// Most bytes a text file may hold, after decompression.
const MAX_TEXT_BYTES: u64 = 256 << 20;

/// The path itself, or the path with `.gz`, whichever is a file.
pub(crate) fn locate(path: &Path) -> Option<PathBuf> {
    let mut gz = path.as_os_str().to_owned();
    gz.push(".gz");
    [path.to_owned(), PathBuf::from(gz)]
        .into_iter()
        .find(|candidate| candidate.is_file())
}

/// Reads `path` or `path.gz` as UTF-8, without a byte order mark.
pub(crate) fn read_text(path: &Path) -> Result<String> {
    let found = locate(path).unwrap_or_else(|| path.to_owned());
    let file = File::open(&found).map_err(Error::io("read", &found))?;
    let bytes = match found.extension().is_some_and(|end| end == "gz") {
        true => read_bounded(MultiGzDecoder::new(file), &found, MAX_TEXT_BYTES)?,
        false => read_bounded(file, &found, MAX_TEXT_BYTES)?,
    };
    let mut text = String::from_utf8(bytes)
        .map_err(|error| Error::format(&found, format!("not UTF-8 text: {error}")))?;
    if text.starts_with('\u{feff}') {
        text.drain(..'\u{feff}'.len_utf8());
    }
    Ok(text)
}

/// Reads at most `limit` bytes and refuses more.
pub(crate) fn read_bounded(reader: impl Read, path: &Path, limit: u64) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    reader
        .take(limit + 1)
        .read_to_end(&mut bytes)
        .map_err(Error::io("read", path))?;
    if bytes.len() as u64 > limit {
        return Err(Error::TooLarge {
            path: path.to_owned(),
            bytes: bytes.len() as u64,
            limit,
        });
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    #[test]
    fn gzipped_text_reads_like_plain_text() {
        let dir = tempfile::tempdir().expect("temporary folder");
        let plain = dir.path().join("a.txt");
        let mut gz = flate2::write::GzEncoder::new(
            File::create(dir.path().join("a.txt.gz")).expect("create"),
            flate2::Compression::fast(),
        );
        gz.write_all("\u{feff}häuser\n".as_bytes()).expect("write");
        gz.finish().expect("finish");
        assert_eq!(read_text(&plain).expect("gz"), "häuser\n");
        std::fs::write(&plain, "plain").expect("write");
        assert_eq!(read_text(&plain).expect("plain"), "plain");
    }

    #[test]
    fn an_endless_file_is_refused() {
        let error = read_bounded(std::io::repeat(0), Path::new("zeros"), 1000);
        assert!(matches!(error, Err(Error::TooLarge { limit: 1000, .. })));
    }
}
