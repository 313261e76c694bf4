//! Which records of a split are about something else.

use std::collections::HashMap;

use debias_core::Record;

/// Prompts that some record calls rephrases of each other, transitively, are one scope.
///
/// A record's prompt is out of the scope of another's only where neither prompts nor answers
/// connect the two: records of one topic in other words must not be held against each other, and
/// caption openers, which every record shares, not at all.
pub(super) struct Scopes {
    index: HashMap<String, usize>,
    parent: Vec<usize>,
}

impl Scopes {
    /// The scopes of all `records`.
    pub fn of<'r>(records: impl IntoIterator<Item = &'r Record>) -> Self {
        let mut scopes = Self {
            index: HashMap::new(),
            parent: Vec::new(),
        };
        for record in records {
            let a = scopes.place(&record.prompt);
            let rephrase = record.prompt_rephrase.as_ref();
            let b = scopes.place(rephrase.unwrap_or(&record.prompt));
            let (a, b) = (scopes.root(a), scopes.root(b));
            scopes.parent[a.max(b)] = a.min(b);
        }
        scopes
    }

    fn place(&mut self, text: &str) -> usize {
        let next = self.parent.len();
        let place = *self.index.entry(text.to_owned()).or_insert(next);
        if place == next {
            self.parent.push(next);
        }
        place
    }

    fn root(&self, mut at: usize) -> usize {
        while self.parent[at] != at {
            at = self.parent[at];
        }
        at
    }

    /// Whether nothing connects the two records.
    pub fn apart(&self, a: &Record, b: &Record) -> bool {
        let scope = |record: &Record| self.index.get(&record.prompt).map(|at| self.root(*at));
        let answers = |record: &'_ Record| [record.y_more.clone(), record.y_less.clone()];
        let shared = answers(a).iter().any(|answer| answers(b).contains(answer));
        scope(a) != scope(b) && !shared
    }
}

#[cfg(test)]
mod tests {
    use debias_core::{Split, TargetRule, Task};

    use super::*;

    fn record(prompt: &str, rephrase: &str, answers: [&str; 2]) -> Record {
        Record {
            id: String::new(),
            task: Task::Vqa,
            bias_type: String::new(),
            image: None,
            prompt: prompt.into(),
            y_more: answers[0].into(),
            y_less: answers[1].into(),
            prompt_rephrase: Some(rephrase.into()),
            image_rephrase: None,
            t_locality: None,
            m_locality: None,
            group: String::new(),
            split: Split::Train,
            target: TargetRule::Given,
        }
    }

    #[test]
    fn rephrases_connect_and_so_do_answers() {
        let records = [
            record("a", "b", ["rich", "poor"]),
            record("c", "b", ["wealthy", "needy"]),
            record("d", "e", ["clever", "dull"]),
            record("f", "g", ["dull", "sharp"]),
        ];
        let scopes = Scopes::of(&records);
        let apart = |i: usize, j: usize| scopes.apart(&records[i], &records[j]);
        assert!(!apart(0, 1), "both were called rephrases of b");
        assert!(apart(0, 2) && apart(1, 2) && apart(0, 3));
        assert!(!apart(2, 3), "they share an answer");
        assert!(!apart(0, 0));
    }
}
