//! A benchmark's folder: files plain or gzipped, digests of what was read, and what is not as published.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use debias_core::{Item, sha256_hex};

use super::card::BenchmarkCard;
use super::opened::Opened;
use crate::source::{locate, read_text};
use crate::{Error, Listing, Result};

/// The folder that a benchmark is read from.
#[derive(Clone, Debug)]
pub struct Source {
    dir: PathBuf,
}

/// A file that was read.
#[derive(Debug)]
pub(crate) struct Text {
    /// Where it was found.
    pub path: PathBuf,
    /// Its text, without byte order mark and with line ends `\n`.
    pub text: String,
}

/// What was read of a benchmark so far.
#[derive(Debug)]
pub(crate) struct Reading<'s> {
    card: &'s BenchmarkCard,
    source: &'s Source,
    /// SHA-256 of every text by its name in the card.
    files: BTreeMap<String, String>,
    /// What every report must say.
    notes: Vec<String>,
    /// Whether all of it is the benchmark as published.
    official: bool,
}

impl Source {
    /// The benchmark's files are in `root` itself, or in the folder there that has its name.
    pub fn new(card: &BenchmarkCard, root: &Path) -> Self {
        let own = root.join(&card.name);
        let dir = if own.is_dir() { own } else { root.to_owned() };
        Self { dir }
    }

    /// The folder itself.
    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    /// The file of that name, or that name with `.gz`.
    pub(crate) fn find(&self, name: &str) -> Option<PathBuf> {
        locate(&self.dir.join(name))
    }

    /// The refusal of files that are not there.
    pub(crate) fn lacks(&self, card: &BenchmarkCard, missing: Vec<String>) -> Error {
        Error::MissingData {
            benchmark: card.name.clone(),
            root: self.dir.clone(),
            missing: Listing(missing),
            obtained: card.how_obtained(),
        }
    }
}

impl<'s> Reading<'s> {
    pub fn new(card: &'s BenchmarkCard, source: &'s Source) -> Self {
        Self {
            card,
            source,
            files: BTreeMap::new(),
            notes: Vec::new(),
            official: true,
        }
    }

    /// Reads a file by its name in the card.
    ///
    /// # Errors
    /// [`Error::MissingData`], a file that cannot be read, is too large or is not UTF-8.
    pub fn take(&mut self, name: &str) -> Result<Text> {
        let path = self.source.find(name);
        let path = path.ok_or_else(|| self.lacks(name.to_owned()))?;
        let text = normalised(read_text(&path)?);
        let digest = sha256_hex(text.as_bytes());
        if let Some(file) = self.card.file(name) {
            let published = file.sha256.is_empty() || file.sha256 == digest;
            if !published {
                self.unofficial(format!(
                    "{name} is not the file as published: its digest is another"
                ));
            }
            if file.stand_in {
                self.unofficial(format!(
                    "{name} stands in for the released file: {}",
                    file.holds
                ));
            }
        }
        self.files.insert(name.to_owned(), digest);
        Ok(Text { path, text })
    }

    /// Whether a file of the card is there.
    pub fn has(&self, name: &str) -> bool {
        self.source.find(name).is_some()
    }

    /// Notes why numbers on this are not numbers on the benchmark as published.
    pub fn unofficial(&mut self, note: String) {
        self.official = false;
        self.notes.push(note);
    }

    /// The refusal of a file that is not there.
    pub fn lacks(&self, name: String) -> Error {
        self.source.lacks(self.card, vec![name])
    }

    /// Adds what every report must say.
    pub fn note(&mut self, note: String) {
        self.notes.push(note);
    }

    /// Whether everything that was read is as published.
    pub fn official(&self) -> bool {
        self.official
    }

    /// What every report must say.
    pub fn into_notes(self) -> Vec<String> {
        self.notes
    }

    /// The benchmark of which `items` were read from these files.
    pub fn opened(self, items: Vec<Item>, parts: &[&str]) -> Opened {
        let lines = self
            .files
            .iter()
            .map(|(name, digest)| format!("{digest}  {name}\n"));
        Opened {
            items,
            digest: sha256_hex(lines.collect::<String>().as_bytes()),
            files: self.files,
            pictures: None,
            official: self.official,
            notes: self.notes,
            parts: parts.iter().map(|part| (*part).to_owned()).collect(),
        }
    }
}

/// Reads a file of outputs that is one document.
pub(crate) fn read_output(path: &Path) -> Result<Text> {
    Ok(Text {
        path: path.to_owned(),
        text: normalised(read_text(path)?),
    })
}

/// The text with `\n` at every line's end, as it was published.
fn normalised(text: String) -> String {
    if text.contains('\r') {
        text.replace("\r\n", "\n")
    } else {
        text
    }
}
