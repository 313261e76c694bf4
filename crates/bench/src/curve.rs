//! The loss curve of a training, as SVG.

use debias_model::pretrain::Progress;
use plotters::prelude::*;

/// Steps averaged into one point of the curve.
const SMOOTH: usize = 25;

const SIZE: (u32, u32) = (800, 480);

/// A curve's name and how to read it off a step.
type Line = (&'static str, fn(&Progress) -> f64, RGBColor);

/// Draws the three losses over the steps.
///
/// # Errors
/// Whatever the drawing library refuses.
pub fn draw(title: &str, steps: &[Progress]) -> anyhow::Result<String> {
    let lines: [Line; 3] = [
        (
            "answers about pictures",
            |step| step.pictured,
            RGBColor(0, 90, 160),
        ),
        ("town facts", |step| step.told, RGBColor(200, 80, 0)),
        (
            "visible facts (auxiliary)",
            |step| step.auxiliary,
            RGBColor(90, 90, 90),
        ),
    ];
    let curves: Vec<Vec<(f64, f64)>> = lines.iter().map(|line| smooth(steps, line.1)).collect();
    let highest = curves
        .iter()
        .flatten()
        .map(|point| point.1)
        .fold(0.1, f64::max);
    let last = steps.last().map_or(1.0, |step| step.step as f64);
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
        for ((name, _, color), curve) in lines.into_iter().zip(curves) {
            chart
                .draw_series(LineSeries::new(curve, color))?
                .label(name)
                .legend(move |(x, y)| PathElement::new([(x, y), (x + 18, y)], color));
        }
        chart
            .configure_series_labels()
            .background_style(WHITE)
            .border_style(BLACK)
            .draw()?;
        area.present()?;
    }
    Ok(svg)
}

fn smooth(steps: &[Progress], value: fn(&Progress) -> f64) -> Vec<(f64, f64)> {
    steps
        .chunks(SMOOTH)
        .filter_map(|chunk| {
            let mean = chunk.iter().map(value).sum::<f64>() / chunk.len() as f64;
            Some((chunk.last()?.step as f64, mean))
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
                auxiliary: 1.0,
            })
            .collect();
        assert_eq!(
            smooth(&steps, |step| step.told),
            [(25.0, 2.0), (50.0, 2.0), (60.0, 2.0)]
        );
        let svg = draw("tiny", &steps).expect("drawn");
        assert!(svg.starts_with("<svg") && svg.trim_end().ends_with("</svg>"));
        for label in ["town facts", "answers about pictures", "auxiliary", "tiny"] {
            assert!(svg.contains(label), "{label}");
        }
    }
}
