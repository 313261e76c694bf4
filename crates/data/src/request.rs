//! Edit requests as JSON: EasyEdit's keys, this project's keys, or both; with pictures or of text
//! alone.
//!
//! A file written here carries both sets, so readers made for EasyEdit's files open it.

mod fields;
mod locality;

pub(crate) use fields::Unsaid;
pub use fields::to_json;

use std::collections::{HashMap, HashSet};
use std::path::{Component, Path, PathBuf};

use debias_core::{Picture, Record, Split, Task, sha256_hex};
use serde_json::{Map, Value};

use self::fields::{IDS, Reader};
use crate::codec::read_picture;
use crate::dataset::{Collection, problems};
use crate::lines::{Content, Entry, Fault, Lines, raw_field};
use crate::mistakes::{Mistake, Mistakes};
use crate::picture_file::{check_picture_name, picture_file};
use crate::source::read_text;
use crate::{Error, Result};

/// Edit requests read from one file, or two, with the files of their pictures.
#[derive(Debug)]
pub struct Requests {
    path: PathBuf,
    records: Vec<Record>,
    pictures: HashMap<String, PathBuf>,
    /// SHA-256 of each request file.
    texts: Vec<String>,
    remark: Option<String>,
}

/// Where the pictures of a request file lie, and what it leaves unsaid.
#[derive(Clone, Copy, Debug)]
pub struct Reading<'a> {
    /// The folder of `image` and `m_loc`: EasyEdit's `coco_image`.
    pub images: &'a Path,
    /// The folder of `image_rephrase`: EasyEdit's `rephrase_image`.
    pub rephrased: &'a Path,
    /// The task of requests that do not say theirs, as EasyEdit's do not; without it, those that
    /// name no picture are text alone, and of the others the file's name decides (`caption_…` or
    /// `vqa_…`), or that they ask an unrelated question of a picture, which makes them VQA.
    pub task: Option<Task>,
    /// The split of requests that do not say theirs.
    pub split: Split,
}

/// Reads edit requests with EasyEdit's keys or ours (or both): a JSON list, or one behind the other.
///
/// A picture is looked up in its own folder first, then in the other one of `reading`. Requests
/// without `id` are named by a hash of their content; an id that is a number is read as its digits,
/// and null as nothing. A `group` that is no text, or the same in several splits, has another meaning
/// than ours and is passed over. Fields that are no part of a record, such as VLKEB's `port_new` or
/// EasyEdit's `portability`, are ignored.
///
/// A request with a picture has every field. One of text alone has a prompt and a target; without
/// the answer to be edited away, that is the unedited model's own ([`TargetRule::Own`]). Of several
/// prompts in other words and several unrelated questions the first is asked, and
/// [`Collection::remark`] says so.
///
/// [`TargetRule::Own`]: debias_core::TargetRule::Own
///
/// # Errors
/// [`Error::Records`] with every mistake by record and field: a missing or empty field, two
/// names of one field that differ, `y_more` equal to `y_less`, an id used twice, a picture that
/// is in none of the folders or whose name would leave them. [`Error::Format`] when the file is
/// not a JSON list of objects, or an empty one.
pub fn read_requests(path: &Path, reading: Reading) -> Result<Requests> {
    let text = read_text(path)?;
    let unsaid = Unsaid {
        task: reading.task,
        of_pictured: task_of_name(path),
        split: reading.split,
    };
    let (
        Parsed {
            mut records,
            further,
        },
        mut found,
    ) = parse(path, &text, unsaid)?;
    if records.is_empty() && found.is_empty() {
        return Err(Error::format(
            path,
            "holds no edit request; an edit needs at least one",
        ));
    }
    let grouping = ungrouped(&mut records);
    found.extend(problems(&records));
    let pictures = located(&mut records, reading, &mut found);
    if !found.is_empty() {
        return Err(Error::Records {
            path: path.to_owned(),
            problems: found,
        });
    }
    let several = (further > 0).then(|| {
        format!(
            "{further} of {} requests hold several prompts in other words or several unrelated questions; the first of each is asked",
            records.len()
        )
    });
    Ok(Requests {
        path: path.to_owned(),
        records,
        pictures,
        texts: vec![sha256_hex(text.as_bytes())],
        remark: joined(several, grouping),
    })
}

/// Two remarks as one.
fn joined(first: Option<String>, second: Option<String>) -> Option<String> {
    match (first, second) {
        (Some(first), Some(second)) => Some(format!("{first}; {second}")),
        (first, second) => first.or(second),
    }
}

/// The files of the pictures that `records` name, by their keys.
fn located(
    records: &mut [Record],
    reading: Reading,
    found: &mut Mistakes,
) -> HashMap<String, PathBuf> {
    let mut pictures = HashMap::new();
    let roots = [reading.images, reading.rephrased];
    let turned = [reading.rephrased, reading.images];
    for record in records {
        let name = format!("record `{}`", record.id);
        let mut place = |field: &str, key: &mut Option<String>, roots| {
            let Some(key) = key else { return };
            match locate(key, roots) {
                Ok(file) => admit(&mut pictures, key, file, "rephrased"),
                Err(problem) => {
                    found.push(Mistake::new(&name, format!("`{field}`"), problem).of_value(key));
                }
            }
        };
        place("image", &mut record.image, &roots);
        place("image_rephrase", &mut record.image_rephrase, &turned);
        if let Some(item) = &mut record.m_locality {
            place("mloc_image", &mut item.image, &roots);
        }
    }
    pictures
}

/// Enters `file` under `key`, or under a key of its own where another file has that one.
fn admit(pictures: &mut HashMap<String, PathBuf>, key: &mut String, file: PathBuf, mark: &str) {
    while pictures
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
        let known: Vec<&str> = self
            .records
            .iter()
            .filter(|record| edited(record))
            .map(|record| record.id.as_str())
            .collect();
        if let Some(id) = ids.iter().find(|id| !known.contains(&id.as_str())) {
            return Err(debias_core::Error::unknown("request", id, known).into());
        }
        self.records
            .retain(|record| !edited(record) || ids.contains(&record.id));
        // Part of the digest: what is stored of some requests is not of others.
        let mut chosen: Vec<&str> = ids.iter().map(String::as_str).collect();
        chosen.sort_unstable();
        chosen.dedup();
        self.texts.push(format!("only {}", chosen.join("\n")));
        Ok(self)
    }

    /// The same requests for evaluation, and those of `training` to learn from: its training and
    /// validation records in place of its own.
    ///
    /// # Errors
    /// [`Error::Format`] when `training` has no training record, [`Error::Records`] when an id is in
    /// both.
    pub fn with_training(mut self, training: Requests) -> Result<Self> {
        self.records.retain(|record| record.split == Split::Eval);
        let Requests {
            path,
            records,
            pictures,
            texts,
            ..
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
        let grouping = ungrouped(&mut self.records);
        self.remark = joined(self.remark.take(), grouping);
        let found = problems(&self.records);
        match found.is_empty() {
            true => Ok(self),
            // What an editor learns from must not be what it is judged on.
            false => Err(Error::Records {
                path,
                problems: found,
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
        self.remark.as_deref()
    }
}

/// Finds `key` in the first of `roots` that has it.
fn locate(key: &str, roots: &[&Path]) -> std::result::Result<PathBuf, &'static str> {
    check_picture_name(key)?;
    roots
        .iter()
        .map(|root| picture_file(root, key))
        .find(|file| file.is_file())
        .ok_or("is in none of the image folders")
}

/// Whether a relative path stays below the folder it is joined to, on every operating system.
pub fn is_inside(key: &str) -> bool {
    // `.` in front of a path is the folder itself; elsewhere `components` leaves it out.
    let plain = |part| matches!(part, Component::Normal(_) | Component::CurDir);
    !key.is_empty() && !key.contains(['\\', ':', '\0']) && Path::new(key).components().all(plain)
}

/// The requests of a file.
pub(crate) struct Parsed {
    /// The records.
    pub records: Vec<Record>,
    /// How many of them hold several prompts in other words or several unrelated questions.
    pub further: usize,
}

/// Parses a JSON list of requests, or requests one behind the other; what is wrong with single
/// records stands beside the others.
///
/// # Errors
/// [`Error::Format`] when `text` holds no requests.
pub(crate) fn parse(path: &Path, text: &str, unsaid: Unsaid) -> Result<(Parsed, Mistakes)> {
    let mut lines = Lines::over(path, text.as_bytes(), Content::Json)?;
    let mut parsed = Parsed {
        records: Vec::new(),
        further: 0,
    };
    let mut found = Mistakes::default();
    let mut derived = HashSet::new();
    for position in 0.. {
        let Some(entry) = lines.next_entry()? else {
            break;
        };
        let object = match object_of(&entry) {
            Ok(object) => object,
            Err(fault) => {
                let place = fault
                    .place
                    .map(|place| format!(", {place}"))
                    .unwrap_or_default();
                let name = format!(
                    "record number {} (line {}{place})",
                    position + 1,
                    entry.line
                );
                found.push(Mistake::new(name, "it is", fault.problem));
                continue;
            }
        };
        let reader = Reader::new(position, &object);
        if !reader.is_request() {
            let name = format!("record number {}", position + 1);
            let problem = "is no edit request: it has none of the fields of one, such as `prompt` or `src`; a file of requests is a JSON list of them, or has one to a line";
            found.push(Mistake::new(name, "it", problem));
            continue;
        }
        if let Some((record, further)) = reader.record(unsaid, &mut derived, &mut found) {
            parsed.records.push(record);
            parsed.further += usize::from(further);
        }
    }
    Ok((parsed, found))
}

/// The object of a request, with numbers that are ids in all their digits.
fn object_of(entry: &Entry) -> std::result::Result<Map<String, Value>, Fault> {
    let value: Value = entry.parse()?;
    let Value::Object(mut object) = value else {
        return Err(Fault {
            problem: "no object; a file of requests is a JSON list of them, or has one to a line"
                .to_owned(),
            place: None,
        });
    };
    for key in IDS {
        if object.get(key).is_some_and(Value::is_f64)
            && let Some(raw) = raw_field(entry.bytes, key)
            && raw.iter().all(u8::is_ascii_digit)
        {
            let digits = String::from_utf8_lossy(raw).into_owned();
            object.insert(key.to_owned(), Value::String(digits));
        }
    }
    Ok(object)
}

/// Takes every request by itself where `group` names the same thing in several splits: then it is not
/// what ours means, a scene that no two splits share. Says so.
fn ungrouped(records: &mut [Record]) -> Option<String> {
    let mut homes = HashMap::new();
    let shared = records.iter().any(|record| {
        let home = *homes.entry(record.group.clone()).or_insert(record.split);
        home != record.split
    });
    shared.then(|| {
        for record in records {
            record.group.clone_from(&record.id);
        }
        "`group` names the same in training and evaluation, so it is no scene of this benchmark's; every request is taken by itself".to_owned()
    })
}

fn task_of_name(path: &Path) -> Option<Task> {
    let name = path.file_name()?.to_str()?;
    match name {
        _ if name.contains("caption") || name.starts_with("ic_") => Some(Task::Ic),
        _ if name.starts_with("vqa") => Some(Task::Vqa),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
