//! The embedded town of [`crate::toytown`] as a dataset.

use std::path::Path;
use std::sync::OnceLock;

use debias_core::{Picture, Record, Split, Task, sha256_hex};

use crate::dataset::validated;
use crate::request::to_json;
use crate::toytown::{Town, Variant, draw};
use crate::{Card, Collection, Dataset, Error, Folder, Result};

/// Records per task and split: eight scenes for every topic and group in evaluation.
const SIZES: [(Split, usize); 3] = [(Split::Train, 400), (Split::Val, 80), (Split::Eval, 160)];

/// Scenes whose drawing goes into the digest; together they show every value of every fact.
const FINGERPRINT: usize = 32;

const REMARK: &str = "toytown is an invented world: its groups depict nobody, and its figures say nothing about people";

/// The embedded dataset.
pub struct Toytown;

impl Dataset for Toytown {
    fn card(&self) -> &Card {
        static CARD: OnceLock<Card> = OnceLock::new();
        CARD.get_or_init(|| {
            Card::parse(include_str!("../../../../datasets/toytown.toml"))
                .expect("the embedded card is parsed by a test")
        })
    }

    fn is_generated(&self) -> bool {
        true
    }

    fn tasks(&self) -> &'static [Task] {
        &Task::PICTURED
    }

    /// Generates the town, or with `root` reads the folder that was built there.
    fn open(&self, root: Option<&Path>, seed: u64) -> Result<Box<dyn Collection>> {
        match root {
            Some(dir) => Ok(Box::new(Folder::open(dir)?)),
            None => Ok(Box::new(Generated {
                town: Town::new(seed, Variant::default()),
            })),
        }
    }
}

struct Generated {
    town: Town,
}

impl Collection for Generated {
    fn records(&self, task: Task) -> Result<Vec<Record>> {
        let records = SIZES
            .into_iter()
            .flat_map(|(split, size)| self.town.records(task, split, size))
            .collect();
        validated(Path::new("toytown"), records)
    }

    fn picture(&self, key: &str) -> Result<Picture> {
        self.town.picture(key).ok_or_else(|| Error::UnknownPicture {
            dataset: "toytown".to_owned(),
            key: key.to_owned(),
        })
    }

    /// Every record, and the drawing of scenes that together show everything that can be drawn.
    fn digest(&self) -> Result<String> {
        let mut lines = Vec::new();
        for task in Task::PICTURED {
            for record in self.records(task)? {
                lines.push(to_json(&record).to_string());
            }
        }
        let scenes = self.town.scenes(Split::Train).iter().take(FINGERPRINT);
        for scene in scenes {
            let views = [0, 1].map(|view| draw(scene, view).into_rgb()).concat();
            lines.push(sha256_hex(&views));
        }
        Ok(sha256_hex(lines.join("\n").as_bytes()))
    }

    fn m_locality_source(&self) -> &str {
        "toytown-neutral"
    }

    fn remark(&self) -> Option<&str> {
        Some(REMARK)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_those_of_the_card() {
        let town = Toytown.open(None, 0).expect("opens");
        for task in Task::PICTURED {
            let records = town.records(task).expect("records");
            for (split, size) in SIZES {
                assert_eq!(records.iter().filter(|r| r.split == split).count(), size);
            }
        }
    }

    #[test]
    fn the_fingerprint_shows_every_value_of_every_fact() {
        let town = Town::new(0, Variant::default());
        for (fact, &size) in Town::label_sizes().iter().enumerate() {
            for value in 0..size {
                let mut shown = town.scenes(Split::Train).iter().take(FINGERPRINT);
                assert!(shown.any(|scene| usize::from(scene.labels()[fact]) == value));
            }
        }
    }

    #[test]
    fn the_digest_is_frozen() {
        let digest = |seed| {
            Toytown
                .open(None, seed)
                .expect("opens")
                .digest()
                .expect("digest")
        };
        assert_eq!(
            digest(0),
            "7a0b735fc8a5a057057456d4d3fcc49dcbc17b54bdcf70710850c5ff3be8e78e"
        );
        assert_ne!(
            digest(0),
            digest(1),
            "the seed decides wordings and pairings"
        );
    }

    #[test]
    fn keys_are_looked_up_and_never_opened() {
        let town = Toytown.open(None, 0).expect("opens");
        assert!(town.picture("eval/0007/1.png").is_ok());
        for key in [
            "eval/9999/0.png",
            "eval/7/0.png",
            "../eval/0007/0.png",
            "/etc/passwd",
            "",
        ] {
            assert!(
                matches!(town.picture(key), Err(Error::UnknownPicture { .. })),
                "{key}"
            );
        }
    }
}
