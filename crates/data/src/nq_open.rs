//! Text-locality questions: the NQ-open development set, split by seed.
//!
//! Lee et al. 2019, "Latent Retrieval for Weakly Supervised Open Domain Question Answering".

use std::path::Path;

use debias_core::{Split, seed};
use serde::Deserialize;

use crate::lines::{Content, Lines};
use crate::source::locate;
use crate::{Error, Result};

/// The seed of the split; fixed, so that no run sees another run's evaluation questions.
const SPLIT_SEED: u64 = 2024;

/// One line of the file.
#[derive(Deserialize)]
struct Line {
    question: String,
    answer: Vec<String>,
}

/// Questions with their first answer, by split, each in seeded order.
pub(crate) struct NqOpen {
    train: Vec<(String, String)>,
    val: Vec<(String, String)>,
    eval: Vec<(String, String)>,
}

impl NqOpen {
    /// Reads `NQ-open.dev.jsonl` (or `.gz`); questions get their question mark here.
    pub(crate) fn read(path: &Path) -> Result<Self> {
        let found = locate(path).unwrap_or_else(|| path.to_owned());
        let mut lines = Lines::open(&found, Content::Json)?;
        let mut rows = Vec::new();
        while let Some(entry) = lines.next_entry()? {
            let refuse = |problem: &str| {
                Error::format(
                    &found,
                    format!("line {}: {problem}; fetch the file again", entry.line),
                )
            };
            let line: Line = entry.parse().map_err(|fault| refuse(&fault.to_string()))?;
            let answer = line.answer.into_iter().next().unwrap_or_default();
            if line.question.trim().is_empty() || answer.trim().is_empty() {
                return Err(refuse("`question` or `answer` is empty"));
            }
            rows.push((format!("{}?", line.question), answer));
        }
        Self::of(rows).ok_or_else(|| {
            Error::format(
                &found,
                "holds too few questions for three splits; fetch the file again",
            )
        })
    }

    /// The stand-in for a clone of PAIRS without NQ-open beside it: plain questions of this project.
    pub(crate) fn stand_in() -> Result<Self> {
        #[derive(Deserialize)]
        struct Written {
            questions: Vec<(String, String)>,
        }
        let text = include_str!("../../../datasets/pairs/unrelated.toml");
        let refuse = |problem: &str| Error::format(Path::new("unrelated.toml"), problem);
        let Written { questions } =
            toml::from_str(text).map_err(|error| refuse(error.message()))?;
        let rows = questions.into_iter();
        let rows = rows.map(|(question, answer)| (format!("{question}?"), answer));
        Self::of(rows.collect()).ok_or_else(|| refuse("holds too few questions"))
    }

    /// Splits questions with their answers by seed; none where a split would be empty.
    fn of(rows: Vec<(String, String)>) -> Option<Self> {
        let mut order: Vec<String> = (0..rows.len()).map(|number| number.to_string()).collect();
        seed::seeded_order(SPLIT_SEED, "nq_open", &mut order);
        let mut ordered: Vec<_> = order
            .iter()
            .filter_map(|number| number.parse::<usize>().ok())
            .map(|number| rows[number].clone())
            .collect();
        let (train, val) = (share(rows.len(), 60), share(rows.len(), 10));
        let eval = ordered.split_off(train + val);
        let val = ordered.split_off(train);
        let questions = Self {
            train: ordered,
            val,
            eval,
        };
        let parts = [&questions.train, &questions.val, &questions.eval];
        let whole = parts.iter().all(|part| !part.is_empty());
        whole.then_some(questions)
    }

    /// The question for the `rank`-th record of a split; questions repeat when they run out.
    pub(crate) fn paired(&self, split: Split, rank: usize) -> &(String, String) {
        let rows = match split {
            Split::Train => &self.train,
            Split::Val => &self.val,
            Split::Eval => &self.eval,
        };
        &rows[rank % rows.len()]
    }
}

/// `percent` of `n`, rounded half up.
fn share(n: usize, percent: usize) -> usize {
    (n * percent + 50) / 100
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sixty_ten_thirty_and_every_question_once() {
        let dir = tempfile::tempdir().expect("temporary folder");
        let path = dir.path().join("nq.jsonl");
        let lines: Vec<String> = (0..20)
            .map(|i| format!(r#"{{"question": "q{i}", "answer": ["a{i}", "b"]}}"#))
            .collect();
        std::fs::write(&path, lines.join("\n")).expect("write");
        let nq = NqOpen::read(&path).expect("reads");
        assert_eq!((nq.train.len(), nq.val.len(), nq.eval.len()), (12, 2, 6));
        let mut all = [nq.train.clone(), nq.val.clone(), nq.eval.clone()].concat();
        all.sort();
        all.dedup();
        assert_eq!(all.len(), 20);
        assert_eq!(nq.paired(Split::Val, 0), nq.paired(Split::Val, 2));
        assert!(all.contains(&("q7?".into(), "a7".into())));
    }

    #[test]
    fn a_broken_line_is_named() {
        let dir = tempfile::tempdir().expect("temporary folder");
        let path = dir.path().join("nq.jsonl");
        std::fs::write(
            &path,
            "{\"question\": \"q\", \"answer\": [\"a\"]}\n{\"question\": 3}\n",
        )
        .expect("write");
        let error = NqOpen::read(&path).err().expect("refused").to_string();
        assert!(error.contains("nq.jsonl: line 2"), "{error}");
    }
}
