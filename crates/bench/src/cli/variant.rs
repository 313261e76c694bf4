//! The flags by which commands that ask a model choose a variant of it.

use std::path::PathBuf;

use clap::Args;
use debias_core::{Preset, Task};

use super::selection::{PresetName, TaskName};
use crate::asking::{Asking, Opening, VariantRequest, threads};
use crate::compute::{Loading, Numbers};
use crate::exit::Exit;
use crate::failure::Refusal;
use crate::interrupt::Interrupt;
use crate::planner::{Batches, Conditions, EditRequest};
use crate::printer::Printer;

/// A variant of the model.
#[derive(Clone, Debug, Args)]
pub(super) struct VariantArgs {
    /// Ask the model as this editor leaves it; the unedited model's answer stands beside
    #[arg(long, value_name = "NAME", requires = "edit")]
    editor: Option<String>,
    /// The edit requests, edited together: a JSON list as `bench edit` reads it
    #[arg(long, value_name = "FILE", requires = "editor")]
    edit: Option<PathBuf>,
    /// Only the request of this id (repeatable)
    #[arg(long = "id", value_name = "ID", requires = "edit")]
    ids: Vec<String>,
    /// Requests to learn from; else those of --edit with "split": "train"
    #[arg(long, value_name = "FILE", requires = "edit")]
    train: Option<PathBuf>,
    /// The folder that pictures of the requests are relative to; else that of --edit
    #[arg(long, value_name = "DIR", requires = "edit")]
    edit_images: Option<PathBuf>,
    /// The task of requests that do not say theirs
    #[arg(long, value_enum, value_name = "TASK", requires = "edit")]
    task: Option<TaskName>,
    /// A setting, e.g. ft-l.steps=25, filter.contexts=0 (repeatable)
    #[arg(long = "set", value_name = "KEY=VALUE", requires = "edit")]
    settings: Vec<String>,
    /// The bundle of settings to start from
    #[arg(long, value_enum, requires = "edit")]
    preset: Option<PresetName>,
    /// Seed of every random stream of the edit
    #[arg(long, value_name = "N", requires = "edit")]
    seed: Option<u64>,
    /// Where trained parts of editors are kept
    #[arg(short, long, value_name = "DIR", default_value = "results")]
    out: PathBuf,
    /// Ask what this recipe merges; the answer of --model stands beside
    #[arg(long, value_name = "RECIPE", conflicts_with = "editor")]
    merge: Option<PathBuf>,
    /// The answer without the variant stands beside, as it always does
    #[arg(long)]
    before: bool,
}

impl VariantArgs {
    /// Opens the first of `models`, and the variant of it that is asked.
    ///
    /// # Errors
    /// Flags that contradict each other, or as [`Opening::asking`].
    pub(super) fn asking(
        &self,
        models: &[String],
        (loading, numbers, max_memory): (&Loading, &Numbers, Option<u64>),
        printer: Printer,
    ) -> anyhow::Result<Asking> {
        let (name, variant) = self.chosen(models, (loading, numbers, max_memory))?;
        loading.prepare()?;
        let interrupt = Interrupt::listen()?;
        let opening = Opening {
            open: &|checkpoint| loading.open_checkpoint(checkpoint, max_memory),
            dtype: numbers.dtype,
            threads: threads(loading.threads),
            interrupt: &interrupt,
            printer,
        };
        opening.asking(name, variant)
    }

    /// The model, and what is asked in its place.
    fn chosen<'m>(
        &self,
        models: &'m [String],
        (loading, numbers, max_memory): (&Loading, &Numbers, Option<u64>),
    ) -> anyhow::Result<(&'m str, VariantRequest)> {
        let usage = |message: &str, help: &str| Refusal::new(Exit::Usage, message).help(help);
        let (name, other) = match models {
            [name] => (name, None),
            [name, other] => (name, Some(other)),
            _ => {
                return Err(usage(
                    "--model is given more than twice",
                    "The second model is asked, and the answer of the first stands beside.",
                )
                .into());
            }
        };
        let variant = match (other, &self.edit, &self.merge) {
            (Some(_), Some(_), _) | (Some(_), _, Some(_)) => {
                return Err(usage(
                    "a second --model is a variant itself, as --edit and --merge are",
                    "Give one of them.",
                )
                .into());
            }
            (Some(other), None, None) => VariantRequest::Other(other.clone()),
            (None, _, Some(recipe)) => VariantRequest::Merged(recipe.clone()),
            (None, Some(path), None) => VariantRequest::Edited(Box::new(EditRequest {
                path: path.clone(),
                models: vec![name.clone()],
                editor: self.editor.clone(),
                ids: self.ids.clone(),
                task: self.task.map(Task::from),
                images: self.edit_images.clone(),
                rephrase_images: None,
                train: self.train.clone(),
                conditions: Conditions {
                    placement: loading.compute.placement(max_memory)?,
                    device: loading.compute.device,
                    dtype: numbers.dtype,
                    max_memory,
                    command: None,
                    limit: None,
                    seed: self.seed,
                    batches: Batches::default(),
                    out: self.out.clone(),
                    settings: self.settings.clone(),
                    preset: self.preset.map(Preset::from),
                },
            })),
            (None, None, None) if self.before => {
                return Err(usage(
                    "--before: there is nothing that the model could be compared with",
                    "Give --editor and --edit, --merge, or a second --model.",
                )
                .into());
            }
            (None, None, None) => VariantRequest::Itself,
        };
        Ok((name, variant))
    }
}
