//! Several requests in one edited model: batches and the gap protocol (`spec/editors.md` 5).

use std::sync::Arc;
use std::time::Instant;

use debias_core::{Applied, Cell, GAP_RECORDS, Mode, Record, seed};
use debias_edit::{Edit, Prepared, RecordBatch, Request, Sequence};
use debias_model::engine::Portion;
use debias_model::in_order;

use super::cell::score;
use super::computed::{Edited, all, costs, lines};
use super::group::CellGroup;

/// One edit for some requests, or why there is none.
type Outcome = Result<Arc<Edit>, String>;

impl CellGroup<'_> {
    /// Cuts the records, in a seeded order, into groups of `cell.batch`; each group is one edit,
    /// and all of its records are scored through it. A last incomplete group is marked.
    pub(super) fn in_batches(
        &self,
        cell: &Cell,
        prepared: &dyn Prepared,
        chunks: &[RecordBatch],
    ) -> anyhow::Result<Vec<Edited>> {
        let records = permuted(chunks, cell.seed);
        let portion = self.portion(&records, prepared.footprint())?;
        let chunks = self.rechunked(&records, portion)?;
        let requests: Vec<Request> = chunks.iter().flat_map(RecordBatch::requests).collect();
        let (batch, mode, _) = cell.variant.batching();
        let groups: Vec<&[Request]> = requests.chunks(batch).collect();
        let start = Instant::now();
        let edits: Vec<(Outcome, f64)> = in_order(groups.len(), portion.workers, |at| {
            self.interrupt.check()?;
            let edit = match mode {
                Some(Mode::Sequential) => one_by_one(prepared, groups[at]),
                _ => prepared.edit_jointly(groups[at]).map(Arc::new),
            };
            let norm = edit.as_ref().map_or(0.0, |edit| edit.norm());
            anyhow::Ok((edit.map_err(|error| error.to_string()), norm))
        })?;
        let edit_s = start.elapsed().as_secs_f64() / chunks.len().max(1) as f64;
        in_order(chunks.len(), portion.workers, |at| {
            self.interrupt.check()?;
            let start = Instant::now();
            let chunk = &chunks[at];
            let first: usize = chunks[..at].iter().map(|chunk| chunk.records().len()).sum();
            let group_of = |record: usize| (first + record) / batch;
            let own = (0..chunk.records().len()).map(|record| edits[group_of(record)].0.clone());
            let own: Vec<Outcome> = own.collect();
            let costs = costs(chunk, &own, edit_s);
            let after = score(chunk, own);
            let lines = lines(chunk, after, |record| {
                let size = groups[group_of(record)].len();
                Some(Applied {
                    edits_after: size - 1 - (first + record) % batch,
                    norm: edits[group_of(record)].1,
                    incomplete: size < batch,
                })
            });
            self.progress.advance(chunk.records().len());
            let score_s = start.elapsed().as_secs_f64();
            anyhow::Ok(Edited::new(lines, costs, edit_s, score_s))
        })
    }

    /// Edits record after record without end, and scores each one `cell.gap` edits after its own.
    pub(super) fn with_gap(
        &self,
        cell: &Cell,
        prepared: &dyn Prepared,
        chunks: &[RecordBatch],
    ) -> anyhow::Result<Vec<Edited>> {
        let gap = cell.variant.batching().2.unwrap_or_default();
        let mut records = permuted(chunks, cell.seed);
        records.truncate(gap + GAP_RECORDS);
        let single = Portion {
            size: 1,
            workers: self.workers,
        };
        let alone = self.rechunked(&records, single)?;
        let mut sequence = Sequence::new(prepared);
        let mut refused: Vec<Option<String>> = Vec::with_capacity(alone.len());
        let mut edited = Vec::new();
        for (at, chunk) in alone.iter().enumerate() {
            self.interrupt.check()?;
            let start = Instant::now();
            let added = sequence.add(&chunk.request(0));
            refused.push(added.err().map(|error| error.to_string()));
            let edit_s = start.elapsed().as_secs_f64();
            self.progress.advance(1);
            let Some(asked) = at.checked_sub(gap) else {
                continue;
            };
            let start = Instant::now();
            let edit = sequence.edit();
            let applied = Applied {
                edits_after: gap,
                norm: edit.norm(),
                incomplete: false,
            };
            let outcome = match &refused[asked] {
                Some(error) => Err(error.clone()),
                None => Ok(edit),
            };
            let outcome = vec![outcome];
            let costs = costs(&alone[asked], &outcome, edit_s);
            let after = score(&alone[asked], outcome);
            let lines = lines(&alone[asked], after, |_| Some(applied));
            let score_s = start.elapsed().as_secs_f64();
            edited.push(Edited::new(lines, costs, edit_s, score_s));
        }
        Ok(edited)
    }
}

/// All records of `chunks` in a seeded order.
fn permuted(chunks: &[RecordBatch], seed: u64) -> Vec<Record> {
    let mut records = all(chunks);
    let mut ids: Vec<String> = records.iter().map(|record| record.id.clone()).collect();
    seed::seeded_order(seed, "batches", &mut ids);
    let place = |record: &Record| ids.iter().position(|id| *id == record.id);
    records.sort_by_cached_key(place);
    records
}

fn one_by_one(prepared: &dyn Prepared, requests: &[Request]) -> debias_edit::Result<Arc<Edit>> {
    let mut sequence = Sequence::new(prepared);
    requests
        .iter()
        .try_for_each(|request| sequence.add(request))?;
    Ok(sequence.edit())
}
