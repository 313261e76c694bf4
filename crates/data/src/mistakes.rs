//! What is wrong with records, told once per kind of mistake and not once per record.

use std::fmt;

/// How many kinds of mistakes are written out.
const KINDS: usize = 10;

/// How many records are named of those that share a mistake.
const EXAMPLES: usize = 3;

/// One thing that is wrong with one record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mistake {
    /// The record, as its reader finds it: ``record `id` `` or `record number 3`.
    record: String,
    /// The field, with the other names it may have.
    field: String,
    /// What stands there, where that says more than the field.
    value: Option<String>,
    /// What is wrong with it: the same words for every record.
    problem: String,
}

impl Mistake {
    /// `field` of `record` is wrong.
    pub(crate) fn new(
        record: impl Into<String>,
        field: impl Into<String>,
        problem: impl Into<String>,
    ) -> Self {
        Self {
            record: record.into(),
            field: field.into(),
            value: None,
            problem: problem.into(),
        }
    }

    /// The same with what stands there.
    #[must_use]
    pub(crate) fn of_value(mut self, value: impl fmt::Display) -> Self {
        self.value = Some(format!("`{value}`"));
        self
    }

    /// The same in one of several files.
    #[must_use]
    pub(crate) fn within(mut self, file: &str) -> Self {
        self.record = format!("{file}: {}", self.record);
        self
    }

    fn is_like(&self, other: &Self) -> bool {
        (&self.field, &self.problem) == (&other.field, &other.problem)
    }

    /// Record and value, as one example of several.
    fn example(&self) -> String {
        match &self.value {
            Some(value) => format!("{}: {value}", self.record),
            None => self.record.clone(),
        }
    }
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.record, self.field)?;
        if let Some(value) = &self.value {
            write!(f, " {value}")?;
        }
        write!(f, " {}", self.problem)
    }
}

/// Everything that is wrong with some records: one sentence for each kind of mistake, with the
/// number of records that have it and up to three of them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Mistakes(Vec<Mistake>);

impl Mistakes {
    /// Adds one.
    pub(crate) fn push(&mut self, mistake: Mistake) {
        self.0.push(mistake);
    }

    /// The result of reading something; what is wrong with it is kept here.
    pub(crate) fn keep<T>(&mut self, read: Result<T, Mistake>) -> Option<T> {
        read.map_err(|mistake| self.push(mistake)).ok()
    }

    /// Whether nothing is wrong.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// One sentence for each kind of mistake, in the order of their first records.
    pub fn sentences(&self) -> Vec<String> {
        let mut kinds: Vec<Vec<&Mistake>> = Vec::new();
        for mistake in &self.0 {
            match kinds.iter_mut().find(|kind| kind[0].is_like(mistake)) {
                Some(kind) => kind.push(mistake),
                None => kinds.push(vec![mistake]),
            }
        }
        kinds.iter().map(|kind| sentence(kind)).collect()
    }
}

/// What is wrong with every record of `kind`.
fn sentence(kind: &[&Mistake]) -> String {
    let [first, rest @ ..] = kind else {
        return String::new();
    };
    if rest.is_empty() {
        return first.to_string();
    }
    let shown = kind.iter().take(EXAMPLES);
    let mut examples = shown
        .map(|mistake| mistake.example())
        .collect::<Vec<_>>()
        .join(", ");
    if let more @ 1.. = kind.len().saturating_sub(EXAMPLES) {
        examples.push_str(&format!(" and {more} more"));
    }
    format!(
        "{} records: {} {} ({examples})",
        kind.len(),
        first.field,
        first.problem
    )
}

impl fmt::Display for Mistakes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sentences = self.sentences();
        let shown = sentences.len().min(KINDS);
        write!(f, "{}", sentences[..shown].join("; "))?;
        match sentences.len() - shown {
            0 => Ok(()),
            more => write!(f, "; and {more} more"),
        }
    }
}

impl FromIterator<Mistake> for Mistakes {
    fn from_iter<I: IntoIterator<Item = Mistake>>(mistakes: I) -> Self {
        Self(mistakes.into_iter().collect())
    }
}

impl IntoIterator for Mistakes {
    type Item = Mistake;
    type IntoIter = std::vec::IntoIter<Mistake>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

impl Extend<Mistake> for Mistakes {
    fn extend<I: IntoIterator<Item = Mistake>>(&mut self, mistakes: I) {
        self.0.extend(mistakes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn missing(records: usize) -> Mistakes {
        (0..records)
            .map(|at| Mistake::new(format!("record `{at}`"), "`prompt`", "is missing"))
            .collect()
    }

    #[test]
    fn a_mistake_of_many_records_is_one_sentence() {
        assert_eq!(missing(1).to_string(), "record `0`: `prompt` is missing");
        assert_eq!(
            missing(3).to_string(),
            "3 records: `prompt` is missing (record `0`, record `1`, record `2`)"
        );
        assert_eq!(
            missing(13).to_string(),
            "13 records: `prompt` is missing (record `0`, record `1`, record `2` and 10 more)"
        );
    }

    #[test]
    fn values_tell_examples_apart_and_not_kinds() {
        let found: Mistakes = ["a", "b"]
            .into_iter()
            .map(|at| Mistake::new(format!("record `{at}`"), "`image`", "is nowhere").of_value(at))
            .chain([Mistake::new("record `c`", "`task`", "is missing")])
            .collect();
        assert_eq!(
            found.to_string(),
            "2 records: `image` is nowhere (record `a`: `a`, record `b`: `b`); record `c`: `task` is missing"
        );
    }

    #[test]
    fn kinds_beyond_the_tenth_are_counted() {
        let found: Mistakes = (0..13)
            .map(|at| Mistake::new("record `a`", format!("`{at}`"), "is missing"))
            .collect();
        assert!(
            found
                .to_string()
                .ends_with("record `a`: `9` is missing; and 3 more")
        );
    }
}
