//! The run folder: results as files named by what made them.
//!
//! ```text
//! results/<suite>-<plan digest>/
//!   run.json             the printed object plus provenance
//!   cells/<key>.jsonl    one line per record
//!   cells/<key>.run.json what the cell and each of its records cost: provenance
//!   cells/<key>.json     the cell; written last, holds the digest of its lines
//! ```
//!
//! A cell is there once `<key>.json` is, and everything it needs was written before it. No timing
//! stands in `<key>.json` and `<key>.jsonl`, so equal runs store equal bytes. Nothing is ever
//! deleted.

mod earlier;

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use anyhow::Context;
use debias_core::{
    Cell, CellKey, CellResult, Cost, FORMAT_MAJOR, ItemLine, Plan, STORED, Status, sha256_hex,
};
use debias_weights::write_atomic;
use serde::{Deserialize, Serialize};

pub use self::earlier::Earlier;
use crate::results::{current_versions, measured};
use crate::terminal::exit::Exit;
use crate::terminal::failure::Refusal;

/// The file that lists the cells of a run.
const RUN: &str = "run.json";

/// The folder with the answers of never-edited models.
const BASES: &str = "base";

/// Hexadecimal digits of the plan's digest in the folder's name.
const DIGEST_DIGITS: usize = 12;

/// What `cells/<key>.json` holds.
#[derive(Serialize, Deserialize)]
struct StoredCell {
    format: String,
    key: CellKey,
    records_sha256: String,
    #[serde(flatten)]
    result: CellResult,
}

/// What the edit of one record cost: provenance, beside the cell's own cost.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RecordCost {
    /// The record.
    pub id: String,
    /// Seconds of making its edit; of the call that made it, shared among the records of the call.
    pub edit_s: f64,
    /// Seconds of scoring through it, shared among the records that were scored together. On a card
    /// part of `edit_s` shows here, because nobody waits for an edit before it is looked through.
    pub score_s: f64,
    /// Bytes that the edit holds; absent where there is none.
    pub bytes: Option<usize>,
    /// Highest resident memory of the process when the edit was there.
    pub peak_bytes: u64,
}

/// What `cells/<key>.run.json` holds.
#[derive(Serialize)]
struct StoredCost<'a> {
    #[serde(flatten)]
    cost: Cost,
    per_record: &'a [RecordCost],
}

/// What the store knows about a cell.
#[derive(Debug, PartialEq)]
pub enum Lookup {
    /// It is there, whole.
    Hit(Box<CellResult>),
    /// Its lines are there, whole, and its numbers were computed from them again; the reason.
    Measured(Box<CellResult>, Again),
    /// It was never stored.
    Miss,
    /// It was stored as a failure, which is tried again.
    Failed(Box<CellResult>),
    /// Its files are damaged; the reason.
    Damaged(String),
}

/// Why the numbers of a cell were computed from its lines again.
#[derive(Clone, Debug, PartialEq)]
pub enum Again {
    /// These columns are new or changed since it was stored.
    Columns(Vec<String>),
    /// It lies in a folder of format 1.
    Earlier(Earlier),
}

/// A folder with the results of one plan.
#[derive(Clone, Debug)]
pub struct RunFolder {
    path: PathBuf,
}

impl RunFolder {
    /// The folder that all plans below `out` share: what the never-edited models answer.
    pub fn of_bases(out: &Path) -> Self {
        Self {
            path: out.join(BASES),
        }
    }

    /// The folder of `plan` under `out`; nothing is created.
    pub fn of(out: &Path, suite: &str, plan: &Plan) -> Self {
        let digest = &plan.digest()[..DIGEST_DIGITS];
        Self {
            path: out.join(format!("{suite}-{digest}")),
        }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Checks that the folder can be written, without leaving a trace.
    ///
    /// # Errors
    /// A [`Refusal`] naming the folder.
    pub fn check_writable(&self) -> anyhow::Result<()> {
        let mut existing = self.path.as_path();
        while !existing.exists() {
            existing = match existing.parent() {
                Some(parent) if parent.as_os_str().is_empty() => Path::new("."),
                Some(parent) => parent,
                None => break,
            };
        }
        let probe = match existing.is_dir() {
            true => tempfile::tempfile_in(existing).map(drop),
            false => Err(io::Error::from(io::ErrorKind::NotADirectory)),
        };
        probe.map_err(|source| {
            anyhow::Error::new(source).context(
                Refusal::new(
                    Exit::Refused,
                    format!("cannot write results below {}", existing.display()),
                )
                .help("Name a writable folder with --out."),
            )
        })
    }

    /// Looks a cell up and verifies it: key, cell and the digest of its lines.
    ///
    /// # Errors
    /// A [`Refusal`] with exit status 5 when a newer `bench` wrote it.
    pub fn get(&self, cell: &Cell) -> anyhow::Result<Lookup> {
        let key = cell.key();
        let path = self.file(&key, "json");
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return self.earlier(cell),
            Err(error) => return Ok(Lookup::Damaged(format!("{}: {error}", path.display()))),
        };
        refuse_newer(&path, &text)?;
        let result = match self.verify(cell, &key, &text) {
            Ok(result) if result.status == Status::Failed => {
                return Ok(Lookup::Failed(Box::new(result)));
            }
            Ok(result) => result,
            Err(problem) => {
                return Ok(Lookup::Damaged(format!("{}: {problem:#}", path.display())));
            }
        };
        let changed = changed(&path, &result)?;
        if changed.is_empty() {
            return Ok(Lookup::Hit(Box::new(result)));
        }
        let lines = self.lines(&result)?;
        let result = measured(result, &lines)?;
        Ok(Lookup::Measured(Box::new(result), Again::Columns(changed)))
    }

    /// The cell as format 1 stored it in any run folder beside this one.
    fn earlier(&self, cell: &Cell) -> anyhow::Result<Lookup> {
        let out = self.path.parent().unwrap_or(Path::new("."));
        let Some(earlier) = Earlier::find(out, cell) else {
            return Ok(Lookup::Miss);
        };
        Ok(match earlier.read(cell) {
            Ok(result) if result.status == Status::Failed => Lookup::Miss,
            Ok(result) => {
                let result = measured(result, &earlier.lines()?)?;
                Lookup::Measured(Box::new(result), Again::Earlier(earlier))
            }
            Err(problem) => Lookup::Damaged(format!("{}: {problem:#}", earlier.path().display())),
        })
    }

    fn verify(&self, cell: &Cell, key: &CellKey, text: &str) -> anyhow::Result<CellResult> {
        let stored: StoredCell = serde_json::from_str(text)?;
        anyhow::ensure!(stored.result.cell == *cell, "it belongs to another cell");
        anyhow::ensure!(stored.key == *key, "its key is not that of its cell");
        let lines = fs::read(self.file(key, "jsonl")).context("its record lines cannot be read")?;
        anyhow::ensure!(
            sha256_hex(&lines) == stored.records_sha256,
            "its record lines are not those it was computed from"
        );
        let cost = fs::read(self.file(key, "run.json")).context("its cost cannot be read")?;
        let cost: Cost = serde_json::from_slice(&cost).context("its cost cannot be read")?;
        Ok(CellResult {
            cost: Some(cost),
            ..stored.result
        })
    }

    /// Keeps what [`RunFolder::get`] computed again.
    ///
    /// # Errors
    /// When a file cannot be written.
    pub fn keep(&self, result: &CellResult, again: &Again) -> anyhow::Result<()> {
        match again {
            Again::Earlier(earlier) => self.put(result, &earlier.lines()?, &earlier.costs()),
            Again::Columns(_) => {
                let key = result.key();
                let lines = fs::read(self.file(&key, "jsonl"))?;
                self.put_result(result, sha256_hex(&lines))
            }
        }
    }

    /// Stores a cell: lines first, the cell last.
    ///
    /// # Errors
    /// When a file cannot be written; the cell is then not there.
    pub fn put(
        &self,
        result: &CellResult,
        lines: &[ItemLine],
        costs: &[RecordCost],
    ) -> anyhow::Result<()> {
        let cells = self.path.join("cells");
        fs::create_dir_all(&cells).with_context(|| format!("cannot create {}", cells.display()))?;
        let mut text = String::new();
        for line in lines {
            text.push_str(&serde_json::to_string(line)?);
            text.push('\n');
        }
        let key = result.key();
        write_atomic(&self.file(&key, "jsonl"), text.as_bytes())?;
        write_json(
            &self.file(&key, "run.json"),
            &StoredCost {
                cost: result.cost.unwrap_or_default(),
                per_record: costs,
            },
        )?;
        self.put_result(result, sha256_hex(text.as_bytes()))
    }

    fn put_result(&self, result: &CellResult, records_sha256: String) -> anyhow::Result<()> {
        let key = result.key();
        let stored = StoredCell {
            format: STORED.to_owned(),
            key: key.clone(),
            records_sha256,
            result: CellResult {
                cost: None,
                ..result.clone()
            },
        };
        write_json(&self.file(&key, "json"), &stored)
    }

    /// The record lines of a stored cell.
    ///
    /// # Errors
    /// When they cannot be read.
    pub fn lines(&self, result: &CellResult) -> anyhow::Result<Vec<ItemLine>> {
        read_lines(&self.file(&result.key(), "jsonl"))
    }

    /// Waits until nobody else computes the cell `key`, and keeps others waiting until what is returned
    /// is dropped, or the process ends however it ends.
    ///
    /// # Errors
    /// When the folder cannot be written.
    pub fn claim(&self, key: &CellKey) -> anyhow::Result<Claim> {
        let cells = self.path.join("cells");
        let missing = cells.ancestors().take_while(|dir| !dir.exists());
        let made: Vec<PathBuf> = missing.map(Path::to_owned).collect();
        fs::create_dir_all(&cells).with_context(|| format!("cannot create {}", cells.display()))?;
        let lock = self.file(key, "lock");
        let said = || format!("cannot lock {}", lock.display());
        let file = File::create(&lock).with_context(said)?;
        file.lock().with_context(said)?;
        Ok(Claim {
            _file: file,
            result: self.file(key, "json"),
            lock,
            made,
        })
    }

    /// Whether `run.json` is there.
    pub fn has_run(&self) -> bool {
        self.path.join(RUN).is_file()
    }

    /// Writes a picture, such as `chart.svg` or the loss curve of a training.
    ///
    /// # Errors
    /// When the folder cannot be written.
    pub fn write_picture(&self, name: &str, svg: &str) -> anyhow::Result<()> {
        let path = self.path.join(name);
        let folder = path.parent().unwrap_or(&self.path);
        fs::create_dir_all(folder)
            .with_context(|| format!("cannot create {}", folder.display()))?;
        Ok(write_atomic(&path, svg.as_bytes())?)
    }

    /// Writes `run.json`.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn write_run(&self, run: &impl Serialize) -> anyhow::Result<()> {
        fs::create_dir_all(&self.path)
            .with_context(|| format!("cannot create {}", self.path.display()))?;
        write_json(&self.path.join(RUN), run)
    }

    fn file(&self, key: &CellKey, extension: &str) -> PathBuf {
        self.path.join("cells").join(format!("{key}.{extension}"))
    }
}

/// The lines of a file of records.
fn read_lines(path: &Path) -> anyhow::Result<Vec<ItemLine>> {
    let said = || format!("cannot read {}", path.display());
    let text = fs::read_to_string(path).with_context(said)?;
    let lines = text
        .lines()
        .map(|line| serde_json::from_str(line).with_context(said));
    lines.collect()
}

/// The columns whose definition is not the one that `result` was computed by.
fn changed(path: &Path, result: &CellResult) -> anyhow::Result<Vec<String>> {
    let current = current_versions(&result.cell.benchmark.id)?;
    let newer = result
        .versions
        .iter()
        .find(|(id, version)| current.get(*id).is_none_or(|known| known < *version));
    if let Some((column, version)) = newer {
        return Err(Refusal::new(
            Exit::NewerFormat,
            format!(
                "{}: column `{column}` is of version {version}, which this bench does not know",
                path.display()
            ),
        )
        .help("Upgrade bench, or name another folder with --out.")
        .into());
    }
    let same = |id: &String, version: &u32| result.versions.get(id) == Some(version);
    let current = current
        .into_iter()
        .filter(|(id, version)| !same(id, version));
    Ok(current.map(|(id, _)| id).collect())
}

fn write_json(path: &Path, value: &impl Serialize) -> anyhow::Result<()> {
    let mut text = serde_json::to_string_pretty(value)?;
    text.push('\n');
    Ok(write_atomic(path, text.as_bytes())?)
}

/// Refuses a file whose major format is above ours, before anything else of it is believed.
fn refuse_newer(path: &Path, text: &str) -> anyhow::Result<()> {
    #[derive(Deserialize)]
    struct Header {
        format: String,
    }
    let newer = serde_json::from_str::<Header>(text).ok().filter(|header| {
        let major = header
            .format
            .split('.')
            .next()
            .and_then(|n| n.parse::<u32>().ok());
        major.is_some_and(|major| major > FORMAT_MAJOR)
    });
    match newer {
        None => Ok(()),
        Some(header) => Err(Refusal::new(
            Exit::NewerFormat,
            format!(
                "{} has format {}, this bench reads {FORMAT_MAJOR}.x",
                path.display(),
                header.format
            ),
        )
        .help("Upgrade bench, or name another folder with --out.")
        .into()),
    }
}

/// The right to compute a cell, until it is dropped. Where nothing came of it, no file and no folder
/// remains.
#[derive(Debug)]
pub struct Claim {
    /// Locked as long as it is open.
    _file: File,
    lock: PathBuf,
    /// The file that says that the cell is stored.
    result: PathBuf,
    /// Folders that were made for it, innermost first.
    made: Vec<PathBuf>,
}

impl Drop for Claim {
    fn drop(&mut self) {
        if self.result.exists() {
            return;
        }
        // What others have put there since stays: only empty folders can be removed.
        let _ = fs::remove_file(&self.lock);
        for dir in &self.made {
            let _ = fs::remove_dir(dir);
        }
    }
}

#[cfg(test)]
mod tests;
