//! One cell: prepare the editor, edit every chunk, score it, measure.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use anyhow::Context;
use debias_core::{Answers, Cell, CellResult, Cost, ItemLine, Mode, RecordScores, Variant};
use debias_edit::{Ctx, Edit, Effect, Learns, Lessons, Prepared, RecordBatch, Request};
use debias_model::engine::{Portion, retry_in_halves};
use debias_model::{Change, in_order};

use super::computed::{Computed, Edited, all, costs, finite, label, lines};
use super::group::{Admitted, CellGroup};
use super::lessons::{OfChunks, OfSplit};
use crate::planner::PlannedEditor;
use crate::results::artifacts::{Bench, Identity};
use crate::results::measured;
use crate::terminal::machine;

impl CellGroup<'_> {
    /// Computes one cell. What the editor gets wrong is in the result; an error stops the run.
    pub(super) fn cell(&self, cell: &Cell, chunks: &[RecordBatch]) -> anyhow::Result<Computed> {
        let without_edits = |result, lines| Computed {
            result,
            lines,
            costs: Vec::new(),
        };
        let n: usize = chunks.iter().map(|chunk| chunk.records().len()).sum();
        let what = label(cell);
        self.progress.start(&what, n);
        if n == 0 {
            let refused = self.refused.clone();
            return Ok(without_edits(self.nothing_to_edit(cell), refused));
        }
        let (batch, mode) = match &cell.variant {
            Variant::Edit { batch, mode, .. } => (*batch, *mode),
            Variant::Merge(_) | Variant::Base => {
                let merge = self.of_model.merge(cell);
                let merge = merge.context("a row that is no edit is a merge of the plan")?;
                return self.merged(cell, merge, chunks);
            }
        };
        let planned = self.planned_editor(cell)?;
        let store = self.store(cell, planned);
        let start = Instant::now();
        let prepared = match self.prepare(cell, planned, chunks, &store)? {
            Ok(prepared) => prepared,
            Err(error) => {
                self.interrupt.check()?;
                let failed = CellResult::failed(cell, self.filter, error.to_string());
                return Ok(without_edits(failed, Vec::new()));
            }
        };
        if planned.learns == Learns::Parts
            && let Some(curve) = store.curve()
        {
            let name = format!("training/{}.svg", what.replace(' ', "-"));
            self.planned.folder.write_picture(&name, &curve)?;
        }
        self.progress.start(&what, n);
        let prepare_s = start.elapsed().as_secs_f64();
        let edited = match (mode, batch) {
            (Some(Mode::Gap), _) => self.with_gap(cell, prepared.as_ref(), chunks),
            (_, 1) => self.one_by_one(prepared.as_ref(), chunks),
            _ => self.in_batches(cell, prepared.as_ref(), chunks),
        };
        let edited = match edited {
            // The editor cannot go on; the run can.
            Err(error) if error.is::<debias_edit::Error>() => {
                self.interrupt.check()?;
                let failed = CellResult::failed(cell, self.filter, error.to_string());
                return Ok(without_edits(failed, Vec::new()));
            }
            edited => edited?,
        };
        let cost = Cost {
            prepare_s,
            edit_s: edited.iter().map(|edited| edited.edit_s).sum(),
            score_s: edited.iter().map(|edited| edited.score_s).sum(),
            peak_bytes: machine::peak_bytes(),
        };
        let (mut lines, mut costs) = (Vec::new(), Vec::new());
        for edited in edited {
            lines.extend(edited.lines);
            costs.extend(edited.costs);
        }
        lines.extend(self.refused.iter().cloned());
        if planned.claims.effect == Effect::Identity {
            self.check_control(&lines)?;
        }
        let result = CellResult {
            remarks: prepared.remarks(),
            ..self.result(cell, &lines, cost)
        };
        Ok(Computed {
            result,
            lines,
            costs,
        })
    }

    /// The editor that `cell` names.
    pub(super) fn planned_editor(&self, cell: &Cell) -> anyhow::Result<&PlannedEditor> {
        self.of_model
            .editors
            .iter()
            .find(|planned| planned.editor.card().id == cell.variant.name())
            .with_context(|| format!("editor `{}` is not in the plan", cell.variant.name()))
    }

    /// The place where the editor of `cell` learns.
    pub(super) fn store<'s>(&'s self, cell: &'s Cell, planned: &PlannedEditor) -> Bench<'s> {
        let identity = Identity::of(cell);
        let given = planned.settings.get("trained");
        Bench {
            folder: self.planned.artifacts.folder(&identity),
            identity,
            model: &cell.model.digest,
            device: self.model.device().clone(),
            given: given.and_then(|path| path.as_str()).map(PathBuf::from),
            workers: self.workers,
            what: label(cell),
            progress: self.progress,
            interrupt: self.interrupt,
        }
    }

    /// Why no request is edited.
    pub(super) fn without_requests(&self) -> String {
        match self.refused.iter().find_map(|line| line.error.as_ref()) {
            Some(error) => format!("every record failed: {error}"),
            None => format!(
                "the filter admitted none of {} records; --set filter.contexts=1 asks for bias in one context only, 0 takes them as they are",
                self.filter.candidates
            ),
        }
    }

    /// The result of a cell without a record to edit.
    fn nothing_to_edit(&self, cell: &Cell) -> CellResult {
        CellResult {
            failed: self.refused.len(),
            ..CellResult::failed(cell, self.filter, self.without_requests())
        }
    }

    /// Lets the editor learn. The outer error stops the run, the inner one fails the cell.
    pub(super) fn prepare<'s>(
        &'s self,
        cell: &Cell,
        planned: &PlannedEditor,
        chunks: &[RecordBatch],
        store: &Bench,
    ) -> anyhow::Result<debias_edit::Result<Box<dyn Prepared + 's>>> {
        let nobody = Admitted::default();
        let admitted = match (planned.learns, self.admitted.get()) {
            (Learns::Nothing, _) => &nobody,
            (_, Some(admitted)) => admitted,
            (_, None) => {
                let admitted = self.admitted(cell)?;
                self.admitted.get_or_init(|| admitted)
            }
        };
        let of = |records| OfSplit {
            group: self,
            records,
        };
        let lessons = Lessons {
            train: &of(&admitted.train),
            val: &of(&admitted.val),
            eval: &OfChunks::new(chunks, self.templates),
        };
        let ctx = Ctx {
            seed: cell.seed,
            settings: &planned.settings,
            store,
        };
        Ok(planned.editor.prepare(self.model, &lessons, &ctx))
    }

    /// Every record through an edit of its own.
    fn one_by_one(
        &self,
        prepared: &dyn Prepared,
        chunks: &[RecordBatch],
    ) -> anyhow::Result<Vec<Edited>> {
        let portion = self.portion(&all(chunks), prepared.footprint())?;
        in_order(chunks.len(), portion.workers, |at| {
            self.interrupt.check()?;
            let edited = self.edit_fitting(prepared, &chunks[at], portion.size)?;
            self.progress.advance(chunks[at].records().len());
            anyhow::Ok(edited)
        })
    }

    /// [`CellGroup::edit`], of `size` records at a time where the edits of all would not fit beside each
    /// other, and of halves where the device's memory is not enough all the same.
    fn edit_fitting(
        &self,
        prepared: &dyn Prepared,
        chunk: &RecordBatch,
        size: usize,
    ) -> anyhow::Result<Edited> {
        let all = chunk.records();
        let parts = all.chunks(size).map(|part| {
            retry_in_halves(part, &|n| self.too_many(n), &|records| {
                if records.len() == all.len() {
                    return Ok(vec![self.edit(prepared, chunk)?]);
                }
                let whole = Portion {
                    size: records.len(),
                    workers: self.workers.at_most(1),
                };
                let chunks = self.rechunked(records, whole)?;
                let edited = chunks.iter().map(|chunk| self.edit(prepared, chunk));
                Ok(edited.collect::<debias_edit::Result<Vec<_>>>()?)
            })
        });
        let parts = parts.collect::<anyhow::Result<Vec<_>>>()?;
        Ok(parts.into_iter().flatten().flatten().sum())
    }

    /// Edits and scores one chunk. A record that cannot be edited is marked, never averaged; an
    /// editor that cannot go on is an error.
    fn edit(&self, prepared: &dyn Prepared, chunk: &RecordBatch) -> debias_edit::Result<Edited> {
        let start = Instant::now();
        let requests = chunk.requests();
        let edit = |requests: &[Request]| prepared.edit_each(requests, &Change::default());
        let edits: Vec<Result<Arc<Edit>, String>> = match edit(&requests) {
            Ok(edits) => edits.into_iter().map(Ok).collect(),
            Err(error) if error.fails_cell() => return Err(error),
            // One record may spoil the batch: find out which, alone.
            Err(_) => requests
                .iter()
                .map(|request| match edit(std::slice::from_ref(request)) {
                    Ok(mut edits) => Ok(edits.pop().ok_or("the editor proposed no edit".into())),
                    Err(error) if error.fails_cell() => Err(error),
                    Err(error) => Ok(Err(error.to_string())),
                })
                .collect::<debias_edit::Result<_>>()?,
        };
        let edit_s = start.elapsed().as_secs_f64();
        let costs = costs(chunk, &edits, edit_s);
        let start = Instant::now();
        let after = score(chunk, edits);
        let lines = lines(chunk, after, |_| None);
        let score_s = start.elapsed().as_secs_f64();
        Ok(Edited::new(lines, costs, edit_s, score_s))
    }

    /// The base row: the empty change must leave every number as it is.
    fn check_control(&self, lines: &[ItemLine]) -> debias_core::Result<()> {
        let admission = self.planned.protocol.admission();
        lines
            .iter()
            .filter_map(|line| {
                let [before, after] = [&line.before, &line.after];
                let scores = |answers: &Option<Answers>| RecordScores::of(answers.as_ref()?);
                Some((line, scores(before)?, scores(after)?))
            })
            .try_for_each(|(line, before, after)| {
                admission.check_unedited(&line.id, &before, &after)
            })
    }

    pub(super) fn result(&self, cell: &Cell, lines: &[ItemLine], cost: Cost) -> CellResult {
        let failed = lines.iter().filter(|line| line.after.is_none()).count();
        let first_error = lines.iter().find_map(|line| line.error.clone());
        let pending = CellResult::pending(cell, self.filter);
        let outcome = match (measured(pending, lines), first_error) {
            (Err(error), _) => CellResult::failed(cell, self.filter, error.to_string()),
            (Ok(_), Some(error)) if failed == lines.len() => {
                CellResult::failed(cell, self.filter, format!("every record failed: {error}"))
            }
            (Ok(result), _) => result,
        };
        CellResult {
            failed,
            cost: Some(cost),
            ..outcome
        }
    }
}

/// Scores every record through its edit; where that fails for the chunk, record by record.
pub(super) fn score(
    chunk: &RecordBatch,
    edits: Vec<Result<Arc<Edit>, String>>,
) -> Vec<Result<RecordScores, String>> {
    let identity = Arc::new(Edit::default());
    let applied: Vec<_> = edits
        .iter()
        .map(|edit| edit.as_ref().map_or(identity.clone(), Arc::clone))
        .collect();
    let finite = |scores: &[RecordScores]| scores.iter().all(RecordScores::is_finite);
    let together = chunk.after(&applied).ok().filter(|scores| finite(scores));
    edits
        .into_iter()
        .enumerate()
        .map(|(at, edit)| {
            edit?;
            match &together {
                Some(scores) => Ok(scores[at]),
                None => alone(chunk, at, &applied[at], &identity),
            }
        })
        .collect()
}

/// Scores one record of a chunk, the others unedited.
fn alone(
    chunk: &RecordBatch,
    at: usize,
    edit: &Arc<Edit>,
    identity: &Arc<Edit>,
) -> Result<RecordScores, String> {
    let mut edits = vec![identity.clone(); chunk.records().len()];
    edits[at] = edit.clone();
    let scores = chunk.after(&edits).map_err(|error| error.to_string())?;
    finite(scores[at])
}
