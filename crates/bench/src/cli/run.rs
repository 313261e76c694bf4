//! `bench run`: plans the suite's cells, computes what is missing, prints the table.

use std::collections::BTreeMap;

use anyhow::Context;
use debias_core::{CellResult, Status};

use super::{Selection, Session};
use crate::exit::Exit;
use crate::interrupt::Interrupt;
use crate::machine;
use crate::planner::Planned;
use crate::provenance::{Provenance, RunFile};
use crate::report::{Exporter, Json, Report, RunObject, Table, chart};
use crate::runner::{Execution, Runner, stored_cells};

/// Run a suite: compute what is missing, print the table
///
/// The same command again goes on where the last one stopped; finished cells are never computed
/// twice unless --fresh is given.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  bench run --suite debias-edit
  bench run --suite debias-edit --dataset pairs --limit 20
  bench run --suite debias-edit --editor ft-l --set ft-l.steps=25 --set ft-l.lr=5e-4
  bench run --suite debias-edit --model path/to/folder --task vqa --json")]
pub struct Args {
    #[command(flatten)]
    selection: Selection,
    /// Worker threads; the number changes no result
    #[arg(short = 'j', long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    threads: Option<u16>,
    /// Compute cells again that are already stored
    #[arg(long)]
    fresh: bool,
}

impl Args {
    pub(super) fn execute(self, session: Session) -> anyhow::Result<Exit> {
        let interrupt = Interrupt::listen().context("cannot listen for SIGINT and SIGTERM")?;
        let planned = Planned::new(&self.selection)?;
        planned.folder.check_writable()?;
        let threads = self.threads.map_or_else(machine::cores, usize::from);
        let execution = Execution {
            threads,
            fresh: self.fresh,
        };
        let provenance = Provenance::begin(&planned, threads);
        let outcome = Runner::new(&planned, execution, &interrupt, session.printer).run()?;
        let object = |cells| object(&planned, cells);
        if outcome.computed > 0 || !planned.folder.has_run() {
            let stored = object(stored_cells(&planned, &planned.plan)?);
            planned
                .folder
                .write_chart(&chart::draw(&report(&planned, stored)?)?)?;
            planned.folder.write_run(&RunFile {
                object: object(stored_cells(&planned, &planned.plan)?),
                provenance: provenance.finish(outcome.groups),
            })?;
        }
        let failed = outcome
            .cells
            .iter()
            .any(|cell| cell.status == Status::Failed);
        let report = report(&planned, object(outcome.cells))?;
        let text = match session.json {
            true => Json.export(&report),
            false => Table {
                width: session.printer.width(),
            }
            .export(&report),
        };
        session.printer.result(&text)?;
        Ok(if failed {
            Exit::CellsFailed
        } else {
            Exit::Done
        })
    }
}

fn object(planned: &Planned, cells: Vec<CellResult>) -> RunObject {
    RunObject::new(
        &planned.suite.name,
        &planned.suite.edition,
        planned.folder.path().display().to_string(),
        cells,
    )
}

fn report(planned: &Planned, run: RunObject) -> anyhow::Result<Report> {
    let mut lines = BTreeMap::new();
    for cell in run.cells.iter().filter(|cell| cell.status == Status::Done) {
        lines.insert(cell.key.clone(), planned.folder.lines(cell)?);
    }
    Ok(Report {
        run,
        lines,
        norm: planned.protocol.norm,
        stand_in: planned.stand_in(),
        remarks: planned.remarks.clone(),
    })
}
