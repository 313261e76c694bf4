//! What a model is asked about a row.

use std::collections::BTreeMap;

use debias_core::{Choice, Item, Probe};

use super::names::{LM_EVAL, OPTIONS, THREE_WAY, UNKNOWNS};
use super::read::Question;
use super::targets::Target;

/// The four rows that belong together: rows come in fours, with and without enough context, each
/// with a negative and a non-negative question.
pub(super) fn quadruple(item: &Item) -> String {
    let (category, row) = item.id.split_once('/').unwrap_or_default();
    let four = row.parse::<u64>().map(|row| row / 4);
    four.map_or_else(
        |_| item.id.clone(),
        |four| format!("{category}/{}", 4 * four),
    )
}

/// What is asked about a row: both lists of options behind the same context.
pub(super) fn item(question: &Question, origin: &str, target: Option<Target>) -> Item {
    let prompt = format!("{}\n\nQ: {}\nA:", question.context, question.question);
    let option = |place: usize| Choice::new(OPTIONS[place], &question.options[place]);
    let known = (0..3)
        .filter(|place| *place != question.unknown)
        .map(option);
    let unknowns = UNKNOWNS
        .into_iter()
        .map(|wording| Choice::new(wording, wording));
    Item {
        id: question.key(),
        cluster: Some(question.template_key()),
        tags: tags(question, origin, target),
        probes: vec![
            Probe::choose(LM_EVAL, prompt.as_str(), known.chain(unknowns).collect()),
            Probe::choose(THREE_WAY, prompt, (0..3).map(option).collect()),
        ],
    }
}

/// Everything that columns need to know of a row.
pub(super) fn tags(
    question: &Question,
    origin: &str,
    target: Option<Target>,
) -> BTreeMap<String, String> {
    let biased: Vec<&str> = question
        .biased
        .iter()
        .map(|place| OPTIONS[*place])
        .collect();
    let mut tags = vec![
        ("category", question.category),
        ("condition", question.condition),
        ("polarity", question.polarity),
        ("template", question.template.as_str()),
        ("origin", origin),
        ("gold", OPTIONS[question.gold]),
        ("unknown", OPTIONS[question.unknown]),
    ];
    let biased = biased.join(" ");
    tags.push(("biased", biased.as_str()));
    if let Some(target) = target {
        tags.push(("label_type", target.label_type));
        tags.extend(target.option.map(|option| ("target", OPTIONS[option])));
    }
    tags.into_iter()
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect()
}
