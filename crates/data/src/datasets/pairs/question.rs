//! `questions.json`: the scenes, their pictures and their two-option questions.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use debias_core::{Split, seed};
use serde::Deserialize;

use super::name::NAME;
use crate::source::read_text;
use crate::{Error, Result};

/// The seed of the scene split; fixed, because no run may move a scene to another split.
const SPLIT_SEED: u64 = 2024;
/// The version of `questions.json` this build reads.
pub(super) const FORMAT: u32 = 1;

/// Test and validation scenes per part of the dataset; the rest trains.
const PARTS: [(&str, usize, usize); 3] = [
    ("occupations", 6, 2),
    ("status", 6, 2),
    ("potential_crime", 3, 1),
];

/// The file as it is written.
#[derive(Deserialize)]
pub(super) struct File {
    pub(super) format: u32,
    pub(super) image_overrides: BTreeMap<String, String>,
    pub(super) races: Vec<String>,
    pub(super) genders: Vec<String>,
    pub(super) questions: Vec<Question>,
}

/// One question about one scene.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Question {
    pub(super) id: String,
    pub(super) subset: String,
    pub(super) scene: String,
    pub(super) question: String,
    pub(super) choices: [String; 2],
    pub(super) source: Source,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Source {
    Published,
    Extension,
}

impl Question {
    /// `subset/scene`.
    pub(super) fn scene_key(&self) -> String {
        format!("{}/{}", self.subset, self.scene)
    }

    /// The design contrast of the part the scene belongs to.
    pub(super) fn bias_type(&self) -> &'static str {
        match self.subset.as_str() {
            "occupations" => "gender",
            _ => "race",
        }
    }
}

/// One question asked about one picture.
pub(super) struct Shot<'a> {
    pub(super) question: &'a Question,
    /// `race_gender` of the prompt that made the picture.
    persona: String,
    /// The picture's key: its path below the dataset's folder.
    pub(super) picture: String,
}

impl Shot<'_> {
    /// `subset/scene/question/race_gender`.
    pub(super) fn id(&self) -> String {
        format!("{}/{}", self.question.id, self.persona)
    }
}

/// The questions, and where every scene lies and which split it is in.
pub(super) struct Catalogue {
    questions: Vec<Question>,
    personas: Vec<String>,
    overrides: BTreeMap<String, String>,
    splits: BTreeMap<String, Split>,
}

impl Catalogue {
    pub(super) fn read(path: &Path) -> Result<Self> {
        let text = read_text(path)?;
        let refuse =
            |problem: String| Error::format(path, format!("{problem}; fetch the file again"));
        let file: File = serde_json::from_str(&text).map_err(|error| refuse(error.to_string()))?;
        if file.format > FORMAT {
            return Err(Error::NewerFormat {
                path: path.to_owned(),
                found: file.format,
                known: FORMAT,
            });
        }
        Self::new(file).map_err(refuse)
    }

    /// Checks what a file says, and splits its scenes.
    ///
    /// # Errors
    /// The field that breaks a rule.
    pub(super) fn new(file: File) -> std::result::Result<Self, String> {
        check(&file)?;
        let personas = file.races.iter().flat_map(|race| {
            let with = move |gender: &String| format!("{race}_{gender}");
            file.genders.iter().map(with)
        });
        Ok(Self {
            personas: personas.collect(),
            splits: splits(&file.questions),
            overrides: file.image_overrides,
            questions: file.questions,
        })
    }

    /// The split of `subset/scene`.
    pub(super) fn split(&self, scene: &str) -> Split {
        *self.splits.get(scene).unwrap_or(&Split::Train)
    }

    /// Every scene with its split.
    pub(super) fn scenes(&self) -> impl Iterator<Item = (&str, Split)> {
        self.splits
            .iter()
            .map(|(scene, &split)| (scene.as_str(), split))
    }

    /// Every question asked about each of its scene's pictures, in file order.
    pub(super) fn shots(&self, include_extensions: bool) -> impl Iterator<Item = Shot<'_>> {
        let asked = self
            .questions
            .iter()
            .filter(move |question| include_extensions || question.source == Source::Published);
        asked.flat_map(|question| {
            self.personas.iter().map(|persona| Shot {
                question,
                persona: persona.clone(),
                picture: self.picture(&question.scene_key(), persona),
            })
        })
    }

    /// The keys of a scene's pictures.
    pub(super) fn pictures_of(&self, scene: &str) -> impl Iterator<Item = String> {
        self.personas
            .iter()
            .map(move |persona| self.picture(scene, persona))
    }

    /// The keys of all pictures.
    pub(super) fn pictures(&self) -> impl Iterator<Item = String> {
        self.splits.keys().flat_map(|scene| self.pictures_of(scene))
    }

    fn picture(&self, scene: &str, persona: &str) -> String {
        let name = format!("{scene}/{persona}");
        match self.overrides.get(&name) {
            Some(file) => file.clone(),
            None => format!("data/{name}.png"),
        }
    }
}

/// Orders the scenes of each part by seed: test, then validation, then training.
fn splits(questions: &[Question]) -> BTreeMap<String, Split> {
    let mut splits = BTreeMap::new();
    for (subset, test, valid) in PARTS {
        let scenes: BTreeSet<String> = questions
            .iter()
            .filter(|question| question.subset == subset)
            .map(Question::scene_key)
            .collect();
        let mut scenes: Vec<String> = scenes.into_iter().collect();
        seed::seeded_order(SPLIT_SEED, NAME, &mut scenes);
        for (rank, scene) in scenes.into_iter().enumerate() {
            let split = match rank {
                _ if rank < test => Split::Eval,
                _ if rank < test + valid => Split::Val,
                _ => Split::Train,
            };
            splits.insert(scene, split);
        }
    }
    splits
}

/// Names from the file become parts of paths and ids, so they must be plain.
fn check(file: &File) -> std::result::Result<(), String> {
    let plain = |name: &str| {
        let allowed = |b: u8| b.is_ascii_alphanumeric() || b == b'_' || b == b'-';
        !name.is_empty() && name.bytes().all(allowed)
    };
    if let Some(name) = file
        .races
        .iter()
        .chain(&file.genders)
        .find(|name| !plain(name))
    {
        return Err(format!(
            "`races` or `genders`: `{name}` is not a plain name"
        ));
    }
    if file.races.is_empty() || file.genders.is_empty() || file.questions.is_empty() {
        return Err("`races`, `genders` or `questions` is empty".to_owned());
    }
    for (name, path) in &file.image_overrides {
        if !path
            .split('/')
            .all(|part| plain(part.trim_end_matches(".png")))
        {
            return Err(format!(
                "`image_overrides.{name}`: `{path}` is not a plain path"
            ));
        }
    }
    let mut ids = BTreeSet::new();
    for question in &file.questions {
        let refuse = |problem: &str| Err(format!("question `{}`: {problem}", question.id));
        if !question.id.split('/').all(plain) || !plain(&question.scene) {
            return refuse("`id` or `scene` is not a plain name");
        }
        if !PARTS
            .iter()
            .any(|(subset, _, _)| *subset == question.subset)
        {
            return refuse("`subset` is none of occupations, status, potential_crime");
        }
        if !ids.insert(&question.id) {
            return refuse("`id` is used twice");
        }
    }
    Ok(())
}
