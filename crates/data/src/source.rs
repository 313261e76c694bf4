//! Reads source files: plain or gzipped, bounded in size, as UTF-8 whatever their byte order mark
//! says.

mod utf16;

use std::fs::File;
use std::io::{self, BufRead, BufReader, Cursor, Read};
use std::path::{Path, PathBuf};

use debias_core::Foreign;
use flate2::read::MultiGzDecoder;

use crate::{Error, Result};
use utf16::Utf16;

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

/// Opens a file, through gzip where its name says so.
///
/// # Errors
/// [`Error::Io`].
pub(crate) fn opened(path: &Path) -> Result<Box<dyn BufRead>> {
    let file = File::open(path).map_err(Error::io("read", path))?;
    Ok(if path.extension().is_some_and(|end| end == "gz") {
        Box::new(BufReader::new(MultiGzDecoder::new(file)))
    } else {
        Box::new(BufReader::new(file))
    })
}

/// Reads `path` or `path.gz` as UTF-8, without a byte order mark.
///
/// # Errors
/// [`Error::Io`], [`Error::TooLarge`], [`Error::Format`] for what is no text.
pub(crate) fn read_text(path: &Path) -> Result<String> {
    let found = locate(path).unwrap_or_else(|| path.to_owned());
    let reader = utf8(opened(&found)?).map_err(unreadable(&found))?;
    let bytes = read_bounded(reader, &found, MAX_TEXT_BYTES)?;
    if let Some(foreign) = Foreign::of(&bytes) {
        return Err(Error::format(&found, foreign.to_string()));
    }
    String::from_utf8(bytes)
        .map_err(|error| Error::format(&found, format!("not UTF-8 text: {error}")))
}

/// The text of `reader` in UTF-8, without its byte order mark: UTF-16 is translated, which Windows
/// PowerShell 5 writes; what is not marked is handed on as it is.
///
/// # Errors
/// Text in a form that is not read, and what `reader` raises.
pub(crate) fn utf8<'r>(mut reader: impl BufRead + 'r) -> io::Result<Box<dyn BufRead + 'r>> {
    let mut mark = Vec::new();
    reader.by_ref().take(4).read_to_end(&mut mark)?;
    let refused = |problem: &str| io::Error::new(io::ErrorKind::InvalidData, problem);
    let (skipped, big) = match mark[..] {
        [0xff, 0xfe, 0, 0] | [0, 0, 0xfe, 0xff] => {
            return Err(refused("UTF-32 text is not read; save it as UTF-8"));
        }
        [0xff, 0xfe, ..] => (2, Some(false)),
        [0xfe, 0xff, ..] => (2, Some(true)),
        [0xef, 0xbb, 0xbf, ..] => (3, None),
        [0, other, ..] | [other, 0, ..] if other.is_ascii_graphic() => {
            return Err(refused(
                "not text, or UTF-16 without its byte order mark; save it as UTF-8",
            ));
        }
        _ => (0, None),
    };
    mark.drain(..skipped);
    let whole = Cursor::new(mark).chain(reader);
    Ok(match big {
        Some(big) => Box::new(BufReader::new(Utf16::new(whole, big))),
        None => Box::new(whole),
    })
}

/// What is said of a file whose text cannot be read: that it is none, or the system's words.
pub(crate) fn unreadable(path: &Path) -> impl FnOnce(io::Error) -> Error {
    let path = path.to_owned();
    move |error| match error.kind() {
        io::ErrorKind::InvalidData => Error::format(&path, error.to_string()),
        _ => Error::io("read", &path)(error),
    }
}

/// Reads at most `limit` bytes and refuses more.
pub(crate) fn read_bounded(reader: impl Read, path: &Path, limit: u64) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    reader
        .take(limit + 1)
        .read_to_end(&mut bytes)
        .map_err(unreadable(path))?;
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

    fn read(bytes: &[u8]) -> std::result::Result<String, String> {
        let mut text = String::new();
        let mut reader = utf8(bytes).map_err(|error| error.to_string())?;
        let read = reader.read_to_string(&mut text);
        read.map(|_| text).map_err(|error| error.to_string())
    }

    #[test]
    fn the_byte_order_mark_says_how_text_is_written() {
        let text = "{\"a\": \"häuser 🏠 \u{a41}\"}\r\n";
        let little: Vec<u8> = text.encode_utf16().flat_map(u16::to_le_bytes).collect();
        let big: Vec<u8> = text.encode_utf16().flat_map(u16::to_be_bytes).collect();
        for bytes in [
            text.as_bytes().to_vec(),
            [b"\xef\xbb\xbf", text.as_bytes()].concat(),
            [b"\xff\xfe", &little[..]].concat(),
            [b"\xfe\xff", &big[..]].concat(),
        ] {
            assert_eq!(read(&bytes).as_deref(), Ok(text), "{bytes:?}");
        }
        for (bytes, said) in [
            (little, "without its byte order mark"),
            (big, "without its byte order mark"),
            (b"\xff\xfe\0\0a\0\0\0".to_vec(), "UTF-32"),
            (b"\xff\xfea".to_vec(), "ends in the middle of a character"),
            (b"\xff\xfe\x3d\xd8a\0".to_vec(), "half a character"),
            (b"\xff\xfea\0\x3d\xd8".to_vec(), "half a character"),
        ] {
            let error = read(&bytes).expect_err("refused");
            assert!(error.contains(said), "{error}");
        }
        for short in [&b""[..], b"a", b"\xff\xfe", b"\xef\xbb\xbf"] {
            assert!(read(short).is_ok(), "{short:?}");
        }
    }

    #[test]
    fn an_endless_file_is_refused() {
        let error = read_bounded(std::io::repeat(0), Path::new("zeros"), 1000);
        assert!(matches!(error, Err(Error::TooLarge { limit: 1000, .. })));
    }

    #[test]
    fn a_pointer_in_place_of_a_text_is_called_one() {
        let dir = tempfile::tempdir().expect("temporary folder");
        let path = dir.path().join("a.json");
        std::fs::write(&path, "version https://git-lfs.github.com/spec/v1\n").expect("write");
        let error = read_text(&path).expect_err("refused").to_string();
        assert!(error.contains("a.json: is a Git LFS pointer"), "{error}");
    }
}
