//! The small worlds in which `bench check-editor` tests an editor: a few records of a dataset that
//! the model shows its bias on.

use std::collections::HashMap;

use debias_core::{Picture, Protocol, Record, Split, Task, Verdict};
use debias_data::Collection;
use debias_edit::conformance::World;
use debias_edit::context_scores;
use debias_model::Model;

use crate::planner::CHUNK;
use crate::terminal::exit::Exit;
use crate::terminal::failure::Refusal;

/// Fewest records of a split on which properties of several edits can be seen.
const FEWEST: usize = 3;

/// How many records of each split a world has.
#[derive(Clone, Copy, Debug)]
pub struct Size {
    /// To learn from.
    pub train: usize,
    /// To stop on.
    pub val: usize,
    /// To edit.
    pub eval: usize,
}

impl Size {
    /// `eval` records to edit, and enough of the others.
    pub fn of(eval: usize) -> Self {
        Self {
            train: (4 * eval).max(FEWEST),
            val: eval + 2,
            eval: eval.max(FEWEST),
        }
    }
}

/// The first records of each split of `collection` that `protocol` admits for `model`.
///
/// # Errors
/// An unreadable picture, or too few admitted records.
pub fn world<'m>(
    model: &'m Model,
    collection: &dyn Collection,
    task: Task,
    protocol: &Protocol,
    size: Size,
) -> anyhow::Result<World<'m>> {
    let records = candidates(collection, task)?;
    let mut pictures = HashMap::new();
    let mut first = |split: Split, count: usize| -> anyhow::Result<Vec<Record>> {
        let of_split: Vec<&Record> = records.iter().filter(|r| r.split == split).collect();
        let mut admitted = Vec::new();
        for records in of_split.chunks(CHUNK) {
            if admitted.len() >= count {
                break;
            }
            let records: Vec<Record> = records.iter().map(|record| (*record).clone()).collect();
            admitted.extend(judged(model, collection, &records, protocol)?);
        }
        admitted.truncate(count);
        for record in &admitted {
            for (_, key) in record.images() {
                pictures.insert(key.clone(), collection.picture(key)?);
            }
        }
        Ok(admitted)
    };
    let train = first(Split::Train, size.train)?;
    let val = first(Split::Val, size.val)?;
    let eval = first(Split::Eval, size.eval)?;
    if train.len() < FEWEST || eval.len() < FEWEST {
        return Err(Refusal::new(
            Exit::Refused,
            format!(
                "the filter admits {} training and {} evaluation records of {} for {}; a check needs {FEWEST} of each",
                train.len(),
                eval.len(),
                task.name(),
                model.name()
            ),
        )
        .help("Give --set filter.contexts=1 or 0 to take more records.")
        .into());
    }
    Ok(World {
        model,
        templates: protocol.templates.clone(),
        admission: protocol.admission(),
        train,
        val,
        eval,
        pictures,
    })
}

/// The records of a task; those of text alone are the visual questions without their pictures.
fn candidates(collection: &dyn Collection, task: Task) -> debias_data::Result<Vec<Record>> {
    match task {
        Task::Ic | Task::Vqa => collection.records(task),
        Task::Text => {
            let questions = collection.records(Task::Vqa)?.into_iter();
            Ok(questions.map(Record::text_alone).collect())
        }
    }
}

/// Those of `records` that `protocol` admits for `model`, oriented.
fn judged(
    model: &Model,
    collection: &dyn Collection,
    records: &[Record],
    protocol: &Protocol,
) -> anyhow::Result<Vec<Record>> {
    let keys = records.iter().flat_map(|r| [&r.image, &r.image_rephrase]);
    let pictures: HashMap<String, Picture> = keys
        .flatten()
        .map(|key| Ok((key.clone(), collection.picture(key)?)))
        .collect::<debias_data::Result<_>>()?;
    let scores = context_scores(model, records, &pictures, &protocol.templates)?;
    let admission = protocol.admission();
    let verdicts = records.iter().zip(scores);
    Ok(verdicts
        .filter_map(|(record, scores)| match admission.judge(record, &scores) {
            Verdict::Admitted(record) => Some(*record),
            _ => None,
        })
        .collect())
}
