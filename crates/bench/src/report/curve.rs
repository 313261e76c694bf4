//! The loss curve of a training, as SVG.

use debias_edit::{History, Losses};
use debias_model::pretrain::Progress;
use debias_model::tune::{Step, Validated};
use plotters::prelude::{
    BLACK, ChartBuilder, IntoDrawingArea, LineSeries, PathElement, RGBColor, SVGBackend,
    SeriesLabelPosition, WHITE,
};

/// Steps averaged into one point of the curve.
const SMOOTH: usize = 25;

/// Most points of the curve of a tuning.
const POINTS: usize = 100;

const SIZE: (u32, u32) = (800, 480);

const BLUE: RGBColor = RGBColor(0, 90, 160);
const ORANGE: RGBColor = RGBColor(200, 80, 0);
const GREEN: RGBColor = RGBColor(0, 140, 90);
const GREY: RGBColor = RGBColor(90, 90, 90);
const PALE_BLUE: RGBColor = RGBColor(160, 195, 225);
const PALE_ORANGE: RGBColor = RGBColor(240, 190, 150);

/// A named curve of (step, nats).
struct Line {
    name: &'static str,
    points: Vec<(f64, f64)>,
    color: RGBColor,
}

/// Draws the losses of a model's training over the steps.
///
/// # Errors
/// Whatever the drawing library refuses.
pub fn of_pretraining(title: &str, steps: &[Progress]) -> anyhow::Result<String> {
    let line = |name, color, value: fn(&Progress) -> f64| Line {
        name,
        color,
        points: smooth(steps.iter().map(|step| (step.step, value(step))), SMOOTH),
    };
    let lines = [
        line("answers about pictures", BLUE, |step| step.pictured),
        line("town facts", ORANGE, |step| step.told),
        line("stated facts", GREEN, |step| step.stated),
        line("visible facts (auxiliary)", GREY, |step| step.auxiliary),
    ];
    draw(title, &lines)
}

/// Draws the losses of an editor's training: steps averaged, validations as they are.
///
/// # Errors
/// Whatever the drawing library refuses.
pub fn of_history(title: &str, history: &History) -> anyhow::Result<String> {
    let trained = |name, color, value: fn(&Losses) -> f64| Line {
        name,
        color,
        points: smooth(
            history.train.iter().map(|step| (step.step, value(step))),
            SMOOTH,
        ),
    };
    let validated = |name, color, value: fn(&Losses) -> f64| Line {
        name,
        color,
        points: history
            .val
            .iter()
            .map(|v| (v.step as f64, value(v)))
            .collect(),
    };
    let lines = [
        trained("target, training", PALE_BLUE, |loss| loss.edit),
        trained("drift, training", PALE_ORANGE, |loss| loss.locality),
        validated("target, validation", BLUE, |loss| loss.edit),
        validated("drift, validation", ORANGE, |loss| loss.locality),
        validated("objective, validation", GREY, |loss| loss.total),
    ];
    draw(title, &lines)
}

/// Draws the losses of a tuning: updates averaged, a hundred points at most; validations as they are.
///
/// # Errors
/// Whatever the drawing library refuses.
pub fn of_tuning(title: &str, steps: &[Step], validations: &[Validated]) -> anyhow::Result<String> {
    let every = steps.len().div_ceil(POINTS).max(1);
    let lines = [
        Line {
            name: "training",
            color: PALE_BLUE,
            points: smooth(steps.iter().map(|step| (step.update, step.loss)), every),
        },
        Line {
            name: "validation",
            color: BLUE,
            points: validations
                .iter()
                .map(|v| (v.update as f64, v.loss))
                .collect(),
        },
    ];
    draw(title, &lines)
}

fn draw(title: &str, lines: &[Line]) -> anyhow::Result<String> {
    let points = || lines.iter().flat_map(|line| &line.points);
    let highest = points().map(|point| point.1).fold(0.1, f64::max);
    let last = points().map(|point| point.0).fold(1.0, f64::max);
    let mut svg = String::new();
    {
        let area = SVGBackend::with_string(&mut svg, SIZE).into_drawing_area();
        area.fill(&WHITE)?;
        let mut chart = ChartBuilder::on(&area)
            .caption(title, ("sans-serif", 20))
            .margin(12)
            .x_label_area_size(36)
            .y_label_area_size(48)
            .build_cartesian_2d(0.0..last, 0.0..highest)?;
        chart
            .configure_mesh()
            .x_desc("step")
            .y_desc("nats per token")
            .light_line_style(WHITE)
            .draw()?;
        for line in lines.iter().filter(|line| !line.points.is_empty()) {
            let color = line.color;
            chart
                .draw_series(LineSeries::new(line.points.clone(), color))?
                .label(line.name)
                .legend(move |(x, y)| PathElement::new([(x, y), (x + 18, y)], color));
        }
        chart
            .configure_series_labels()
            .position(SeriesLabelPosition::UpperRight)
            .background_style(WHITE)
            .border_style(BLACK)
            .draw()?;
        area.present()?;
    }
    Ok(svg)
}

/// Means of `every` steps, each at the last of them.
fn smooth(steps: impl Iterator<Item = (usize, f64)>, every: usize) -> Vec<(f64, f64)> {
    let steps: Vec<(usize, f64)> = steps.collect();
    steps
        .chunks(every)
        .filter_map(|chunk| {
            let mean = chunk.iter().map(|step| step.1).sum::<f64>() / chunk.len() as f64;
            Some((chunk.last()?.0 as f64, mean))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_curve_has_a_point_for_every_few_steps_and_a_label_for_every_loss() {
        let steps: Vec<_> = (1..=60)
            .map(|step| Progress {
                step,
                pictured: 3.0 / step as f64,
                told: 2.0,
                stated: 1.5,
                auxiliary: 1.0,
            })
            .collect();
        assert_eq!(
            smooth(steps.iter().map(|step| (step.step, step.told)), SMOOTH),
            [(25.0, 2.0), (50.0, 2.0), (60.0, 2.0)]
        );
        let svg = of_pretraining("tiny", &steps).expect("drawn");
        assert!(svg.starts_with("<svg") && svg.trim_end().ends_with("</svg>"));
        for label in [
            "town facts",
            "answers about pictures",
            "stated facts",
            "auxiliary",
            "tiny",
        ] {
            assert!(svg.contains(label), "{label}");
        }
    }
}
