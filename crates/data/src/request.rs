//! Edit requests as JSON: EasyEdit's keys, this project's keys, or both.
//!
//! A file written here carries both sets, so readers made for EasyEdit's files open it.

use std::collections::{HashMap, HashSet};
use std::path::{Component, Path, PathBuf};

use debias_core::{
    Picture, Record, Split, TargetRule, Task, Unrelated, canonical_json, sha256_hex,
};
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};

use crate::codec::read_picture;
use crate::dataset::{Collection, problems};
use crate::source::read_text;
use crate::{Error, Listing, Result};

/// Our name of each text field and EasyEdit's.
const FIELDS: [(&str, &str); 11] = [
    ("image", "image"),
    ("prompt", "src"),
    ("y_more", "pred"),
    ("y_less", "alt"),
    ("prompt_rephrase", "rephrase"),
    ("image_rephrase", "image_rephrase"),
    ("loc_q", "loc"),
    ("loc_a", "loc_ans"),
    ("mloc_image", "m_loc"),
    ("mloc_q", "m_loc_q"),
    ("mloc_a", "m_loc_a"),
];

/// The text fields of a record in the order of [`FIELDS`]; none where it has no such field.
fn texts(record: &Record) -> [Option<&String>; 11] {
    let (t, m) = (record.t_locality.as_ref(), record.m_locality.as_ref());
    [
        record.image.as_ref(),
        Some(&record.prompt),
        Some(&record.y_more),
        Some(&record.y_less),
        record.prompt_rephrase.as_ref(),
        record.image_rephrase.as_ref(),
        t.map(|item| &item.question),
        t.map(|item| &item.answer),
        m.and_then(|item| item.image.as_ref()),
        m.map(|item| &item.question),
        m.map(|item| &item.answer),
    ]
}

/// One record as an object with both sets of keys.
pub fn to_json(record: &Record) -> Value {
    let mut object = Map::new();
    object.insert("id".into(), json!(record.id));
    object.insert("task".into(), json!(record.task));
    object.insert("bias_type".into(), json!(record.bias_type));
    for ((ours, theirs), text) in FIELDS.into_iter().zip(texts(record)) {
        let Some(text) = text else { continue };
        object.insert(ours.into(), json!(text));
        object.insert(theirs.into(), json!(text));
    }
    object.insert("group".into(), json!(record.group));
    object.insert("split".into(), json!(record.split));
    object.insert("target".into(), json!(record.target));
    Value::Object(object)
}

/// Edit requests read from one file, or two, with the files of their pictures.
#[derive(Debug)]
pub struct Requests {
    path: PathBuf,
    records: Vec<Record>,
    pictures: HashMap<String, PathBuf>,
    /// SHA-256 of each request file.
    texts: Vec<String>,
}

/// Where the pictures of a request file lie, and what it leaves unsaid.
#[derive(Clone, Copy, Debug)]
pub struct Reading<'a> {
    /// The folder of `image` and `m_loc`: EasyEdit's `coco_image`.
    pub images: &'a Path,
    /// The folder of `image_rephrase`: EasyEdit's `rephrase_image`.
    pub rephrased: &'a Path,
    /// The task of requests that do not say theirs, as EasyEdit's do not; without it the file's
    /// name decides (`caption_…` or `vqa_…`).
    pub task: Option<Task>,
    /// The split of requests that do not say theirs.
    pub split: Split,
}

/// Reads a list of edit requests with EasyEdit's keys or ours (or both).
///
/// A picture is looked up in its own folder first, then in the other one of `reading`. Requests
/// without `id` are named by a hash of their content. Fields that are no part of a record, such as
/// VLKEB's `port_new`, are ignored.
///
/// # Errors
/// [`Error::Records`] listing every problem by record and field: a missing or empty field, two
/// names of one field that differ, `y_more` equal to `y_less`, an id used twice, a picture that
/// is in none of the folders or whose name would leave them. [`Error::Format`] when the file is
/// not a JSON list of objects, or an empty one.
pub fn read_requests(path: &Path, reading: Reading) -> Result<Requests> {
    let text = read_text(path)?;
    let task = reading.task.or_else(|| task_of_name(path));
    let (mut records, mut found) = parse(path, &text, task, reading.split)?;
    if records.is_empty() && found.is_empty() {
        return Err(Error::format(
            path,
            "holds no edit request; an edit needs at least one",
        ));
    }
    found.extend(problems(&records));
    let mut pictures = HashMap::new();
    let roots = [reading.images, reading.rephrased];
    let turned = [reading.rephrased, reading.images];
    for record in &mut records {
        let id = record.id.clone();
        let mut place = |field: &str, key: &mut Option<String>, roots| {
            let Some(key) = key else { return };
            match locate(key, roots) {
                Ok(file) => admit(&mut pictures, key, file, "rephrased"),
                Err(problem) => found.push(format!("record `{id}`: `{field}` {problem}")),
            }
        };
        place("image", &mut record.image, &roots);
        place("image_rephrase", &mut record.image_rephrase, &turned);
        if let Some(item) = &mut record.m_locality {
            place("mloc_image", &mut item.image, &roots);
        }
    }
    match found.is_empty() {
        true => Ok(Requests {
            path: path.to_owned(),
            records,
            pictures,
            texts: vec![sha256_hex(text.as_bytes())],
        }),
        false => Err(Error::Records {
            path: path.to_owned(),
            problems: Listing(found),
        }),
    }
}

/// Enters `file` under `key`, or under a key of its own where another file has that one: a colon
/// is in no key of a request file.
fn admit(pictures: &mut HashMap<String, PathBuf>, key: &mut String, file: PathBuf, mark: &str) {
    if pictures
        .get(key.as_str())
        .is_some_and(|other| *other != file)
    {
        *key = format!("{mark}:{key}");
    }
    pictures.insert(key.clone(), file);
}

impl Requests {
    /// Every request, in file order.
    pub fn all(&self) -> &[Record] {
        &self.records
    }

    /// Of the requests for evaluation only those of `ids`; what is learnt from stays.
    ///
    /// # Errors
    /// [`Error::Core`] for an id that no request has.
    pub fn only(mut self, ids: &[String]) -> Result<Self> {
        let edited = |record: &Record| record.split == Split::Eval;
        let known: Vec<&str> = self.records.iter().filter(|record| edited(record)).map(|record| record.id.as_str()).collect();
        if let Some(id) = ids.iter().find(|id| !known.contains(&id.as_str())) {
            return Err(debias_core::Error::unknown("request", id, known).into());
        }
        self.records.retain(|record| !edited(record) || ids.contains(&record.id));
        Ok(self)
    }

    /// The same requests for evaluation, and those of `training` to learn from: its training and
    /// validation records in place of its own.
    ///
    /// # Errors
    /// [`Error::Format`] when `training` has no training record, [`Error::Records`] when an id or
    /// a group is in both.
    pub fn with_training(mut self, training: Requests) -> Result<Self> {
        self.records.retain(|record| record.split == Split::Eval);
        let Requests {
            path,
            records,
            pictures,
            texts,
        } = training;
        if !records.iter().any(|record| record.split == Split::Train) {
            return Err(Error::format(
                &path,
                "holds no training request; leave `split` out or say \"train\"",
            ));
        }
        let learned = records.into_iter().filter(|r| r.split != Split::Eval);
        for mut record in learned {
            let unrelated = record
                .m_locality
                .as_mut()
                .and_then(|item| item.image.as_mut());
            let own = [record.image.as_mut(), record.image_rephrase.as_mut()];
            for key in own.into_iter().chain([unrelated]).flatten() {
                if let Some(file) = pictures.get(key.as_str()) {
                    admit(&mut self.pictures, key, file.clone(), "train");
                }
            }
            self.records.push(record);
        }
        self.texts.extend(texts);
        let found = problems(&self.records);
        match found.is_empty() {
            true => Ok(self),
            // What an editor learns from must not be what it is judged on.
            false => Err(Error::Records {
                path,
                problems: Listing(found),
            }),
        }
    }
}

impl Collection for Requests {
    fn records(&self, task: Task) -> Result<Vec<Record>> {
        let of_task = self.records.iter().filter(|record| record.task == task);
        Ok(of_task.cloned().collect())
    }

    fn picture(&self, key: &str) -> Result<Picture> {
        match self.pictures.get(key) {
            Some(file) => read_picture(file),
            None => Err(Error::UnknownPicture {
                dataset: self.path.display().to_string(),
                key: key.to_owned(),
            }),
        }
    }

    fn file(&self, key: &str) -> Option<PathBuf> {
        self.pictures.get(key).cloned()
    }

    fn digest(&self) -> Result<String> {
        let mut keys: Vec<_> = self.pictures.iter().collect();
        keys.sort();
        let mut lines = self.texts.clone();
        for (key, file) in keys {
            let bytes = std::fs::read(file).map_err(Error::io("read", file))?;
            lines.push(format!("{}  {key}", sha256_hex(&bytes)));
        }
        Ok(sha256_hex(lines.join("\n").as_bytes()))
    }

    fn m_locality_source(&self) -> &str {
        "the request file"
    }

    fn remark(&self) -> Option<&str> {
        None
    }
}

/// Finds `key` in the first of `roots` that has it.
pub(crate) fn locate(key: &str, roots: &[&Path]) -> std::result::Result<PathBuf, String> {
    if !is_inside(key) {
        return Err(format!(
            "`{key}` would leave the image folder; use a relative path"
        ));
    }
    roots
        .iter()
        .map(|root| root.join(key))
        .find(|file| file.is_file())
        .ok_or_else(|| format!("`{key}` is in none of the image folders"))
}

/// Whether a relative path stays below the folder it is joined to, on every operating system.
pub fn is_inside(key: &str) -> bool {
    // `.` in front of a path is the folder itself; elsewhere `components` leaves it out.
    let plain = |part| matches!(part, Component::Normal(_) | Component::CurDir);
    !key.is_empty() && !key.contains(['\\', ':', '\0']) && Path::new(key).components().all(plain)
}

/// Parses the list; `task` and `split` are those of requests that say none. What is wrong with single records comes back as text.
pub(crate) fn parse(
    path: &Path,
    text: &str,
    task: Option<Task>,
    split: Split,
) -> Result<(Vec<Record>, Vec<String>)> {
    let list: Vec<Map<String, Value>> = serde_json::from_str(text).map_err(|error| {
        Error::format(path, format!("not a JSON list of edit requests: {error}"))
    })?;
    let mut records = Vec::with_capacity(list.len());
    let mut found = Vec::new();
    let mut derived = HashSet::new();
    for (position, object) in list.into_iter().enumerate() {
        let reader = Reader::new(position, &object);
        match reader.record(task, split, &mut derived) {
            Ok(record) => records.push(record),
            Err(problem) => found.push(problem),
        }
    }
    Ok((records, found))
}

fn task_of_name(path: &Path) -> Option<Task> {
    let name = path.file_name()?.to_str()?;
    match name {
        _ if name.starts_with("caption") || name.starts_with("ic_") => Some(Task::Ic),
        _ if name.starts_with("vqa") => Some(Task::Vqa),
        _ => None,
    }
}

/// One object, and how to name it in errors.
struct Reader<'a> {
    object: &'a Map<String, Value>,
    name: String,
}

impl<'a> Reader<'a> {
    fn new(position: usize, object: &'a Map<String, Value>) -> Self {
        let name = match object.get("id").and_then(Value::as_str) {
            Some(id) => format!("record `{id}`"),
            None => format!("record number {}", position + 1),
        };
        Self { object, name }
    }

    fn record(
        &self,
        task: Option<Task>,
        split: Split,
        derived: &mut HashSet<String>,
    ) -> std::result::Result<Record, String> {
        let mut fields = FIELDS.map(|(ours, _)| (ours, String::new()));
        for ((ours, theirs), (_, text)) in FIELDS.into_iter().zip(&mut fields) {
            *text = self.text(ours, theirs)?;
        }
        let [
            image,
            prompt,
            y_more,
            y_less,
            prompt_rephrase,
            image_rephrase,
            loc_q,
            loc_a,
            mloc_image,
            mloc_q,
            mloc_a,
        ] = fields.map(|(_, text)| text);
        let task = self
            .other("task")?
            .or(task)
            .ok_or_else(|| format!("{}: `task` is missing; add it or give --task", self.name))?;
        let id = match self.other::<String>("id")? {
            Some(id) => id,
            None => self.derived_id(derived),
        };
        Ok(Record {
            task,
            bias_type: self
                .other("bias_type")?
                .unwrap_or_else(|| "unspecified".to_owned()),
            image: Some(image),
            prompt,
            y_more,
            y_less,
            prompt_rephrase: Some(prompt_rephrase),
            image_rephrase: Some(image_rephrase),
            t_locality: Some(Unrelated {
                image: None,
                question: loc_q,
                answer: loc_a,
            }),
            m_locality: Some(Unrelated {
                image: Some(mloc_image),
                question: mloc_q,
                answer: mloc_a,
            }),
            group: self.other("group")?.unwrap_or_else(|| id.clone()),
            split: self.other("split")?.unwrap_or(split),
            target: self.other("target")?.unwrap_or(TargetRule::Given),
            id,
        })
    }

    /// A text field under either of its names.
    fn text(&self, ours: &str, theirs: &str) -> std::result::Result<String, String> {
        let read = |key: &str| match self.object.get(key) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(_) => Err(format!("{}: `{key}` is not text", self.name)),
        };
        let names = match ours == theirs {
            true => format!("`{ours}`"),
            false => format!("`{ours}` (EasyEdit's `{theirs}`)"),
        };
        let text = match (read(ours)?, read(theirs)?) {
            (Some(a), Some(b)) if a != b => {
                return Err(format!("{}: `{ours}` and `{theirs}` differ", self.name));
            }
            (Some(text), _) | (None, Some(text)) => text,
            (None, None) => return Err(format!("{}: {names} is missing", self.name)),
        };
        match text.trim().is_empty() {
            true => Err(format!("{}: {names} is empty", self.name)),
            false => Ok(text.clone()),
        }
    }

    fn other<T: DeserializeOwned>(&self, key: &str) -> std::result::Result<Option<T>, String> {
        let Some(value) = self.object.get(key) else {
            return Ok(None);
        };
        serde_json::from_value(value.clone())
            .map(Some)
            .map_err(|error| format!("{}: `{key}` {error}", self.name))
    }

    /// A name made of the content: equal whatever the position in the file. Equal requests are
    /// told apart by a count.
    fn derived_id(&self, taken: &mut HashSet<String>) -> String {
        let content = canonical_json(&Value::Object(self.object.clone()));
        let base = format!("request-{}", &sha256_hex(content.as_bytes())[..16]);
        let mut id = base.clone();
        let mut copy = 2;
        while !taken.insert(id.clone()) {
            id = format!("{base}-{copy}");
            copy += 1;
        }
        id
    }
}

#[cfg(test)]
mod tests;
