//! UTF-16 translated to UTF-8 while it is read.

use std::io::{self, Read};

/// Hands on what `reader` holds in UTF-16 as UTF-8.
pub(super) struct Utf16<R> {
    reader: R,
    big: bool,
    /// The rest of a character that the last buffer had no room for.
    rest: Vec<u8>,
}

impl<R: Read> Utf16<R> {
    /// Of units with their first byte the more significant one (`big`), or the less.
    pub(super) fn new(reader: R, big: bool) -> Self {
        Self {
            reader,
            big,
            rest: Vec::new(),
        }
    }

    /// The next unit; none at the end.
    fn unit(&mut self) -> io::Result<Option<u16>> {
        let mut bytes = Vec::with_capacity(2);
        self.reader.by_ref().take(2).read_to_end(&mut bytes)?;
        match bytes[..] {
            [] => Ok(None),
            [a, b] if self.big => Ok(Some(u16::from_be_bytes([a, b]))),
            [a, b] => Ok(Some(u16::from_le_bytes([a, b]))),
            _ => Err(invalid(
                "UTF-16 text that ends in the middle of a character",
            )),
        }
    }

    /// The next character; none at the end.
    fn character(&mut self) -> io::Result<Option<char>> {
        let Some(first) = self.unit()? else {
            return Ok(None);
        };
        let second = match first {
            0xd800..=0xdbff => self.unit()?,
            _ => None,
        };
        let mut decoded = char::decode_utf16([Some(first), second].into_iter().flatten());
        match decoded.next() {
            Some(Ok(character)) => Ok(Some(character)),
            _ => Err(invalid(
                "UTF-16 text with half a character; save it as UTF-8",
            )),
        }
    }
}

impl<R: Read> Read for Utf16<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.rest.len() < buffer.len() {
            let Some(character) = self.character()? else {
                break;
            };
            self.rest
                .extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
        }
        let n = self.rest.len().min(buffer.len());
        buffer[..n].copy_from_slice(&self.rest[..n]);
        self.rest.drain(..n);
        Ok(n)
    }
}

fn invalid(problem: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, problem)
}
