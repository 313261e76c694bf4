//! One line of output for each line of input, whatever becomes of the others.

use serde::Serialize;

use super::Line;
use crate::terminal::exit::Exit;
use crate::terminal::failure::Refusal;
use crate::terminal::lines::{Given, Id, Lines};
use crate::terminal::printer::Printer;

/// Most bytes held back until a first line is answered.
const HELD: usize = 1 << 20;
/// Kinds of failures that are written out.
const KINDS: usize = 3;
/// Lines named of those that fail alike.
const NAMED: usize = 3;

/// What is answered, and what is not.
pub struct Answers {
    printer: Printer,
    text: Vec<u8>,
    answered: usize,
    failed: usize,
    /// Whether a line asked nothing.
    malformed: bool,
    kinds: Vec<Kind>,
}

/// Lines that fail for the same reason.
struct Kind {
    problem: String,
    first: Vec<String>,
    count: usize,
}

impl Answers {
    /// Printed by `printer`.
    pub fn new(printer: Printer) -> Self {
        Self {
            printer,
            text: Vec::new(),
            answered: 0,
            failed: 0,
            malformed: false,
            kinds: Vec::new(),
        }
    }

    /// How many lines were answered.
    pub fn answered(&self) -> usize {
        self.answered
    }

    /// Adds the answer to a line, or why there is none.
    ///
    /// # Errors
    /// An answer that cannot be written.
    pub fn put<T, A: Serialize>(
        &mut self,
        lines: Option<&Lines>,
        given: &Given<T>,
        answer: Result<Line<A>, String>,
    ) -> anyhow::Result<()> {
        let id = given.id.as_ref().map_or("null", Id::written);
        let rest = match answer {
            Ok(line) => {
                self.answered += 1;
                serde_json::to_string(&line)?
            }
            Err(problem) => {
                let place = match (&given.id, lines) {
                    (Some(id), _) if given.asked.is_ok() => {
                        format!("item `{}`", id.to_string().escape_debug())
                    }
                    (_, Some(lines)) => lines.place(given.line),
                    (_, None) => format!("line {}", given.line),
                };
                let line = match given.id {
                    Some(_) => serde_json::json!({"error": problem}),
                    None => serde_json::json!({"line": given.line, "error": problem}),
                };
                self.malformed |= given.asked.is_err();
                self.fail(place, problem);
                line.to_string()
            }
        };
        // Not through a number of JSON's: an id may have more digits than one keeps.
        let fields = rest.strip_prefix('{').unwrap_or(&rest);
        self.text
            .extend_from_slice(format!("{{\"id\":{id},{fields}\n").as_bytes());
        Ok(())
    }

    fn fail(&mut self, place: String, problem: String) {
        self.failed += 1;
        let known = self.kinds.iter().position(|kind| kind.problem == problem);
        if let Some(at) = known {
            let kind = &mut self.kinds[at];
            kind.count += 1;
            if kind.first.len() < NAMED {
                kind.first.push(place);
            }
        } else if self.kinds.len() < KINDS {
            // Others are counted alone, so that any number of lines takes no memory.
            self.kinds.push(Kind {
                problem,
                first: vec![place],
                count: 1,
            });
        }
    }

    /// Prints what was added, unless nothing is answered yet.
    ///
    /// # Errors
    /// As [`Printer::lines`].
    pub fn flush(&mut self) -> anyhow::Result<()> {
        if self.answered > 0 || self.text.len() > HELD {
            self.printer.lines(&self.text)?;
            self.text.clear();
        }
        Ok(())
    }

    /// The exit status after the last line.
    ///
    /// # Errors
    /// Where no line was answered, why.
    pub fn end(mut self) -> anyhow::Result<Exit> {
        self.flush()?;
        if self.failed == 0 {
            return Ok(Exit::Done);
        }
        if self.answered > 0 {
            let (failed, of) = (self.failed, self.failed + self.answered);
            let said = self.said();
            self.printer
                .warn(&format!("{failed} of {of} lines have no answer: {said}"));
            return Ok(Exit::CellsFailed);
        }
        let refusal = Refusal::new(Exit::Refused, self.said());
        Err(if self.malformed {
            refusal.help("Each line is one JSON object; see --help for its fields.")
        } else {
            refusal
        }
        .into())
    }

    /// One sentence for each kind of failure.
    fn said(&self) -> String {
        let mut said: Vec<String> = self.kinds.iter().map(Kind::said).collect();
        let shown: usize = self.kinds.iter().map(|kind| kind.count).sum();
        if let more @ 1.. = self.failed - shown {
            said.push(format!("and {more} more"));
        }
        said.join("; ")
    }
}

impl Kind {
    fn said(&self) -> String {
        if self.count == 1 {
            return format!("{}: {}", self.first[0], self.problem);
        }
        let mut examples = self.first.join(", ");
        if let more @ 1.. = self.count - self.first.len() {
            examples.push_str(&format!(" and {more} more"));
        }
        format!("{} lines: {} ({examples})", self.count, self.problem)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::terminal::printer::ColorChoice;

    #[test]
    fn failures_of_one_kind_are_one_sentence() {
        let mut answers = Answers::new(Printer::new(false, false, ColorChoice::Never));
        for at in 0..120 {
            answers.fail(format!("item `{at}`"), "`image` is empty".to_owned());
        }
        answers.fail("item `x`".to_owned(), "is too long".to_owned());
        assert_eq!(
            answers.said(),
            "120 lines: `image` is empty (item `0`, item `1`, item `2` and 117 more); item `x`: is too long"
        );
        for at in 0..3 {
            answers.fail(format!("item `{at}`"), format!("problem {at}"));
        }
        assert!(answers.said().ends_with("item `0`: problem 0; and 2 more"));
    }
}
