//! Merges as a picture: every metric against the number of the grid, one line per merger.

use std::collections::BTreeMap;
use std::ops::Range;

use debias_core::{CellResult, Estimate, Merged, symbol};
use plotters::coord::Shift;
use plotters::prelude::*;

use super::{COLUMNS, Column, merges};
use crate::report::Report;
use crate::report::chart::{COLOURS, distinct};

/// Size of one panel, pixels.
const PANEL: (u32, u32) = (500, 230);
/// Width of one entry of the legend, and height of a line of it.
const ENTRY: (u32, u32) = (230, 24);
/// Free space above and below the legend.
const AROUND: u32 = 12;

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;

/// What is on one vertical axis: a column of the table, or how far the merge moved.
#[derive(Clone, Copy)]
enum Quantity {
    Metric(&'static Column),
    Moved,
}

impl Quantity {
    /// All of them, from the top.
    fn all() -> impl Iterator<Item = Self> {
        COLUMNS.iter().map(Self::Metric).chain([Self::Moved])
    }

    fn title(self) -> &'static str {
        match self {
            Self::Metric(column) => column.title,
            Self::Moved => "distance from the model",
        }
    }

    fn unit(self) -> &'static str {
        match self {
            Self::Metric(Column { fraction: true, .. }) => "percent",
            Self::Metric(_) => "nats",
            Self::Moved => "of the way",
        }
    }

    /// The value of a merge.
    fn of(self, cell: &CellResult, merged: &Merged) -> Option<f64> {
        match self {
            Self::Metric(column) => value(column, cell.metrics.get(column.metric)),
            Self::Moved => merged.moved?.ratio,
        }
    }

    /// The value of the model that was merged.
    fn before(self, cell: &CellResult) -> Option<f64> {
        match self {
            Self::Metric(column) => value(column, cell.metrics.get(column.before)),
            Self::Moved => None,
        }
    }

    /// The range that holds `values`.
    fn range(self, values: &[f64]) -> Range<f64> {
        let low = values.iter().copied().fold(0.0, f64::min);
        let high = values.iter().copied().fold(0.0, f64::max);
        let room = 0.1 * (high - low).max(1e-6);
        match self {
            Self::Metric(Column { fraction: true, .. }) => 0.0..105.0,
            Self::Metric(_) => low - room..high + room,
            Self::Moved => 0.0..high + room,
        }
    }
}

fn value(column: &Column, estimate: Option<&Estimate>) -> Option<f64> {
    let scale = if column.fraction { 100.0 } else { 1.0 };
    estimate.map(|estimate| scale * estimate.value)
}

/// Draws the merges of a run: a column per model and task, a row per quantity, a line per merger
/// over the first number of its grid; a merger without one is a level line. `None` without merges.
///
/// # Errors
/// Whatever the drawing library refuses.
pub fn draw(report: &Report) -> anyhow::Result<Option<String>> {
    let Some(axis) = axis(report) else {
        return Ok(None);
    };
    let names = lines(report, &axis);
    let mut columns: Vec<(&str, String)> = Vec::new();
    for (cell, _) in merges(report) {
        let column = (cell.model(), cell.part());
        if !columns.contains(&column) {
            columns.push(column);
        }
    }
    let has = |quantity: &Quantity| merges(report).any(|(c, m)| quantity.of(c, m).is_some());
    let quantities: Vec<Quantity> = Quantity::all().filter(has).collect();
    let width = PANEL.0 * columns.len() as u32;
    let per_line = (width / ENTRY.0).max(1) as usize;
    let legend = ENTRY.1 * names.len().div_ceil(per_line) as u32 + 2 * AROUND;
    let mut svg = String::new();
    {
        let size = (width, PANEL.1 * quantities.len() as u32 + legend);
        let area = SVGBackend::with_string(&mut svg, size).into_drawing_area();
        area.fill(&WHITE)?;
        let (top, rest) = area.split_vertically(legend);
        key(&top, &names, per_line)?;
        let panels = rest.split_evenly((quantities.len(), columns.len()));
        let places = quantities.iter().flat_map(|quantity| {
            columns
                .iter()
                .map(move |(model, task)| (quantity, (*model, task)))
        });
        for (area, (quantity, (model, task))) in panels.iter().zip(places) {
            let here =
                merges(report).filter(|(cell, _)| cell.model() == model && cell.part() == *task);
            let here: Vec<_> = here.collect();
            let title = format!("{model}, {}: {}", task.to_uppercase(), quantity.title());
            panel(area, &title, *quantity, &axis, &names, &here)?;
        }
        area.present()?;
    }
    Ok(Some(svg))
}

/// The number on the horizontal axis, and its range.
struct Axis {
    name: String,
    from: f64,
    to: f64,
}

fn axis(report: &Report) -> Option<Axis> {
    merges(report).next()?;
    let first = merges(report).find_map(|(_, merged)| merged.at.keys().next());
    let name = first.cloned().unwrap_or_default();
    let values = merges(report).filter_map(|(_, merged)| merged.at.get(&name));
    let (from, to) = values.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), value| {
        (low.min(*value), high.max(*value))
    });
    let (from, to) = if from < to { (from, to) } else { (0.0, 1.0) };
    Some(Axis { name, from, to })
}

/// The line that a merge is a point of: its merger, and every other number of its grid.
fn line(merged: &Merged, axis: &Axis) -> String {
    let others = merged.at.iter().filter(|(name, _)| **name != axis.name);
    let others = others.map(|(name, value)| format!(" {}={value}", symbol(name)));
    merged.merger.clone() + &others.collect::<String>()
}

fn lines(report: &Report, axis: &Axis) -> Vec<String> {
    let names: Vec<String> = merges(report)
        .map(|(_, merged)| line(merged, axis))
        .collect();
    let names = distinct(names.iter().map(String::as_str));
    names.into_iter().map(str::to_owned).collect()
}

/// The mark of a line: colour and form together tell eighteen and more apart.
fn mark(area: &Area, at: usize, place: (i32, i32)) -> anyhow::Result<()> {
    let colour = colour(at);
    match at % 3 {
        0 => area.draw(&Circle::new(place, 4, colour.filled()))?,
        1 => area.draw(&TriangleMarker::new(place, 5, colour.filled()))?,
        _ => area.draw(&Cross::new(place, 4, colour.stroke_width(2)))?,
    }
    Ok(())
}

fn colour(at: usize) -> RGBColor {
    // The first is grey, which is the base's.
    COLOURS[1 + at % (COLOURS.len() - 1)]
}

fn key(area: &Area, names: &[String], per_line: usize) -> anyhow::Result<()> {
    let style = ("sans-serif", 15).into_font();
    for (at, name) in names.iter().enumerate() {
        let x = 30 + (ENTRY.0 as usize * (at % per_line)) as i32;
        let y = AROUND as i32 + ENTRY.1 as i32 * (at / per_line) as i32 + 12;
        area.draw(&PathElement::new(
            [(x - 12, y), (x + 12, y)],
            colour(at).stroke_width(2),
        ))?;
        mark(area, at, (x, y))?;
        area.draw(&Text::new(name.clone(), (x + 18, y - 8), style.clone()))?;
    }
    Ok(())
}

fn panel(
    area: &Area,
    title: &str,
    quantity: Quantity,
    axis: &Axis,
    names: &[String],
    merges: &[(&CellResult, &Merged)],
) -> anyhow::Result<()> {
    let curves = curves(quantity, axis, names, merges);
    let heights = curves.values().flatten().map(|point| point.1);
    let heights: Vec<f64> = heights.chain(before(quantity, merges)).collect();
    let room = 0.06 * (axis.to - axis.from);
    let mut chart = ChartBuilder::on(area)
        .caption(title, ("sans-serif", 16))
        .margin(8)
        .x_label_area_size(34)
        .y_label_area_size(48)
        .build_cartesian_2d(axis.from - room..axis.to + room, quantity.range(&heights))?;
    chart
        .configure_mesh()
        .light_line_style(WHITE)
        .x_desc(symbol(&axis.name))
        .y_desc(quantity.unit())
        .draw()?;
    let (left, above) = area.get_base_pixel();
    if let Some(y) = before(quantity, merges) {
        let ends = [(axis.from, y), (axis.to, y)];
        let style = COLOURS[0].stroke_width(1);
        chart.draw_series(DashedLineSeries::new(ends, 6, 4, style))?;
    }
    for (at, mut points) in curves {
        points.sort_by(|a, b| a.0.total_cmp(&b.0));
        // Lines that coincide stand beside each other.
        let aside = room * ((at as f64 + 0.5) / names.len() as f64 - 0.5);
        for point in &mut points {
            point.0 += aside;
        }
        let series = LineSeries::new(points.clone(), colour(at).stroke_width(2));
        chart.draw_series(series)?;
        for point in points {
            let (x, y) = chart.plotting_area().map_coordinate(&point);
            mark(area, at, (x - left, y - above))?;
        }
    }
    Ok(())
}

/// The points of every line, by its place among `names`.
fn curves(
    quantity: Quantity,
    axis: &Axis,
    names: &[String],
    merges: &[(&CellResult, &Merged)],
) -> BTreeMap<usize, Vec<(f64, f64)>> {
    let mut curves: BTreeMap<usize, Vec<(f64, f64)>> = BTreeMap::new();
    for (cell, merged) in merges {
        let Some(y) = quantity.of(cell, merged) else {
            continue;
        };
        let at = names.iter().position(|name| *name == line(merged, axis));
        let points = curves.entry(at.unwrap_or(0)).or_default();
        match merged.at.get(&axis.name) {
            Some(x) => points.push((*x, y)),
            None => points.extend([(axis.from, y), (axis.to, y)]),
        }
    }
    curves
}

/// What the merged model was, drawn as a broken grey line.
fn before(quantity: Quantity, merges: &[(&CellResult, &Merged)]) -> Option<f64> {
    let mut cells = merges.iter();
    cells.find_map(|(cell, _)| quantity.before(cell))
}
