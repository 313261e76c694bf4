//! What an interrupted evaluation goes on from.

use std::fs::{self, File, OpenOptions};
use std::path::PathBuf;

use anyhow::Context;
use debias_core::{Cell, Item, ItemLine};

use super::store::RunFolder;

/// The lines of a cell that is not finished.
pub struct Unfinished {
    path: PathBuf,
}

impl Unfinished {
    /// Those of `cell` in the run folder `folder`.
    pub fn of(folder: &RunFolder, cell: &Cell) -> Self {
        let cells = folder.path().join("cells");
        Self {
            path: cells.join(format!("{}.part.jsonl", cell.key())),
        }
    }

    /// What failed, in words.
    pub fn said(&self, action: &str) -> String {
        format!("cannot {action} {}", self.path.display())
    }

    /// The whole lines that are there, as long as they are those of `items`. `window` items are asked as
    /// one, so those of a window that was not finished are left out.
    pub fn read(&self, items: &[Item], window: usize) -> Vec<ItemLine> {
        let text = fs::read_to_string(&self.path).unwrap_or_default();
        let lines = text
            .split_inclusive('\n')
            .filter(|line| line.ends_with('\n'));
        let lines = lines.map_while(|line| serde_json::from_str::<ItemLine>(line).ok());
        let known = lines
            .zip(items)
            .take_while(|(line, item)| line.id == item.id);
        let mut lines: Vec<ItemLine> = known.map(|(line, _)| line).collect();
        if lines.len() < items.len() {
            lines.truncate(lines.len() / window * window);
        }
        lines
    }

    /// The file with `lines` and nothing else, ready for more.
    ///
    /// # Errors
    /// A folder that cannot be written.
    pub fn open(&self, lines: &[ItemLine]) -> anyhow::Result<File> {
        let folder = self.path.parent().context("a part lies in a folder")?;
        fs::create_dir_all(folder).with_context(|| self.said("create"))?;
        let mut text = String::new();
        for line in lines {
            text.push_str(&serde_json::to_string(line)?);
            text.push('\n');
        }
        fs::write(&self.path, text).with_context(|| self.said("write"))?;
        let file = OpenOptions::new().append(true).open(&self.path);
        file.with_context(|| self.said("write"))
    }

    /// Removes the file, if it is there.
    ///
    /// # Errors
    /// A file that cannot be removed.
    pub fn forget(&self) -> anyhow::Result<()> {
        match fs::remove_file(&self.path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(error).with_context(|| self.said("remove"))
            }
            _ => Ok(()),
        }
    }
}
