//! The report as a picture: one panel per model and task, one dot with its interval per editor
//! and metric.

use debias_core::{CellResult, metrics::HEADLINE};
use plotters::coord::Shift;
use plotters::prelude::*;

use super::{Report, parts};

/// Size of one panel, pixels.
const PANEL: (u32, u32) = (560, 260);
/// Height of the legend.
const LEGEND: u32 = 40;
/// Colours that stay apart for colour-blind readers (Okabe and Ito).
pub(super) const COLOURS: [RGBColor; 9] = [
    RGBColor(120, 120, 120),
    RGBColor(230, 159, 0),
    RGBColor(0, 114, 178),
    RGBColor(213, 94, 0),
    RGBColor(0, 158, 115),
    RGBColor(204, 121, 167),
    RGBColor(86, 180, 233),
    RGBColor(200, 180, 0),
    RGBColor(0, 0, 0),
];

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;

/// Draws every finished cell of the run whose row is an editor as SVG; `None` when there is none.
///
/// # Errors
/// Whatever the drawing library refuses.
pub fn draw(report: &Report) -> anyhow::Result<Option<String>> {
    let cells = report.run.cells.iter();
    let cells: Vec<&CellResult> = cells.filter(|cell| cell.merge.is_none()).collect();
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
            let shown: Vec<&CellResult> = cells
                .iter()
                .filter(|cell| cell.model() == model && cell.part() == *task)
                .copied()
                .collect();
            panel(area, &title(model, task, &shown), &shown, &editors)?;
        }
        area.present()?;
    }
    Ok(Some(svg))
}

fn title(model: &str, task: &str, cells: &[&CellResult]) -> String {
    let n = cells.iter().map(|cell| cell.n).max().unwrap_or(0);
    format!("{model}, {} ({n} records)", task.to_uppercase())
}

pub(super) fn key(area: &Area, editors: &[&str]) -> anyhow::Result<()> {
    let style = ("sans-serif", 15).into_font();
    for (at, editor) in editors.iter().enumerate() {
        let x = 60 + 110 * at as i32;
        area.draw(&Circle::new(
            (x, 20),
            5,
            COLOURS[at % COLOURS.len()].filled(),
        ))?;
        area.draw(&Text::new(
            (*editor).to_owned(),
            (x + 12, 12),
            style.clone(),
        ))?;
    }
    Ok(())
}

fn panel(area: &Area, title: &str, cells: &[&CellResult], editors: &[&str]) -> anyhow::Result<()> {
    let columns = HEADLINE.len();
    let mut chart = ChartBuilder::on(area)
        .caption(title, ("sans-serif", 17))
        .margin(8)
        .x_label_area_size(28)
        .y_label_area_size(44)
        .build_cartesian_2d(0.0..columns as f64, 0.0..105.0)?;
    chart
        .configure_mesh()
        .disable_x_mesh()
        .light_line_style(WHITE)
        .x_labels(0)
        .y_labels(6)
        .y_desc("percent")
        .draw()?;
    let label = ("sans-serif", 13).into_font();
    let (left, top) = area.get_base_pixel();
    let bottom = chart.plotting_area().get_pixel_range().1.end;
    for (column, metric) in HEADLINE.iter().enumerate() {
        let x = chart
            .plotting_area()
            .map_coordinate(&(column as f64 + 0.1, 0.0))
            .0;
        let name = metric.replace('_', "-");
        area.draw(&Text::new(
            name,
            (x - left, bottom - top + 8),
            label.clone(),
        ))?;
        for cell in cells {
            let Some(estimate) = cell.metrics.get(*metric) else {
                continue;
            };
            let at = editors
                .iter()
                .position(|editor| *editor == cell.row())
                .unwrap_or(0);
            let colour = COLOURS[at % COLOURS.len()];
            let x = column as f64 + (at as f64 + 1.0) / (editors.len() as f64 + 1.0);
            let point = |value: f64| (x, 100.0 * value);
            let interval = [point(estimate.low), point(estimate.high)];
            chart.draw_series([PathElement::new(interval, colour.stroke_width(2))])?;
            chart.draw_series([Circle::new(point(estimate.value), 4, colour.filled())])?;
        }
    }
    Ok(())
}

pub(super) fn distinct<'a>(names: impl Iterator<Item = &'a str>) -> Vec<&'a str> {
    let mut seen = Vec::new();
    for name in names {
        if !seen.contains(&name) {
            seen.push(name);
        }
    }
    seen
}
