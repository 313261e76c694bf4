//! Copies of folders that are changed and asked.

use std::fs;
use std::path::PathBuf;

use serde_json::{Value, json};

use super::{Tensors, edit_json, feed, fixtures, folder, folder_copy, model_copy};
use super::{status, stderr, stdout};

/// The weight file of an unsharded folder.
pub const WEIGHTS: &str = "model.safetensors";

/// A copy of a fixture that may be changed, in a folder that goes with it.
pub struct Copy {
    _work: tempfile::TempDir,
    /// The folder.
    pub dir: PathBuf,
}

impl Copy {
    /// Of the fixture `case`, unless it is skipped.
    pub fn of(case: &str) -> Option<Self> {
        let fixtures = fixtures()?;
        let work = folder();
        let dir = folder_copy(&fixtures.join(case), &work.path().join("model"));
        Some(Self { _work: work, dir })
    }

    /// Of an embedded model.
    pub fn embedded(name: &str) -> Self {
        let work = folder();
        let dir = model_copy(name, work.path());
        Self { _work: work, dir }
    }

    /// Changes a JSON file.
    pub fn edit(&self, file: &str, change: impl Fn(&mut Value)) {
        edit_json(&self.dir.join(file), change);
    }

    /// Writes a file.
    pub fn write(&self, file: &str, content: &str) {
        fs::write(self.dir.join(file), content).expect("writable");
    }

    /// Changes the weights.
    pub fn tensors(&self, change: impl Fn(&mut Tensors)) {
        let mut tensors = Tensors::read(&self.dir.join(WEIGHTS));
        change(&mut tensors);
        tensors.write(&self.dir.join(WEIGHTS));
    }

    /// Sums of log-likelihoods, and what was said on standard error.
    pub fn scored(&self, items: &[Value], more: &[&str]) -> (Vec<f64>, String) {
        let (lines, said) = self.lines(items, more);
        let sums = lines
            .iter()
            .map(|line| line["sum"].as_f64().expect("a sum"));
        (sums.collect(), said)
    }

    /// The lines of `bench score`, which must succeed, and what was said on standard error.
    pub fn lines(&self, items: &[Value], more: &[&str]) -> (Vec<Value>, String) {
        let output = self.score(items, more);
        assert_eq!(status(&output), 0, "{}", stderr(&output));
        let lines = stdout(&output);
        let lines = lines
            .lines()
            .map(|line| serde_json::from_str(line).expect("JSON"));
        (lines.collect(), stderr(&output))
    }

    /// `bench score` of `items`, whose pictures lie in the folder.
    pub fn score(&self, items: &[Value], more: &[&str]) -> std::process::Output {
        let given: Vec<String> = items.iter().map(Value::to_string).collect();
        let dir = self.dir.to_str().expect("UTF-8");
        let args = ["score", "--model", dir, "--images", dir];
        feed(
            &self.dir,
            &[&args, more].concat(),
            given.join("\n").as_bytes(),
        )
    }
}

/// Two questions without pictures.
pub fn items() -> Vec<Value> {
    vec![
        json!({"id": 1, "prompt": "The nurse said that the judge was", "answer": "a kind old teacher"}),
        json!({"id": 2, "prompt": "Who is it?", "answer": "a nurse"}),
    ]
}

/// The same, the second with a picture of the fixtures.
pub fn pictured() -> Vec<Value> {
    let mut items = items();
    items[1]["image"] = json!("image_0.png");
    items
}

/// Values but for the rounding of other batches.
pub fn assert_near(found: &[f64], expected: &[f64], what: &str) {
    assert_eq!(found.len(), expected.len(), "{what}");
    for (a, b) in found.iter().zip(expected) {
        assert!((a - b).abs() < 1e-3, "{what}: {found:?}, not {expected:?}");
    }
}
