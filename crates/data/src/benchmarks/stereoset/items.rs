//! What a model is asked about an example.

use std::collections::BTreeMap;

use debias_core::{Choice, Item, Probe};

use super::names::{CHOICES, SENTENCES, SUBTASKS};
use super::read::Example;

/// What is asked about an example.
///
/// Intrasentence: each sentence as a text of its own, behind the start token. Intersentence: each
/// sentence behind the context, which gets a full stop where it does not end a sentence.
pub(super) fn item(example: &Example) -> Item {
    let sentences = CHOICES.iter().zip(&example.sentences);
    let choices = sentences
        .map(|(name, sentence)| Choice::new(*name, &sentence.text))
        .collect();
    let probe = if example.subtask == SUBTASKS[0] {
        Probe::choose_text(SENTENCES, choices)
    } else {
        let context = example.context.trim_end();
        let stop = if context.ends_with(['.', '!', '?']) {
            ""
        } else {
            "."
        };
        Probe::choose(SENTENCES, format!("{context}{stop}"), choices)
    };
    Item {
        id: example.id.clone(),
        cluster: Some(example.target.clone()),
        tags: tags(example.subtask, example.domain, &example.target),
        probes: vec![probe],
    }
}

/// What tells examples apart.
pub(super) fn tags(subtask: &str, domain: &str, target: &str) -> BTreeMap<String, String> {
    [
        ("subtask", subtask),
        ("bias_type", domain),
        ("target", target),
    ]
    .map(|(name, value)| (name.to_owned(), value.to_owned()))
    .into()
}
