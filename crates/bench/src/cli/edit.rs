//! `bench edit`: one editor on a file of edit requests.

use anyhow::Context;

use super::execution::Executing;
use super::{Requested, Session};
use crate::exit::Exit;
use crate::interrupt::Interrupt;
use crate::planner::Planned;

/// Edit a model by a file of requests, and score every edit
///
/// Each request is one edit, made at the never-edited weights and undone before the next. The table,
/// the run folder and --json are those of `bench run`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  bench edit requests.json --model tiny-blip2 --editor ft-l
  bench edit vqa_eval.json --model path/to/folder --editor ft-l --images coco --json
  bench edit requests.json --model path/to/folder --editor ft-v --set filter.contexts=0

By default only requests are edited on which the model shows the bias in all three contexts;
--set filter.contexts=0 takes them all as they are.")]
pub struct Args {
    #[command(flatten)]
    requested: Requested,
    #[command(flatten)]
    executing: Executing,
}

impl Args {
    pub(super) fn execute(self, session: Session) -> anyhow::Result<Exit> {
        let interrupt = Interrupt::listen().context("cannot listen for SIGINT and SIGTERM")?;
        let planned = Planned::requests(&self.requested)?;
        self.executing.carry_out(&planned, session, &interrupt)
    }
}
