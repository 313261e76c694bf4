//! JSON lines, read a window at a time.

use std::fmt;
use std::fs::File;
use std::io::{BufRead, BufReader, Stdin, stdin};
use std::path::Path;

use anyhow::Context;
use debias_data::is_inside;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer, Serialize};

use crate::compute::Input;
use crate::terminal::exit::Exit;
use crate::terminal::failure::Refusal;

/// Longest line in bytes: a prompt of a few thousand tokens is a hundredth of it.
const LONGEST: u64 = 8 << 20;

/// What a line is called; it comes back as it was written, text or number.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(untagged, expecting = "`id` must be a text or a number")]
pub enum Id {
    /// A text.
    Text(String),
    /// A number.
    Number(serde_json::Number),
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Id::Text(text) => f.write_str(text),
            Id::Number(number) => number.fmt(f),
        }
    }
}

/// The field `image` of a line: a path that stays below the images' folder.
///
/// # Errors
/// A path that leaves it.
pub fn image<'de, D: Deserializer<'de>>(value: D) -> Result<Option<String>, D::Error> {
    let image = Option::<String>::deserialize(value)?;
    match image.as_ref().filter(|path| !is_inside(path)) {
        Some(path) => Err(serde::de::Error::custom(format!(
            "`image`: `{}` would leave the images folder; write a path relative to --images",
            path.escape_debug()
        ))),
        None => Ok(image),
    }
}

/// Lines of a file or of standard input.
pub struct Lines {
    name: String,
    reader: Reader,
    number: usize,
}

enum Reader {
    File(BufReader<File>),
    Stdin(BufReader<Stdin>),
}

impl Lines {
    /// Opens what `input` names.
    ///
    /// # Errors
    /// A file that cannot be opened.
    pub fn open(input: &Input) -> anyhow::Result<Self> {
        match input.path() {
            Some(path) => Self::of_file(path),
            None => Ok(Self {
                name: "standard input".to_owned(),
                reader: Reader::Stdin(BufReader::new(stdin())),
                number: 0,
            }),
        }
    }

    /// Opens a file.
    ///
    /// # Errors
    /// A file that cannot be opened.
    pub fn of_file(path: &Path) -> anyhow::Result<Self> {
        let name = path.display().to_string();
        let file = File::open(path).with_context(|| format!("cannot read {name}"))?;
        Ok(Self {
            name,
            reader: Reader::File(BufReader::new(file)),
            number: 0,
        })
    }

    /// The next up to `n` lines; empty at the end. Blank lines are passed over.
    ///
    /// # Errors
    /// A line that is not the JSON asked for, named by its number.
    pub fn window<T: DeserializeOwned>(&mut self, n: usize) -> anyhow::Result<Vec<T>> {
        self.window_of(n, |line, _| {
            serde_json::from_slice(line).map_err(|problem| problem.to_string())
        })
    }

    /// [`Lines::window`] of lines of any form: `read` gets a line and its number, from 1.
    ///
    /// # Errors
    /// What `read` says is wrong with a line, which is named by its number.
    pub fn window_of<T>(
        &mut self,
        n: usize,
        mut read: impl FnMut(&[u8], usize) -> Result<T, String>,
    ) -> anyhow::Result<Vec<T>> {
        let mut items = Vec::new();
        let mut line = Vec::new();
        while items.len() < n && self.next(&mut line)? {
            if line.iter().all(u8::is_ascii_whitespace) {
                continue;
            }
            let item = read(&line, self.number).map_err(|problem| {
                let place = format!("{}: line {}", self.name, self.number);
                Refusal::new(Exit::Refused, format!("{place}: {problem}"))
                    .help("Each line is one JSON object; see --help for its fields.")
            })?;
            items.push(item);
        }
        Ok(items)
    }

    fn next(&mut self, line: &mut Vec<u8>) -> anyhow::Result<bool> {
        use std::io::Read;
        line.clear();
        let read = match &mut self.reader {
            Reader::File(reader) => reader.take(LONGEST).read_until(b'\n', line),
            Reader::Stdin(reader) => reader.take(LONGEST).read_until(b'\n', line),
        };
        self.number += 1;
        let read = read.with_context(|| format!("cannot read {}", self.name))?;
        if read as u64 == LONGEST {
            let place = format!("{}: line {}", self.name, self.number);
            return Err(Refusal::new(
                Exit::Refused,
                format!("{place}: longer than {} MiB", LONGEST >> 20),
            )
            .into());
        }
        Ok(read > 0)
    }
}
