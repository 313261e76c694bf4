//! Files that are not what their name says, because what was fetched was something else.

use crate::error::{Error, Result};

/// How every pointer of Git LFS begins.
const LFS: &[u8] = b"version https://git-lfs.github.com/spec/";

/// How pages begin, in small letters.
const HTML: [&[u8]; 3] = [b"<!doctype html", b"<html", b"<head"];

/// How far into a file a page may begin.
const BLANK: usize = 1024;

/// Refuses `content` of `place` when it is a pointer of Git LFS or a page of a web site.
pub(crate) fn check(content: &[u8], place: impl FnOnce() -> String) -> Result<()> {
    let (found, mend) = if content.starts_with(LFS) {
        (
            "is a pointer of Git LFS, not the file itself",
            "fetch it with `git lfs pull`, or from the hub",
        )
    } else if is_page(content) {
        (
            "is an HTML page, not the file that its name says",
            "the download went to a page of errors or logins; fetch it again, signed in where it asks for that",
        )
    } else {
        return Ok(());
    };
    Err(Error::Impostor {
        file: place(),
        found,
        mend,
    })
}

/// Whether markup of a page follows the byte order mark and blanks, if there are any.
fn is_page(content: &[u8]) -> bool {
    let content = content.strip_prefix(b"\xef\xbb\xbf").unwrap_or(content);
    let beginning = content[..content.len().min(BLANK)].trim_ascii_start();
    HTML.iter().any(|tag| {
        let start = beginning.get(..tag.len());
        start.is_some_and(|start| start.eq_ignore_ascii_case(tag))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pointers_and_pages_are_told_from_files() {
        let found = |content: &[u8]| match check(content, || "DIR/model.safetensors".into()) {
            Ok(()) => String::new(),
            Err(error) => error.to_string(),
        };
        let pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 5\n";
        assert!(found(pointer).starts_with("DIR/model.safetensors: is a pointer of Git LFS"));
        for page in [
            &b"<!DOCTYPE html>\n<html>"[..],
            b"\xef\xbb\xbf\r\n <HTML lang=en>",
            b"<html>",
        ] {
            assert!(found(page).contains("is an HTML page"));
        }
        for file in [&b""[..], b"{}", b"version 1", b"<", b"PK\x03\x04"] {
            assert_eq!(found(file), "");
        }
    }
}
