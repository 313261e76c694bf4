//! What is learnt: JSON lines, pseudo labels, training views of benchmarks.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use debias_core::{Ask, Error, Item, sha256_hex};
use debias_data::{Content, Entry, benchmarks};
use debias_model::tune::{Answered, Lesson, Primer};
use serde::Deserialize;

use super::choices::Kind;
use super::pictures::Seen;
use super::recipe::Recipe;
use crate::results::digest::digest_of;
use crate::roots::Roots;
use crate::terminal::exit::Exit;
use crate::terminal::failure::Refusal;
use crate::terminal::lines::{Id, image};

/// A line of a file to learn from: `{"text"}`, or `{"prompt", "answer"}`, with an id and a picture.
#[derive(Clone, Debug, Default, Deserialize)]
struct Line {
    text: Option<String>,
    prompt: Option<String>,
    answer: Option<String>,
    join: Option<String>,
    #[serde(default, deserialize_with = "image")]
    image: Option<String>,
}

/// A line of pseudo labels.
#[derive(Clone, Debug, Deserialize)]
struct Label {
    #[serde(alias = "answer")]
    text: String,
}

/// One item, and where it stands.
#[derive(Clone, Debug)]
pub struct Told {
    place: String,
    said: Said,
    /// The key of its picture.
    pub picture: Option<String>,
}

#[derive(Clone, Debug)]
enum Said {
    Text(String),
    Answer {
        prompt: String,
        join: String,
        answer: String,
        whole: bool,
    },
}

/// Items, and what they were read from.
#[derive(Debug)]
pub struct Corpus {
    /// In the order of the file.
    pub items: Vec<Told>,
    /// Digest of the files.
    pub digest: String,
    /// Where pictures are looked for.
    pub folder: PathBuf,
    /// What the reader of a report should know.
    pub notes: Vec<String>,
}

impl Corpus {
    /// What `recipe` learns from; files are looked up from the working directory, then from the folder
    /// of the recipe, `home`.
    ///
    /// # Errors
    /// A file or line that cannot be used, or a dataset without this view.
    pub fn open(recipe: &Recipe, home: &Path, roots: &Roots) -> anyhow::Result<Self> {
        match recipe.data.strip_prefix("file:") {
            Some(file) => {
                if let Some(view) = &recipe.view {
                    return Err(usage(format!(
                        "`view`: {view} belongs to a dataset, and `data` is a file"
                    )));
                }
                let labels = recipe.labels.as_ref().map(|path| found(path, home));
                Self::of_file(
                    &found(Path::new(file), home),
                    recipe.kind(),
                    labels.as_deref(),
                )
            }
            None => Self::of_dataset(recipe, roots),
        }
    }

    /// The items of a file that are not learnt.
    ///
    /// # Errors
    /// As [`Corpus::open`].
    pub fn validation(recipe: &Recipe, home: &Path) -> anyhow::Result<Option<Self>> {
        let Some(data) = &recipe.validation else {
            return Ok(None);
        };
        let Some(file) = data.strip_prefix("file:") else {
            return Err(usage(format!("`validation`: `{data}` is no \"file:PATH\"")));
        };
        let labels = recipe.labels.as_ref().map(|path| found(path, home));
        Self::of_file(
            &found(Path::new(file), home),
            recipe.kind(),
            labels.as_deref(),
        )
        .map(Some)
    }

    fn of_file(file: &Path, kind: Kind, labels: Option<&Path>) -> anyhow::Result<Self> {
        let mut digest = digest(file)?;
        let answers = labels.map(answers).transpose()?;
        if let Some(labels) = labels {
            digest = sha256_hex(format!("{digest}{}", self::digest(labels)?).as_bytes());
        }
        let name = file.display().to_string();
        let (mut items, mut unlabelled) = (Vec::new(), 0);
        each(file, |entry, place| {
            let line: Line = entry.parse().map_err(|fault| fault.to_string())?;
            match told(line, Id::of(entry)?, place, kind, answers.as_ref())? {
                Some(item) => items.push(item),
                None => unlabelled += 1,
            }
            Ok(())
        })?;
        let mut notes = Vec::new();
        if unlabelled > 0 {
            notes.push(format!(
                "{name}: {unlabelled} items have no label and are left out"
            ));
        }
        if items.is_empty() {
            return Err(
                Refusal::new(Exit::Refused, format!("{name}: holds no items to learn")).into(),
            );
        }
        let folder = file.parent().map(Path::to_owned).unwrap_or_default();
        Ok(Self {
            items,
            digest,
            folder,
            notes,
        })
    }

    fn of_dataset(recipe: &Recipe, roots: &Roots) -> anyhow::Result<Self> {
        let known = VIEWED.iter().copied();
        if !VIEWED.contains(&recipe.data.as_str()) {
            let unknown = Error::unknown("dataset with a training view", &recipe.data, known);
            return Err(usage(format!(
                "`data`: {unknown}; a file is written file:PATH"
            )));
        }
        if recipe.kind() != Kind::Causal {
            return Err(usage(format!(
                "`kind`: the sentences of {} have no answers; write kind = \"causal\"",
                recipe.data
            )));
        }
        let benchmark = benchmarks::find(&recipe.data)?;
        let source = roots.source(benchmark);
        let source = source.ok_or_else(|| benchmark.card().needs_data())?;
        let view = recipe.view.as_deref().unwrap_or_default();
        let Some((part, choice)) = VIEWS
            .iter()
            .find_map(|(name, of)| (*name == view).then_some(*of))
        else {
            let unknown = Error::unknown("view", view, VIEWS.iter().map(|(name, _)| *name));
            return Err(usage(format!(
                "`view`: {unknown}; views of {} are {}",
                recipe.data,
                views()
            )));
        };
        let opened = benchmark.open(&source, &[part.to_owned()], None, recipe.seed)?;
        let items = opened
            .items
            .iter()
            .filter_map(|item| sentence(item, choice))
            .collect();
        Ok(Self {
            items,
            digest: sha256_hex(format!("{} {view}", opened.digest).as_bytes()),
            folder: PathBuf::new(),
            notes: opened.notes,
        })
    }

    /// Takes every n-th item out, so that about `share` of them are taken.
    pub fn split(&mut self, share: f64) -> Vec<Told> {
        let n = self.items.len() as f64;
        let taken = |i: usize| (i as f64 * share).floor() < ((i + 1) as f64 * share).floor();
        let keeps_all = (n * share).floor() < 1.0;
        let (mut kept, mut out) = (Vec::new(), Vec::new());
        for (i, item) in std::mem::take(&mut self.items).into_iter().enumerate() {
            match !keeps_all && taken(i) {
                true => out.push(item),
                false => kept.push(item),
            }
        }
        self.items = kept;
        out
    }
}

/// Benchmarks with training views.
const VIEWED: [&str; 1] = ["stereoset"];

/// Views of StereoSet: whose sentences of which part they are.
const VIEWS: [(&str, (&str, &str)); 3] = [
    ("intrasentence-stereotype", ("intrasentence", "stereotype")),
    (
        "intrasentence-anti-stereotype",
        ("intrasentence", "anti-stereotype"),
    ),
    ("intrasentence-unrelated", ("intrasentence", "unrelated")),
];

fn views() -> String {
    VIEWS.map(|(name, _)| name).join(", ")
}

/// The sentence of a choice, as a text of its own.
fn sentence(item: &Item, choice: &str) -> Option<Told> {
    let Ask::Choose(choices) = &item.probes.first()?.ask else {
        return None;
    };
    let chosen = choices.iter().find(|one| one.name == choice)?;
    Some(Told {
        place: format!("item {}", item.id),
        said: Said::Text(chosen.text.clone()),
        picture: None,
    })
}

/// The item of a line; none for one without a label.
fn told(
    line: Line,
    id: Option<Id>,
    place: String,
    kind: Kind,
    answers: Option<&HashMap<String, String>>,
) -> Result<Option<Told>, String> {
    let Line {
        text,
        prompt,
        answer,
        join,
        image,
    } = line;
    let join = join.unwrap_or_else(|| " ".to_owned());
    let said = match (kind, answers) {
        (Kind::Causal, _) => match (text, prompt, answer) {
            (Some(text), None, None) if image.is_none() => Said::Text(text),
            (None, Some(prompt), Some(answer)) => Said::Answer {
                prompt,
                join,
                answer,
                whole: true,
            },
            (Some(_), None, None) => {
                return Err("`image` stands beside `text`; write `prompt` and `answer`".to_owned());
            }
            _ => return Err("needs either `text`, or `prompt` and `answer`".to_owned()),
        },
        (Kind::Labels, Some(answers)) => {
            let id = id.ok_or("`id` is missing, by which it has its label")?;
            let prompt = prompt.ok_or("`prompt` is missing")?;
            match answers.get(&id.to_string()) {
                None => return Ok(None),
                Some(answer) => Said::Answer {
                    prompt,
                    join,
                    answer: answer.clone(),
                    whole: false,
                },
            }
        }
        (Kind::Answers | Kind::Labels, _) => Said::Answer {
            prompt: prompt.ok_or("`prompt` is missing")?,
            join,
            answer: answer.or(text).ok_or("`answer` is missing")?,
            whole: false,
        },
    };
    Ok(Some(Told {
        place,
        said,
        picture: image,
    }))
}

/// Pseudo labels by id.
fn answers(path: &Path) -> anyhow::Result<HashMap<String, String>> {
    let mut answers = HashMap::new();
    each(path, |entry, _| {
        let Label { text } = entry.parse().map_err(|fault| fault.to_string())?;
        let id = Id::of(entry)?.ok_or("`id` is missing, by which an item has its label")?;
        match answers.insert(id.to_string(), text) {
            None => Ok(()),
            Some(_) => Err(format!("`id`: {id} has a label already; keep one of them")),
        }
    })?;
    Ok(answers)
}

/// Hands every entry of a file to `read`, with its place for messages.
fn each(
    file: &Path,
    mut read: impl FnMut(&Entry, String) -> Result<(), String>,
) -> anyhow::Result<()> {
    let mut lines = debias_data::Lines::open(file, Content::Json)?;
    while let Some(entry) = lines.next_entry()? {
        let place = format!("{}: line {}", file.display(), entry.line);
        read(&entry, place.clone())
            .map_err(|problem| Refusal::new(Exit::Refused, format!("{place}: {problem}")))?;
    }
    Ok(())
}

/// The lessons of these items.
///
/// # Errors
/// An item that cannot be tokenised, with its place.
pub fn lessons(primer: &Primer, items: &[Told], seen: &Seen) -> anyhow::Result<Vec<Lesson>> {
    let lesson = |item: &Told| {
        let lesson = match &item.said {
            Said::Text(text) => primer.text(text),
            Said::Answer {
                prompt,
                join,
                answer,
                whole,
            } => primer.answered(&Answered {
                prompt,
                join,
                answer,
                picture: item
                    .picture
                    .as_deref()
                    .map(|key| (key, seen.tiles.get(key).copied().unwrap_or(1))),
                whole: *whole,
            }),
        };
        lesson
            .map_err(|error| Refusal::new(Exit::Refused, format!("{}: {error}", item.place)).into())
    };
    items.iter().map(lesson).collect()
}

/// A path from the working directory, else from `home`.
pub fn found(path: &Path, home: &Path) -> PathBuf {
    let beside = home.join(path);
    match !path.exists() && beside.exists() {
        true => beside,
        false => path.to_owned(),
    }
}

fn digest(path: &Path) -> anyhow::Result<String> {
    digest_of(path).map_err(|error| {
        Refusal::new(
            Exit::Refused,
            format!("cannot read {}: {error}", path.display()),
        )
        .into()
    })
}

fn usage(problem: String) -> anyhow::Error {
    Refusal::new(Exit::Usage, format!("the recipe: {problem}")).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(json: &str, kind: Kind) -> Result<Option<Told>, String> {
        let line = serde_json::from_str(json).expect("JSON");
        told(line, None, "here".to_owned(), kind, None)
    }

    #[test]
    fn a_line_says_what_its_kind_needs() {
        for (json, kind, word) in [
            (r#"{"prompt": "a"}"#, Kind::Causal, "needs either `text`"),
            (
                r#"{"text": "a", "image": "b.png"}"#,
                Kind::Causal,
                "`image`",
            ),
            (r#"{"answer": "a"}"#, Kind::Answers, "`prompt` is missing"),
            (r#"{"prompt": "a"}"#, Kind::Answers, "`answer` is missing"),
        ] {
            let error = line(json, kind).expect_err(json);
            assert!(error.contains(word), "{error}");
        }
        let text = line(r#"{"text": "a"}"#, Kind::Causal)
            .expect("fits")
            .expect("an item");
        assert!(matches!(text.said, Said::Text(_)));
        let both = line(
            r#"{"prompt": "a", "answer": "b", "join": ""}"#,
            Kind::Causal,
        );
        let said = both.expect("fits").expect("an item").said;
        assert!(matches!(said, Said::Answer { whole: true, ref join, .. } if join.is_empty()));
    }

    #[test]
    fn labels_join_by_id_and_leave_the_others_out() {
        let answers = HashMap::from([("7".to_owned(), "yes".to_owned())]);
        let labelled = |json: &str| {
            let entry = Entry {
                line: 1,
                is_text: false,
                bytes: json.as_bytes(),
            };
            let line = entry.parse().map_err(|fault| fault.to_string())?;
            told(
                line,
                Id::of(&entry)?,
                String::new(),
                Kind::Labels,
                Some(&answers),
            )
        };
        let one = labelled(r#"{"id": 7, "prompt": "is it?"}"#)
            .expect("fits")
            .expect("labelled");
        assert!(
            matches!(one.said, Said::Answer { ref answer, whole: false, .. } if answer == "yes")
        );
        assert!(
            labelled(r#"{"id": "8", "prompt": "is it?"}"#)
                .expect("fits")
                .is_none()
        );
        assert!(
            labelled(r#"{"prompt": "is it?"}"#)
                .expect_err("no id")
                .contains("`id`")
        );
    }

    #[test]
    fn a_share_is_spread_over_the_file() {
        let item = |i: usize| Told {
            place: i.to_string(),
            said: Said::Text(String::new()),
            picture: None,
        };
        let corpus = |n| Corpus {
            items: (0..n).map(item).collect(),
            digest: String::new(),
            folder: PathBuf::new(),
            notes: Vec::new(),
        };
        let mut ten = corpus(10);
        let out: Vec<String> = ten.split(0.25).into_iter().map(|item| item.place).collect();
        assert_eq!(
            (out, ten.items.len()),
            (vec!["3".to_owned(), "7".to_owned()], 8)
        );
        assert!(corpus(3).split(0.1).is_empty());
    }
}
