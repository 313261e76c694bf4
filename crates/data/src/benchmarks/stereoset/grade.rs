//! Stored outputs of StereoSet: one line per example with three scores, or the published files of
//! predictions, a score for the id of every sentence.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use debias_core::{Answer, Answers, ItemLine, Norm, Weighed};
use serde_json::{Map, Value, json};

use super::super::document::Document;
use super::super::opened::Graded;
use super::super::outputs::{certain, is_lines, names};
use super::super::rows::{Flaw, Ids, Row, field, id, number, rows_in, rows_of, said, word};
use super::super::source::{Reading, Source, read_output};
use super::columns;
use super::items::tags;
use super::names::{CARD, CHOICES, DOMAINS, SENTENCES, SUBTASKS};
use super::read::{self, Example, Sentence};
use crate::{Error, Result};

/// Ids of the sentences of the published predictions, for the examples of which they are known.
const SENTENCE_IDS: &str = "intrasentence_sentence_ids.jsonl";

/// The forms in which figures are printed.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Form {
    /// By subtask, then by domain.
    Subtasks,
    /// By domain, with the threefold count of the published script.
    Published,
}

/// Reads every file as the outputs of one model.
pub(super) fn graded(files: &[PathBuf], source: Option<&Source>) -> Result<Graded> {
    let mut graded = Graded {
        sets: Vec::new(),
        figures: Value::Null,
        official: true,
        notes: Vec::new(),
    };
    let mut figures = Map::new();
    for (path, name) in files.iter().zip(names(files)?) {
        let (lines, form) = if is_lines(path) {
            (scored(path)?, Form::Subtasks)
        } else {
            predicted(path, source, &mut graded)?
        };
        if lines.is_empty() {
            return Err(Error::format(
                path,
                "holds no example; each line is one, with `score_stereotype`, `score_anti_stereotype` and `score_unrelated`",
            ));
        }
        figures.insert(name.clone(), figures_of(&lines, form));
        graded.sets.push((name, lines));
    }
    graded.figures = figures.into();
    Ok(graded)
}

/// `{"example_id", "subtask", "bias_type", "target", "score_stereotype", …}` per line.
fn scored(path: &Path) -> Result<Vec<ItemLine>> {
    let mut ids = Ids::default();
    rows_in(path, |row| {
        let example = Example {
            id: id(row, "example_id")?,
            subtask: word(row, "subtask", &SUBTASKS)?,
            domain: word(row, "bias_type", &DOMAINS)?,
            target: said(row, "target")?.to_owned(),
            context: String::new(),
            sentences: Default::default(),
        };
        ids.fresh("example_id", &example.id)?;
        let scores = [
            number(row, "score_stereotype")?,
            number(row, "score_anti_stereotype")?,
            number(row, "score_unrelated")?,
        ];
        Ok(line(&example, scores))
    })
}

/// A file of predictions, joined to the examples by the ids of their sentences.
fn predicted(
    path: &Path,
    source: Option<&Source>,
    graded: &mut Graded,
) -> Result<(Vec<ItemLine>, Form)> {
    let (scores, form) = predictions(path)?;
    let mut reading = Reading::new(&CARD, source.ok_or_else(|| CARD.needs_data())?);
    let gold = gold(&mut reading)?;
    let (mut lines, mut partial) = (Vec::new(), Vec::new());
    for example in &gold {
        let found = [0, 1, 2].map(|at| scores.get(&example.sentences[at].id).copied());
        match found {
            [Some(stereotype), Some(anti), Some(unrelated)] => {
                lines.push(line(example, [stereotype, anti, unrelated]));
            }
            [None, None, None] => {}
            _ => partial.push(format!("`{}`", example.id)),
        }
    }
    if !partial.is_empty() {
        let n = partial.len();
        partial.truncate(3);
        let problem = format!(
            "{n} examples have a score for some of their three sentences only, such as {}",
            partial.join(", ")
        );
        return Err(Error::format(path, problem));
    }
    let without = gold.len() - lines.len();
    if lines.is_empty() {
        return Err(Error::format(
            path,
            "scores no sentence whose id is known; --data stereoset=DIR names the folder with the ids",
        ));
    }
    if without > 0 {
        reading.unofficial(format!(
            "{}: {without} of {} examples have no score",
            path.display(),
            gold.len()
        ));
    }
    let unknown = scores.len().saturating_sub(3 * lines.len());
    if unknown > 0 {
        graded.notes.push(format!(
            "{}: {unknown} scores are of sentences without a known id and were not used",
            path.display()
        ));
    }
    graded.official &= reading.official();
    graded.notes.extend(reading.into_notes());
    Ok((lines, form))
}

/// Scores by the id of the sentence: `{id: score}`, or `{"intrasentence": [{"id", "score"}], …}`.
fn predictions(path: &Path) -> Result<(HashMap<String, f64>, Form)> {
    let text = read_output(path)?;
    let document = Document::parse(&text)?;
    let mut flaws = document.flaws();
    let mut scores = HashMap::new();
    let lists: Vec<&'static str> = SUBTASKS
        .into_iter()
        .filter(|name| document.root().contains_key(*name))
        .collect();
    if lists.is_empty() {
        for (id, score) in document.root() {
            match score.as_f64() {
                Some(score) => {
                    scores.insert(id.clone(), score);
                }
                None => {
                    let what = "the score of a sentence must be a number";
                    flaws.add(document.line_of(id), Flaw::found(what, score));
                }
            }
        }
    } else {
        let mut ids = Ids::default();
        let found = document.entries(&mut flaws, document.root(), 2, &lists, |_, entry| {
            let id = id(entry, "id")?;
            ids.fresh("id", &id)?;
            Ok((id, number(entry, "score")?))
        });
        scores.extend(found.into_iter().map(|(_, scored)| scored));
    }
    flaws.finish()?;
    let form = if lists.is_empty() {
        Form::Published
    } else {
        Form::Subtasks
    };
    Ok((scores, form))
}

/// The examples with the ids of their sentences.
fn gold(reading: &mut Reading) -> Result<Vec<Example>> {
    if reading.has(read::PUBLISHED) {
        return read::published(&reading.take(read::PUBLISHED)?);
    }
    let text = reading.take(SENTENCE_IDS)?;
    let mut ids = Ids::default();
    rows_of(&text.path, &text.text, |row| {
        let example = Example {
            id: id(row, "example_id")?,
            subtask: SUBTASKS[0],
            domain: word(row, "bias_type", &DOMAINS)?,
            target: said(row, "target")?.to_owned(),
            context: String::new(),
            sentences: [
                sentence(row, "stereotype")?,
                sentence(row, "anti_stereotype")?,
                sentence(row, "unrelated")?,
            ],
        };
        ids.fresh("example_id", &example.id)?;
        Ok(example)
    })
}

fn sentence(row: &Row, name: &str) -> std::result::Result<Sentence, Flaw> {
    field(row, name)?;
    Ok(Sentence {
        id: id(row, name)?,
        text: String::new(),
    })
}

/// The line of an example with a score for each of [`CHOICES`].
fn line(example: &Example, scores: [f64; 3]) -> ItemLine {
    let choices = CHOICES
        .into_iter()
        .zip(scores.map(|score| Some(certain(score))));
    let answers: Answers = [(SENTENCES, Answer::Choices(choices.collect()))]
        .into_iter()
        .collect();
    ItemLine {
        id: example.id.clone(),
        tags: tags(example.subtask, example.domain, &example.target),
        cluster: Some(example.target.clone()),
        after: Some(answers),
        ..ItemLine::default()
    }
}

fn figures_of(lines: &[ItemLine], form: Form) -> Value {
    let all: Vec<&ItemLine> = lines.iter().collect();
    if form == Form::Published {
        return Value::Object(domains(&all, form));
    }
    let mut figures = Map::new();
    for subtask in SUBTASKS {
        let lines = tagged(&all, "subtask", subtask);
        if !lines.is_empty() {
            figures.insert(subtask.to_owned(), domains(&lines, form).into());
        }
    }
    figures.insert("overall".to_owned(), scores(&all, false));
    figures.into()
}

/// The scores of every domain that occurs, and of all lines.
fn domains(lines: &[&ItemLine], form: Form) -> Map<String, Value> {
    let mut figures = Map::new();
    for domain in DOMAINS {
        let lines = tagged(lines, "bias_type", domain);
        if !lines.is_empty() {
            figures.insert(domain.to_owned(), scores(&lines, form == Form::Published));
        }
    }
    figures.insert("overall".to_owned(), scores(lines, false));
    figures
}

fn tagged<'l>(lines: &[&'l ItemLine], tag: &str, value: &str) -> Vec<&'l ItemLine> {
    lines
        .iter()
        .filter(|line| line.tag(tag) == value)
        .copied()
        .collect()
}

/// Percent, as the published script prints them.
fn scores(lines: &[&ItemLine], tripled: bool) -> Value {
    let taken: Vec<_> = lines
        .iter()
        .filter_map(|line| columns::take(line, Norm::Mean))
        .collect();
    let mut terms: Vec<&str> = taken.iter().map(|taken| taken.part.as_str()).collect();
    terms.sort_unstable();
    terms.dedup();
    let weighed: Vec<Weighed> = taken
        .iter()
        .map(|taken| Weighed {
            part: terms
                .binary_search(&taken.part.as_str())
                .unwrap_or_default(),
            lines: 1.0,
            weight: 1.0,
            values: &taken.values,
        })
        .collect();
    let percent =
        |figure: fn(&[Weighed]) -> Option<f64>| figure(&weighed).map(|share| 100.0 * share);
    let count = lines.len() as f64;
    let mut scores = json!({
        "Count": count,
        "LM Score": percent(columns::lm),
        "SS Score": percent(columns::ss),
        "ICAT Score": percent(columns::icat),
    });
    if tripled {
        scores["Count_in_published_table"] = json!(3.0 * count);
    }
    scores
}
