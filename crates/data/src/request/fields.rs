//! One request as a JSON object: the names that its fields have, and a record made of them.

use std::collections::HashSet;

use debias_core::{Record, Split, TargetRule, Task, Unrelated, canonical_json, sha256_hex};
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};

use super::locality;
use crate::mistakes::{Mistake, Mistakes};

/// A text field of a record and the names it has in files.
struct Field {
    /// This project's name.
    ours: &'static str,
    /// The name in EasyEdit's files with pictures, and in those made for MEND's zsRE.
    pictured: &'static str,
    /// The names in EasyEdit's files of text alone.
    plain: &'static [&'static str],
    /// Whether a list may stand there.
    many: Many,
}

/// What a list of texts means in the place of one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Many {
    /// Nothing: it is a mistake.
    One,
    /// The same answer in several spellings.
    Spellings,
    /// Several questions, of which the first is asked.
    Asked,
}

const fn field(
    ours: &'static str,
    pictured: &'static str,
    plain: &'static [&'static str],
    many: Many,
) -> Field {
    Field {
        ours,
        pictured,
        plain,
        many,
    }
}

/// The text fields in the order in which they are written.
const FIELDS: [Field; 11] = [
    field("image", "image", &[], Many::One),
    field("prompt", "src", &[], Many::One),
    field(
        "y_more",
        "pred",
        &["ground_truth", "target_true"],
        Many::Spellings,
    ),
    field("y_less", "alt", &["target_new"], Many::One),
    field(
        "prompt_rephrase",
        "rephrase",
        &["rephrase_prompt"],
        Many::Asked,
    ),
    field("image_rephrase", "image_rephrase", &[], Many::One),
    field("loc_q", "loc", &["locality_prompt"], Many::One),
    field("loc_a", "loc_ans", &["locality_ground_truth"], Many::One),
    field("mloc_image", "m_loc", &[], Many::One),
    field("mloc_q", "m_loc_q", &[], Many::One),
    field("mloc_a", "m_loc_a", &[], Many::One),
];

/// Which of [`FIELDS`] name pictures.
const IMAGES: [usize; 3] = [0, 5, 8];

/// Which of [`FIELDS`] asks an unrelated question of a picture: EasyEdit's `m_loc_q`.
const UNRELATED_QUESTION: usize = 9;

/// Keys under which a request is named: this project's, and that of CounterFact.
pub(super) const IDS: [&str; 2] = ["id", "case_id"];

impl Field {
    fn names(&self) -> impl Iterator<Item = &'static str> {
        let theirs = (self.pictured != self.ours).then_some(self.pictured);
        let names = [Some(self.ours), theirs].into_iter().flatten();
        names.chain(self.plain.iter().copied())
    }

    /// How messages name it: our name, and EasyEdit's in files of this kind.
    fn label(&self, task: Option<Task>) -> String {
        let theirs = match (task, self.plain.first()) {
            (Some(Task::Text), Some(plain)) => plain,
            _ => self.pictured,
        };
        match self.ours == theirs {
            true => format!("`{}`", self.ours),
            false => format!("`{}` (EasyEdit's `{theirs}`)", self.ours),
        }
    }
}

/// The text fields of a record in the order of [`FIELDS`]; none where it has no such field.
fn texts(record: &Record) -> [Option<&String>; 11] {
    let (t, m) = (record.t_locality.as_ref(), record.m_locality.as_ref());
    [
        record.image.as_ref(),
        Some(&record.prompt),
        Some(&record.y_more).filter(|text| !text.is_empty()),
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

/// One record as an object with this project's keys and those that EasyEdit has for its kind.
pub fn to_json(record: &Record) -> Value {
    let mut object = Map::new();
    object.insert("id".into(), json!(record.id));
    object.insert("task".into(), json!(record.task));
    object.insert("bias_type".into(), json!(record.bias_type));
    for (field, text) in FIELDS.iter().zip(texts(record)) {
        let Some(text) = text else { continue };
        let plain = field.plain.first().filter(|_| record.task == Task::Text);
        for name in [field.ours, field.pictured]
            .into_iter()
            .chain(plain.copied())
        {
            object.insert(name.into(), json!(text));
        }
    }
    object.insert("group".into(), json!(record.group));
    object.insert("split".into(), json!(record.split));
    object.insert("target".into(), json!(record.target));
    Value::Object(object)
}

/// What a file, its name and the command line say of requests that do not say it themselves.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Unsaid {
    /// Their task, whatever they hold.
    pub task: Option<Task>,
    /// The task of those with a picture, where `task` is none.
    pub of_pictured: Option<Task>,
    /// Their split.
    pub split: Split,
}

/// One object, and how to name it in messages.
pub(super) struct Reader<'a> {
    object: &'a Map<String, Value>,
    name: String,
}

impl<'a> Reader<'a> {
    pub(super) fn new(position: usize, object: &'a Map<String, Value>) -> Self {
        let mut reader = Self {
            object,
            name: format!("record number {}", position + 1),
        };
        if let Ok(Some(id)) = reader.id() {
            reader.name = format!("record `{id}`");
        }
        reader
    }

    /// The record, and whether the object holds more prompts in other words or unrelated questions
    /// than the record asks; none where anything is wrong, which is then in `found`.
    pub(super) fn record(
        &self,
        unsaid: Unsaid,
        derived: &mut HashSet<String>,
        found: &mut Mistakes,
    ) -> Option<(Record, bool)> {
        let mut own = Mistakes::default();
        let mut more = false;
        let task = own.keep(self.task(unsaid));
        let read = FIELDS
            .each_ref()
            .map(|field| own.keep(self.texts(field, task)));
        let broken = read.each_ref().map(Option::is_none);
        let given = read.map(|texts| {
            let (text, further) = texts.unwrap_or_default();
            more |= further;
            text
        });
        let mut reading = Reading {
            reader: self,
            task,
            given,
            broken,
            found: own,
        };
        let record = reading.record(unsaid, &mut more, derived);
        found.extend(reading.found);
        Some((record?, more))
    }

    /// The task the request says, or that is said for it.
    fn task(&self, unsaid: Unsaid) -> Result<Task, Mistake> {
        const TASKS: &str = "is none of ic, vqa, text";
        if let Some(task) = self.label("task", TASKS)?.or(unsaid.task) {
            return Ok(task);
        }
        let mut images = IMAGES.iter().flat_map(|at| FIELDS[*at].names());
        if !images.any(|name| self.get(name).is_some()) {
            return Ok(Task::Text);
        }
        let missing = || self.wrong("`task`", "is missing; add it or give --task");
        let mut unrelated = FIELDS[UNRELATED_QUESTION].names();
        let asks = unrelated.any(|name| self.get(name).is_some());
        let guessed = asks.then_some(Task::Vqa);
        unsaid.of_pictured.or(guessed).ok_or_else(missing)
    }

    /// Whether the object has any field of a request.
    pub(super) fn is_request(&self) -> bool {
        let mut names = FIELDS.iter().flat_map(Field::names);
        names.any(|name| self.object.contains_key(name))
    }

    /// The value of `key`; null is as good as nothing.
    fn get(&self, key: &str) -> Option<&'a Value> {
        self.object.get(key).filter(|value| !value.is_null())
    }

    /// A text field under any of its names, and whether its list holds further questions.
    fn texts(&self, field: &Field, task: Option<Task>) -> Result<(Option<String>, bool), Mistake> {
        let mut found: Option<(&str, Vec<&str>)> = None;
        for name in field.names() {
            let Some(value) = self.get(name) else {
                continue;
            };
            let texts = leaves(value).filter(|_| value.is_string() || field.many != Many::One);
            let texts = texts.ok_or_else(|| self.wrong(format!("`{name}`"), "is not text"))?;
            match &found {
                // An empty list says nothing.
                _ if texts.is_empty() => {}
                Some((other, known)) if known.first() != texts.first() => {
                    return Err(self.wrong(format!("`{other}` and `{name}`"), "differ"));
                }
                Some(_) => {}
                None => found = Some((name, texts)),
            }
        }
        let texts = found.map(|(_, texts)| texts).unwrap_or_default();
        match texts.first() {
            Some(text) if text.trim().is_empty() => Err(self.wrong(field.label(task), "is empty")),
            Some(text) => {
                let further = texts.len() > 1 && field.many == Many::Asked;
                Ok((Some((*text).to_owned()), further))
            }
            None => Ok((None, false)),
        }
    }

    /// One of the words that `T` knows.
    fn label<T: DeserializeOwned>(&self, key: &str, none_of: &str) -> Result<Option<T>, Mistake> {
        let Some(value) = self.get(key) else {
            return Ok(None);
        };
        let read = serde_json::from_value(value.clone()).map(Some);
        read.map_err(|_| {
            self.wrong(format!("`{key}`"), none_of)
                .of_value(shown(value))
        })
    }

    /// A text that may be written as a number.
    fn word(&self, key: &str) -> Result<Option<String>, Mistake> {
        match self.get(key) {
            None => Ok(None),
            Some(Value::String(text)) if text.trim().is_empty() => {
                Err(self.wrong(format!("`{key}`"), "is empty"))
            }
            Some(Value::String(text)) => Ok(Some(text.clone())),
            Some(Value::Number(number)) => Ok(Some(number.to_string())),
            Some(_) => Err(self.wrong(format!("`{key}`"), "is neither text nor a number")),
        }
    }

    fn id(&self) -> Result<Option<String>, Mistake> {
        for key in IDS {
            if let Some(id) = self.word(key)? {
                return Ok(Some(id));
            }
        }
        Ok(None)
    }

    fn wrong(&self, field: impl Into<String>, problem: impl Into<String>) -> Mistake {
        Mistake::new(self.name.clone(), field, problem)
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

/// The texts of a value: itself, or the leaves of a list, however deep.
pub(super) fn leaves(value: &Value) -> Option<Vec<&str>> {
    match value {
        Value::String(text) => Some(vec![text]),
        Value::Array(list) => {
            let texts: Option<Vec<_>> = list.iter().map(leaves).collect();
            Some(texts?.concat())
        }
        _ => None,
    }
}

/// A value in a message: a text as it is.
fn shown(value: &Value) -> String {
    value
        .as_str()
        .map_or_else(|| value.to_string(), str::to_owned)
}

/// The fields of one request on the way to a record.
struct Reading<'r> {
    reader: &'r Reader<'r>,
    task: Option<Task>,
    /// The text fields in the order of [`FIELDS`].
    given: [Option<String>; 11],
    /// Which of them are there but cannot be used.
    broken: [bool; 11],
    found: Mistakes,
}

impl Reading<'_> {
    /// The record; none where anything is wrong.
    fn record(
        &mut self,
        unsaid: Unsaid,
        more: &mut bool,
        derived: &mut HashSet<String>,
    ) -> Option<Record> {
        const SPLITS: &str = "is none of train, val, eval, test";
        const RULES: &str = "is none of given, less_likely, own";
        let reader = self.reader;
        let t_locality = self.t_locality(more);
        self.complain();
        let id = self.found.keep(reader.id());
        let bias_type = self.found.keep(reader.word("bias_type"));
        // Of another meaning where it is no name; see `ungrouped` for names.
        let group = Some(reader.word("group").unwrap_or_default());
        let split = self.found.keep(reader.label("split", SPLITS));
        let target: Option<Option<TargetRule>> = self.found.keep(reader.label("target", RULES));
        if !self.found.is_empty() {
            return None;
        }
        let id = id?.unwrap_or_else(|| reader.derived_id(derived));
        let [
            image,
            prompt,
            y_more,
            y_less,
            prompt_rephrase,
            image_rephrase,
            ..,
            m_image,
            m_q,
            m_a,
        ] = std::mem::take(&mut self.given);
        let unsaid_target = match y_more {
            Some(_) => TargetRule::Given,
            None => TargetRule::Own,
        };
        Some(Record {
            task: self.task?,
            bias_type: bias_type?.unwrap_or_else(|| "unspecified".to_owned()),
            image,
            prompt: prompt?,
            y_more: y_more.unwrap_or_default(),
            y_less: y_less?,
            prompt_rephrase,
            image_rephrase,
            t_locality,
            m_locality: m_q.zip(m_a).map(|(question, answer)| Unrelated {
                image: m_image,
                question,
                answer,
            }),
            group: group?.unwrap_or_else(|| id.clone()),
            split: split?.unwrap_or(unsaid.split),
            target: target?.unwrap_or(unsaid_target),
            id,
        })
    }

    /// The text-locality item: that of the flat names, else the first of EasyEdit's `locality`.
    fn t_locality(&mut self, more: &mut bool) -> Option<Unrelated> {
        let nested = self
            .reader
            .get("locality")
            .map_or(Ok(Vec::new()), locality::items);
        let nested = nested.map_err(|problem| self.reader.wrong("`locality`", problem));
        let mut items = self.found.keep(nested).unwrap_or_default();
        let flat = self.given[6].is_some() || self.given[7].is_some();
        if !flat && !items.is_empty() {
            let (question, answer) = items.swap_remove(0);
            (self.given[6], self.given[7]) = (Some(question), Some(answer));
        }
        *more |= !items.is_empty();
        let item = self.given[6].clone().zip(self.given[7].clone());
        item.map(|(question, answer)| Unrelated {
            image: None,
            question,
            answer,
        })
    }

    /// Finds the fields that this request cannot do without: all of them where it has a picture;
    /// prompt and target of text alone, and no half of an item.
    fn complain(&mut self) {
        let Some(task) = self.task else { return };
        for (at, field) in FIELDS.iter().enumerate() {
            let half = |fields: std::ops::Range<usize>| {
                fields.contains(&at) && self.given[fields].iter().any(Option::is_some)
            };
            let needed = match task {
                Task::Ic | Task::Vqa => true,
                Task::Text => matches!(at, 1 | 3) || half(6..8) || half(8..11),
            };
            if needed && self.given[at].is_none() && !self.broken[at] {
                let missing = self.reader.wrong(field.label(Some(task)), "is missing");
                self.found.push(missing);
            }
        }
    }
}
