//! What a report says of merges: what they prefer and know, and how far they moved.

mod chart;

use comfy_table::{Cell as GridCell, Row};
use debias_core::{CellResult, Estimate, Merged, Status, symbol};

use super::chart::distinct;
use super::grid::{empty_grid, lines, right};
use super::table::percent;
use super::{Report, parts};

pub use chart::draw;

/// Distances that differ by less, relatively, are of one model, rounded on different ways.
const INERT: f64 = 1e-4;

/// What a merge is judged by.
struct Column {
    /// The metric.
    metric: &'static str,
    /// The same of the model that was merged; empty where it is 1 by the choice of records.
    before: &'static str,
    /// Head of the column.
    head: &'static str,
    /// Title of the panel.
    title: &'static str,
    /// Whether it is a fraction; nats otherwise.
    fraction: bool,
}

const COLUMNS: [Column; 4] = [
    Column {
        metric: "bias",
        before: "",
        head: "bias",
        title: "stereotyped answer preferred",
        fraction: true,
    },
    Column {
        metric: "margin_after",
        before: "margin_before",
        head: "margin",
        title: "margin of the unbiased answer",
        fraction: false,
    },
    Column {
        metric: "neutral_accuracy",
        before: "neutral_accuracy_before",
        head: "neutral",
        title: "neutral questions right",
        fraction: true,
    },
    Column {
        metric: "fact_accuracy",
        before: "fact_accuracy_before",
        head: "facts",
        title: "facts right",
        fraction: true,
    },
];

impl Column {
    /// A number of this column, for the table.
    fn number(&self, estimate: Option<&Estimate>) -> String {
        match estimate {
            None => "-".to_owned(),
            Some(estimate) if self.fraction => percent(estimate),
            Some(Estimate {
                value, low, high, ..
            }) => format!("{value:.2}\n{low:.2} to {high:.2}"),
        }
    }
}

/// The rows of a run that are merges.
fn merges(report: &Report) -> impl Iterator<Item = (&CellResult, &Merged)> {
    let cells = report.run.cells.iter();
    cells.filter_map(|cell| Some((cell, cell.merge.as_ref()?)))
}

/// The table of merges and what is to be said about it; `None` without merges.
pub(super) fn section(report: &Report) -> Option<String> {
    merges(report).next()?;
    let mut parts = vec![grid(report)];
    parts.push(
        "bias: contexts in which the stereotyped answer is preferred; margin: by how many nats the unbiased answer is the likelier; neutral, facts: unrelated questions answered right.\nmoved: distance from the model, as a share of the distance of what it is merged towards (of the model's own norm where a suite does not say what that is)."
            .to_owned(),
    );
    parts.extend(inert(report));
    Some(parts.join("\n\n"))
}

fn grid(report: &Report) -> String {
    let tasks = parts(merges(report).map(|(cell, _)| cell));
    let mut grid = empty_grid();
    let mut header = Row::from([GridCell::new("\nMerge"), right("\nmoved")]);
    for task in &tasks {
        for (at, column) in COLUMNS.iter().enumerate() {
            let task = if at == 0 {
                task.to_uppercase()
            } else {
                String::new()
            };
            header.add_cell(right(format!("{task}\n{}", column.head)));
        }
    }
    grid.set_header(header);
    for model in distinct(merges(report).map(|(cell, _)| cell.model())) {
        let of_model = || merges(report).filter(|(cell, _)| cell.model() == model);
        grid.add_row(base(model, &tasks, of_model));
        for name in distinct(of_model().map(|(cell, _)| cell.row())) {
            let of_row = || of_model().filter(|(cell, _)| cell.row() == name);
            let moved = of_row().find_map(|(_, merged)| merged.moved);
            let mut row = Row::from([
                GridCell::new(format!("  {name}")),
                right(moved.map_or("-".to_owned(), |m| {
                    format!("{:.3}", m.ratio.unwrap_or(m.relative))
                })),
            ]);
            for task in &tasks {
                let cell = of_row().find(|(cell, _)| cell.part() == *task);
                for column in &COLUMNS {
                    row.add_cell(right(match cell {
                        Some((cell, _)) if cell.status == Status::Failed => "failed".to_owned(),
                        Some((cell, _)) => column.number(cell.metrics.get(column.metric)),
                        None => "-".to_owned(),
                    }));
                }
            }
            grid.add_row(row);
        }
    }
    lines(&mut grid)
}

/// The row of the model that is merged: what it was before.
fn base<'a, I: Iterator<Item = (&'a CellResult, &'a Merged)>>(
    model: &str,
    tasks: &[String],
    of_model: impl Fn() -> I,
) -> Row {
    let mut row = Row::from([GridCell::new(model), right("0")]);
    for task in tasks {
        let cell = of_model().find(|(cell, _)| cell.part() == *task && cell.status == Status::Done);
        for column in &COLUMNS {
            row.add_cell(right(match cell {
                Some((cell, _)) if !column.before.is_empty() => {
                    column.number(cell.metrics.get(column.before))
                }
                _ => String::new(),
            }));
        }
    }
    row
}

/// Names the mergers that are the same model all over their grid.
fn inert(report: &Report) -> Option<String> {
    let mut said = Vec::new();
    for (name, merger) in distinct_mergers(report) {
        let same = |(_, merged): &(&CellResult, &Merged)| merged.merger == merger;
        let moved = merges(report).filter(same);
        let moved: Vec<f64> = moved.filter_map(|(_, m)| Some(m.moved?.relative)).collect();
        let first = moved.first().copied().unwrap_or(0.0);
        let alike = moved
            .iter()
            .all(|moved| (moved - first).abs() <= INERT * first);
        let points = merges(report).filter(same);
        let points = distinct(points.map(|(cell, _)| cell.row())).len();
        if alike && points > 1 && !moved.is_empty() {
            said.push(format!("{name} does not act in {merger}"));
        }
    }
    (!said.is_empty()).then(|| {
        format!(
            "{}: it gives the same distance everywhere.",
            said.join(", ")
        )
    })
}

/// Every merger of the run that has a grid, with the name of the number that varies.
fn distinct_mergers(report: &Report) -> Vec<(&str, &str)> {
    let mut seen: Vec<(&str, &str)> = Vec::new();
    for (_, merged) in merges(report) {
        let Some(name) = merged.at.keys().next() else {
            continue;
        };
        let pair = (symbol(name), merged.merger.as_str());
        if !seen.contains(&pair) {
            seen.push(pair);
        }
    }
    seen
}

#[cfg(test)]
mod tests;
