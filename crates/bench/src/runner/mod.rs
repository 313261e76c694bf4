//! Computes what is missing: groups of cells that share model, data and task.
//!
//! A group is filtered and scored once with the never-edited model; every editor then starts from
//! that. Work is cut into fixed chunks of records that worker threads take in turn, and results
//! stand in record order, so the number of threads changes nothing but the time.

mod admission;
mod bases;
mod batched;
mod cell;
mod computed;
mod evaluation;
mod group;
mod joint;
mod lessons;
mod merged;
mod stored;

use std::sync::OnceLock;
use std::time::Instant;

use anyhow::Context;
use debias_core::{Cell, CellResult, FilterCounts, Plan};
use debias_edit::RecordBatch;
use debias_model::Model;

use self::computed::Computed;
pub use self::evaluation::Evaluation;
use self::group::CellGroup;
pub use self::joint::Joint;
pub use self::stored::Measured;
use self::stored::stored;
use crate::planner::{self, Planned, PlannedModel};
use crate::results::store::Lookup;
use crate::terminal::interrupt::Interrupt;
use crate::terminal::printer::Printer;
use crate::terminal::progress::Progress;

/// How a run is carried out; none of it changes a number.
#[derive(Clone, Copy, Debug, Default)]
pub struct Execution {
    /// Worker threads.
    pub threads: usize,
    /// Whether stored cells are computed again.
    pub fresh: bool,
    /// Whether the requests of the last cell are wanted as one edit too.
    pub joint: bool,
}

/// What a run did.
#[derive(Debug, Default)]
pub struct Outcome {
    /// The cells of this invocation, in the order of the plan.
    pub cells: Vec<CellResult>,
    /// How many of them were computed now.
    pub computed: usize,
    /// Which of the others were measured from their stored lines again.
    pub measured: Measured,
    /// Base scoring of every group computed now: provenance.
    pub groups: Vec<GroupCost>,
    /// The requests of the last cell as one edit, if asked for.
    pub joint: Option<anyhow::Result<Joint>>,
}

/// What the never-edited model cost on one group.
#[derive(Clone, Debug, serde::Serialize)]
pub struct GroupCost {
    /// Model.
    pub model: String,
    /// Part of the benchmark.
    pub task: String,
    /// Records looked at and admitted.
    pub filter: FilterCounts,
    /// Records computed at a time.
    pub chunk: usize,
    /// Wall seconds of loading, filtering and base scores.
    pub base_s: f64,
}

/// Carries out a plan.
pub struct Runner<'a> {
    planned: &'a Planned,
    execution: Execution,
    interrupt: &'a Interrupt,
    printer: Printer,
    progress: Progress,
}

impl<'a> Runner<'a> {
    /// A runner of `planned`.
    pub fn new(
        planned: &'a Planned,
        execution: Execution,
        interrupt: &'a Interrupt,
        printer: Printer,
    ) -> Self {
        Self {
            planned,
            execution,
            interrupt,
            printer,
            progress: Progress::new(printer),
        }
    }

    /// Computes the missing cells of this invocation's shard and returns all of them.
    ///
    /// # Errors
    /// A refused input, an unwritable folder, an interrupt, or a base model that is not its own
    /// reference. What an editor does wrong is a failed cell, not an error.
    pub fn run(&self) -> anyhow::Result<Outcome> {
        for note in self.planned.models.iter().flat_map(|model| &model.notes) {
            self.printer.warn(note);
        }
        let shard = &self.planned.shard;
        let mut outcome = Outcome::default();
        for cells in shard.groups() {
            let mut found = Vec::with_capacity(cells.len());
            for cell in cells {
                found.push(if self.execution.fresh {
                    None
                } else {
                    stored(
                        &self.planned.folder,
                        cell,
                        &mut outcome.measured,
                        self.printer,
                    )?
                });
            }
            if found.iter().all(Option::is_some) && !self.execution.joint {
                outcome.cells.extend(found.into_iter().flatten());
                continue;
            }
            self.group(cells, found, &mut outcome)?;
        }
        self.progress.clear();
        if let Some(said) = outcome.measured.said() {
            self.printer.note(&said);
        }
        Ok(outcome)
    }

    /// The source of the model that `cell` is about.
    fn source(&self, cell: &Cell) -> anyhow::Result<&'a PlannedModel> {
        let mut models = self.planned.models.iter();
        models
            .find(|model| model.identity == cell.model)
            .context("a cell's model is in the plan")
    }

    /// The model that `cell` is about.
    fn open(&self, cell: &Cell) -> anyhow::Result<Model> {
        let model = planner::open(&self.source(cell)?.source, &self.planned.placement)?;
        Ok(model.computing_in(self.planned.dtype.into()))
    }

    /// What the cells of the group that begins with `first` share.
    fn cell_group<'g>(&'g self, first: &Cell, model: &'g Model) -> anyhow::Result<CellGroup<'g>> {
        let mut data = self.planned.data.iter();
        let data = data
            .find(|data| data.seed == first.seed)
            .context("a cell's data is in the plan")?;
        Ok(CellGroup {
            planned: self.planned,
            data,
            model,
            of_model: self.source(first)?,
            threads: self.execution.threads,
            workers: self.planned.placement.workers(self.execution.threads),
            interrupt: self.interrupt,
            progress: &self.progress,
            templates: &self.planned.protocol.templates,
            fresh: self.execution.fresh,
            filter: FilterCounts::default(),
            kept: 0,
            refused: Vec::new(),
            admitted: OnceLock::new(),
        })
    }

    /// The model of the plan's last cell, and all its requests as one edit; no cell is computed.
    ///
    /// # Errors
    /// A refused input, an interrupt, no request to edit, or whatever the editor refuses.
    pub fn joint(&self) -> anyhow::Result<(Model, Joint)> {
        let cell = self
            .planned
            .plan
            .cells
            .last()
            .context("a plan has a cell")?;
        let model = self.open(cell)?;
        let joint = {
            let mut group = self.cell_group(cell, &model)?;
            let records = group.admit(cell)?;
            let chunks = group.chunks(records)?;
            group.joint(cell, &chunks)
        };
        self.progress.clear();
        Ok((model, joint?))
    }

    fn group(
        &self,
        cells: &[Cell],
        found: Vec<Option<CellResult>>,
        outcome: &mut Outcome,
    ) -> anyhow::Result<()> {
        let start = Instant::now();
        let first = cells.first().context("a group has at least one cell")?;
        let model = self.open(first)?;
        let mut group = self.cell_group(first, &model)?;
        let records = group.admit(first)?;
        let chunks = group.chunks(records)?;
        outcome.groups.push(GroupCost {
            model: first.model.id.clone(),
            task: first.benchmark.part(),
            filter: group.filter,
            chunk: chunks
                .iter()
                .map(|chunk| chunk.records().len())
                .max()
                .unwrap_or(0),
            base_s: start.elapsed().as_secs_f64(),
        });
        for (cell, found) in cells.iter().zip(found) {
            let result = match found {
                Some(result) => result,
                None => self.compute(&group, cell, &chunks, outcome)?,
            };
            outcome.cells.push(result);
        }
        if self.execution.joint
            && let Some(cell) = cells.last()
        {
            outcome.joint = Some(group.joint(cell, &chunks));
        }
        Ok(())
    }

    fn compute(
        &self,
        group: &CellGroup,
        cell: &Cell,
        chunks: &[RecordBatch],
        outcome: &mut Outcome,
    ) -> anyhow::Result<CellResult> {
        let start = Instant::now();
        let Computed {
            result,
            lines,
            costs,
        } = group.cell(cell, chunks)?;
        self.interrupt.check()?;
        self.planned.folder.put(&result, &lines, &costs)?;
        outcome.computed += 1;
        self.progress.finished(
            outcome.cells.len() + 1,
            self.planned.shard.cells.len(),
            &result,
            start.elapsed().as_secs_f64(),
        );
        Ok(result)
    }
}

/// Every cell of `plan` that is stored, in order: what `run.json` lists, whichever shard
/// computed it.
///
/// # Errors
/// A folder that a newer `bench` wrote.
pub fn stored_cells(planned: &Planned, plan: &Plan) -> anyhow::Result<Vec<CellResult>> {
    let mut cells = Vec::new();
    for cell in &plan.cells {
        match planned.folder.get(cell)? {
            Lookup::Hit(result) | Lookup::Measured(result, _) | Lookup::Failed(result) => {
                cells.push(*result);
            }
            Lookup::Miss | Lookup::Damaged(_) => {}
        }
    }
    Ok(cells)
}
