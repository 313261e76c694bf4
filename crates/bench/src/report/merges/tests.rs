use std::collections::BTreeMap;

use debias_core::{CellResult, FilterCounts, Moved, Norm, Point, measure, metrics, seed};

use super::*;
use crate::fixture::{cell, lines};
use crate::report::{Exporter, Report, RunObject, Table};
use plotters::style::RGBColor;

/// A row of `merger` at `alpha`, with the numbers of the fixture's four records.
fn row(merger: &str, alpha: Option<f64>, ratio: f64) -> CellResult {
    let at: Point = alpha
        .map(|alpha| ("alpha".to_owned(), alpha))
        .into_iter()
        .collect();
    let name = match alpha {
        Some(alpha) => format!("{merger} α={alpha}"),
        None => merger.to_owned(),
    };
    let metrics = measure(
        metrics::all(),
        &lines(),
        Norm::Mean,
        seed::stream(0, &["test"]),
    );
    CellResult {
        n: 4,
        metrics: metrics.expect("finite"),
        merge: Some(Merged {
            merger: merger.to_owned(),
            at,
            artifact: "0".repeat(64),
            moved: Some(Moved {
                relative: 0.1 * ratio,
                ratio: Some(ratio),
            }),
        }),
        ..CellResult::pending(&cell(&name), FilterCounts::default())
    }
}

fn report(cells: Vec<CellResult>) -> Report {
    Report {
        run: RunObject::new(None, "results/x".to_owned(), cells),
        lines: BTreeMap::new(),
        norm: Norm::Mean,
        stand_in: None,
        remarks: Vec::new(),
    }
}

fn merged() -> Report {
    report(vec![
        row("slerp", Some(0.1), 0.1),
        row("slerp", Some(0.2), 0.2),
        row("ties", Some(0.1), 1.0),
        row("ties", Some(0.2), 1.0),
        row("3dm", None, 0.7),
    ])
}

#[test]
fn merges_stand_in_both_tables() {
    let text = Table { width: None }.export(&merged());
    snapbox::assert_data_eq!(
        section(&merged()).expect("merges"),
        snapbox::str![[r#"
                             VQA
Merge           moved       bias           margin   neutral     facts
─────────────────────────────────────────────────────────────────────
tiny-blip2          0                       -1.00     100.0     100.0
                                   -1.00 to -1.00   100–100   100–100
  slerp α=0.1   0.100       25.0             0.62     100.0     100.0
                        0.0–75.0    -0.12 to 1.25   100–100   100–100
  slerp α=0.2   0.200       25.0             0.62     100.0     100.0
                        0.0–75.0    -0.12 to 1.25   100–100   100–100
  ties α=0.1    1.000       25.0             0.62     100.0     100.0
                        0.0–75.0    -0.12 to 1.25   100–100   100–100
  ties α=0.2    1.000       25.0             0.62     100.0     100.0
                        0.0–75.0    -0.12 to 1.25   100–100   100–100
  3dm           0.700       25.0             0.62     100.0     100.0
                        0.0–75.0    -0.12 to 1.25   100–100   100–100
─────────────────────────────────────────────────────────────────────

bias: contexts in which the stereotyped answer is preferred; margin: by how many nats the unbiased answer is the likelier; neutral, facts: unrelated questions answered right.
moved: distance from the model, as a share of the distance of what it is merged towards (of the model's own norm where a suite does not say what that is).

α does not act in ties: it gives the same distance everywhere.
"#]]
    );
    assert_eq!(text.matches("slerp α=0.1").count(), 2, "{text}");
}

#[test]
fn a_number_that_does_not_act_is_named() {
    let said = inert(&merged()).expect("ties is inert");
    assert_eq!(
        said,
        "α does not act in ties: it gives the same distance everywhere."
    );
    assert_eq!(inert(&report(vec![row("slerp", Some(0.1), 0.1)])), None);
}

#[test]
fn a_run_without_merges_says_nothing_of_them() {
    let edits = CellResult::pending(&cell("ft-l"), FilterCounts::default());
    let report = report(vec![edits]);
    assert_eq!(section(&report), None);
    assert_eq!(draw(&report).expect("nothing to draw"), None);
}

#[test]
fn the_chart_has_a_line_per_merger_in_every_panel() {
    let svg = draw(&merged()).expect("drawn").expect("merges");
    for words in [
        "slerp",
        "ties",
        "3dm",
        "facts right",
        "margin of the unbiased answer",
        "distance from the model",
    ] {
        assert!(svg.contains(words), "{words}");
    }
    // Five panels and the legend.
    let of_colour = |at: usize| {
        let RGBColor(r, g, b) = crate::report::chart::COLOURS[1 + at];
        svg.matches(&format!(
            "<polyline fill=\"none\" opacity=\"1\" stroke=\"#{r:02X}{g:02X}{b:02X}\""
        ))
        .count()
    };
    assert_eq!([of_colour(0), of_colour(1), of_colour(2)], [6, 6, 6]);
    assert_eq!(
        draw(&merged()).expect("drawn"),
        Some(svg),
        "equal runs draw equal bytes"
    );
}
