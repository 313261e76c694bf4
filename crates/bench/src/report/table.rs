//! The report as the paper's table: rows are editors grouped by model, one block per task.

use std::slice;

use comfy_table::{Cell, Row};
use debias_core::{CellResult, Estimate, Status, metrics::HEADLINE, records_path};

use super::grid::{empty_grid, lines, right};
use super::{Exporter, Report, closing_sentence, merges, parts};

/// The table for people.
#[derive(Clone, Copy, Debug)]
pub struct Table {
    /// Columns of the terminal; `None` when there is none, which is taken as wide.
    pub width: Option<usize>,
}

impl Exporter for Table {
    fn export(&self, report: &Report) -> String {
        let tasks = parts(&report.run.cells);
        let side_by_side = grid(report, &tasks);
        let columns = side_by_side.lines().map(|line| line.chars().count()).max();
        let mut sections: Vec<String> = match self.width < columns && self.width.is_some() {
            true => tasks
                .iter()
                .map(|task| grid(report, slice::from_ref(task)))
                .collect(),
            false => vec![side_by_side],
        };
        sections.push(
            "Percent with 95% intervals (paired bootstrap over records). bench list metrics explains the columns; --json has them all."
                .to_owned(),
        );
        sections.extend(merges::section(report));
        if let Some(stand_in) = &report.stand_in {
            sections.push(format!("* measured on {stand_in}"));
        }
        sections.extend(report.remarks.iter().cloned());
        sections.extend(editors_say(report));
        sections.extend(failures(report));
        sections.extend(closing_sentence(report));
        sections.push(format!("Results: {}", report.run.run));
        sections.join("\n\n")
    }
}

/// What tells two rows of one model apart.
fn row_name(cell: &CellResult, seeds: bool) -> String {
    let mut name = cell.row().to_owned();
    let (batch, mode, gap) = cell.cell.variant.batching();
    if batch > 1 {
        name.push_str(&format!(" x{batch}"));
    }
    if let Some(mode) = mode {
        name.push_str(&format!(" {}", mode.name()));
    }
    if let Some(gap) = gap {
        name.push_str(&format!(" {gap}"));
    }
    let cell = &cell.cell;
    for part in [&cell.side, &cell.train_bias, &cell.eval_bias]
        .into_iter()
        .flatten()
    {
        name.push_str(&format!(" {part}"));
    }
    if seeds {
        name.push_str(&format!(" seed {}", cell.seed));
    }
    name
}

fn grid(report: &Report, tasks: &[String]) -> String {
    let cells = &report.run.cells;
    let seeds = cells
        .iter()
        .any(|cell| cell.cell.seed != cells[0].cell.seed);
    let mut rows: Vec<(&str, String)> = Vec::new();
    for cell in cells {
        let row = (cell.model(), row_name(cell, seeds));
        if !rows.contains(&row) {
            rows.push(row);
        }
    }
    let mut grid = empty_grid();
    grid.set_header(header(report, tasks));
    let mut above = "";
    for (model, name) in &rows {
        if *model != above {
            grid.add_row([model]);
            above = model;
        }
        let mut row = Row::from([format!("  {name}")]);
        for task in tasks {
            let cell = cells.iter().find(|cell| {
                cell.part() == *task && cell.model() == *model && row_name(cell, seeds) == *name
            });
            for text in block(cell) {
                row.add_cell(right(text));
            }
        }
        grid.add_row(row);
    }
    lines(&mut grid)
}

fn header(report: &Report, tasks: &[String]) -> Row {
    let mut row = Row::new();
    row.add_cell(Cell::new("\nEditor"));
    for task in tasks {
        let title = task.to_uppercase();
        row.add_cell(right(format!("{title}\nn")));
        for name in HEADLINE {
            let label = match name {
                "reliability" => "\nRel.",
                "t_generality" => "\nT-Gen.",
                "v_generality" => "\nV-Gen.",
                "t_locality" => "\nT-Loc.",
                _ if report.stand_in.is_some() => "\nM-Loc.*",
                _ => "\nM-Loc.",
            };
            row.add_cell(right(label));
        }
    }
    row
}

/// The number of records and the five metrics of one cell.
fn block(cell: Option<&CellResult>) -> Vec<String> {
    let empty = |text: &str| {
        let mut block = vec![text.to_owned()];
        block.resize(1 + HEADLINE.len(), String::new());
        block
    };
    match cell {
        None => empty("-"),
        Some(cell) if cell.status == Status::Failed => empty("failed"),
        Some(cell) => std::iter::once(cell.n.to_string())
            .chain(HEADLINE.iter().map(|name| match cell.metrics.get(*name) {
                Some(estimate) => percent(estimate),
                None => "-".to_owned(),
            }))
            .collect(),
    }
}

pub(crate) fn percent(estimate: &Estimate) -> String {
    // `100` in place of `100.0` keeps the widest interval short.
    let end = |x: f64| match format!("{:.1}", 100.0 * x).as_str() {
        "100.0" => "100".to_owned(),
        text => text.to_owned(),
    };
    let (low, high) = (end(estimate.low), end(estimate.high));
    format!("{:.1}\n{low}–{high}", 100.0 * estimate.value)
}

/// What editors say about their cells, each sentence once.
fn editors_say(report: &Report) -> Option<String> {
    let mut said: Vec<&str> = Vec::new();
    let remarks = report.run.cells.iter().flat_map(|cell| &cell.remarks);
    for remark in remarks {
        if !said.contains(&remark.as_str()) {
            said.push(remark);
        }
    }
    (!said.is_empty()).then(|| said.join("\n"))
}

/// One line per failed cell and per cell with failed records.
fn failures(report: &Report) -> Option<String> {
    let name = |cell: &CellResult| format!("{} {} {}", cell.model(), cell.part(), cell.row());
    let lines: Vec<_> = report
        .run
        .cells
        .iter()
        .filter_map(|cell| match &cell.error {
            Some(error) => Some(format!("failed: {}: {error}", name(cell))),
            None if cell.failed > 0 => Some(format!(
                "{}: {} records could not be edited and are not averaged; see {}",
                name(cell),
                cell.failed,
                records_path(&cell.key())
            )),
            None => None,
        })
        .collect();
    (!lines.is_empty()).then(|| lines.join("\n"))
}

#[cfg(test)]
mod tests;
