mod chat;
mod files;
mod golden;
mod hostile;
mod rows;

use debias_weights::Checkpoint;
use serde_json::{Value as Json, json};
use tempfile::TempDir;

use super::*;

/// A folder without weights, and the rows that its embedding matrix would have.
pub(super) struct Model {
    label: &'static str,
    folder: TempDir,
    checkpoint: Checkpoint,
    rows: usize,
}

impl Model {
    /// A BPE tokenizer of `vocab` in the order of ids, with `added` tokens behind (or within).
    pub fn new(label: &'static str, vocab: &[&str], added: &[&str], rows: usize) -> Self {
        let ids = vocab.iter().enumerate();
        let ids: serde_json::Map<_, _> = ids
            .map(|(id, token)| ((*token).to_owned(), json!(id)))
            .collect();
        Self::with(
            label,
            json!({"type": "BPE", "vocab": ids, "merges": []}),
            added,
            rows,
        )
    }

    pub fn with(label: &'static str, model: Json, added: &[&str], rows: usize) -> Self {
        let added: Vec<Json> = added
            .iter()
            .map(|token| {
                json!({"id": 0, "content": token, "single_word": false, "lstrip": false,
                       "rstrip": false, "normalized": false, "special": true})
            })
            .collect();
        let file = json!({"version": "1.0", "added_tokens": added, "model": model});
        Self::bare(label, rows).file("tokenizer.json", &file.to_string())
    }

    pub fn bare(label: &'static str, rows: usize) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let checkpoint = Checkpoint::bare(folder.path()).expect("a folder");
        Self {
            label,
            folder,
            checkpoint,
            rows,
        }
    }

    pub fn file(self, name: &str, content: &str) -> Self {
        std::fs::write(self.folder.path().join(name), content).expect("a file");
        self
    }

    pub fn speaker(&self) -> Speaker<'_> {
        Speaker {
            label: self.label,
            checkpoint: &self.checkpoint,
            rows: self.rows,
        }
    }
}

pub(super) fn setting(source: TokenSource) -> TokenizerSetting {
    TokenizerSetting {
        source,
        tokens: Vec::new(),
        pad_to_multiple_of: None,
    }
}

pub(super) fn joined(
    setting: &TokenizerSetting,
    models: &[&Model],
    base: Option<usize>,
) -> Result<Vocabulary> {
    let speakers: Vec<Speaker> = models.iter().map(|model| model.speaker()).collect();
    unite(setting, &speakers, base, None)
}

/// One of the output's files.
pub(super) fn json_of(vocabulary: &Vocabulary, name: &str) -> Json {
    let file = vocabulary.files.iter().find(|(file, _)| file == name);
    let (_, bytes) = file.unwrap_or_else(|| panic!("{name} is written"));
    serde_json::from_slice(bytes).expect("JSON")
}

/// The tokens of the output, as a program that loads its files numbers them.
pub(super) fn reread(vocabulary: &Vocabulary) -> Vec<(String, usize)> {
    let mut model = Model::bare("reread", vocabulary.size);
    for (name, bytes) in &vocabulary.files {
        model = model.file(name, std::str::from_utf8(bytes).expect("UTF-8"));
    }
    let tokens = Tokens::read("reread", &model.checkpoint, None);
    let tokens = tokens.expect("a tokenizer").expect("a file");
    let names = tokens.in_order();
    names
        .map(|token| (token.to_owned(), tokens.id(token).expect("an id")))
        .collect()
}
