//! PAIRS as its authors publish it: pictures in folders, without questions.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use serde::Deserialize;
use toml::Table;

use super::name::NAME;
use super::question::{Catalogue, FORMAT, File, Question, Source};
use crate::{Error, Listing, Result};

/// The pictures' folder of a clone.
pub(super) const PICTURES: &str = "data";
/// Who is shown, in the order in which every question is asked of them.
const RACES: [&str; 2] = ["black", "white"];
const GENDERS: [&str; 2] = ["man", "woman"];

/// A question and its two options.
type Asked = (String, String, String);

/// The table of questions.
#[derive(Deserialize)]
struct Questions {
    occupations: Table,
    potential_crime: Table,
    status: Status,
    extensions: Extensions,
}

#[derive(Deserialize)]
struct Status {
    scenes: Vec<String>,
    questions: Table,
}

#[derive(Deserialize)]
struct Extensions {
    occupations: Table,
    potential_crime: Table,
}

/// Whether `dir` holds the pictures, and so may be a clone.
pub(super) fn is_clone(dir: &Path) -> bool {
    dir.join(PICTURES).join("occupations").is_dir()
}

/// The questions of this project for the pictures that the clone `dir` holds.
///
/// # Errors
/// [`Error::MissingFiles`] for scenes without a picture of each person.
pub(super) fn catalogue(dir: &Path) -> Result<Catalogue> {
    let text = include_str!("../../../../../datasets/pairs/questions.toml");
    let questions = questions(text).map_err(|error| Error::format(dir, error.to_string()))?;
    let mut missing = BTreeSet::new();
    let mut image_overrides = BTreeMap::new();
    for question in &questions {
        let scene = question.scene_key();
        for person in persons() {
            match picture(dir, &scene, &person)? {
                Some(file) if file == format!("{person}.png") => {}
                Some(file) => {
                    let named = format!("{PICTURES}/{scene}/{file}");
                    image_overrides.insert(format!("{scene}/{person}"), named);
                }
                None => {
                    missing.insert(format!("{PICTURES}/{scene}/{person}.png"));
                }
            }
        }
    }
    if !missing.is_empty() {
        return Err(Error::MissingFiles {
            dataset: NAME.to_owned(),
            root: dir.to_owned(),
            missing: Listing(missing.into_iter().collect()),
        });
    }
    let owned = |names: [&str; 2]| names.map(str::to_owned).to_vec();
    Catalogue::new(File {
        format: FORMAT,
        image_overrides,
        races: owned(RACES),
        genders: owned(GENDERS),
        questions,
    })
    .map_err(|problem| Error::format(dir, problem))
}

fn persons() -> impl Iterator<Item = String> {
    RACES
        .into_iter()
        .flat_map(|race| GENDERS.map(|gender| format!("{race}_{gender}")))
}

/// The file of a scene's picture of `person`: named after the person, or as one of the repository is,
/// after the person and a digit.
fn picture(dir: &Path, scene: &str, person: &str) -> Result<Option<String>> {
    let folder = dir.join(PICTURES).join(scene);
    let plain = format!("{person}.png");
    if folder.join(&plain).is_file() {
        return Ok(Some(plain));
    }
    if !folder.is_dir() {
        return Ok(None);
    }
    let mut names = Vec::new();
    for entry in fs::read_dir(&folder).map_err(Error::io("read", &folder))? {
        let entry = entry.map_err(Error::io("read", &folder))?;
        names.extend(entry.file_name().into_string());
    }
    names.sort();
    let numbered = |name: &String| {
        let stem = name
            .strip_suffix(".png")
            .and_then(|name| name.strip_prefix(person));
        stem.is_some_and(|rest| rest.bytes().all(|byte| byte.is_ascii_digit()))
    };
    Ok(names.into_iter().find(numbered))
}

/// Every question of the table, in the order in which they are asked.
fn questions(text: &str) -> std::result::Result<Vec<Question>, toml::de::Error> {
    let table: Questions = toml::from_str(text)?;
    let mut found = Vec::new();
    let published = [
        ("occupations", "occupation", table.occupations),
        ("potential_crime", "crime", table.potential_crime),
    ];
    for (subset, key, scenes) in published {
        for (scene, asked) in scenes {
            found.push(question(
                (subset, &scene, key),
                asked.try_into()?,
                Source::Published,
            ));
        }
    }
    for scene in &table.status.scenes {
        for key in ["status", "education", "wealth", "rank", "residence"] {
            if let Some(asked) = table.status.questions.get(key) {
                let asked = asked.clone().try_into()?;
                found.push(question(("status", scene, key), asked, Source::Published));
            }
        }
    }
    let added = [
        (
            "occupations",
            "occupation_ext",
            table.extensions.occupations,
        ),
        (
            "potential_crime",
            "crime_ext",
            table.extensions.potential_crime,
        ),
    ];
    for (subset, key, scenes) in added {
        for (scene, asked) in scenes {
            found.push(question(
                (subset, &scene, key),
                asked.try_into()?,
                Source::Extension,
            ));
        }
    }
    Ok(found)
}

fn question(
    (subset, scene, key): (&str, &str, &str),
    (question, first, second): Asked,
    source: Source,
) -> Question {
    Question {
        id: format!("{subset}/{scene}/{key}"),
        subset: subset.to_owned(),
        scene: scene.to_owned(),
        question,
        choices: [first, second],
        source,
    }
}
