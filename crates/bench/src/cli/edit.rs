//! `bench edit`: one editor on a file of edit requests.

use std::path::PathBuf;

use anyhow::Context;

use super::execution::Executing;
use super::{Requested, Session};
use crate::planner::Planned;
use crate::saving::Target;
use crate::terminal::exit::Exit;
use crate::terminal::interrupt::Interrupt;

/// Edit a model by a file of requests, and score every edit
///
/// Each request is one edit, made at the never-edited weights and undone before the next. The table,
/// the run folder and --json are those of `bench run`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  bench edit requests.json --model tiny-blip2 --editor ft-l
  bench edit vqa_eval.json --model path/to/folder --editor ft-l --images coco --json
  bench edit requests.json --model path/to/folder --editor ft-v --set filter.contexts=0
  bench edit counterfact.json --model path/to/gpt2 --editor ft-l
  bench edit one.json --model path/to/folder --editor ft-l --save path/to/edited

A request without a picture is text alone, for text models and the language side of the others:
`prompt` and `target_new`, and, where it has them, `ground_truth` (else what the model itself says),
`rephrase_prompt` and `locality`. What a request does not ask has no column.

By default only requests are edited on which the model shows the bias in all the contexts they have;
--set filter.contexts=0 takes them all as they are. --save writes a folder that `bench score` and
transformers open: with several requests, the table still shows each edited alone, the folder all
edited jointly, each from the never-edited weights.")]
pub struct Args {
    #[command(flatten)]
    requested: Requested,
    #[command(flatten)]
    executing: Executing,
    /// Write the edited model to this folder: all requests as one edit of its weights
    #[arg(long, value_name = "DIR")]
    save: Option<PathBuf>,
    /// Replace a checkpoint that --save finds there
    #[arg(long, requires = "save")]
    force: bool,
}

impl Args {
    pub(super) fn execute(self, session: Session) -> anyhow::Result<Exit> {
        let interrupt = Interrupt::listen().context("cannot listen for SIGINT and SIGTERM")?;
        let planned = Planned::requests(&self.requested.request()?, &interrupt)?;
        let Some(dir) = self.save else {
            return self.executing.carry_out(&planned, session, &interrupt);
        };
        let target = Target {
            dir,
            force: self.force,
        };
        target.check(&planned)?;
        let carried = self.executing.carry(&planned, session, &interrupt, true)?;
        let joint = carried.joint.transpose().context("nothing is saved")?;
        if let Some(joint) = joint {
            session.printer.note(&target.save(&planned, &joint)?);
        }
        Ok(carried.exit)
    }
}
