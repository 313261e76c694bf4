//! The catalogue: everything that has a name, with its card.

use clap::ValueEnum;
use debias_core::{Column, Error, Preset, Suite, metrics};
use debias_data::{benchmarks, datasets};
use debias_edit::editors;
use debias_merge::mergers;
use serde_json::{Value, json};

use crate::models;
use crate::suites;

/// A kind of things with names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Kind {
    /// Embedded models
    Models,
    /// Model editors
    Editors,
    /// Merge methods
    Mergers,
    /// Datasets
    Datasets,
    /// Suites
    Suites,
    /// Benchmarks
    Benchmarks,
    /// Metrics
    Metrics,
}

impl Kind {
    /// All kinds, in the order of the catalogue.
    pub const ALL: [Kind; 7] = [
        Kind::Models,
        Kind::Editors,
        Kind::Mergers,
        Kind::Datasets,
        Kind::Suites,
        Kind::Benchmarks,
        Kind::Metrics,
    ];

    /// The kind's name, plural.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Models => "models",
            Kind::Editors => "editors",
            Kind::Mergers => "mergers",
            Kind::Datasets => "datasets",
            Kind::Benchmarks => "benchmarks",
            Kind::Suites => "suites",
            Kind::Metrics => "metrics",
        }
    }
}

/// One thing with a name.
#[derive(Clone, Debug)]
pub struct Entry {
    /// What kind of thing.
    pub kind: Kind,
    /// Its permanent name.
    pub name: String,
    /// One line about it.
    pub title: String,
    /// Its card: labelled values, in the order in which they are printed.
    pub card: Value,
}

/// Every entry of one kind.
///
/// # Errors
/// An embedded card that cannot be read.
pub fn entries(kind: Kind) -> anyhow::Result<Vec<Entry>> {
    match kind {
        Kind::Models => models::embedded()
            .iter()
            .map(|model| {
                let card = model.card()?;
                Ok(entry(
                    kind,
                    &card.name,
                    &card.title,
                    serde_json::to_value(&card)?,
                ))
            })
            .collect(),
        Kind::Editors => editors::ALL
            .iter()
            .map(|editor| editor_entry(*editor))
            .collect(),
        Kind::Mergers => mergers::ALL.iter().map(|m| merger_entry(*m)).collect(),
        Kind::Datasets => Ok(datasets::ALL
            .iter()
            .map(|data| dataset_entry(*data))
            .collect()),
        Kind::Benchmarks => benchmarks::ALL
            .iter()
            .map(|benchmark| benchmark_entry(*benchmark))
            .collect(),
        Kind::Suites => Ok(suites::all()?.iter().map(suite_entry).collect()),
        Kind::Metrics => Ok(metrics::all().map(metric_entry).collect()),
    }
}

/// The entry of that name, of whatever kind; where two kinds share a name, `kind/name` tells them
/// apart, and the plain name is the first's.
///
/// # Errors
/// [`Error::Unknown`] with the nearest name.
pub fn find(name: &str) -> anyhow::Result<Entry> {
    let mut known = Vec::new();
    for kind in Kind::ALL {
        for entry in entries(kind)? {
            if entry.name == name || format!("{}/{}", kind.name(), entry.name) == name {
                return Ok(entry);
            }
            known.push(entry.name);
        }
    }
    Err(Error::unknown("name", name, known.iter().map(String::as_str)).into())
}

fn entry(kind: Kind, name: &str, title: &str, card: Value) -> Entry {
    Entry {
        kind,
        name: name.to_owned(),
        title: title.to_owned(),
        card,
    }
}

fn editor_entry(editor: &dyn debias_edit::Editor) -> anyhow::Result<Entry> {
    let about = editor.card();
    let mut card = serde_json::to_value(about)?;
    let defaults = |preset| editor.defaults(preset);
    let settings: serde_json::Map<_, _> = defaults(Preset::Project)
        .keys()
        .map(|key| {
            let help = about.settings.iter().find(|(name, _)| *name == key);
            let values: serde_json::Map<_, _> = Preset::ALL
                .into_iter()
                .filter_map(|preset| {
                    Some((preset.name().to_owned(), defaults(preset).get(key)?.clone()))
                })
                .collect();
            let setting = json!({
                "meaning": help.map(|(_, help)| *help).unwrap_or_default(),
                "default": values,
            });
            (key.to_owned(), setting)
        })
        .collect();
    card["settings"] = settings.into();
    Ok(entry(Kind::Editors, about.id, about.title, card))
}

fn merger_entry(merger: &dyn debias_merge::Merger) -> anyhow::Result<Entry> {
    let card = merger.card();
    let mut value = serde_json::to_value(card)?;
    let parameters: serde_json::Map<_, _> = card
        .parameters
        .iter()
        .map(|parameter| {
            let about = json!({
                "meaning": parameter.help,
                "default": parameter.default.to_string(),
                "of": parameter.scope,
            });
            (parameter.name.to_owned(), about)
        })
        .collect();
    value["parameters"] = parameters.into();
    value["inputs"] = card.inputs.to_string().into();
    Ok(entry(Kind::Mergers, card.id, card.title, value))
}

fn dataset_entry(dataset: &dyn debias_data::Dataset) -> Entry {
    let card = dataset.card();
    let tasks: Vec<_> = card.tasks.iter().map(|task| task.name()).collect();
    let value = json!({
        "name": card.name,
        "title": card.title,
        "version": card.version,
        "licence": card.licence,
        "citation": card.citation,
        "source": card.source,
        "size": card.size,
        "splits": card.splits,
        "ethics": card.ethics,
        "tasks": tasks,
        "obtained": card.obtained,
        "locality": card.locality,
    });
    entry(Kind::Datasets, &card.name, &card.title, value)
}

/// The card, then what can be asked alone and what is computed of the answers.
fn benchmark_entry(benchmark: &dyn benchmarks::Benchmark) -> anyhow::Result<Entry> {
    let card = benchmark.card();
    let mut value = serde_json::to_value(card)?;
    value["parts"] = benchmark.parts().into();
    value["headline"] = benchmark.headline().into();
    let columns = benchmark.columns().iter();
    let columns: serde_json::Map<_, _> = columns
        .map(|column| (column.id.to_owned(), column.definition.into()))
        .collect();
    value["columns"] = columns.into();
    Ok(entry(Kind::Benchmarks, &card.name, &card.title, value))
}

fn suite_entry(suite: &Suite) -> Entry {
    let value = json!({
        "name": suite.name,
        "edition": suite.edition,
        "title": suite.title,
        "models": suite.models,
        "tasks": suite.tasks,
        "editors": suite.editors,
        "mergers": suite.mergers.iter().map(|merger| &merger.name).collect::<Vec<_>>(),
        "dataset": suite.dataset,
        "seeds": suite.seeds,
        "preset": suite.preset,
        "settings": suite.settings.assignments(),
    });
    entry(Kind::Suites, &suite.name, &suite.title, value)
}

fn metric_entry(metric: &Column) -> Entry {
    let value = json!({
        "id": metric.id,
        "version": metric.version,
        "definition": metric.definition,
        "unit": metric.unit,
        "better": metric.better,
    });
    entry(Kind::Metrics, metric.id, metric.definition, value)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn every_name_is_said_once_and_found() {
        let mut seen = BTreeSet::new();
        for kind in Kind::ALL {
            for entry in entries(kind).expect("cards") {
                let whole = format!("{}/{}", kind.name(), entry.name);
                assert!(seen.insert(whole.clone()), "{whole} is named twice");
                assert_eq!(find(&whole).expect("listed").kind, kind);
                // A metric counts ties, a merge is called so; a suite is called as what it asks.
                if !["ties", "debias-edit"].contains(&entry.name.as_str()) {
                    assert_eq!(find(&entry.name).expect("listed").kind, kind, "{whole}");
                }
                assert!(!entry.title.is_empty() && entry.card.is_object());
            }
        }
        for name in [
            "editors/ft-l",
            "datasets/toytown",
            "suites/debias-edit",
            "metrics/reliability",
        ] {
            assert!(seen.contains(name), "{name}");
        }
        assert_eq!(find("ties").expect("a merge").kind, Kind::Mergers);
        assert_eq!(find("debias-edit").expect("a suite").kind, Kind::Suites);
        let error = find("toytwon").expect_err("a typo").to_string();
        assert_eq!(error, "unknown name `toytwon` — did you mean `toytown`?");
    }

    #[test]
    fn every_setting_of_an_editor_has_a_meaning_and_a_default_in_every_preset() {
        for entry in entries(Kind::Editors).expect("cards") {
            let settings = entry.card["settings"]
                .as_object()
                .cloned()
                .unwrap_or_default();
            for (key, setting) in settings {
                let default = setting["default"].as_object().expect("per preset");
                assert_eq!(default.len(), Preset::ALL.len(), "{}.{key}", entry.name);
            }
        }
    }
}
