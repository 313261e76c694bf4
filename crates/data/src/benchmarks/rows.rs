//! Rows of JSON whose mistakes are said once each, with the lines that make them.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

use crate::lines::{Content, Entry, Lines};
use crate::{Error, Listing, Result};

/// Lines named in full before the others are counted.
const NAMED: usize = 3;

/// Characters of a refused value that are quoted.
const QUOTED: usize = 40;

/// One JSON object of a file.
pub(crate) type Row = Map<String, Value>;

/// What is wrong with one row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Flaw {
    /// The field and the mistake, the same for every row that makes it.
    what: String,
    /// More about it, in this row alone.
    detail: Option<String>,
}

impl Flaw {
    pub fn new(what: impl Into<String>) -> Self {
        Self {
            what: what.into(),
            detail: None,
        }
    }

    /// The mistake, and the value that is one.
    pub fn found(what: impl Into<String>, value: &Value) -> Self {
        let text = value.to_string();
        let mut quoted: String = text.chars().take(QUOTED).collect();
        if quoted.len() < text.len() {
            quoted.push('…');
        }
        Self {
            what: what.into(),
            detail: Some(format!("found {quoted}")),
        }
    }
}

/// The mistakes of one file, gathered by kind.
#[derive(Debug)]
pub(crate) struct Flaws {
    path: PathBuf,
    kinds: Vec<Kind>,
}

/// One mistake with the lines that make it.
#[derive(Debug)]
struct Kind {
    flaw: Flaw,
    first: Vec<usize>,
    count: usize,
}

impl Flaws {
    pub fn new(path: &Path) -> Self {
        Self {
            path: path.to_owned(),
            kinds: Vec::new(),
        }
    }

    /// The row, or none after its mistake is noted.
    pub fn sift<T>(&mut self, line: usize, row: std::result::Result<T, Flaw>) -> Option<T> {
        match row {
            Ok(row) => Some(row),
            Err(flaw) => {
                self.add(line, flaw);
                None
            }
        }
    }

    /// Whether nothing is wrong so far.
    pub fn is_empty(&self) -> bool {
        self.kinds.is_empty()
    }

    /// Notes a mistake.
    pub fn add(&mut self, line: usize, flaw: Flaw) {
        match self
            .kinds
            .iter_mut()
            .find(|kind| kind.flaw.what == flaw.what)
        {
            Some(kind) => {
                kind.count += 1;
                if kind.first.len() < NAMED {
                    kind.first.push(line);
                }
            }
            None => self.kinds.push(Kind {
                flaw,
                first: vec![line],
                count: 1,
            }),
        }
    }

    /// Refuses the file when anything is wrong with it.
    ///
    /// # Errors
    /// [`Error::Rows`] with one sentence per kind of mistake.
    pub fn finish(self) -> Result<()> {
        if self.is_empty() {
            Ok(())
        } else {
            Err(self.refusal())
        }
    }

    /// The refusal of the file for what was noted.
    pub fn refusal(self) -> Error {
        Error::Rows {
            path: self.path,
            problems: Listing(self.kinds.iter().map(Kind::to_string).collect()),
        }
    }
}

impl std::fmt::Display for Kind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Flaw { what, detail } = &self.flaw;
        let lines: Vec<String> = self.first.iter().map(usize::to_string).collect();
        match (self.count, self.count - lines.len()) {
            (1, _) => write!(f, "line {}: {what}", lines[0])?,
            (n, 0) => write!(f, "lines {} ({n} in all): {what}", lines.join(", "))?,
            (n, more) => {
                write!(
                    f,
                    "lines {} and {more} more ({n} in all): {what}",
                    lines.join(", ")
                )?;
            }
        }
        match (detail, self.count) {
            (Some(detail), 1) => write!(f, " ({detail})"),
            (Some(detail), _) => write!(f, " ({detail} on line {})", lines[0]),
            (None, _) => Ok(()),
        }
    }
}

/// Ids that were seen, to find one that is used twice.
#[derive(Debug, Default)]
pub(crate) struct Ids(HashSet<String>);

impl Ids {
    /// Refuses an id that was seen before.
    pub fn fresh(&mut self, field: &str, id: &str) -> std::result::Result<(), Flaw> {
        if self.0.insert(id.to_owned()) {
            return Ok(());
        }
        Err(Flaw::found(
            format!("`{field}` is used twice"),
            &Value::from(id),
        ))
    }
}

/// The object that a line or an entry must be.
pub(crate) fn object(value: &Value) -> std::result::Result<&Row, Flaw> {
    value
        .as_object()
        .ok_or_else(|| Flaw::found("must be an object", value))
}

/// A field that must be there; null is as good as missing.
pub(crate) fn field<'r>(row: &'r Row, name: &str) -> std::result::Result<&'r Value, Flaw> {
    let value = row.get(name).filter(|value| !value.is_null());
    value.ok_or_else(|| Flaw::new(format!("`{name}` is missing")))
}

/// A text.
pub(crate) fn text<'r>(row: &'r Row, name: &str) -> std::result::Result<&'r str, Flaw> {
    let value = field(row, name)?;
    value
        .as_str()
        .ok_or_else(|| Flaw::found(format!("`{name}` must be a text"), value))
}

/// A text that says something.
pub(crate) fn said<'r>(row: &'r Row, name: &str) -> std::result::Result<&'r str, Flaw> {
    let text = text(row, name)?;
    if text.trim().is_empty() {
        return Err(Flaw::new(format!("`{name}` is empty")));
    }
    Ok(text)
}

/// An id: a text, or a whole number, which means the same as its digits.
pub(crate) fn id(row: &Row, name: &str) -> std::result::Result<String, Flaw> {
    let value = field(row, name)?;
    let id = match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) if number.is_i64() || number.is_u64() => Some(number.to_string()),
        _ => None,
    };
    let id = id.filter(|id| !id.trim().is_empty());
    id.ok_or_else(|| Flaw::found(format!("`{name}` must be a text or a whole number"), value))
}

/// A whole number below `end`, or its digits as a text.
pub(crate) fn index(row: &Row, name: &str, end: usize) -> std::result::Result<usize, Flaw> {
    let value = field(row, name)?;
    let number = match value {
        Value::String(text) => text.trim().parse().ok(),
        other => other
            .as_u64()
            .and_then(|number| usize::try_from(number).ok()),
    };
    let number = number.filter(|number| *number < end);
    let what = || format!("`{name}` must be a whole number from 0 to {}", end - 1);
    number.ok_or_else(|| Flaw::found(what(), value))
}

/// One of the words of a set.
pub(crate) fn word(
    row: &Row,
    name: &str,
    set: &[&'static str],
) -> std::result::Result<&'static str, Flaw> {
    let value = text(row, name)?;
    let known = set.iter().find(|known| **known == value);
    let what = || format!("`{name}` must be one of {}", set.join(", "));
    known
        .copied()
        .ok_or_else(|| Flaw::found(what(), &row[name]))
}

/// A finite number.
pub(crate) fn number(row: &Row, name: &str) -> std::result::Result<f64, Flaw> {
    let value = field(row, name)?;
    let number = value.as_f64().filter(|number| number.is_finite());
    number.ok_or_else(|| Flaw::found(format!("`{name}` must be a number"), value))
}

/// A list of `n` finite numbers.
pub(crate) fn numbers(row: &Row, name: &str, n: usize) -> std::result::Result<Vec<f64>, Flaw> {
    let value = field(row, name)?;
    let numbers: Option<Vec<f64>> = value
        .as_array()
        .filter(|list| list.len() == n)
        .and_then(|list| list.iter().map(Value::as_f64).collect());
    let numbers = numbers.filter(|numbers| numbers.iter().all(|number| number.is_finite()));
    numbers.ok_or_else(|| Flaw::found(format!("`{name}` must be a list of {n} numbers"), value))
}

/// A list of texts.
pub(crate) fn texts<'r>(row: &'r Row, name: &str) -> std::result::Result<Vec<&'r str>, Flaw> {
    let value = field(row, name)?;
    let list = value.as_array();
    let texts = list.and_then(|list| list.iter().map(Value::as_str).collect());
    texts.ok_or_else(|| Flaw::found(format!("`{name}` must be a list of texts"), value))
}

/// An object within the row.
pub(crate) fn inner<'r>(row: &'r Row, name: &str) -> std::result::Result<&'r Row, Flaw> {
    let value = field(row, name)?;
    value
        .as_object()
        .ok_or_else(|| Flaw::found(format!("`{name}` must be an object"), value))
}

/// Reads JSON lines of a text that is in memory: every row that has no mistake, and the mistakes.
///
/// # Errors
/// [`Error::Rows`], and entries that cannot be told apart.
pub(crate) fn rows_of<T>(
    path: &Path,
    text: &str,
    read: impl FnMut(&Row) -> std::result::Result<T, Flaw>,
) -> Result<Vec<T>> {
    rows(
        path,
        Lines::over(path, text.as_bytes(), Content::Json)?,
        read,
    )
}

/// Reads a file of JSON lines, plain or gzipped, one line in memory at a time.
///
/// # Errors
/// A file that cannot be read, a line that is longer than any item, [`Error::Rows`].
pub(crate) fn rows_in<T>(
    path: &Path,
    read: impl FnMut(&Row) -> std::result::Result<T, Flaw>,
) -> Result<Vec<T>> {
    rows(path, Lines::open(path, Content::Json)?, read)
}

fn rows<T>(
    path: &Path,
    mut lines: Lines,
    mut read: impl FnMut(&Row) -> std::result::Result<T, Flaw>,
) -> Result<Vec<T>> {
    let mut flaws = Flaws::new(path);
    let mut rows = Vec::new();
    while let Some(entry) = lines.next_entry()? {
        let row = parsed(entry).and_then(|row| read(&row));
        rows.extend(flaws.sift(entry.line, row));
    }
    flaws.finish()?;
    Ok(rows)
}

fn parsed(entry: Entry) -> std::result::Result<Row, Flaw> {
    match entry.parse() {
        Ok(Value::Object(row)) => Ok(row),
        Ok(other) => Err(Flaw::found("must be an object", &other)),
        Err(fault) => Err(Flaw {
            what: fault.problem,
            detail: fault.place,
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    /// A file of these bytes, and what reading numbers `n` below 3 of it says.
    fn read(name: &str, bytes: &[u8]) -> std::result::Result<Vec<usize>, String> {
        let dir = tempfile::tempdir().expect("temporary folder");
        let path = dir.path().join(name);
        std::fs::write(&path, bytes).expect("write");
        let mut ids = Ids::default();
        let rows = rows_in(&path, |row| {
            ids.fresh("id", &id(row, "id")?)?;
            index(row, "n", 3)
        });
        rows.map_err(|error| {
            error
                .to_string()
                .replace(&dir.path().display().to_string(), "")
        })
    }

    #[test]
    fn what_means_one_thing_is_read() {
        let text = "\u{feff}{\"id\": \"1\", \"n\": 0}\r\n\r\n  \n{\"id\": 2, \"n\": \"2\"}\r\n{\"id\": 3, \"n\": 1}";
        assert_eq!(read("a.jsonl", text.as_bytes()), Ok(vec![0, 2, 1]));
        let mut gz = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gz.write_all(text.as_bytes()).expect("write");
        assert_eq!(
            read("a.jsonl.gz", &gz.finish().expect("finish")),
            Ok(vec![0, 2, 1])
        );
        assert_eq!(read("empty.jsonl", b""), Ok(vec![]));
        let list = "[{\"id\": 1, \"n\": 0},\n {\"id\": 2, \"n\": 2}]";
        assert_eq!(read("a.json", list.as_bytes()), Ok(vec![0, 2]));
    }

    #[test]
    fn a_mistake_names_file_line_and_field() {
        let refused = |text: &str| read("a.jsonl", text.as_bytes()).expect_err("refused");
        assert_eq!(refused("{\"n\": 0}"), "/a.jsonl: line 1: `id` is missing");
        assert_eq!(
            refused("{\"id\": null, \"n\": 0}"),
            "/a.jsonl: line 1: `id` is missing"
        );
        assert_eq!(
            refused("{\"id\": 1, \"n\": 0}\n{\"id\": \"1\", \"n\": 0}"),
            "/a.jsonl: line 2: `id` is used twice (found \"1\")"
        );
        assert_eq!(
            refused("{\"id\": 1, \"n\": 3}"),
            "/a.jsonl: line 1: `n` must be a whole number from 0 to 2 (found 3)"
        );
        assert_eq!(
            refused("{\"id\": 1.5, \"n\": 1}"),
            "/a.jsonl: line 1: `id` must be a text or a whole number (found 1.5)"
        );
        assert_eq!(
            refused("\n[1]"),
            "/a.jsonl: line 2: must be an object (found 1)"
        );
        assert_eq!(
            refused("{\"id\": NaN}"),
            "/a.jsonl: line 1: not JSON: `NaN`, as Python writes a missing value; write null or leave the field out (column 8)"
        );
    }

    #[test]
    fn the_same_mistake_in_many_lines_is_one_sentence() {
        let lines: Vec<String> = (0..10_000)
            .map(|i| format!("{{\"id\": {i}, \"n\": 7}}"))
            .collect();
        let said = read("a.jsonl", (lines.join("\n") + "\n{}").as_bytes()).expect_err("refused");
        assert_eq!(
            said,
            "/a.jsonl: lines 1, 2, 3 and 9997 more (10000 in all): `n` must be a whole number from 0 to 2 \
             (found 7 on line 1); line 10001: `id` is missing"
        );
    }

    #[test]
    fn a_line_without_an_end_is_refused_before_it_fills_memory() {
        let endless = vec![b'a'; (8 << 20) + 10];
        let said = read("a.jsonl", &endless).expect_err("refused");
        assert_eq!(
            said,
            "/a.jsonl: line 1: longer than 8 MiB; each entry is one JSON object"
        );
    }

    #[test]
    fn text_that_is_not_utf8_is_refused_on_its_line() {
        let said = read("a.jsonl", b"{\"id\": \"\xff\", \"n\": 1}").expect_err("refused");
        assert!(said.starts_with("/a.jsonl: line 1: not JSON"), "{said}");
    }
}
