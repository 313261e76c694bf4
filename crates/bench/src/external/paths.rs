//! Files between `bench` and a command: the model's folder, pictures, requests, and answers.

use std::collections::HashMap;
use std::fs;
use std::path::{Component, Path, PathBuf};
use std::sync::{Arc, Mutex};

use anyhow::Context;
use debias_core::{Record, Templates};
use debias_data::{Collection, encode_png, to_json};
use debias_edit::Wording;
use serde_json::{Map, Value, json};
use tempfile::TempDir;

use crate::models::embedded;

/// In front of the name of an embedded model where a folder's path would be.
const EMBEDDED: &str = "embedded:";

/// A temporary folder for one command, removed with it.
pub(super) struct Scratch {
    dir: TempDir,
    data: Arc<dyn Collection>,
    templates: Templates,
    /// Pictures by key.
    pictures: Mutex<HashMap<String, PathBuf>>,
}

impl Scratch {
    pub(super) fn new(data: Arc<dyn Collection>, templates: Templates) -> std::io::Result<Self> {
        Ok(Self {
            dir: tempfile::Builder::new()
                .prefix("bench-external-")
                .tempdir()?,
            data,
            templates,
            pictures: Mutex::default(),
        })
    }

    /// The folder.
    pub(super) fn path(&self) -> &Path {
        self.dir.path()
    }

    /// The folder of the model at `location`; an embedded model is written to one.
    pub(super) fn model(&self, location: &str) -> anyhow::Result<PathBuf> {
        let Some(name) = location.strip_prefix(EMBEDDED) else {
            return Path::new(location)
                .canonicalize()
                .with_context(|| format!("cannot read {location}"));
        };
        let folder = self.dir.path().join(name);
        fs::create_dir(&folder)?;
        let model = embedded().iter().find(|model| model.name() == name);
        for (file, bytes) in model.into_iter().flat_map(|model| model.files()) {
            fs::write(folder.join(file), bytes)?;
        }
        Ok(folder)
    }

    /// A record with both sets of keys, its prompts in their templates, and pictures as files.
    pub(super) fn request(&self, record: &Record) -> anyhow::Result<Value> {
        let mut object = to_json(record);
        for (field, key) in record.images() {
            let file = json!(self.picture(key)?);
            if field == "mloc_image" {
                object["m_loc"] = file.clone();
            }
            object[field] = file;
        }
        let wording = Wording::of(record, &self.templates);
        let questions = [
            ("prompt_rephrase", wording.rephrase),
            ("loc_q", wording.t_locality.map(|(question, _)| question)),
            ("mloc_q", wording.m_locality.map(|(question, _)| question)),
        ];
        let mut templated = Map::from_iter([("prompt".to_owned(), json!(wording.prompt))]);
        for (field, text) in questions {
            templated.extend(text.map(|text| (field.to_owned(), json!(text))));
        }
        object["templated"] = Value::Object(templated);
        Ok(object)
    }

    /// A file with `records` as a list of requests.
    pub(super) fn train(&self, records: &[Record]) -> anyhow::Result<PathBuf> {
        let list: Vec<Value> = records
            .iter()
            .map(|record| self.request(record))
            .collect::<anyhow::Result<_>>()?;
        let path = self.dir.path().join("train.json");
        fs::write(&path, Value::Array(list).to_string())?;
        Ok(path)
    }

    /// The file of a picture; drawn ones are written as PNG.
    fn picture(&self, key: &str) -> anyhow::Result<PathBuf> {
        if let Some(file) = self.data.file(key) {
            return Ok(file.canonicalize()?);
        }
        let mut pictures = self
            .pictures
            .lock()
            .unwrap_or_else(|poison| poison.into_inner());
        if let Some(file) = pictures.get(key) {
            return Ok(file.clone());
        }
        let folder = self.dir.path().join("pictures");
        fs::create_dir_all(&folder)?;
        let file = folder.join(format!("{}.png", pictures.len()));
        fs::write(&file, encode_png(&self.data.picture(key)?)?)?;
        pictures.insert(key.to_owned(), file.clone());
        Ok(file)
    }

    /// The file that an answer names: a path without `..`, looked for in this folder and then in
    /// the working directory, or an absolute one below either or below the temporary folder.
    ///
    /// # Errors
    /// A path that leaves these folders, or that names no regular file.
    pub(super) fn answer(&self, file: &Path) -> Result<PathBuf, String> {
        let name = file.display();
        let here = std::env::current_dir().unwrap_or_default();
        let found = match file.is_absolute() {
            true => file.to_owned(),
            false => {
                let climbs = file.components().any(|part| part == Component::ParentDir);
                if climbs {
                    return Err(format!("`{name}` leaves the working directory"));
                }
                let own = self.dir.path().join(file);
                match own.exists() {
                    true => own,
                    false => here.join(file),
                }
            }
        };
        let found = found
            .canonicalize()
            .map_err(|error| format!("`{name}` cannot be read: {error}"))?;
        let allowed = [self.dir.path().to_owned(), here, std::env::temp_dir()];
        let inside = |folder: &PathBuf| {
            folder
                .canonicalize()
                .is_ok_and(|folder| found.starts_with(folder))
        };
        if !allowed.iter().any(inside) {
            return Err(format!(
                "`{name}` leaves the working directory and the scratch folder"
            ));
        }
        match found.is_file() {
            true => Ok(found),
            false => Err(format!("`{name}` is not a regular file")),
        }
    }
}
