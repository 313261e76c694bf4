//! Text-locality questions: the NQ-open development set, split by seed.
//!
//! Lee et al. 2019, "Latent Retrieval for Weakly Supervised Open Domain Question Answering".

use std::path::Path;

use debias_core::{Split, seed};
use serde::Deserialize;

use crate::source::read_text;
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
        let text = read_text(path)?;
        let mut rows = Vec::new();
        for (number, line) in text.lines().enumerate() {
            let refuse = |problem: &str| {
                Error::format(
                    path,
                    format!("line {}: {problem}; fetch the file again", number + 1),
                )
            };
            let line: Line = serde_json::from_str(line).map_err(|e| refuse(&e.to_string()))?;
            let answer = line.answer.into_iter().next().unwrap_or_default();
            if line.question.trim().is_empty() || answer.trim().is_empty() {
                return Err(refuse("`question` or `answer` is empty"));
            }
            rows.push((format!("{}?", line.question), answer));
        }
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
        match [&questions.train, &questions.val, &questions.eval]
            .iter()
            .any(|part| part.is_empty())
        {
            true => Err(Error::format(
                path,
                "holds too few questions for three splits; fetch the file again",
            )),
            false => Ok(questions),
        }
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
