//! JSON values told apart byte by byte, and what is wrong with one of them.

use std::fmt;

/// What a byte does to a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// The value goes on, or has not begun.
    More,
    /// The value ends with this byte.
    Ended,
    /// The value ended in front of this byte.
    EndedBefore,
    /// No value can stand here.
    Wrong(&'static str),
}

/// Finds the end of the next value of a list, or of objects that stand in a row.
pub(super) struct Splitter {
    list: bool,
    state: State,
    depth: usize,
    quoted: bool,
    escaped: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// In front of the list's bracket.
    Outside,
    /// Behind the bracket: a value, or the end.
    First,
    /// Behind a value: a comma, or the end.
    Behind,
    /// Behind a comma, or between objects: a value.
    Before,
    /// Inside an object, a list or a text.
    Within,
    /// Inside a number or a word.
    Scalar,
    /// Behind the list.
    Over,
}

impl Splitter {
    /// Of a `list` or of objects in a row; `first` where nothing was read yet.
    pub(super) fn new(list: bool, first: bool) -> Self {
        let state = match (list, first) {
            (false, _) => State::Before,
            (true, true) => State::Outside,
            (true, false) => State::Behind,
        };
        Self {
            list,
            state,
            depth: 0,
            quoted: false,
            escaped: false,
        }
    }

    /// Whether the last byte belongs to the value.
    pub(super) fn is_inside(&self) -> bool {
        matches!(self.state, State::Within | State::Scalar)
    }

    /// Takes one byte.
    pub(super) fn step(&mut self, byte: u8) -> Step {
        match self.state {
            State::Within => self.within(byte),
            State::Scalar if matches!(byte, b',' | b']' | b'}') || byte.is_ascii_whitespace() => {
                Step::EndedBefore
            }
            State::Scalar => Step::More,
            _ if byte.is_ascii_whitespace() => Step::More,
            State::Outside => {
                self.state = State::First;
                Step::More
            }
            State::Over => Step::Wrong("text stands behind the end of the list; take it out"),
            State::First | State::Behind if byte == b']' => {
                self.state = State::Over;
                Step::More
            }
            State::Behind if byte == b',' => {
                self.state = State::Before;
                Step::More
            }
            State::Behind => Step::Wrong("a comma is missing in front of this entry of the list"),
            State::Before if matches!(byte, b',' | b']') => {
                Step::Wrong("an entry of the list is missing in front of this comma or bracket")
            }
            State::First | State::Before => self.begin(byte),
        }
    }

    fn begin(&mut self, byte: u8) -> Step {
        match byte {
            b'{' | b'[' => {
                self.state = State::Within;
                self.depth = 1;
            }
            b'"' => {
                self.state = State::Within;
                self.quoted = true;
            }
            _ => self.state = State::Scalar,
        }
        Step::More
    }

    fn within(&mut self, byte: u8) -> Step {
        if self.quoted {
            self.quoted = self.escaped || byte != b'"';
            self.escaped = !self.escaped && byte == b'\\';
        } else {
            match byte {
                b'"' => self.quoted = true,
                b'{' | b'[' => self.depth += 1,
                b'}' | b']' => self.depth -= 1,
                _ => {}
            }
        }
        if self.depth == 0 && !self.quoted {
            return Step::Ended;
        }
        Step::More
    }

    /// Whether a value ends with the file; the error says what does not end before it.
    pub(super) fn at_end(&self) -> Result<bool, &'static str> {
        match self.state {
            State::Within => {
                Err("what begins here does not end: the file is cut or a bracket is missing")
            }
            State::Scalar if !self.list => Ok(true),
            State::Before if !self.list => Ok(false),
            State::Over => Ok(false),
            _ => Err("the list does not end: the file is cut or its last bracket is missing"),
        }
    }
}

/// The bytes of the field `name` of the object `bytes`, as they are written; none where there is no
/// such field. Of several the last, as JSON readers take it.
pub fn raw_field<'b>(bytes: &'b [u8], name: &str) -> Option<&'b [u8]> {
    let mut rest = bytes.trim_ascii().strip_prefix(b"{")?.trim_ascii_start();
    let mut found = None;
    while rest.first() == Some(&b'"') {
        let (key, behind) = value(rest)?;
        let (content, behind) = value(behind.trim_ascii_start().strip_prefix(b":")?)?;
        let key: String = serde_json::from_slice(key).ok()?;
        if key == name {
            found = Some(content);
        }
        let behind = behind.trim_ascii_start();
        rest = behind
            .strip_prefix(b",")
            .unwrap_or(behind)
            .trim_ascii_start();
    }
    found
}

/// The value at the beginning of `bytes`, and what is behind it.
fn value(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let bytes = bytes.trim_ascii_start();
    let mut splitter = Splitter::new(false, true);
    for (at, byte) in bytes.iter().enumerate() {
        match splitter.step(*byte) {
            Step::More => {}
            Step::Ended => return Some(bytes.split_at(at + 1)),
            Step::EndedBefore => return Some(bytes.split_at(at)),
            Step::Wrong(_) => return None,
        }
    }
    None
}

/// What is wrong with a JSON value, in words for people who write files and not readers of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// The mistake, in the same words wherever it is made.
    pub problem: String,
    /// Where in the file it is, where that says more than the line on which the value begins.
    pub place: Option<String>,
}

impl Fault {
    /// Explains the `error` of reading `bytes`, which begin on `line` of their file.
    pub fn new(error: &serde_json::Error, bytes: &[u8], line: usize) -> Self {
        let text = error.to_string();
        let said = text
            .rsplit_once(" at line ")
            .map_or(text.as_str(), |(said, _)| said);
        if error.is_data() {
            return Self {
                problem: said.to_owned(),
                place: None,
            };
        }
        let problem = match python_word(error, bytes) {
            Some(word) => format!(
                "not JSON: `{word}`, as Python writes a missing value; write null or leave the field out"
            ),
            None => format!("not JSON: {said}"),
        };
        let place = match error.line() {
            0 | 1 => format!("column {}", error.column()),
            below => format!("line {}, column {}", line + below - 1, error.column()),
        };
        Self {
            problem,
            place: Some(place),
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.problem)?;
        match &self.place {
            Some(place) => write!(f, " ({place})"),
            None => Ok(()),
        }
    }
}

/// The word that Python's `json` writes and JSON does not have, where `error` stops at one.
fn python_word(error: &serde_json::Error, bytes: &[u8]) -> Option<&'static str> {
    let line = bytes
        .split(|byte| *byte == b'\n')
        .nth(error.line().checked_sub(1)?)?;
    let words = ["NaN", "-Infinity", "Infinity", "None"];
    // The reader stops at a word's first letter, or behind its sign.
    let near = (1..=2)
        .rev()
        .filter_map(|back| line.get(error.column().checked_sub(back)?..));
    let mut near = near.collect::<Vec<_>>().into_iter();
    near.find_map(|rest| {
        words
            .into_iter()
            .find(|word| rest.starts_with(word.as_bytes()))
    })
}
