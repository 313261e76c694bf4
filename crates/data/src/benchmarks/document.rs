//! One JSON document of many entries, whose mistakes are named by the lines they are on.

use serde_json::Value;

use super::rows::{Flaw, Flaws, Row, object};
use super::source::Text;
use crate::lines::Fault;
use crate::{Error, Result};

/// A parsed document, with the line of every entry.
pub(crate) struct Document<'t> {
    text: &'t Text,
    root: Row,
}

impl<'t> Document<'t> {
    /// Parses a text whose root is an object.
    ///
    /// # Errors
    /// A text that is not JSON, with the line; another root.
    pub fn parse(text: &'t Text) -> Result<Self> {
        match serde_json::from_str(&text.text) {
            Ok(Value::Object(root)) => Ok(Self { text, root }),
            Ok(_) => Err(Error::format(&text.path, "line 1: must be an object")),
            Err(error) => {
                let line = error.line();
                let said = Fault::new(&error, text.text.as_bytes(), 1).problem;
                Err(Error::format(
                    &text.path,
                    format!("line {line}: {said} (column {})", error.column()),
                ))
            }
        }
    }

    /// The object at the root.
    pub fn root(&self) -> &Row {
        &self.root
    }

    /// The file that it was read from, to gather mistakes in.
    pub fn flaws(&self) -> Flaws {
        Flaws::new(&self.text.path)
    }

    /// The line on which the first field called `name` stands.
    pub fn line_of(&self, name: &str) -> usize {
        let quoted = Value::from(name).to_string();
        let before = self.text.text.split(&quoted).next().unwrap_or_default();
        1 + before.bytes().filter(|byte| *byte == b'\n').count()
    }

    /// The entries of the lists `names` of `parent`, list by list, each with its line; `depth` says
    /// how many brackets are open around an entry.
    pub fn entries<T>(
        &self,
        flaws: &mut Flaws,
        parent: &Row,
        depth: usize,
        names: &[&'static str],
        mut read: impl FnMut(&'static str, &Row) -> std::result::Result<T, Flaw>,
    ) -> Vec<(usize, T)> {
        let mut lines = lines_of_entries(&self.text.text, depth).into_iter();
        let mut found = Vec::new();
        // The lines are those of all lists in the order of the file.
        for (name, list) in parent {
            let wanted = names.iter().find(|wanted| *wanted == name);
            for entry in list.as_array().into_iter().flatten() {
                let line = lines.next().unwrap_or(1);
                if let Some(wanted) = wanted {
                    let entry = object(entry).and_then(|entry| read(wanted, entry));
                    found.extend(flaws.sift(line, entry).map(|entry| (line, entry)));
                }
            }
        }
        for name in names
            .iter()
            .filter(|name| !parent.get(**name).is_some_and(Value::is_array))
        {
            flaws.add(1, Flaw::new(format!("`{name}` must be a list")));
        }
        found
    }
}

/// The line of everything that opens or stands directly inside `depth` open brackets, counted as
/// entries of lists: the n-th number is the line of the n-th entry.
fn lines_of_entries(text: &str, depth: usize) -> Vec<usize> {
    let (mut lines, mut line, mut open) = (Vec::new(), 1, Vec::new());
    let (mut quoted, mut escaped, mut fresh) = (false, false, false);
    for byte in text.bytes() {
        if byte == b'\n' {
            line += 1;
        }
        if quoted {
            quoted = escaped || byte != b'"';
            escaped = !escaped && byte == b'\\';
            continue;
        }
        if byte.is_ascii_whitespace() {
            continue;
        }
        let entry = fresh && open.len() == depth && open.last() == Some(&b'[') && byte != b']';
        if entry {
            lines.push(line);
        }
        fresh = false;
        match byte {
            b'"' => quoted = true,
            b'{' | b'[' => {
                open.push(byte);
                fresh = true;
            }
            b'}' | b']' => {
                open.pop();
            }
            b',' => fresh = true,
            _ => {}
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_entry_knows_its_line() {
        let text = "{\"a, [\\\"\": [\n {\"x\": [1, 2]},\n\n 7, []\n],\n \"b\": [{}], \"c\": {\"d\": [\n1]}}";
        assert_eq!(lines_of_entries(text, 2), [2, 4, 4, 6]);
        assert_eq!(lines_of_entries("{\"a\": []}", 2), [0_usize; 0]);
    }
}
