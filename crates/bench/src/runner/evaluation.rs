//! Asks the benchmarks of an evaluation what is not stored yet: items in windows of fixed size, their
//! lines kept as they come.

use std::io::Write;
use std::time::Instant;

use anyhow::Context;
use debias_core::{Cell, CellResult, Cost, FilterCounts, Item, ItemLine, Status, Variant};
use debias_edit::{Answered, Respondent, answers};
use debias_model::Model;
use debias_model::engine::Batching;

use super::Outcome;
use super::stored::stored;
use crate::asking::{AskedModel, Opening, PictureFolder, Teller};
use crate::planner::{PlannedBenchmark, PlannedEval};
use crate::results::measured;
use crate::results::unfinished::Unfinished;
use crate::terminal::interrupt::Interrupt;
use crate::terminal::machine;
use crate::terminal::printer::Printer;
use crate::terminal::progress::Progress;

/// Items that are asked before their lines are kept. Fixed, because batches are cut within it and
/// their composition shows in last bits.
const WINDOW: usize = 256;

/// The tag that says how many tokens of an item's prompt were left out.
const CUT: &str = "cut_tokens";

/// Carries out a plan.
pub struct Evaluation<'a> {
    planned: &'a PlannedEval,
    fresh: bool,
    interrupt: &'a Interrupt,
    printer: Printer,
    progress: Progress,
}

impl<'a> Evaluation<'a> {
    /// Of `planned`; with `fresh`, stored cells are computed again.
    pub fn new(
        planned: &'a PlannedEval,
        fresh: bool,
        interrupt: &'a Interrupt,
        printer: Printer,
    ) -> Self {
        Self {
            planned,
            fresh,
            interrupt,
            printer,
            progress: Progress::new(printer),
        }
    }

    /// Asks what is not stored, and returns all cells.
    ///
    /// # Errors
    /// An unwritable folder, an interrupt, a lost device. What a model gets wrong is in its cell.
    pub fn run(&self) -> anyhow::Result<Outcome> {
        let folder = &self.planned.folder;
        let mut outcome = Outcome::default();
        let same_row = |a: &Cell, b: &Cell| a.model == b.model && a.variant == b.variant;
        for cells in self.planned.plan.cells.chunk_by(same_row) {
            // Opened once it is needed, and let go before the next.
            let mut model: Option<AskedModel> = None;
            for cell in cells {
                if self.fresh {
                    self.unfinished(cell).forget()?;
                } else if let Some(result) =
                    stored(folder, cell, &mut outcome.measured, self.printer)?
                {
                    outcome.cells.push(result);
                    continue;
                }
                let asked = match &model {
                    Some(model) => model,
                    None => model.insert(self.open(cell)?),
                };
                let start = Instant::now();
                let (result, lines) = self.cell(cell, asked)?;
                folder.put(&result, &lines, &[])?;
                self.unfinished(cell).forget()?;
                outcome.computed += 1;
                outcome.cells.push(result);
                let (done, of) = (outcome.cells.len(), self.planned.plan.cells.len());
                if let Some(result) = outcome.cells.last() {
                    let seconds = start.elapsed().as_secs_f64();
                    self.progress.finished(done, of, result, seconds);
                }
            }
        }
        self.progress.clear();
        if let Some(said) = outcome.measured.said() {
            self.printer.note(&said);
        }
        Ok(outcome)
    }

    /// The lines of `cell` that an interrupted run left.
    fn unfinished(&self, cell: &Cell) -> Unfinished {
        Unfinished::of(&self.planned.folder, cell)
    }

    fn open(&self, cell: &Cell) -> anyhow::Result<AskedModel> {
        let row = self.planned.row(cell).context("a cell's row is planned")?;
        let request = &self.planned.request;
        let opening = Opening {
            open: &|checkpoint| Ok(Model::open_across(&checkpoint, &request.placement)?),
            dtype: request.dtype,
            threads: request.threads,
            interrupt: self.interrupt,
            printer: self.printer,
        };
        opening.asking(&row.name, row.request.clone())
    }

    /// All lines of a cell, those of an interrupted run included, and its numbers.
    fn cell(&self, cell: &Cell, model: &AskedModel) -> anyhow::Result<(CellResult, Vec<ItemLine>)> {
        let planned = self.planned.benchmark(cell);
        let planned = planned.context("a cell's benchmark is in the plan")?;
        let teller = Teller::new(self.printer);
        let folder = planned.opened.pictures.clone().unwrap_or_default();
        let pictures = PictureFolder::new(&folder);
        let batching = Batching {
            tokens: Some(self.planned.request.batch_tokens),
            pictures: None,
            apart: planned.benchmark.compares(),
        };
        let items = &planned.opened.items;
        let what = match &cell.variant {
            Variant::Base => format!("{} {}", cell.model.id, cell.benchmark.id),
            variant => format!("{} {} {}", cell.model.id, variant.name(), cell.benchmark.id),
        };
        self.progress.start(&what, items.len());
        let start = Instant::now();
        let unfinished = self.unfinished(cell);
        let mut lines = unfinished.read(items, WINDOW);
        if !lines.is_empty() {
            self.printer.note(&format!(
                "{what}: going on behind {} of {} items",
                lines.len(),
                items.len()
            ));
            self.progress.advance(lines.len());
        }
        let mut file = unfinished.open(&lines)?;
        let compares = planned.benchmark.compares();
        model.ask((&pictures, &teller), batching, |respondent, unchanged| {
            for window in items[lines.len()..].chunks(WINDOW) {
                self.interrupt.check()?;
                let answered = match compares {
                    true => compared(respondent, unchanged, window)?,
                    false => asked(respondent, window)?,
                };
                for line in &answered {
                    let text = serde_json::to_string(line)?;
                    writeln!(file, "{text}").with_context(|| unfinished.said("write"))?;
                }
                lines.extend(answered);
                self.progress.advance(window.len());
            }
            Ok(())
        })?;
        let cost = Cost {
            score_s: start.elapsed().as_secs_f64(),
            peak_bytes: machine::peak_bytes(),
            ..Cost::default()
        };
        let result = self.result(cell, planned, &lines)?;
        let result = CellResult {
            cost: Some(cost),
            ..result
        };
        Ok((result, lines))
    }

    fn result(
        &self,
        cell: &Cell,
        planned: &PlannedBenchmark,
        lines: &[ItemLine],
    ) -> anyhow::Result<CellResult> {
        let pending = CellResult {
            remarks: remarks(planned, lines),
            ..CellResult::pending(cell, FilterCounts::default())
        };
        let result = measured(pending, lines)?;
        let first = lines.iter().find_map(|line| line.error.clone());
        Ok(match first {
            Some(error) if result.failed == lines.len() => CellResult {
                status: Status::Failed,
                error: Some(format!("every item failed: {error}")),
                ..result
            },
            _ => result,
        })
    }
}

/// The lines of some items, in their order.
fn asked(respondent: &dyn Respondent, items: &[Item]) -> anyhow::Result<Vec<ItemLine>> {
    let after = answers(respondent, None, items)?;
    let lines = items.iter().zip(after);
    Ok(lines.map(|(item, after)| line(item, None, after)).collect())
}

/// The same, with what the unchanged model says; where there is none, the respondent is it.
fn compared(
    respondent: &dyn Respondent,
    unchanged: Option<&dyn Respondent>,
    items: &[Item],
) -> anyhow::Result<Vec<ItemLine>> {
    let after = answers(respondent, Some(unchanged.unwrap_or(respondent)), items)?;
    let before = match unchanged {
        Some(unchanged) => answers(unchanged, Some(unchanged), items)?
            .into_iter()
            .map(Some)
            .collect(),
        // An item without an answer fails by it alone.
        None => after
            .iter()
            .map(|after| after.as_ref().ok().cloned().map(Ok))
            .collect::<Vec<_>>(),
    };
    let lines = items.iter().zip(before.into_iter().zip(after));
    Ok(lines
        .map(|(item, (before, after))| line(item, before, after))
        .collect())
}

fn line(
    item: &Item,
    before: Option<debias_edit::Result<Answered>>,
    after: debias_edit::Result<Answered>,
) -> ItemLine {
    let line = ItemLine {
        id: item.id.clone(),
        cluster: item.cluster.clone(),
        tags: item.tags.clone(),
        ..ItemLine::default()
    };
    let answered = before.transpose().and_then(|before| Ok((before, after?)));
    let (before, after) = match answered {
        Ok(answered) => answered,
        Err(error) => {
            return ItemLine {
                error: Some(error.to_string()),
                ..line
            };
        }
    };
    let finite = |answered: &Answered| answered.answers.is_finite();
    if !(finite(&after) && before.as_ref().is_none_or(finite)) {
        return ItemLine {
            error: Some("a log-likelihood is not finite".to_owned()),
            ..line
        };
    }
    let mut tags = line.tags;
    if after.cut > 0 {
        tags.insert(CUT.to_owned(), after.cut.to_string());
    }
    ItemLine {
        tags,
        before: before.map(|before| before.answers),
        after: Some(after.answers),
        ..line
    }
}

/// What a reader must know about the answers, one sentence each.
fn remarks(planned: &PlannedBenchmark, lines: &[ItemLine]) -> Vec<String> {
    let mut remarks = planned.opened.notes.clone();
    let cut: Vec<&str> = lines
        .iter()
        .filter(|line| line.tags.contains_key(CUT))
        .map(|line| line.id.as_str())
        .collect();
    if let [first, ..] = cut[..] {
        remarks.push(format!(
            "{} of {} items are longer than the model's positions and were cut from the left, the first of them {first}",
            cut.len(),
            lines.len()
        ));
    }
    let unread: usize = lines.iter().map(without_score).sum();
    if unread > 0 {
        remarks.push(format!(
            "{unread} choices alone are longer than the model's positions and have no score"
        ));
    }
    remarks
}

/// Choices of a line that the model cannot read.
fn without_score(line: &ItemLine) -> usize {
    let Some(answers) = &line.after else {
        return 0;
    };
    let probes = answers
        .iter()
        .filter_map(|(probe, _)| answers.choices(probe));
    probes
        .map(|choices| choices.iter().filter(|(_, score)| score.is_none()).count())
        .sum()
}
