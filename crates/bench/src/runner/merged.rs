//! A row that is a merge: another model in place of the group's, judged on the same records.

use std::time::Instant;

use debias_core::{Cell, CellResult, Cost, ItemLine, Merged};
use debias_edit::RecordBatch;
use debias_model::{Model, in_order};

use super::computed::{Computed, all, finite, lines};
use super::group::CellGroup;
use crate::models::made::{MergeCache, moved};
use crate::planner::PlannedMerge;
use crate::terminal::machine;

/// A chunk's lines with the seconds they took.
struct Scored {
    lines: Vec<ItemLine>,
    score_s: f64,
}

impl CellGroup<'_> {
    /// Makes the merged model unless it is there, and scores every record with it. What the merge
    /// refuses fails the cell; an error stops the run.
    pub(super) fn merged(
        &self,
        cell: &Cell,
        merge: &PlannedMerge,
        chunks: &[RecordBatch],
    ) -> anyhow::Result<Computed> {
        let cache = MergeCache {
            artifacts: &self.planned.artifacts,
            seed: cell.seed,
            threads: self.threads,
            interrupt: self.interrupt,
        };
        let start = Instant::now();
        let (model, merged) = match self.made(merge, &cache) {
            Ok(made) => made,
            Err(error) => return self.without(cell, merge, &error),
        };
        let prepare_s = start.elapsed().as_secs_f64();
        let workers = self.portion(&all(chunks), 0)?.workers;
        let scored = in_order(chunks.len(), workers, |at| {
            self.interrupt.check()?;
            let scored = self.replaced(&chunks[at], &model)?;
            self.progress.advance(chunks[at].records().len());
            anyhow::Ok(scored)
        });
        let scored = match scored {
            Err(error) if error.is::<debias_edit::Error>() => {
                return self.without(cell, merge, &error);
            }
            scored => scored?,
        };
        let cost = Cost {
            prepare_s,
            edit_s: 0.0,
            score_s: scored.iter().map(|scored| scored.score_s).sum(),
            peak_bytes: machine::peak_bytes(),
        };
        let scored = scored.into_iter().flat_map(|scored| scored.lines);
        let lines: Vec<_> = scored.chain(self.refused.iter().cloned()).collect();
        Ok(Computed {
            result: CellResult {
                merge: Some(merged),
                ..self.result(cell, &lines, cost)
            },
            lines,
            costs: Vec::new(),
        })
    }

    /// The merged model, and how far it is from where it began.
    fn made(&self, merge: &PlannedMerge, cache: &MergeCache) -> anyhow::Result<(Model, Merged)> {
        let folder = cache.folder(&merge.made)?;
        let checkpoint = debias_weights::Checkpoint::open(&folder)?;
        let model = Model::open_across(&checkpoint, self.model.placement())?
            .computing_in(self.planned.dtype.into());
        let towards = match &merge.towards {
            None => None,
            Some(input) => Some(cache.checkpoint(input)?),
        };
        let base = self.of_model.source.files()?;
        let merged = debias_weights::Checkpoint::open(&folder)?;
        let moved = moved(&base, &merged, towards.as_ref(), self.threads)?;
        Ok((
            model,
            Merged {
                moved: Some(moved),
                ..self.said(merge, cache.seed)
            },
        ))
    }

    fn said(&self, merge: &PlannedMerge, seed: u64) -> Merged {
        Merged {
            merger: merge.merger.clone(),
            at: merge.at.clone(),
            artifact: merge.made.identity(seed).key(),
            moved: None,
        }
    }

    /// The cell of a merge that has no model, unless the user wanted an end.
    fn without(
        &self,
        cell: &Cell,
        merge: &PlannedMerge,
        error: &anyhow::Error,
    ) -> anyhow::Result<Computed> {
        self.interrupt.check()?;
        Ok(Computed {
            result: CellResult {
                merge: Some(self.said(merge, cell.seed)),
                ..CellResult::failed(cell, self.filter, format!("{error:#}"))
            },
            lines: Vec::new(),
            costs: Vec::new(),
        })
    }

    /// The chunk's records with `model` in place of the group's.
    fn replaced(&self, chunk: &RecordBatch, model: &Model) -> anyhow::Result<Scored> {
        let start = Instant::now();
        let pictures = self.pictures_of(chunk.records())?;
        let after = chunk.replaced(model, &pictures)?;
        let after = after.into_iter().map(finite).collect();
        Ok(Scored {
            lines: lines(chunk, after, |_| None),
            score_s: start.elapsed().as_secs_f64(),
        })
    }
}
