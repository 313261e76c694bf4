//! debias-edit: what an edit does to its record, to the record in other words and pictures, and to what
//! it is not about. Equations 5 to 7 of the debias-editing paper; `spec/editors.md` section 2.
//!
//! The suites make edits and ask this after each of them, on records that the unedited model is biased
//! on. Here the records of a built folder are items like any other's, to be asked of any model, edited
//! or merged however.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::LazyLock;

use debias_core::{
    Ask, CONTEXTS, Choice, Column, Estimate, Framing, Item, Probe, Record, Split, Task, Templates,
    Unrelated, Y_LESS, Y_MORE, metrics,
};

use super::benchmark::{Benchmark, chosen};
use super::card::BenchmarkCard;
use super::opened::{Graded, Opened};
use super::outputs::cells;
use super::sample::limited;
use super::source::Source;
use crate::{Collection, Folder, Result};

/// The benchmark.
pub struct DebiasEdit;

static CARD: LazyLock<BenchmarkCard> = LazyLock::new(|| {
    let text = include_str!("../../../../datasets/benchmarks/debias-edit.toml");
    BenchmarkCard::parse(text).expect("the embedded card is read by a test")
});

static COLUMNS: LazyLock<Vec<Column>> = LazyLock::new(|| metrics::all().copied().collect());

impl Benchmark for DebiasEdit {
    fn card(&self) -> &BenchmarkCard {
        &CARD
    }

    fn parts(&self) -> &'static [&'static str] {
        &["ic", "vqa", "text"]
    }

    fn compares(&self) -> bool {
        true
    }

    fn open(
        &self,
        source: &Source,
        parts: &[String],
        limit: Option<usize>,
        seed: u64,
    ) -> Result<Opened> {
        let folder = Folder::open(source.dir())?;
        let templates = Templates::default();
        let (mut items, mut found) = (Vec::new(), Vec::new());
        for part in chosen(self.parts(), parts)? {
            let task = Task::ALL.into_iter().find(|task| task.name() == part);
            let records = match task.map(|task| folder.records(task)) {
                Some(Ok(records)) => records,
                // Without a choice, what the folder has is asked.
                Some(Err(_)) if parts.is_empty() => continue,
                Some(Err(error)) => return Err(error),
                None => continue,
            };
            let records = records.iter().filter(|record| record.split == Split::Eval);
            items.extend(records.map(|record| item(record, &templates)));
            found.push(part.to_owned());
        }
        let stratum = |item: &Item| format!("{}/{}", item.tags["task"], item.tags["bias_type"]);
        let items = limited(&CARD.name, items, limit, seed, stratum, |item| {
            item.id.clone()
        });
        Ok(Opened {
            items,
            files: BTreeMap::new(),
            digest: folder.digest()?,
            pictures: Some(folder.images()),
            official: true,
            notes: folder.remark().map(str::to_owned).into_iter().collect(),
            parts: found,
        })
    }

    fn columns(&self) -> &'static [Column] {
        &COLUMNS
    }

    fn headline(&self) -> &'static [&'static str] {
        &metrics::HEADLINE
    }

    fn block_tag(&self) -> Option<&'static str> {
        Some("bias_type")
    }

    /// It has no outputs but the lines of cells.
    fn grade(&self, files: &[PathBuf], _source: Option<&Source>) -> Result<Graded> {
        cells(files)
    }

    fn sentence(&self, metrics: &BTreeMap<String, Estimate>) -> Option<String> {
        let share = |id: &str| {
            let Estimate {
                value, low, high, ..
            } = metrics.get(id)?;
            let [value, low, high] = [value, low, high].map(|share| 100.0 * share);
            Some(format!("{value:.1} % [{low:.1}, {high:.1}]"))
        };
        let (gain, kept) = (share("reliability")?, share("t_locality"));
        let kept =
            kept.map(|kept| format!(" and keeps {kept} of the predictions on unrelated text"));
        Some(format!(
            "the unbiased answer is the likelier one on {gain} of the records{}",
            kept.unwrap_or_default()
        ))
    }
}

/// What is asked about a record.
fn item(record: &Record, templates: &Templates) -> Item {
    let own = templates.of(record.task);
    let prompt = own.apply(&record.prompt);
    let rephrase = record.prompt_rephrase.as_ref().map(|text| own.apply(text));
    let other = record.image_rephrase.clone();
    let asked = [
        Some((prompt.clone(), record.image.clone())),
        rephrase.map(|rephrase| (rephrase, record.image.clone())),
        other.map(|other| (prompt, Some(other))),
    ];
    let choices = [(Y_MORE, &record.y_more), (Y_LESS, &record.y_less)];
    let choices: Vec<Choice> = choices.map(|(name, text)| Choice::new(name, text)).into();
    let contexts = CONTEXTS.into_iter().zip(asked).filter_map(|(name, asked)| {
        let (prompt, image) = asked?;
        Some(Probe {
            image,
            framing: Framing::Model,
            ..Probe::choose(name, prompt, choices.clone())
        })
    });
    let unrelated = |name: &str, item: &Option<Unrelated>, prompt: &dyn Fn(&str) -> String| {
        let item = item.as_ref()?;
        Some(Probe {
            image: item.image.clone(),
            framing: Framing::Model,
            ask: Ask::Compare(item.answer.clone()),
            ..Probe::choose(name, prompt(&item.question), Vec::new())
        })
    };
    let items = [
        unrelated("t_locality", &record.t_locality, &|text| {
            templates.tloc.apply(text)
        }),
        unrelated("m_locality", &record.m_locality, &|text| {
            templates.mloc.apply(text)
        }),
    ];
    Item {
        id: record.id.clone(),
        cluster: None,
        tags: [
            ("bias_type", record.bias_type.as_str()),
            ("task", record.task.name()),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .into(),
        probes: contexts.chain(items.into_iter().flatten()).collect(),
    }
}
