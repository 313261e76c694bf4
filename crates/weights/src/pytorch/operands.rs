//! What follows an opcode in the file: numbers, texts and names, each checked against the end.

use super::pickle::Machine;
use super::value::Value;
use crate::error::Result;

impl<'a> Machine<'a> {
    /// A newline-terminated text.
    pub(super) fn line(&mut self) -> Result<&'a str> {
        // Longer than any name of a module, so that a damaged file is not searched to its end.
        const LONGEST: usize = 256;
        let rest = &self.bytes[self.at..];
        let window = &rest[..rest.len().min(LONGEST)];
        let line = window.iter().position(|byte| *byte == b'\n');
        let Some(text) = line.and_then(|end| std::str::from_utf8(&window[..end]).ok()) else {
            return Err(self.damaged("a global's name is no line of text"));
        };
        self.at += text.len() + 1;
        Ok(text)
    }

    pub(super) fn byte(&mut self) -> Result<u8> {
        let [byte] = self.array()?;
        Ok(byte)
    }

    pub(super) fn array<const N: usize>(&mut self) -> Result<[u8; N]> {
        match self.bytes[self.at..].first_chunk() {
            Some(bytes) => {
                self.at += N;
                Ok(*bytes)
            }
            None => Err(self.damaged("it ends before its STOP opcode")),
        }
    }

    pub(super) fn take(&mut self, length: usize) -> Result<&'a [u8]> {
        match self.bytes[self.at..].get(..length) {
            Some(bytes) => {
                self.at += length;
                Ok(bytes)
            }
            None => Err(self.damaged("it ends before its STOP opcode")),
        }
    }

    /// Bytes behind their length, an unsigned number of `N` bytes.
    pub(super) fn counted<const N: usize>(&mut self) -> Result<&'a [u8]> {
        let mut length = [0; 8];
        length[..N].copy_from_slice(&self.array::<N>()?);
        // A length beyond the address space is beyond the file too.
        self.take(usize::try_from(u64::from_le_bytes(length)).unwrap_or(usize::MAX))
    }

    pub(super) fn number<const N: usize>(&mut self) -> Result<()> {
        let mut value = [0; 8];
        value[..N].copy_from_slice(&self.array::<N>()?);
        self.push(Value::Int(i64::from_le_bytes(value)));
        Ok(())
    }

    pub(super) fn long<const N: usize>(&mut self) -> Result<()> {
        let bytes = self.counted::<N>()?;
        let negative = bytes.last().is_some_and(|byte| byte & 0x80 != 0);
        let mut value = if negative { [0xff; 8] } else { [0; 8] };
        self.push(match value.get_mut(..bytes.len()) {
            Some(low) => {
                low.copy_from_slice(bytes);
                Value::Int(i64::from_le_bytes(value))
            }
            None => Value::Long(bytes),
        });
        Ok(())
    }

    pub(super) fn text<const N: usize>(&mut self) -> Result<()> {
        match std::str::from_utf8(self.counted::<N>()?) {
            Ok(text) => {
                self.push(Value::Text(text));
                Ok(())
            }
            Err(_) => Err(self.damaged("a text is not UTF-8")),
        }
    }

    /// A string of Python 2, which is text where it can be.
    pub(super) fn string<const N: usize>(&mut self) -> Result<()> {
        let bytes = self.counted::<N>()?;
        self.push(std::str::from_utf8(bytes).map_or(Value::Other, Value::Text));
        Ok(())
    }

    pub(super) fn blob<const N: usize>(&mut self) -> Result<()> {
        self.counted::<N>()?;
        self.push(Value::Other);
        Ok(())
    }
}
