//! The one reader of JSON lines, and of what people give in their place.
//!
//! A file may begin with a byte order mark, be UTF-16, end its lines with CRLF; it may be one JSON
//! list, or hold objects over several lines. Whatever its form, one entry is in memory at a time.

mod json;

use std::io::{BufRead, Cursor, Read};
use std::path::{Path, PathBuf};

use debias_core::Foreign;
use serde::de::{DeserializeOwned, IgnoredAny};

use crate::source::{opened, unreadable, utf8};
use crate::{Error, Result};

use json::Splitter;
pub use json::{Fault, raw_field};

/// Longest entry in bytes: a prompt of a few thousand tokens is a hundredth of it.
const LONGEST: u64 = 8 << 20;

/// What the lines of a file may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Content {
    /// JSON alone.
    Json,
    /// JSON objects, or plain text where the first line that is not blank begins otherwise.
    JsonOrText,
}

/// The entries of a file, one after the other.
pub struct Lines<'r> {
    name: PathBuf,
    reader: Box<dyn BufRead + 'r>,
    content: Content,
    form: Option<Form>,
    /// Lines read so far, the one that is begun included.
    line: usize,
    entry: Vec<u8>,
    ended: bool,
}

/// How a file holds its entries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    /// One JSON value to a line.
    Lines,
    /// One text to a line.
    Text,
    /// Objects over several lines, one behind the other.
    Objects,
    /// One JSON list of all.
    List,
}

/// One entry: the bytes of a JSON value, or of a line of text.
#[derive(Clone, Copy, Debug)]
pub struct Entry<'b> {
    /// The number of the line on which it begins, from 1.
    pub line: usize,
    /// Whether it is text and no JSON.
    pub is_text: bool,
    /// What it is: JSON without the white space around it, or text without its line's end.
    pub bytes: &'b [u8],
}

impl Entry<'_> {
    /// The JSON value.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse<T: DeserializeOwned>(&self) -> std::result::Result<T, Fault> {
        let read = serde_json::from_slice(self.bytes);
        read.map_err(|error| Fault::new(&error, self.bytes, self.line))
    }
}

impl<'r> Lines<'r> {
    /// The entries of a file, plain or gzipped.
    ///
    /// # Errors
    /// [`Error::Io`], [`Error::Format`] for text in a form that is not read.
    pub fn open(path: &Path, content: Content) -> Result<Lines<'static>> {
        Lines::over(path, opened(path)?, content)
    }

    /// The entries of what `reader` gives; `name` stands for it in messages.
    ///
    /// # Errors
    /// As [`Lines::open`].
    pub fn over(name: &Path, reader: impl BufRead + 'r, content: Content) -> Result<Self> {
        Ok(Self {
            name: name.to_owned(),
            reader: utf8(reader).map_err(unreadable(name))?,
            content,
            form: None,
            line: 0,
            entry: Vec::new(),
            ended: false,
        })
    }

    /// The next entry; none at the end. Blank lines are passed over.
    ///
    /// # Errors
    /// [`Error::Io`], and [`Error::Format`] where the entries cannot be told apart any more: one
    /// that is longer than any prompt, a list or an object without an end.
    pub fn next_entry(&mut self) -> Result<Option<Entry<'_>>> {
        if self.ended {
            return Ok(None);
        }
        let form = match self.form {
            Some(form) => form,
            None => self.begin()?,
        };
        let is_text = form == Form::Text;
        let line = match form {
            Form::Lines | Form::Text => self.next_line()?,
            Form::Objects | Form::List => self.next_value(form)?,
        };
        self.ended = line.is_none();
        Ok(line.map(|line| Entry {
            line,
            is_text,
            bytes: trimmed(&self.entry, is_text),
        }))
    }

    /// Looks at the first lines, and puts them back.
    fn begin(&mut self) -> Result<Form> {
        let mut seen = Vec::new();
        let form = loop {
            let from = seen.len();
            if !self.append_line(&mut seen)? {
                break Form::Lines;
            }
            let first = seen[from..].trim_ascii_start();
            match first.first() {
                None => {}
                Some(b'[') => break self.of_bracket(&mut seen, from)?,
                Some(b'{') => break self.of_brace(&mut seen, from)?,
                Some(_) => {
                    if let Some(foreign) = Foreign::of(&seen) {
                        return Err(Error::format(&self.name, foreign.to_string()));
                    }
                    break match self.content {
                        Content::Json => Form::Lines,
                        Content::JsonOrText => Form::Text,
                    };
                }
            }
        };
        let reader = std::mem::replace(&mut self.reader, Box::new(std::io::empty()));
        self.reader = Box::new(Cursor::new(seen).chain(reader));
        self.line = 0;
        self.form = Some(form);
        Ok(form)
    }

    /// What begins with a bracket: a list, unless it may be a text in brackets.
    fn of_bracket(&mut self, seen: &mut Vec<u8>, from: usize) -> Result<Form> {
        if self.content == Content::Json {
            return Ok(Form::List);
        }
        let at = from + seen[from..].iter().position(|b| *b == b'[').unwrap_or(0) + 1;
        while seen[at..].trim_ascii_start().is_empty() {
            if !self.append_line(seen)? {
                break;
            }
        }
        Ok(match seen[at..].trim_ascii_start().first() {
            Some(b'{') => Form::List,
            _ => Form::Text,
        })
    }

    /// What begins with a brace: one object to a line, unless the first one goes on in the next line
    /// and that line begins no object of its own.
    fn of_brace(&mut self, seen: &mut Vec<u8>, from: usize) -> Result<Form> {
        let whole = serde_json::from_slice::<IgnoredAny>(&seen[from..]);
        if !whole.is_err_and(|error| error.is_eof()) {
            return Ok(Form::Lines);
        }
        let mut second = seen.len();
        while seen[second..].trim_ascii_start().is_empty() {
            second = seen.len();
            if !self.append_line(seen)? {
                return Ok(Form::Lines);
            }
        }
        Ok(match seen[second..].trim_ascii_start().first() {
            Some(b'{') => Form::Lines,
            _ => Form::Objects,
        })
    }

    /// Reads the next line that is not blank into the entry, and says its number.
    fn next_line(&mut self) -> Result<Option<usize>> {
        let mut entry = std::mem::take(&mut self.entry);
        loop {
            entry.clear();
            let more = self.append_line(&mut entry)?;
            if !more || !entry.trim_ascii().is_empty() {
                self.entry = entry;
                return Ok(more.then_some(self.line));
            }
        }
    }

    /// Reads one line with its end behind `bytes`.
    fn append_line(&mut self, bytes: &mut Vec<u8>) -> Result<bool> {
        let mut bounded = (&mut self.reader).take(LONGEST);
        let read = bounded.read_until(b'\n', bytes);
        let read = read.map_err(unreadable(&self.name))?;
        self.line += usize::from(read > 0);
        if read as u64 == LONGEST {
            return Err(self.too_long(self.line));
        }
        Ok(read > 0)
    }

    /// Reads the next value of a list or of objects in a row, and says on which line it begins.
    fn next_value(&mut self, form: Form) -> Result<Option<usize>> {
        let mut splitter = Splitter::new(form == Form::List, self.line == 0);
        self.line = self.line.max(1);
        self.entry.clear();
        let mut begins = self.line;
        loop {
            let chunk = self.reader.fill_buf().map_err(unreadable(&self.name))?;
            if chunk.is_empty() {
                let line = if splitter.is_inside() {
                    begins
                } else {
                    self.line
                };
                let end = splitter.at_end().map_err(|problem| {
                    Error::format(&self.name, format!("line {line}: {problem}"))
                });
                return end.map(|whole| whole.then_some(begins));
            }
            let mut used = 0;
            let mut step = json::Step::More;
            for &byte in chunk {
                step = splitter.step(byte);
                // The byte behind a number belongs to what follows it.
                if step == json::Step::EndedBefore {
                    break;
                }
                used += 1;
                self.line += usize::from(byte == b'\n');
                if splitter.is_inside() {
                    if self.entry.is_empty() {
                        begins = self.line;
                    }
                    self.entry.push(byte);
                }
                if step != json::Step::More {
                    break;
                }
            }
            self.reader.consume(used);
            match step {
                json::Step::Ended | json::Step::EndedBefore => return Ok(Some(begins)),
                json::Step::Wrong(problem) => {
                    let problem = format!("line {}: {problem}", self.line);
                    return Err(Error::format(&self.name, problem));
                }
                json::Step::More if self.entry.len() as u64 >= LONGEST => {
                    return Err(self.too_long(begins));
                }
                json::Step::More => {}
            }
        }
    }

    fn too_long(&self, line: usize) -> Error {
        let limit = LONGEST >> 20;
        let problem =
            format!("line {line}: longer than {limit} MiB; each entry is one JSON object");
        Error::format(&self.name, problem)
    }
}

/// An entry without its line's end, or without all white space around it.
fn trimmed(entry: &[u8], is_text: bool) -> &[u8] {
    if !is_text {
        return entry.trim_ascii();
    }
    let line = entry.strip_suffix(b"\n").unwrap_or(entry);
    line.strip_suffix(b"\r").unwrap_or(line)
}

#[cfg(test)]
mod tests;
