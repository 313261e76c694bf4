//! Carries a plan out and prints it: what `run` and `edit` have in common.

use std::collections::BTreeMap;

use debias_core::{CellResult, Status};

use super::Session;
use crate::planner::Planned;
use crate::report::{Exporter, Json, Report, RunObject, Table, chart, merges, retention};
use crate::results::provenance::{Provenance, RunFile};
use crate::runner::{Execution, Joint, Runner, stored_cells};
use crate::terminal::exit::Exit;
use crate::terminal::interrupt::Interrupt;
use crate::terminal::machine;

/// How a plan is carried out.
#[derive(Debug, clap::Args)]
pub(super) struct Executing {
    /// Worker threads; the number changes no result
    #[arg(short = 'j', long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    threads: Option<u16>,
    /// Compute cells again that are already stored
    #[arg(long)]
    fresh: bool,
}

/// How a plan came out.
pub(super) struct Carried {
    /// The exit status.
    pub exit: Exit,
    /// All requests as one edit, if asked for.
    pub joint: Option<anyhow::Result<Joint>>,
}

impl Executing {
    /// Computes what is missing of `planned`, writes the run folder and prints the report.
    ///
    /// # Errors
    /// What stops a run; see [`Runner::run`].
    pub(super) fn carry_out(
        &self,
        planned: &Planned,
        session: Session,
        interrupt: &Interrupt,
    ) -> anyhow::Result<Exit> {
        Ok(self.carry(planned, session, interrupt, false)?.exit)
    }

    /// As [`Self::carry_out`]; with `joint`, the requests of the last cell as one edit too.
    ///
    /// # Errors
    /// As there.
    pub(super) fn carry(
        &self,
        planned: &Planned,
        session: Session,
        interrupt: &Interrupt,
        joint: bool,
    ) -> anyhow::Result<Carried> {
        planned.folder.check_writable()?;
        let threads = self.threads.map_or_else(machine::cores, usize::from);
        let execution = Execution {
            threads,
            fresh: self.fresh,
            joint,
        };
        let provenance = Provenance::begin(planned, threads);
        let outcome = Runner::new(planned, execution, interrupt, session.printer).run()?;
        let object = |cells| object(planned, cells);
        if outcome.computed > 0 || outcome.measured.any() || !planned.folder.has_run() {
            let stored = object(stored_cells(planned, &planned.plan)?);
            let report = report(planned, stored)?;
            let folder = &planned.folder;
            if let Some(svg) = chart::draw(&report)? {
                folder.write_picture("chart.svg", &svg)?;
            }
            if let Some(svg) = merges::draw(&report)? {
                folder.write_picture("merges.svg", &svg)?;
            }
            if let Some(svg) = retention::draw(&report)? {
                folder.write_picture("retention.svg", &svg)?;
            }
            planned.folder.write_run(&RunFile {
                object: object(stored_cells(planned, &planned.plan)?),
                provenance: provenance.finish(outcome.groups),
            })?;
        }
        let failed = outcome
            .cells
            .iter()
            .any(|cell| cell.status == Status::Failed);
        let report = report(planned, object(outcome.cells))?;
        let text = match session.json {
            true => Json.export(&report),
            false => Table {
                width: session.printer.width(),
            }
            .export(&report),
        };
        session.printer.result(&text)?;
        Ok(Carried {
            exit: match failed {
                true => Exit::CellsFailed,
                false => Exit::Done,
            },
            joint: outcome.joint,
        })
    }
}

fn object(planned: &Planned, cells: Vec<CellResult>) -> RunObject {
    RunObject::new(
        planned.published(),
        planned.folder.path().display().to_string(),
        cells,
    )
}

fn report(planned: &Planned, run: RunObject) -> anyhow::Result<Report> {
    let mut lines = BTreeMap::new();
    for cell in run.cells.iter().filter(|cell| cell.status == Status::Done) {
        lines.insert(cell.key(), planned.folder.lines(cell)?);
    }
    Ok(Report {
        run,
        lines,
        norm: planned.protocol.norm,
        stand_in: planned.stand_in(),
        remarks: planned.remarks.clone(),
    })
}
