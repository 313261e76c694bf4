//! What lies where another file should: pointers and pages that downloads leave behind.

use std::fmt;

/// How far into a file is looked.
const LOOKED_AT: usize = 512;

/// A file that stands for another one, or that somebody's server sent in its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Foreign {
    /// A pointer of Git LFS: the repository was cloned without it.
    LfsPointer,
    /// A pointer of git-annex.
    AnnexPointer,
    /// A web page: a login, a licence to accept, or an error.
    HtmlPage,
    /// An XML document, as object stores answer what they refuse.
    XmlDocument,
}

impl Foreign {
    /// Recognises the beginning of a file, with or without a byte order mark.
    pub fn of(bytes: &[u8]) -> Option<Self> {
        let bytes = bytes.strip_prefix("\u{feff}".as_bytes()).unwrap_or(bytes);
        let bytes = bytes.trim_ascii_start();
        let start = &bytes[..bytes.len().min(LOOKED_AT)];
        let start = String::from_utf8_lossy(start).to_ascii_lowercase();
        let pointer = ["version https://git-lfs.", "version https://hawser."];
        if pointer.iter().any(|known| start.starts_with(known)) {
            return Some(Self::LfsPointer);
        }
        if start.starts_with("/annex/objects/") {
            return Some(Self::AnnexPointer);
        }
        let page = ["<!doctype html", "<html", "<head", "<body", "<!--"];
        let is_page = |text: &str| page.iter().any(|known| text.starts_with(known));
        if is_page(&start) {
            return Some(Self::HtmlPage);
        }
        let declared = start.strip_prefix("<?xml")?;
        let body = declared
            .split_once("?>")
            .map_or("", |(_, body)| body.trim_start());
        Some(if is_page(body) {
            Self::HtmlPage
        } else {
            Self::XmlDocument
        })
    }
}

impl fmt::Display for Foreign {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::LfsPointer => {
                "is a Git LFS pointer, not the file itself; run `git lfs pull` where it was cloned"
            }
            Self::AnnexPointer => {
                "is a git-annex pointer, not the file itself; run `git annex get` where it was cloned"
            }
            Self::HtmlPage => {
                "is an HTML page, not the file itself; open its address in a browser and download it again"
            }
            Self::XmlDocument => {
                "is an XML document, not the file itself; download it again"
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pointers_and_pages_are_told_from_files() {
        for (bytes, found) in [
            (
                &b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 9\n"[..],
                Some(Foreign::LfsPointer),
            ),
            (
                b"/annex/objects/SHA256E-s9--00.png\n",
                Some(Foreign::AnnexPointer),
            ),
            (b"\n <!DOCTYPE HTML><title>Sign in", Some(Foreign::HtmlPage)),
            (b"\xef\xbb\xbf<HTML lang=en>", Some(Foreign::HtmlPage)),
            (b"<?xml version=\"1.0\"?>\n<html>", Some(Foreign::HtmlPage)),
            (
                b"<?xml version=\"1.0\"?><Error><Code>AccessDenied",
                Some(Foreign::XmlDocument),
            ),
            (b"\x89PNG\r\n\x1a\n", None),
            (b"{\"version\": \"https://git-lfs.github.com\"}", None),
            (b"<|endoftext|>", None),
            (b"", None),
        ] {
            assert_eq!(Foreign::of(bytes), found, "{bytes:?}");
        }
    }
}
