//! `bench pretrain`: makes an embedded model again from its recipe.

use std::collections::BTreeMap;
use std::path::PathBuf;

use anyhow::Context;
use debias_model::Model;
use debias_model::device::Placement;
use debias_weights::{Checkpoint, write_folder};
use serde_json::json;

use super::Session;
use crate::models::{self, CARD, ModelCard};
use crate::pretrain::{recipe, training};
use crate::report::curve;
use crate::terminal::exit::Exit;
use crate::terminal::interrupt::Interrupt;
use crate::terminal::machine;
use crate::terminal::progress::Progress;

/// Train an embedded tiny model again from its recipe, reproducibly
///
/// Writes a Hugging Face folder with a card of measured figures and a loss curve. The number of
/// threads changes no bit of it.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:
  bench pretrain tiny-blip2 --out tiny-blip2")]
pub struct Args {
    /// The model
    name: String,
    /// The folder to write; it appears whole or not at all [default: the model's name]
    #[arg(short, long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Worker threads; the number changes no result
    #[arg(short = 'j', long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    threads: Option<u16>,
    /// Train with another seed than the recipe's
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// Train for another number of steps than the recipe's
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    steps: Option<u32>,
    /// Replace a checkpoint that is there already
    #[arg(long)]
    force: bool,
}

impl Args {
    pub(super) fn execute(self, session: Session) -> anyhow::Result<Exit> {
        let interrupt = Interrupt::listen().context("cannot listen for SIGINT and SIGTERM")?;
        let mut recipe = recipe::find(&self.name)?;
        if let Some(seed) = self.seed {
            recipe.schedule.seed = seed;
        }
        if let Some(steps) = self.steps {
            recipe.schedule.steps = steps as usize;
        }
        let out = self.out.unwrap_or_else(|| PathBuf::from(&self.name));
        refuse_occupied(&out, self.force)?;
        let threads = self.threads.map_or_else(machine::cores, usize::from);
        let progress = Progress::new(session.printer);
        progress.start(&format!("training {}", self.name), recipe.schedule.steps);
        let mut steps = Vec::with_capacity(recipe.schedule.steps);
        let trained = training::train(&recipe, threads, |step| {
            progress.losses(&self.name, &step, recipe.schedule.steps);
            steps.push(step);
            !interrupt.is_raised()
        })?;
        progress.clear();
        interrupt.check()?;
        let trained = trained.context("the training ended early")?;
        let mut files = trained.files;
        let title = format!("{}: training loss", self.name);
        files.push((
            "loss.svg".to_owned(),
            curve::of_pretraining(&title, &steps)?.into_bytes(),
        ));
        // The card is measured on the weights as a reader of the folder will find them.
        let rehearsal = tempfile::tempdir()?;
        let folder = rehearsal.path().join(&recipe.name);
        write_folder(&folder, &files, &trained.tensors, false)?;
        let checkpoint = Checkpoint::open(&folder)?;
        let model = Model::open_across(&checkpoint, &Placement::default())?;
        let digest = checkpoint.digest()?;
        let card = training::card(&recipe, &model)?;
        let mut text = serde_json::to_vec_pretty(&card)?;
        text.push(b'\n');
        files.push((CARD.to_owned(), text));
        write_folder(&out, &files, &trained.tensors, self.force)?;
        let same = embedded_digest(&self.name).map(|found| found == digest);
        report(session, &card, &out, &digest, same)?;
        Ok(Exit::Done)
    }
}

/// Says before half an hour of work that its result could not be written.
fn refuse_occupied(out: &std::path::Path, force: bool) -> anyhow::Result<()> {
    if out.exists() && !force {
        return Err(crate::terminal::failure::Refusal::new(
            Exit::Refused,
            format!("{} is there already", out.display()),
        )
        .help("Name another folder with --out, or give --force to replace a checkpoint.")
        .into());
    }
    let parent = match out.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => std::path::Path::new("."),
    };
    tempfile::tempfile_in(parent)
        .map(drop)
        .with_context(|| format!("cannot write to {}", parent.display()))
}

fn embedded_digest(name: &str) -> Option<String> {
    let model = models::find(name).ok()?;
    let source = models::ModelSource::Embedded(model);
    source.checkpoint().ok()?.digest().ok()
}

fn report(
    session: Session,
    card: &ModelCard,
    out: &std::path::Path,
    digest: &str,
    same: Option<bool>,
) -> anyhow::Result<()> {
    if session.json {
        return session.print_json(&json!({
            "out": out.display().to_string(),
            "digest": digest,
            "equals_embedded": same,
            "card": card,
        }));
    }
    let measured = &card.measured;
    let mut lowest: BTreeMap<&str, f64> = BTreeMap::new();
    for preference in &measured.stereotype {
        let share = lowest.entry(&preference.axis).or_insert(1.0);
        *share = share.min(preference.share);
    }
    let stated: Vec<_> = measured
        .stated
        .iter()
        .map(|facts| {
            let (task, k) = (facts.task.name(), facts.demonstrations);
            format!("{task} behind {k} demonstrations {:.2}", facts.preferred)
        })
        .collect();
    let axes: Vec<_> = lowest
        .iter()
        .map(|(axis, share)| format!("{axis} {share:.2}"))
        .collect();
    session.printer.result(&format!(
        "{}: {} weights, digest {digest}\nneutral questions right {:.2}, town facts right {:.2}\nstated facts preferred: {}\nstereotype preferred (lower of the tasks): {}\n{}",
        out.display(),
        card.parameters,
        measured.neutral,
        measured.facts,
        stated.join(", "),
        axes.join(", "),
        match same {
            Some(true) => "equal to the embedded model, bit for bit",
            Some(false) => "not equal to the embedded model",
            None => "no model of that name is embedded",
        }
    ))
}
