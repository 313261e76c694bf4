//! What the never-edited model answers: a cell of its own, computed once for all that start from it.
//!
//! Every editor, suite, shard and process that asks the same model the same records with the same
//! protocol reads the same stored lines; the filter is a function of them. What cannot be stored are
//! the tensors that an edit starts from and that locality compares with (logits of whole sequences):
//! each process computes those for the records that it edits.

use std::ops::ControlFlow;

use debias_core::{
    Answer, Answers, BenchmarkIdentity, CONTEXTS, Cell, CellResult, ContextScore, Cost,
    FilterCounts, ItemLine, Preset, Record, Split, Variant, Verdict, Y_LESS, Y_MORE,
};
use debias_edit::{answer_by_itself, context_scores};
use debias_model::engine::{Portion, retry_in_halves};
use debias_model::in_order;

use super::admission::refuse;
use super::computed::{label, tags};
use super::group::CellGroup;
use crate::results::store::{Again, Lookup};
use crate::terminal::machine;

/// The cell of the never-edited model behind `cell`, on the records of one split.
fn base_of(cell: &Cell, split: Split) -> Cell {
    let name = match split {
        Split::Train => "train",
        Split::Val => "val",
        Split::Eval => "eval",
    };
    let mut parts = cell.benchmark.parts.clone();
    parts.push(name.to_owned());
    Cell {
        suite: None,
        edition: None,
        benchmark: BenchmarkIdentity {
            parts,
            ..cell.benchmark.clone()
        },
        variant: Variant::Base,
        preset: Preset::default(),
        train_bias: None,
        eval_bias: None,
        side: None,
        // Editors learn from whole splits, whatever is edited.
        limit: cell.limit.filter(|_| split == Split::Eval),
        ..cell.clone()
    }
}

impl CellGroup<'_> {
    /// The base model's answers to `records`, one line each in their order: as stored, or computed and
    /// stored. With a limit there are as many as it takes until so many are admitted.
    ///
    /// Somebody else who computes the same is waited for.
    pub(super) fn base_lines(
        &self,
        cell: &Cell,
        split: Split,
        records: &[Record],
    ) -> anyhow::Result<Vec<ItemLine>> {
        let base = base_of(cell, split);
        let folder = &self.planned.bases;
        if let Some(lines) = self.stored_base(&base)? {
            return Ok(lines);
        }
        let _claim = folder.claim(&base.key())?;
        if let Some(lines) = self.stored_base(&base)? {
            return Ok(lines);
        }
        let what = format!("{}: filtering", label(&base));
        self.progress.start(&what, records.len());
        let start = std::time::Instant::now();
        let lines = self.answered(records, base.limit)?;
        let result = CellResult {
            n: lines.iter().filter(|line| line.counts()).count(),
            failed: lines.iter().filter(|line| line.after.is_none()).count(),
            versions: crate::results::current_versions(&base.benchmark.id)?,
            cost: Some(Cost {
                score_s: start.elapsed().as_secs_f64(),
                peak_bytes: machine::peak_bytes(),
                ..Cost::default()
            }),
            ..CellResult::pending(&base, FilterCounts::default())
        };
        folder.put(&result, &lines, &[])?;
        Ok(lines)
    }

    /// The stored lines of a base cell, unless they are missing, damaged or unwanted.
    fn stored_base(&self, base: &Cell) -> anyhow::Result<Option<Vec<ItemLine>>> {
        if self.fresh {
            return Ok(None);
        }
        let folder = &self.planned.bases;
        match folder.get(base)? {
            Lookup::Hit(result) | Lookup::Measured(result, Again::Columns(_)) => {
                Ok(Some(folder.lines(&result)?))
            }
            Lookup::Damaged(problem) => {
                self.progress
                    .warn(&format!("{problem}; the base model is asked again"));
                Ok(None)
            }
            Lookup::Miss | Lookup::Failed(_) | Lookup::Measured(..) => Ok(None),
        }
    }

    /// Asks the base model, wave by wave until `limit` records are admitted.
    fn answered(&self, records: &[Record], limit: Option<usize>) -> anyhow::Result<Vec<ItemLine>> {
        let mut lines = Vec::new();
        let mut left = limit.unwrap_or(usize::MAX);
        let portion = self.portion(records, 0)?;
        // Waves of one chunk per thread: a limit then spares the rest of a large dataset, and
        // what is stored does not depend on the number of threads.
        for wave in records.chunks(portion.size * self.threads) {
            for (record, line) in wave.iter().zip(self.answered_wave(wave, portion)?) {
                let verdict = self.verdict(record, &line)?;
                lines.push(line);
                if matches!(verdict, Some(Verdict::Admitted(_))) {
                    left -= 1;
                }
                if left == 0 {
                    return Ok(lines);
                }
            }
        }
        Ok(lines)
    }

    fn answered_wave(&self, records: &[Record], portion: Portion) -> anyhow::Result<Vec<ItemLine>> {
        let chunks: Vec<&[Record]> = records.chunks(portion.size).collect();
        let lines = in_order(chunks.len(), portion.workers, |at| {
            self.interrupt.check()?;
            let lines = retry_in_halves(chunks[at], &|n| self.too_many(n), &|records| {
                self.answered_chunk(records)
            })?;
            self.progress.advance(chunks[at].len());
            anyhow::Ok(lines.concat())
        })?;
        Ok(lines.concat())
    }

    /// One line per record, in their order; what the model cannot read has an error in place of answers.
    fn answered_chunk(&self, records: &[Record]) -> anyhow::Result<Vec<ItemLine>> {
        let (mut chunk, mut lines) = (records.to_vec(), Vec::with_capacity(records.len()));
        loop {
            match self.scored(&mut chunk)? {
                ControlFlow::Continue(error) => lines.push(refuse(&mut chunk, error)?),
                ControlFlow::Break(scores) => {
                    let scored = chunk.iter().zip(scores);
                    lines.extend(scored.map(|(record, scores)| line(record, scores)));
                    break;
                }
            }
        }
        let place = |line: &ItemLine| records.iter().position(|record| record.id == line.id);
        lines.sort_by_key(place);
        Ok(lines)
    }

    /// The scores of a chunk, or what one of its records is refused for. Records that await the
    /// model's own answer get it.
    fn scored(
        &self,
        chunk: &mut [Record],
    ) -> anyhow::Result<ControlFlow<Vec<Vec<ContextScore>>, debias_edit::Error>> {
        if let Err(error) = answer_by_itself(self.model, chunk, self.templates) {
            return Ok(ControlFlow::Continue(error));
        }
        let keys = chunk.iter().flat_map(|r| [&r.image, &r.image_rephrase]);
        let pictures = self.pictures(keys.flatten())?;
        Ok(
            match context_scores(self.model, chunk, &pictures, self.templates) {
                Ok(scores) => ControlFlow::Break(scores),
                Err(error) => ControlFlow::Continue(error),
            },
        )
    }
}

/// What the base model answered to a record, in the contexts that the record has.
fn line(record: &Record, scores: Vec<ContextScore>) -> ItemLine {
    let asked = [
        true,
        record.prompt_rephrase.is_some(),
        record.image_rephrase.is_some(),
    ];
    let names = CONTEXTS.into_iter().zip(asked).filter(|(_, asked)| *asked);
    let answers = names.zip(scores).map(|((name, _), score)| {
        let choices = [(Y_MORE, Some(score.y_more)), (Y_LESS, Some(score.y_less))];
        (name, Answer::Choices(choices.into_iter().collect()))
    });
    ItemLine {
        id: record.id.clone(),
        tags: tags(record),
        after: Some(answers.collect::<Answers>()),
        ..ItemLine::default()
    }
}
