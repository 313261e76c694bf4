//! The plan of `bench edit`: one editor on the requests of one file.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use debias_core::{Batching, Identity, Split, Suite, Task};
use debias_data::{Collection, Reading, Requests, read_requests};

use super::{Draft, EditRequest, Planned, PlannedData, sentence};
use crate::external;
use crate::terminal::exit::Exit;
use crate::terminal::failure::Refusal;
use crate::terminal::interrupt::Interrupt;

/// The name of the run folder, and of the suite that this is not.
const NAME: &str = "edit";

impl Planned {
    /// Decides what `requested` means.
    ///
    /// # Errors
    /// An unknown name or setting, an unusable model, request or device; nothing was written.
    pub fn requests(requested: &EditRequest, interrupt: &Interrupt) -> anyhow::Result<Self> {
        let conditions = &requested.conditions;
        let path = &requested.path;
        let (requests, tasks) = opened(requested)?;
        let editor = requested.editor.clone();
        let suite = Suite {
            name: NAME.to_owned(),
            edition: "0".to_owned(),
            title: String::new(),
            models: requested.models.clone(),
            tasks,
            editors: vec![editor.unwrap_or_else(|| external::NAME.to_owned())],
            dataset: name_of(path),
            batching: conditions.batches.instead_of(&Batching::default()),
            seeds: vec![conditions.seed.unwrap_or_default()],
            preset: conditions.preset.unwrap_or_default(),
            settings: Default::default(),
            remarks: Vec::new(),
            merging: Default::default(),
            intermediates: Vec::new(),
            mergers: Vec::new(),
        };
        suite.check(NAME)?;
        let data = |suite: &Suite| {
            Ok(vec![PlannedData {
                seed: suite.seeds[0],
                identity: Identity {
                    id: suite.dataset.clone(),
                    digest: requests.digest()?,
                },
                collection: Arc::new(requests),
            }])
        };
        let draft = Draft {
            suite,
            alone: true,
            shard: None,
            conditions,
            interrupt,
        };
        draft.planned(data, |_, _, data| {
            let remarks = data.iter().filter_map(|data| data.collection.remark());
            Ok(remarks.map(sentence).collect())
        })
    }
}

/// The requests, with those to learn from, and the tasks of those to edit.
fn opened(requested: &EditRequest) -> anyhow::Result<(Requests, Vec<Task>)> {
    let path = &requested.path;
    let mut requests = read(requested, path, Split::Eval)?;
    if let Some(train) = &requested.train {
        requests = requests.with_training(read(requested, train, Split::Train)?)?;
    }
    if !requested.ids.is_empty() {
        requests = requests.only(&requested.ids)?;
    }
    let edited = |task: &Task| {
        let mut all = requests.all().iter();
        all.any(|record| record.task == *task && record.split == Split::Eval)
    };
    let tasks: Vec<Task> = Task::ALL.into_iter().filter(edited).collect();
    if tasks.is_empty() {
        return Err(Refusal::new(
            Exit::Refused,
            format!("{}: no request is there to be edited", path.display()),
        )
        .help("Requests with \"split\": \"train\" or \"val\" are learnt from only.")
        .into());
    }
    match requested.task {
        None => Ok((requests, tasks)),
        Some(task) if tasks.contains(&task) => Ok((requests, vec![task])),
        Some(task) => Err(debias_data::Error::NoSuchTask {
            dataset: path.display().to_string(),
            task: task.name(),
        }
        .into()),
    }
}

fn read(requested: &EditRequest, path: &Path, split: Split) -> debias_data::Result<Requests> {
    let beside = path.parent().map(Path::to_owned).unwrap_or_default();
    let images: PathBuf = requested.images.clone().unwrap_or(beside);
    let rephrased = requested.rephrase_images.as_ref().unwrap_or(&images);
    read_requests(
        path,
        Reading {
            images: &images,
            rephrased,
            task: requested.task,
            split,
        },
    )
}

/// What the request file is called in results.
fn name_of(path: &Path) -> String {
    let stem = path.file_stem().unwrap_or(path.as_os_str());
    stem.to_string_lossy().into_owned()
}
