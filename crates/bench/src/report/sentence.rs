//! The one sentence that ends a run.

use std::collections::BTreeSet;

use debias_core::{Estimate, ItemLine, Preset, Status, measure, metrics, seed};
use debias_edit::{Effect, editors};

use super::Report;

/// Whether a row is an editor that is there to be compared with.
fn is_control(row: &str) -> bool {
    let Ok(editor) = editors::find(row) else {
        return false;
    };
    let claims = editor.claims(&editor.defaults(Preset::default()));
    claims.is_ok_and(|claims| matches!(claims.effect, Effect::Identity | Effect::Control))
}

/// An editor's pooled reliability and locality over all cells of a run.
struct Pooled<'a> {
    editor: &'a str,
    models: usize,
    reliability: Estimate,
    /// M-Locality, or T-Locality where no picture was asked about, and what it is a share of.
    kept: Option<(Estimate, &'static str)>,
}

/// Says what the best editor of the run gains and what it costs; the controls only when there is
/// no other. `None` when no cell has a number.
pub fn closing_sentence(report: &Report) -> Option<String> {
    let mut editors: Vec<&str> = Vec::new();
    for cell in &report.run.cells {
        if cell.status == Status::Done && !editors.contains(&cell.row()) {
            editors.push(cell.row());
        }
    }
    let pooled: Vec<_> = editors
        .into_iter()
        .filter_map(|editor| pool(report, editor))
        .collect();
    let control = |pooled: &&Pooled| is_control(pooled.editor);
    let best = pooled
        .iter()
        .filter(|pooled| !control(pooled))
        .max_by(|a, b| {
            let kept = |p: &Pooled| p.kept.as_ref().map_or(0.0, |(kept, _)| kept.value);
            let order = |p: &Pooled| (p.reliability.value, kept(p));
            let (a, b) = (order(a), order(b));
            a.0.total_cmp(&b.0).then(a.1.total_cmp(&b.1))
        })
        .or_else(|| pooled.first())?;
    let beside = pooled
        .iter()
        .find(|pooled| pooled.editor == "random" && pooled.editor != best.editor)
        .map(|random| {
            format!(
                "; a random change of the same norm reaches {}",
                percent(random.reliability.value)
            )
        })
        .unwrap_or_default();
    let kept = best.kept.as_ref().map_or_else(String::new, |(kept, of)| {
        format!(" and keeps {} of the {of}", interval(kept))
    });
    Some(format!(
        "{} makes the unbiased answer the likelier one on {} of the records{kept} ({} records, {}{beside}).",
        best.editor,
        interval(&best.reliability),
        best.reliability.n,
        match best.models {
            1 => "1 model".to_owned(),
            n => format!("{n} models"),
        },
    ))
}

fn pool<'a>(report: &Report, editor: &'a str) -> Option<Pooled<'a>> {
    let cells: Vec<_> = report
        .run
        .cells
        .iter()
        .filter(|cell| cell.row() == editor && cell.status == Status::Done)
        .collect();
    let lines: Vec<ItemLine> = cells
        .iter()
        .filter_map(|cell| report.lines.get(&cell.key()))
        .flatten()
        .cloned()
        .collect();
    let rng = seed::stream(cells.first()?.cell.seed, &["bootstrap", "pooled"]);
    // Stored cells were measured before they were stored, so nothing here is non-finite.
    let measured = measure(metrics::all(), &lines, report.norm, rng).ok()?;
    let kept = |name: &str, of: &'static str| Some((*measured.get(name)?, of));
    Some(Pooled {
        editor,
        models: cells
            .iter()
            .map(|cell| cell.model())
            .collect::<BTreeSet<_>>()
            .len(),
        reliability: *measured.get("reliability")?,
        kept: kept("m_locality", "image-locality ranks")
            .or_else(|| kept("t_locality", "text-locality predictions")),
    })
}

fn percent(value: f64) -> String {
    format!("{:.1}%", 100.0 * value)
}

fn interval(estimate: &Estimate) -> String {
    format!(
        "{} [{:.1}, {:.1}]",
        percent(estimate.value),
        100.0 * estimate.low,
        100.0 * estimate.high
    )
}
