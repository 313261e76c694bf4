//! What files of stored outputs have in common.

use std::path::{Path, PathBuf};

use debias_core::{AnswerScore, ItemLine};
use serde_json::Value;

use super::opened::Graded;
use super::rows::{Flaw, Row, rows_in};
use crate::{Error, Result};

/// A score that somebody else computed, of an answer whose tokens are not known.
pub(crate) fn certain(score: f64) -> AnswerScore {
    AnswerScore {
        sum: score,
        mean: score,
        tokens: 1,
        correct: 0,
    }
}

/// The record lines of a run folder.
///
/// # Errors
/// [`Error::Rows`] for what is no such line.
fn lines_of(path: &Path) -> Result<Vec<ItemLine>> {
    rows_in(path, |row| {
        let line = serde_json::from_value(Value::Object(row.clone()));
        line.map_err(|error| Flaw::new(error.to_string()))
    })
}

/// Whether these are the record lines of cells, `cells/<key>.jsonl` of a run folder, of whatever
/// benchmark.
///
/// # Errors
/// A file that cannot be read.
pub(crate) fn are_cells(files: &[PathBuf]) -> Result<bool> {
    for path in files {
        let holds_answers =
            |row: &Row| Ok(["before", "after"].iter().any(|key| row.contains_key(*key)));
        if !is_lines(path) || !rows_in(path, holds_answers)?.contains(&true) {
            return Ok(false);
        }
    }
    Ok(true)
}

/// The lines of cells, as they were stored.
///
/// # Errors
/// [`Error::Rows`] for what is no such line.
pub(crate) fn cells(files: &[PathBuf]) -> Result<Graded> {
    let sets = files.iter().map(|file| {
        let name = file.file_stem().unwrap_or(file.as_os_str());
        Ok((name.to_string_lossy().into_owned(), lines_of(file)?))
    });
    Ok(Graded {
        sets: sets.collect::<Result<_>>()?,
        figures: Value::Null,
        official: true,
        notes: Vec::new(),
    })
}

/// Whether a file is JSON lines by its name.
pub(crate) fn is_lines(path: &Path) -> bool {
    let name = bare(path);
    name.ends_with(".jsonl") || name.ends_with(".ndjson")
}

/// Whether a file is comma-separated by its name.
pub(crate) fn is_table(path: &Path) -> bool {
    bare(path).ends_with(".csv")
}

/// The name under which the figures of each file are printed: that of the model, where the file is
/// called `predictions_<model>.json` or `<model>_scores.jsonl`.
///
/// # Errors
/// Two files that give the same name.
pub(crate) fn names(files: &[PathBuf]) -> Result<Vec<String>> {
    let mut names: Vec<String> = Vec::new();
    for path in files {
        let file = bare(path);
        let stem = file
            .rsplit_once('.')
            .map_or(file.as_str(), |(stem, _)| stem);
        let stem = stem.strip_prefix("predictions_").unwrap_or(stem);
        let name = stem.strip_suffix("_scores").unwrap_or(stem).to_owned();
        if names.contains(&name) {
            let problem =
                format!("is the second file whose figures would be called `{name}`; rename it");
            return Err(Error::format(path, problem));
        }
        names.push(name);
    }
    Ok(names)
}

/// The file's name without `.gz`.
fn bare(path: &Path) -> String {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    name.strip_suffix(".gz").unwrap_or(&name).to_owned()
}
