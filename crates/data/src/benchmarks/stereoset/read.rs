//! StereoSet's development set: as published (`dev.json`), or regrouped by gold label.

use std::collections::HashMap;

use super::super::document::Document;
use super::super::rows::{Flaw, Ids, Row, field, id, index, inner, said, word};
use super::super::source::{Reading, Text};
use super::names::{CHOICES, DOMAINS, SUBTASKS};
use crate::Result;

/// The development set as published.
pub(super) const PUBLISHED: &str = "dev.json";

/// The same texts, one list per gold label; without the ids of the sentences.
pub(super) const BY_LABEL: &str = "stereoset_dev_by_label.json";

/// One context with its three sentences.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Example {
    pub id: String,
    pub subtask: &'static str,
    pub domain: &'static str,
    pub target: String,
    pub context: String,
    /// In the order of [`CHOICES`].
    pub sentences: [Sentence; 3],
}

/// A sentence, with its id where the file has one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Sentence {
    pub id: String,
    pub text: String,
}

/// Every example of the folder.
///
/// # Errors
/// Neither form is there, or the one that is breaks its rules.
pub(super) fn examples(reading: &mut Reading) -> Result<Vec<Example>> {
    if reading.has(PUBLISHED) {
        published(&reading.take(PUBLISHED)?)
    } else {
        by_label(&reading.take(BY_LABEL)?)
    }
}

/// What the entries of all lists have in common.
fn example(entry: &Row) -> std::result::Result<Example, Flaw> {
    let context = said(entry, "context")?;
    let intrasentence = context.contains("BLANK");
    Ok(Example {
        id: id(entry, "id")?,
        subtask: SUBTASKS[usize::from(!intrasentence)],
        domain: word(entry, "bias_type", &DOMAINS)?,
        target: said(entry, "target")?.to_owned(),
        context: context.to_owned(),
        sentences: Default::default(),
    })
}

/// `{"data": {"intrasentence": [{…, "sentences": [{"sentence", "id", "gold_label"}]}], …}}`.
pub(super) fn published(text: &Text) -> Result<Vec<Example>> {
    let document = Document::parse(text)?;
    let mut flaws = document.flaws();
    let mut ids = Ids::default();
    let Some(data) = flaws.sift(1, inner(document.root(), "data")) else {
        return Err(flaws.refusal());
    };
    let found = document.entries(&mut flaws, data, 3, &SUBTASKS, |subtask, entry| {
        let mut example = example(entry)?;
        ids.fresh("id", &example.id)?;
        example.subtask = subtask;
        let sentences = field(entry, "sentences")?;
        for sentence in sentences.as_array().into_iter().flatten() {
            let sentence = sentence
                .as_object()
                .ok_or_else(|| Flaw::found("`sentences` must hold objects", sentence))?;
            let gold = word(sentence, "gold_label", &CHOICES)?;
            let place = CHOICES
                .iter()
                .position(|name| *name == gold)
                .unwrap_or_default();
            if !example.sentences[place].text.is_empty() {
                return Err(Flaw::new(format!(
                    "`sentences` has two of `gold_label` {gold}"
                )));
            }
            example.sentences[place] = Sentence {
                id: id(sentence, "id")?,
                text: said(sentence, "sentence")?.to_owned(),
            };
        }
        let missing = CHOICES
            .iter()
            .zip(&example.sentences)
            .find(|(_, found)| found.text.is_empty());
        match missing {
            Some((name, _)) => Err(Flaw::new(format!(
                "`sentences` has none of `gold_label` {name}"
            ))),
            None => Ok(example),
        }
    });
    flaws.finish()?;
    Ok(found.into_iter().map(|(_, example)| example).collect())
}

/// `{"stereotype": [{"context", "sentence", "bias_type", "label", "id", "target"}], …}`, joined by id.
pub(super) fn by_label(text: &Text) -> Result<Vec<Example>> {
    let document = Document::parse(text)?;
    let mut flaws = document.flaws();
    let mut ids: [Ids; 3] = Default::default();
    let found = document.entries(&mut flaws, document.root(), 2, &CHOICES, |gold, entry| {
        let place = CHOICES
            .iter()
            .position(|name| *name == gold)
            .unwrap_or_default();
        let example = example(entry)?;
        ids[place].fresh("id", &example.id)?;
        let labelled = index(entry, "label", LABELS.len())?;
        if LABELS[labelled] != gold {
            return Err(Flaw::new(format!(
                "`label` is not that of the list `{gold}`"
            )));
        }
        Ok((place, example, said(entry, "sentence")?.to_owned()))
    });
    let mut examples: Vec<(usize, Example)> = Vec::new();
    let mut places: HashMap<String, usize> = HashMap::new();
    for (line, (place, example, sentence)) in found {
        let at = *places.entry(example.id.clone()).or_insert_with(|| {
            examples.push((line, example.clone()));
            examples.len() - 1
        });
        let known = &mut examples[at].1;
        let agrees = known.context == example.context && known.target == example.target;
        if !(agrees && known.domain == example.domain) {
            let what =
                "`context`, `target` or `bias_type` is not that of the other sentences of its `id`";
            flaws.add(line, Flaw::new(what));
        }
        known.sentences[place].text = sentence;
    }
    for (line, example) in &examples {
        for (name, _) in CHOICES
            .iter()
            .zip(&example.sentences)
            .filter(|(_, sentence)| sentence.text.is_empty())
        {
            flaws.add(
                *line,
                Flaw::new(format!("its `id` is missing in the list `{name}`")),
            );
        }
    }
    flaws.finish()?;
    Ok(examples.into_iter().map(|(_, example)| example).collect())
}

/// What the numbers of the field `label` stand for.
const LABELS: [&str; 3] = ["anti-stereotype", "stereotype", "unrelated"];
