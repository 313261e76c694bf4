//! `bench run`: plans the suite's cells, computes what is missing, prints the table.

use anyhow::Context;

use super::execution::Executing;
use super::{Selection, Session};
use crate::planner::Planned;
use crate::terminal::exit::Exit;
use crate::terminal::interrupt::Interrupt;

/// Run a suite: compute what is missing, print the table
///
/// The same command again goes on where the last one stopped; finished cells are never computed
/// twice unless --fresh is given.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  bench run --suite debias-edit
  bench run --suite debias-edit --dataset pairs --limit 20
  bench run --suite debias-edit --editor ft-l --set ft-l.steps=25 --set ft-l.lr=5e-4
  bench run --suite debias-edit --model path/to/folder --task vqa --json
  bench run --suite debias-edit --command 'python3 my_editor.py'")]
pub struct Args {
    #[command(flatten)]
    selection: Selection,
    #[command(flatten)]
    executing: Executing,
}

impl Args {
    pub(super) fn execute(self, session: Session) -> anyhow::Result<Exit> {
        let interrupt = Interrupt::listen().context("cannot listen for SIGINT and SIGTERM")?;
        let planned = Planned::new(&self.selection.request()?, &interrupt)?;
        for warning in planned.recipe_warnings() {
            session.printer.warn(&warning);
        }
        self.executing.carry_out(&planned, session, &interrupt)
    }
}
