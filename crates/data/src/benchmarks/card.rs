//! The card of a benchmark: what is asked, whose texts they are, and what a number does not show.

use serde::{Deserialize, Serialize};

use crate::Error;

/// One file `datasets/benchmarks/<name>.toml`, embedded in the program.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct BenchmarkCard {
    /// The permanent name, kebab-case.
    pub name: String,
    /// One line for the catalogue.
    pub title: String,
    /// Version of the items as they are put to a model, prompts included; raised when one changes.
    pub version: u32,
    /// Whose data it is.
    pub source: String,
    /// Upstream revision of the data.
    pub revision: String,
    /// Licence, in words.
    pub licence: String,
    /// How to cite it.
    pub citation: String,
    /// The paper, as an address.
    pub paper: String,
    /// How many items there are.
    pub size: String,
    /// What a model is asked, word for word.
    pub protocol: String,
    /// What the texts depict, and what a result does not show.
    pub ethics: String,
    /// What is known to be wrong with the data, and what is done about it.
    pub problems: String,
    /// How the user gets it.
    pub obtained: String,
    /// The files that are read.
    pub files: Vec<BenchmarkFile>,
}

/// One file of a benchmark; each is read as it is or with `.gz` behind its name.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct BenchmarkFile {
    /// Its path below the benchmark's folder.
    pub path: String,
    /// What it is for.
    pub holds: String,
    /// Where it is published; empty for one that was derived from published ones.
    #[serde(default)]
    pub url: String,
    /// SHA-256 of the text (hex), where it is known; another text is not the benchmark as published.
    #[serde(default)]
    pub sha256: String,
    /// Whether numbers on it are not numbers on the benchmark as released.
    #[serde(default)]
    pub stand_in: bool,
}

impl BenchmarkCard {
    /// Reads a card.
    ///
    /// # Errors
    /// The parser's words, with the line, when a field is missing, unknown or of the wrong type.
    pub fn parse(text: &str) -> Result<Self, toml::de::Error> {
        toml::from_str(text)
    }

    /// The refusal to go on without the benchmark's folder.
    pub fn needs_data(&self) -> Error {
        Error::NeedsData {
            benchmark: self.name.clone(),
            obtained: self.how_obtained(),
        }
    }

    /// How the user gets it, in one line.
    pub(crate) fn how_obtained(&self) -> String {
        self.obtained
            .split_whitespace()
            .collect::<Vec<_>>()
            .join(" ")
    }

    /// What the card says of a file.
    pub(crate) fn file(&self, path: &str) -> Option<&BenchmarkFile> {
        self.files.iter().find(|file| file.path == path)
    }
}
