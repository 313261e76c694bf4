//! From what is planned to the list of cells.

use debias_core::{BenchmarkIdentity, Cell, FORMAT_MAJOR, Plan, Protocol, Suite, Variant};
use debias_model::device::DeviceName;

use super::{CHUNK, PlannedData, PlannedModel};
use crate::compute::Dtype;

/// What all cells of a plan have in common besides their suite.
pub(super) struct Terms<'a> {
    /// Scorer, filter and templates.
    pub(super) protocol: &'a Protocol,
    /// Only so many admitted records per task.
    pub(super) limit: Option<usize>,
    /// Where they are computed.
    pub(super) device: DeviceName,
    /// The number format they are computed in.
    pub(super) dtype: Dtype,
    /// The most memory to take, if somebody says so.
    pub(super) max_memory: Option<u64>,
}

/// Every cell of a suite: data, models, tasks, then variants: edits with their batches, and merges.
pub(super) fn cells(
    alone: bool,
    suite: &Suite,
    terms: &Terms,
    models: &[PlannedModel],
    data: &[PlannedData],
) -> anyhow::Result<Plan> {
    let mut cells = Vec::new();
    let batching = suite.batching.cells();
    for data in data {
        for model in models {
            for task in &suite.tasks {
                let edits = model.editors.iter().flat_map(|planned| {
                    let editor = planned.identity();
                    batching
                        .iter()
                        .map(move |(batch, mode, gap)| Variant::Edit {
                            editor: editor.clone(),
                            batch: *batch,
                            mode: *mode,
                            gap: *gap,
                            requests: None,
                        })
                });
                let merges = model.mergers.iter();
                let merges = merges.map(|merge| Variant::Merge(merge.made.as_row()));
                for variant in edits.chain(merges) {
                    cells.push(Cell {
                        format: FORMAT_MAJOR,
                        suite: (!alone).then(|| suite.name.clone()),
                        edition: (!alone).then(|| suite.edition.clone()),
                        model: model.identity.clone(),
                        benchmark: BenchmarkIdentity::editing(*task),
                        dataset: data.identity.clone(),
                        variant,
                        preset: suite.preset,
                        protocol: terms.protocol.clone(),
                        train_bias: None,
                        eval_bias: None,
                        side: None,
                        seed: data.seed,
                        dtype: terms.dtype.to_string(),
                        device: terms.device.kind().to_owned(),
                        limit: terms.limit,
                        chunk: CHUNK,
                        max_memory: terms.max_memory,
                        template: model.template.clone(),
                    });
                }
            }
        }
    }
    Ok(Plan::new(cells))
}
