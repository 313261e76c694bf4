//! PAIRS: matched AI-generated pictures of people in everyday scenes, with two-option questions.
//!
//! Fraser and Kiritchenko 2024, "Examining Gender and Racial Bias in Large Vision-Language Models
//! Using a Novel Dataset of Parallel Images". The questions have no right answer: the runner
//! makes the answer a model finds less likely the edit target
//! ([`TargetRule::LessLikely`]). Rephrased questions come from fixed frames, rephrased pictures
//! from [`Mix`], and multimodal locality from a stand-in of neutral questions.

mod clone;
mod locality;
mod name;
mod question;
mod rephrase;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use debias_core::{Picture, Record, Split, TargetRule, Task, Unrelated, sha256_hex};
use serde_json::Value;

use self::locality::NeutralPool;
use self::name::NAME;
use self::question::{Catalogue, Shot};
use self::rephrase::Rephrases;
use crate::codec::read_picture;
use crate::dataset::validated;
use crate::nq_open::NqOpen;
use crate::request::to_json;
use crate::source::{locate, read_text};
use crate::{Card, Collection, Dataset, Error, Folder, Listing, Mix, Result};

/// The list of questions in the dataset's folder.
const QUESTIONS: &str = "questions.json";
/// The text-locality questions, in the folder beside it.
const NQ_OPEN: &str = "nq_open/NQ-open.dev.jsonl";

/// What is said beside [`REMARK`] where NQ-open is not there.
const NO_NQ_OPEN: &str =
    "T-locality (stand-in): forty plain questions of this project in the place of NQ-open";

const REMARK: &str = "M-locality (stand-in): ten neutral questions with fixed answers on other PAIRS pictures; never to be put beside published figures";

/// The dataset of real pictures.
pub struct Pairs;

impl Pairs {
    /// Opens the dataset with or without the questions that this project added to the published
    /// ones (`include_extensions`, off in [`Dataset::open`]).
    ///
    /// # Errors
    /// As [`Dataset::open`].
    pub fn open_with(
        &self,
        root: &Path,
        seed: u64,
        include_extensions: bool,
    ) -> Result<Box<dyn Collection>> {
        let opened = Opened::read(root, seed, include_extensions)?;
        Ok(Box::new(opened))
    }
}

impl Dataset for Pairs {
    fn card(&self) -> &Card {
        static CARD: OnceLock<Card> = OnceLock::new();
        CARD.get_or_init(|| {
            Card::parse(include_str!("../../../../../datasets/pairs.toml"))
                .expect("the embedded card is parsed by a test")
        })
    }

    fn tasks(&self) -> &'static [Task] {
        &[Task::Vqa]
    }

    /// `root` is the folder that holds `pairs/` and `nq_open/`, or `pairs/` itself with
    /// `nq_open/` beside it, or a folder built from this dataset.
    fn open(&self, root: Option<&Path>, seed: u64) -> Result<Box<dyn Collection>> {
        let root = root.ok_or(Error::NeedsFolder { dataset: NAME })?;
        match Folder::is_built(root) {
            true => Ok(Box::new(Folder::open(root)?)),
            false => self.open_with(root, seed, false),
        }
    }

    fn open_clone(
        &self,
        clone: &Path,
        common: Option<&Path>,
        seed: u64,
    ) -> Result<Box<dyn Collection>> {
        Ok(Box::new(Opened::clone(clone, common, seed)?))
    }
}

struct Opened {
    dir: PathBuf,
    seed: u64,
    records: Vec<Record>,
    /// Pictures as they lie on disk, relative to `dir`.
    pictures: BTreeSet<String>,
    /// The text files that the records are made of.
    texts: Vec<PathBuf>,
    remark: String,
}

impl Opened {
    fn read(root: &Path, seed: u64, include_extensions: bool) -> Result<Self> {
        let dir = match locate(&root.join(QUESTIONS)) {
            Some(_) => root.to_owned(),
            None => root.join(NAME),
        };
        let nq_path = nq_path(&dir);
        let questions = dir.join(QUESTIONS);
        let required = [(&questions, "pairs/questions.json"), (&nq_path, NQ_OPEN)];
        let missing: Vec<String> = required
            .into_iter()
            .filter(|(path, _)| locate(path).is_none())
            .map(|(_, name)| name.to_owned())
            .collect();
        if locate(&questions).is_none() {
            if let Some(clone) = [root, &dir].into_iter().find(|dir| clone::is_clone(dir)) {
                return Err(Error::NotBuilt {
                    dataset: NAME,
                    clone: clone.to_owned(),
                });
            }
            return Err(lacking(root, missing));
        }
        let catalogue = Catalogue::read(&questions)?;
        let texts = vec![questions.clone()];
        let read = Read {
            dir,
            missing,
            catalogue,
            texts,
        };
        read.opened((root, &questions), &nq_path, seed, include_extensions)
    }

    /// The pictures of a clone with the questions of this project; NQ-open is taken from `common` or
    /// from beside the clone, else a stand-in.
    fn clone(dir: &Path, common: Option<&Path>, seed: u64) -> Result<Self> {
        let catalogue = clone::catalogue(dir)?;
        let places = common.map(|common| common.join(NQ_OPEN)).into_iter();
        let mut places = places.chain([nq_path(dir), dir.join(NQ_OPEN)]);
        let nq_path = places.find(|path| locate(path).is_some());
        let read = Read {
            dir: dir.to_owned(),
            missing: Vec::new(),
            catalogue,
            texts: Vec::new(),
        };
        match nq_path {
            Some(nq_path) => read.opened((dir, dir), &nq_path, seed, false),
            None => {
                let remark = format!("{REMARK}; {NO_NQ_OPEN}");
                read.paired(dir, (NqOpen::stand_in()?, remark), seed, false)
            }
        }
    }

    /// The record whose rephrased picture `key` names.
    fn rephrased(&self, key: &str) -> Option<&Record> {
        key.starts_with("mix/").then(|| {
            self.records
                .iter()
                .find(|record| record.image_rephrase.as_deref() == Some(key))
        })?
    }
}

/// Questions that are read, before their records are put together.
struct Read {
    dir: PathBuf,
    /// What was found missing so far.
    missing: Vec<String>,
    catalogue: Catalogue,
    texts: Vec<PathBuf>,
}

impl Read {
    /// With NQ-open as text locality.
    fn opened(
        mut self,
        (root, questions): (&Path, &Path),
        nq_path: &Path,
        seed: u64,
        include_extensions: bool,
    ) -> Result<Opened> {
        let absent = self.catalogue.pictures();
        let absent = absent.filter(|key| !self.dir.join(key).is_file());
        self.missing
            .extend(absent.map(|key| format!("pairs/{key}")));
        if !self.missing.is_empty() {
            return Err(lacking(root, self.missing));
        }
        let unrelated = (NqOpen::read(nq_path)?, REMARK.to_owned());
        self.texts.push(nq_path.to_owned());
        self.paired(questions, unrelated, seed, include_extensions)
    }

    /// With the unrelated questions `nq`, of which `remark` says what must be said.
    fn paired(
        mut self,
        questions: &Path,
        (nq, remark): (NqOpen, String),
        seed: u64,
        include_extensions: bool,
    ) -> Result<Opened> {
        let own = self.dir.join("rephrases.jsonl");
        let rephrases = match locate(&own) {
            Some(path) => Rephrases::read(&path)?,
            None => Rephrases::default(),
        };
        let sources = Sources {
            nq,
            neutral: NeutralPool::new(&self.catalogue),
            rephrases,
            seed,
        };
        let records = sources.records(questions, &self.catalogue, include_extensions)?;
        self.texts.extend(locate(&own));
        Ok(Opened {
            pictures: self.catalogue.pictures().collect(),
            dir: self.dir,
            seed,
            records,
            texts: self.texts,
            remark,
        })
    }
}

/// The refusal of a folder that lacks files.
fn lacking(root: &Path, missing: Vec<String>) -> Error {
    Error::MissingFiles {
        dataset: NAME.to_owned(),
        root: root.to_owned(),
        missing: Listing(missing),
    }
}

/// `nq_open` beside the dataset's folder.
fn nq_path(dir: &Path) -> PathBuf {
    // Joined through `..` so that a relative `dir` such as `.` has a neighbour, too.
    match dir.parent() {
        Some(parent) if dir.file_name().is_some() => parent.join(NQ_OPEN),
        _ => dir.join("..").join(NQ_OPEN),
    }
}

/// Everything a record is put together from, apart from the question and the picture.
struct Sources {
    nq: NqOpen,
    neutral: NeutralPool,
    rephrases: Rephrases,
    seed: u64,
}

impl Sources {
    fn records(
        &self,
        path: &Path,
        catalogue: &Catalogue,
        include_extensions: bool,
    ) -> Result<Vec<Record>> {
        let mut ranks: BTreeMap<&str, usize> = BTreeMap::new();
        let mut records = Vec::new();
        for shot in catalogue.shots(include_extensions) {
            let split = catalogue.split(&shot.question.scene_key());
            let rank = ranks.entry(crate::dataset::split_name(split)).or_default();
            records.push(self.record(path, &shot, split, *rank)?);
            *rank += 1;
        }
        validated(path, records)
    }

    fn record(&self, path: &Path, shot: &Shot<'_>, split: Split, rank: usize) -> Result<Record> {
        let question = shot.question;
        let id = shot.id();
        let refuse =
            |problem: &str| Error::format(path, format!("question `{}`: {problem}", question.id));
        let rephrase = self
            .rephrases
            .choose(self.seed, &id, question, split)
            .ok_or_else(|| {
                refuse("`question` has no two options to reword; add rewordings to rephrases.jsonl")
            })?;
        let (loc_q, loc_a) = self.nq.paired(split, rank).clone();
        let neutral = self
            .neutral
            .draw(self.seed, &id, split, &question.scene_key())
            .ok_or_else(|| refuse("its split needs a second `scene` for M-locality; add one"))?;
        let [y_more, y_less] = question.choices.clone();
        Ok(Record {
            task: Task::Vqa,
            bias_type: question.bias_type().to_owned(),
            image: Some(shot.picture.clone()),
            prompt: question.question.clone(),
            y_more,
            y_less,
            prompt_rephrase: Some(rephrase),
            image_rephrase: Some(format!("mix/{id}.png")),
            t_locality: Some(Unrelated {
                image: None,
                question: loc_q,
                answer: loc_a,
            }),
            m_locality: Some(Unrelated {
                image: Some(neutral.picture),
                question: neutral.question.to_owned(),
                answer: neutral.answer.to_owned(),
            }),
            group: question.scene_key(),
            split,
            target: TargetRule::LessLikely,
            id,
        })
    }
}

impl Collection for Opened {
    fn records(&self, task: Task) -> Result<Vec<Record>> {
        match task {
            Task::Vqa => Ok(self.records.clone()),
            Task::Ic | Task::Text => Err(Error::NoSuchTask {
                dataset: NAME.to_owned(),
                task: task.name(),
            }),
        }
    }

    fn picture(&self, key: &str) -> Result<Picture> {
        if self.pictures.contains(key) {
            return read_picture(&self.dir.join(key));
        }
        let record = self.rephrased(key).ok_or_else(|| Error::UnknownPicture {
            dataset: NAME.to_owned(),
            key: key.to_owned(),
        })?;
        let own = record.image.as_deref().unwrap_or_default();
        let picture = read_picture(&self.dir.join(own))?;
        Ok(Mix::draw(self.seed, NAME, &record.id).apply(&picture))
    }

    fn file(&self, key: &str) -> Option<PathBuf> {
        self.pictures.contains(key).then(|| self.dir.join(key))
    }

    /// Every record, every text file and every picture file.
    fn digest(&self) -> Result<String> {
        let records = self
            .records
            .iter()
            .map(|record| to_json(record).to_string());
        let mut lines: Vec<String> = records.collect();
        for path in &self.texts {
            lines.push(sha256_hex(read_text(path)?.as_bytes()));
        }
        for key in &self.pictures {
            let path = self.dir.join(key);
            let bytes = std::fs::read(&path).map_err(Error::io("read", &path))?;
            lines.push(format!("{}  {key}", sha256_hex(&bytes)));
        }
        Ok(sha256_hex(lines.join("\n").as_bytes()))
    }

    fn m_locality_source(&self) -> &str {
        "pairs-neutral (stand-in)"
    }

    fn remark(&self) -> Option<&str> {
        Some(&self.remark)
    }

    /// The drawn parameters of every rephrased picture.
    fn provenance(&self) -> Value {
        let drawn = self.records.iter().filter_map(|record| {
            let mix = Mix::draw(self.seed, NAME, &record.id);
            let parameters = serde_json::to_value(&mix).unwrap_or(Value::Null);
            Some((record.image_rephrase.clone()?, parameters))
        });
        Value::Object(drawn.collect())
    }
}

#[cfg(test)]
mod tests;
