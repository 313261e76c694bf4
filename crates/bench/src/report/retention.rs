//! The retention curves as a picture: how many edits still hold after so many later ones.

use debias_core::{CellResult, Mode};
use plotters::prelude::*;

use super::chart::{COLOURS, distinct, key};
use super::{Report, parts};

/// Size of one panel, pixels.
const PANEL: (u32, u32) = (560, 260);
/// Height of the legend.
const LEGEND: u32 = 40;

/// One editor's curve: (edits after, percent).
struct Curve<'a> {
    editor: &'a str,
    points: Vec<(f64, f64)>,
}

/// Draws reliability against the number of later edits, per model and task: the largest
/// sequential batch of every editor, and its cells of mode `gap`. `None` without such cells.
///
/// # Errors
/// Whatever the drawing library refuses.
pub fn draw(report: &Report) -> anyhow::Result<Option<String>> {
    let sequential = |cell: &&CellResult| {
        matches!(mode(cell), Some(Mode::Sequential | Mode::Gap)) && !cell.retention.is_empty()
    };
    let cells: Vec<&CellResult> = report.run.cells.iter().filter(sequential).collect();
    if cells.is_empty() {
        return Ok(None);
    }
    let models = distinct(cells.iter().map(|cell| cell.model()));
    let editors = distinct(cells.iter().map(|cell| cell.row()));
    let tasks = parts(cells.iter().copied());
    let size = (
        PANEL.0 * tasks.len() as u32,
        PANEL.1 * models.len() as u32 + LEGEND,
    );
    let mut svg = String::new();
    {
        let area = SVGBackend::with_string(&mut svg, size).into_drawing_area();
        area.fill(&WHITE)?;
        let (legend, rest) = area.split_vertically(LEGEND);
        key(&legend, &editors)?;
        let panels = rest.split_evenly((models.len(), tasks.len()));
        let places = models
            .iter()
            .flat_map(|model| tasks.iter().map(move |task| (*model, task)));
        for (area, (model, task)) in panels.iter().zip(places) {
            let here = |cell: &&&CellResult| cell.model() == model && cell.part() == *task;
            let shown: Vec<&CellResult> = cells.iter().filter(here).copied().collect();
            let curves = editors.iter().map(|editor| curve(editor, &shown));
            let curves: Vec<Curve> = curves.collect();
            let last = curves.iter().flat_map(|curve| &curve.points);
            let last = last.map(|point| point.0).fold(1.0, f64::max);
            let title = format!("{model}, {}: edits that hold", task.to_uppercase());
            let mut chart = ChartBuilder::on(area)
                .caption(title, ("sans-serif", 17))
                .margin(8)
                .x_label_area_size(34)
                .y_label_area_size(44)
                .build_cartesian_2d(0.0..last, 0.0..105.0)?;
            chart
                .configure_mesh()
                .light_line_style(WHITE)
                .x_desc("edits that came after")
                .y_desc("percent")
                .draw()?;
            for curve in curves {
                let at = editors.iter().position(|editor| *editor == curve.editor);
                let colour = COLOURS[at.unwrap_or(0) % COLOURS.len()];
                chart.draw_series(LineSeries::new(curve.points, colour.stroke_width(2)))?;
            }
        }
        area.present()?;
    }
    Ok(Some(svg))
}

/// How several requests became one edit.
fn mode(cell: &CellResult) -> Option<Mode> {
    cell.cell.variant.batching().1
}

/// The curve of one editor: its largest sequential batch, and what was measured with gaps.
fn curve<'a>(editor: &'a str, cells: &[&CellResult]) -> Curve<'a> {
    let own = || cells.iter().filter(|cell| cell.row() == editor);
    let batches = own().filter(|cell| mode(cell) == Some(Mode::Sequential));
    let largest = batches.max_by_key(|cell| cell.cell.variant.batching().0);
    let gaps = own().filter(|cell| mode(cell) == Some(Mode::Gap));
    let mut points: Vec<(f64, f64)> = largest
        .into_iter()
        .chain(gaps)
        .flat_map(|cell| &cell.retention)
        .map(|kept| (kept.edits_after as f64, 100.0 * kept.reliability))
        .collect();
    points.sort_by(|a, b| a.0.total_cmp(&b.0));
    Curve { editor, points }
}
