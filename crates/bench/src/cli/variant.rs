//! The flags by which commands that ask a model choose a variant of it.

use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::Args;
use debias_core::{Preset, Task};

use super::selection::{PresetName, TaskName};
use crate::asking::{AskedModel, Opening, VariantRequest, threads};
use crate::compute::{Compute, Loading, Numbers};
use crate::models::merging::MergeRequest;
use crate::planner::{Batches, Conditions, EditRequest};
use crate::terminal::exit::Exit;
use crate::terminal::failure::Refusal;
use crate::terminal::interrupt::Interrupt;
use crate::terminal::printer::Printer;

/// Where an edit's trained parts are kept, and its seed: flags of commands without a run folder.
#[derive(Clone, Debug, Args)]
pub(super) struct EditArgs {
    /// Seed of every random stream: of an edit, of samples [default: 0]
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// Where trained parts of editors are kept
    #[arg(short, long, value_name = "DIR", default_value = "results")]
    out: PathBuf,
}

impl EditArgs {
    /// The seed of what is drawn.
    ///
    /// # Errors
    /// A seed where nothing is drawn: neither samples nor for an edit.
    pub(super) fn seed_of(&self, samples: bool, variant: &VariantArgs) -> Result<u64, Refusal> {
        if self.seed.is_some() && !samples && variant.edit.is_none() {
            return Err(
                Refusal::new(Exit::Usage, "--seed: nothing is drawn here").help(
                    "A seed goes with --edit, or with --temperature, --top-k, --top-p or --samples.",
                ),
            );
        }
        Ok(self.seed.unwrap_or(0))
    }
}

/// How variants are computed.
pub(super) struct How<'a> {
    /// The device.
    pub compute: &'a Compute,
    /// The number format.
    pub numbers: &'a Numbers,
    /// The most memory to take, if somebody says so.
    pub max_memory: Option<u64>,
    /// Seed of every random stream of an edit.
    pub seed: Option<u64>,
    /// Where trained parts of editors are kept.
    pub out: &'a Path,
}

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
    /// Ask what this recipe merges; the answer of --model stands beside
    #[arg(long, value_name = "RECIPE", conflicts_with = "editor")]
    merge: Option<PathBuf>,
    /// Refuse a recipe with keys or parameters that have no effect, instead of warning
    #[arg(long, requires = "merge")]
    strict: bool,
    /// The model without the variant stands beside
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
        edit: &EditArgs,
        (loading, numbers, max_memory): (&Loading, &Numbers, Option<u64>),
        printer: Printer,
    ) -> anyhow::Result<AskedModel> {
        let how = How {
            compute: &loading.compute,
            numbers,
            max_memory,
            seed: edit.seed,
            out: &edit.out,
        };
        let (name, variant) = self.chosen(models, &how)?;
        loading.prepare()?;
        let interrupt = match variant {
            VariantRequest::Edited(_) | VariantRequest::Merged(_) => {
                Interrupt::listen().context("cannot listen for SIGINT and SIGTERM")?
            }
            // Nothing is begun that would have to be ended in order.
            VariantRequest::Itself | VariantRequest::Other(_) => Interrupt::default(),
        };
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
        how: &How,
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
        let variant = match (other, self.of(name, how)?) {
            (Some(_), Some(_)) => {
                return Err(usage(
                    "a second --model is a variant itself, as --edit and --merge are",
                    "Give one of them.",
                )
                .into());
            }
            (Some(other), None) => VariantRequest::Other(other.clone()),
            (None, Some(variant)) => variant,
            (None, None) if self.before => {
                return Err(usage(
                    "--before: there is nothing that the model could be compared with",
                    "Give --editor and --edit, --merge, or a second --model.",
                )
                .into());
            }
            (None, None) => VariantRequest::Itself,
        };
        Ok((name, variant))
    }

    /// The variant of the model `name` that the flags make, if any do.
    ///
    /// # Errors
    /// A placement that contradicts itself.
    pub(super) fn of(&self, name: &str, how: &How) -> anyhow::Result<Option<VariantRequest>> {
        if let Some(recipe) = &self.merge {
            return Ok(Some(VariantRequest::Merged(MergeRequest {
                recipe: recipe.clone(),
                strict: self.strict,
            })));
        }
        let Some(path) = &self.edit else {
            return Ok(None);
        };
        Ok(Some(VariantRequest::Edited(Box::new(EditRequest {
            path: path.clone(),
            models: vec![name.to_owned()],
            editor: self.editor.clone(),
            ids: self.ids.clone(),
            task: self.task.map(Task::from),
            images: self.edit_images.clone(),
            rephrase_images: None,
            train: self.train.clone(),
            conditions: Conditions {
                placement: how.compute.placement(how.max_memory)?,
                device: how.compute.device,
                dtype: how.numbers.dtype,
                max_memory: how.max_memory,
                command: None,
                limit: None,
                seed: how.seed,
                batches: Batches::default(),
                out: how.out.to_owned(),
                settings: self.settings.clone(),
                preset: self.preset.map(Preset::from),
            },
        }))))
    }

    /// Whether the variant is an edit, whose answers are those that the judge scores.
    pub(super) fn edits(&self) -> bool {
        self.edit.is_some()
    }

    /// Whether the model without the variant is wanted beside it.
    pub(super) fn before(&self) -> bool {
        self.before
    }
}
