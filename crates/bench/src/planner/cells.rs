//! From what is planned to the list of cells.

use debias_core::{Cell, FORMAT_MAJOR, Plan, Protocol, Suite, metrics};

use super::{CHUNK, PlannedData, PlannedModel};

/// Every cell of a suite: data, models, tasks, then editors with their batches and merges.
pub(super) fn cells(
    alone: bool,
    suite: &Suite,
    protocol: &Protocol,
    models: &[PlannedModel],
    data: &[PlannedData],
    limit: Option<usize>,
) -> anyhow::Result<Plan> {
    let mut cells = Vec::new();
    let batching = suite.batching.cells();
    for data in data {
        for model in models {
            for task in &suite.tasks {
                let editors = model.editors.iter().flat_map(|planned| {
                    let identity = planned.identity();
                    batching.iter().map(move |batch| (identity.clone(), *batch))
                });
                // A merged model is not made for a request: there are no batches of them.
                let single = (1, None, None);
                let merges = model.mergers.iter();
                let merges = merges.map(|merge| (merge.made.as_editor(), single));
                for (editor, (batch, mode, gap)) in editors.chain(merges) {
                    cells.push(Cell {
                        format: FORMAT_MAJOR,
                        suite: (!alone).then(|| suite.name.clone()),
                        edition: (!alone).then(|| suite.edition.clone()),
                        model: model.identity.clone(),
                        task: *task,
                        dataset: data.identity.clone(),
                        editor,
                        preset: suite.preset,
                        protocol: protocol.clone(),
                        train_bias: None,
                        eval_bias: None,
                        batch,
                        mode,
                        gap,
                        side: None,
                        seed: data.seed,
                        dtype: "f32".to_owned(),
                        device: "cpu".to_owned(),
                        limit,
                        chunk: CHUNK,
                        metrics: metrics::versions(),
                    });
                }
            }
        }
    }
    Ok(Plan::new(cells))
}
