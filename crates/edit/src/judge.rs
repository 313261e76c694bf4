//! The judge: every score of a chunk of records, before and after their edits.
//!
//! A chunk encodes its pictures once, keeps what the never-edited model computed, and after an
//! edit starts at the first stage the edit touches. Locality is always measured against the
//! never-edited model (`spec/editors.md` section 2).

mod needs;
mod replaced;

pub use needs::Needs;

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use burn::tensor::Tensor;
use debias_core::{
    AnswerScore, ContextScore, LocalityScore, Picture, Record, RecordScores, Templates,
};
use debias_model::{
    Batch, Change, Mllm, Parameters, Question, Row, Seen, Sighting, Stage, View, answer_scores,
    locality,
};

use crate::edit::Edit;
use crate::editor::{Example, Request};
use crate::error::{Error, Result};

/// Pictures a record needs: its own, the rephrased one, and the locality item's.
pub const PICTURES: usize = 3;

/// Scores the three contexts of each record with the model as it is.
///
/// `pictures` holds two per record: its own and the rephrased one.
///
/// # Errors
/// A record that cannot be tokenised, or logits that are not finite.
pub fn context_scores(
    model: &Mllm,
    records: &[Record],
    pictures: &[&Picture],
    templates: &Templates,
) -> Result<Vec<[ContextScore; 3]>> {
    if records.is_empty() {
        return Ok(Vec::new());
    }
    let seen = model.see(pictures, &model.base())?;
    let rows = context_rows(model, records, &seen, templates)?;
    score_contexts(model, Batch::with_pictures(rows, seen), &model.base())
}

/// A few records, everything the base model says of them, and the means to ask again.
pub struct Chunk<'m> {
    model: &'m Mllm,
    records: Vec<Record>,
    templates: Templates,
    /// Own and rephrased picture of each record.
    seen: Seen,
    /// Picture of each record's locality item.
    elsewhere: Seen,
    start: Probes,
    reference: Probes,
    before: Vec<RecordScores>,
    reached: Mutex<HashMap<Stage, Probes>>,
}

/// The three batches of a chunk: answers in context, and the two locality items.
#[derive(Clone)]
struct Probes {
    contexts: Batch,
    m_locality: Batch,
    t_locality: Batch,
}

impl Probes {
    /// What is asked about `records`, at the first stage behind the tower.
    fn new(
        model: &Mllm,
        records: &[Record],
        (seen, elsewhere): (&Seen, &Seen),
        templates: &Templates,
    ) -> Result<Self> {
        let contexts = context_rows(model, records, seen, templates)?;
        let m_locality = m_locality_rows(model, records, elsewhere, templates)?;
        Ok(Self {
            contexts: Batch::with_pictures(contexts, seen.clone()),
            m_locality: Batch::with_pictures(m_locality, elsewhere.clone()),
            t_locality: Batch::text(t_locality_rows(model, records, templates)?),
        })
    }

    fn run(self, model: &Mllm, to: Stage, view: &View) -> Self {
        Self {
            contexts: model.run(self.contexts, to.earliest(answers_from(model)), view),
            m_locality: model.run(self.m_locality, to, view),
            t_locality: model.run(self.t_locality, to, view),
        }
    }
}

/// Contexts only need answer positions, which are cut out in front of the last feed-forward.
fn answers_from(model: &Mllm) -> Stage {
    Stage::FeedForward(model.decoder().outline().depth.saturating_sub(1))
}

impl<'m> Chunk<'m> {
    /// Encodes and scores `records` with the never-edited model.
    ///
    /// `pictures` holds [`PICTURES`] per record: own, rephrased, locality.
    ///
    /// # Errors
    /// A record that cannot be tokenised, or logits that are not finite.
    pub fn new(
        model: &'m Mllm,
        records: Vec<Record>,
        pictures: &[&Picture],
        templates: &Templates,
    ) -> Result<Self> {
        let base = model.base();
        let (seen, elsewhere) = look(model, pictures)?;
        let start = Probes::new(model, &records, (&seen, &elsewhere), templates)?;
        // Edits of the last layer start from here.
        let last = start.clone().run(model, answers_from(model), &base);
        let reference = last.clone().run(model, Stage::Head, &base);
        let mut chunk = Self {
            model,
            records,
            templates: templates.clone(),
            seen,
            elsewhere,
            start,
            reference,
            before: Vec::new(),
            reached: Mutex::new(HashMap::from([(answers_from(model), last)])),
        };
        chunk.before = chunk.score(model, chunk.reference.clone(), &base)?;
        Ok(chunk)
    }

    /// The records.
    pub fn records(&self) -> &[Record] {
        &self.records
    }

    /// Scores of the never-edited model, in record order.
    pub fn before(&self) -> &[RecordScores] {
        &self.before
    }

    /// One edit request per record.
    pub fn requests(&self) -> Vec<Request> {
        (0..self.records.len()).map(|at| self.request(at)).collect()
    }

    /// The edit request of record `at`.
    pub fn request(&self, at: usize) -> Request {
        let record = &self.records[at];
        Request {
            record: record.clone(),
            prompt: self.templates.of(record.task).apply(&record.prompt),
            seen: self.seen.only(2 * at),
        }
    }

    /// Record `at` as something to learn from.
    pub fn example(&self, at: usize) -> Example {
        let record = &self.records[at];
        Example {
            request: self.request(at),
            rephrase: self
                .templates
                .of(record.task)
                .apply(&record.prompt_rephrase),
            seen_rephrase: self.seen.only(2 * at + 1),
            loc_q: self.templates.tloc.apply(&record.loc_q),
            mloc_q: self.templates.mloc.apply(&record.mloc_q),
            seen_mloc: self.elsewhere.only(at),
        }
    }

    /// Scores each record through its own edit.
    ///
    /// # Errors
    /// An edit that does not fit the model, or logits that are not finite.
    pub fn after(&self, edits: &[Arc<Edit>]) -> Result<Vec<RecordScores>> {
        let changes: Option<Vec<&Change>> = edits.iter().map(|edit| edit.change()).collect();
        if let Some(changes) = changes {
            return self.changed(changes);
        }
        let asked = (0..self.records.len()).zip(edits);
        asked
            .map(|(at, edit)| match edit.as_ref() {
                Edit::Weights(_) => self.alone(at, edit),
                Edit::Context(context) => context.scores(&self.asked(at)),
                Edit::Memory(memory) => memory.scores(&self.asked(at)),
            })
            .collect()
    }

    /// Record `at` through a change of weights, the others unedited.
    fn alone(&self, at: usize, edit: &Edit) -> Result<RecordScores> {
        let identity = Change::default();
        let mut changes = vec![&identity; self.records.len()];
        changes[at] = edit.change().unwrap_or(&identity);
        Ok(self.changed(changes)?[at])
    }

    /// Scores every record through one change each; equal neighbours share a view.
    fn changed(&self, changes: Vec<&Change>) -> Result<Vec<RecordScores>> {
        let mut distinct = changes.clone();
        distinct.dedup_by(|a, b| std::ptr::eq(*a, *b));
        let of_each = changes.len() / distinct.len().max(1);
        // Row groups of a view are of equal size.
        let even = changes
            .chunks(of_each.max(1))
            .all(|group| group.iter().all(|change| std::ptr::eq(*change, group[0])));
        let changes = match even {
            true => distinct,
            false => changes,
        };
        if changes.len() > 1 && self.reach_all_rows(&changes)? {
            return self.one_by_one(&changes);
        }
        self.check_reach(&changes)?;
        let stage = self.model.first_stage(&changes)?;
        let view = self.model.view(&changes)?;
        let probes = self.reach(stage).run(self.model, Stage::Head, &view);
        self.score(self.model, probes, &view)
    }

    /// Whether a change touches what all row groups of a pass must share: token tables, heads and
    /// learned queries.
    fn reach_all_rows(&self, changes: &[&Change]) -> Result<bool> {
        let names = changes.iter().flat_map(|change| change.weights.keys());
        for name in names {
            let site = self.model.site(name)?;
            let table = site.linear.is_none() && site.matrix_shape()[0] > 1;
            if table || matches!(site.stage, Stage::Embed | Stage::Head) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Every change in a pass of its own; row groups of equal size, in order.
    fn one_by_one(&self, changes: &[&Change]) -> Result<Vec<RecordScores>> {
        let of_each = self.records.len() / changes.len().max(1);
        let mut scores = Vec::with_capacity(self.records.len());
        for (at, change) in changes.iter().enumerate() {
            let all = self.changed(vec![*change; self.records.len()])?;
            scores.extend_from_slice(&all[at * of_each..(at + 1) * of_each]);
        }
        Ok(scores)
    }

    /// Refuses what a chunk is past: its pictures have gone through the vision tower.
    fn check_reach(&self, changes: &[&Change]) -> Result<()> {
        let names = changes.iter().flat_map(|change| change.weights.keys());
        for name in names {
            if self.model.site(name)?.stage == Stage::Vision {
                return Err(Error::BehindTheTower { site: name.clone() });
            }
        }
        Ok(())
    }

    /// Record `at` as an edit of input or output is asked about it.
    fn asked(&self, at: usize) -> Asked<'_> {
        Asked { chunk: self, at }
    }

    /// The chunk as the base model brings it to `stage`, computed once.
    fn reach(&self, stage: Stage) -> Probes {
        let mut reached = self
            .reached
            .lock()
            .unwrap_or_else(|poison| poison.into_inner());
        reached
            .entry(stage)
            .or_insert_with(|| {
                self.start
                    .clone()
                    .run(self.model, stage, &self.model.base())
            })
            .clone()
    }

    /// Reads scores off probes that have come to the head of `by`.
    fn score(&self, by: &Mllm, probes: Probes, view: &View) -> Result<Vec<RecordScores>> {
        let contexts = score_contexts(by, probes.contexts, view)?;
        let compare = |base, asked| self.compare(base, by.logits(asked, view));
        let m = compare(&self.reference.m_locality, probes.m_locality)?;
        let t = compare(&self.reference.t_locality, probes.t_locality)?;
        Ok(contexts
            .into_iter()
            .zip(m.into_iter().zip(t))
            .map(
                |([prompt, rephrase, image_rephrase], (m_locality, t_locality))| RecordScores {
                    prompt,
                    rephrase,
                    image_rephrase,
                    t_locality,
                    m_locality,
                },
            )
            .collect())
    }

    fn compare(&self, base: &Batch, edited: Tensor<3>) -> Result<Vec<LocalityScore>> {
        let reference = self.model.logits(base.clone(), &self.model.base());
        Ok(locality(base.rows(), &reference, edited)?)
    }
}

/// What the tower makes of each record's pictures: own and rephrased, and the locality item's.
fn look(model: &Mllm, pictures: &[&Picture]) -> Result<(Seen, Seen)> {
    let every = |wanted: &[usize]| -> Vec<&Picture> {
        pictures
            .chunks(PICTURES)
            .flat_map(|of_record| wanted.iter().map(|i| of_record[*i]))
            .collect()
    };
    let base = model.base();
    Ok((
        model.see(&every(&[0, 1]), &base)?,
        model.see(&every(&[2]), &base)?,
    ))
}

/// One record of a chunk, and what the never-edited model said of it.
#[derive(Clone, Copy)]
pub struct Asked<'a> {
    chunk: &'a Chunk<'a>,
    at: usize,
}

impl<'a> Asked<'a> {
    /// The never-edited model.
    pub fn model(&self) -> &'a Mllm {
        self.chunk.model
    }

    /// What the never-edited model scored.
    pub fn before(&self) -> RecordScores {
        self.chunk.before[self.at]
    }

    /// The record with its prompts in their templates and its pictures.
    pub fn example(&self) -> Example {
        self.chunk.example(self.at)
    }

    /// The base model's six context rows, (prompt, rephrase, rephrased picture) × (y_more, y_less),
    /// and the logits of their answer positions `[6, a, vocabulary]`.
    pub fn contexts(&self) -> (Vec<Row>, Tensor<3>) {
        let batch = self.chunk.reference.contexts.part(6 * self.at, 6);
        let logits = self
            .chunk
            .model
            .answer_logits(batch.clone(), &self.chunk.model.base());
        (batch.rows().to_vec(), logits)
    }

    /// The base model's text-locality row and its logits `[1, t, vocabulary]`.
    pub fn t_locality(&self) -> (Row, Tensor<3>) {
        self.item(&self.chunk.reference.t_locality)
    }

    /// The base model's image-locality row and its logits `[1, t, vocabulary]`.
    pub fn m_locality(&self) -> (Row, Tensor<3>) {
        self.item(&self.chunk.reference.m_locality)
    }

    fn item(&self, items: &Batch) -> (Row, Tensor<3>) {
        let batch = items.part(self.at, 1);
        let logits = self
            .chunk
            .model
            .logits(batch.clone(), &self.chunk.model.base());
        (batch.rows()[0].clone(), logits)
    }
}

/// Six rows per record: (prompt, rephrase, rephrased picture) × (y_more, y_less).
fn context_rows(
    model: &Mllm,
    records: &[Record],
    seen: &Seen,
    templates: &Templates,
) -> Result<Vec<Row>> {
    let mut rows = Vec::with_capacity(6 * records.len());
    for (i, record) in records.iter().enumerate() {
        let prompt = templates.of(record.task).apply(&record.prompt);
        let rephrase = templates.of(record.task).apply(&record.prompt_rephrase);
        for (picture, text) in [(2 * i, &prompt), (2 * i, &rephrase), (2 * i + 1, &prompt)] {
            let pair = model
                .row_pair(
                    seen.sighting(picture),
                    text,
                    [&record.y_more, &record.y_less],
                )
                .map_err(|source| in_record(record, source))?;
            rows.extend(pair);
        }
    }
    Ok(rows)
}

fn m_locality_rows(
    model: &Mllm,
    records: &[Record],
    seen: &Seen,
    templates: &Templates,
) -> Result<Vec<Row>> {
    one_row_each(model, records, |i, record| {
        (
            Some(seen.sighting(i)),
            templates.mloc.apply(&record.mloc_q),
            &record.mloc_a,
        )
    })
}

fn t_locality_rows(model: &Mllm, records: &[Record], templates: &Templates) -> Result<Vec<Row>> {
    one_row_each(model, records, |_, record| {
        (None, templates.tloc.apply(&record.loc_q), &record.loc_a)
    })
}

fn one_row_each<'r>(
    model: &Mllm,
    records: &'r [Record],
    ask: impl Fn(usize, &'r Record) -> (Option<Sighting>, String, &'r String),
) -> Result<Vec<Row>> {
    let mut rows = Vec::with_capacity(records.len());
    for (i, record) in records.iter().enumerate() {
        let (picture, prompt, answer) = ask(i, record);
        let question = Question::new(picture, &prompt, answer);
        rows.extend(
            model
                .rows(&[question])
                .map_err(|source| in_record(record, source))?,
        );
    }
    Ok(rows)
}

fn in_record(record: &Record, source: debias_model::Error) -> Error {
    Error::Record {
        id: record.id.clone(),
        source,
    }
}

/// Scores six context rows per record.
fn score_contexts(model: &Mllm, batch: Batch, view: &View) -> Result<Vec<[ContextScore; 3]>> {
    let rows = batch.rows().to_vec();
    let scores = answer_scores(&rows, model.answer_logits(batch, view))?;
    let context = |pair: &[AnswerScore]| ContextScore {
        y_more: pair[0],
        y_less: pair[1],
    };
    Ok(scores
        .chunks_exact(6)
        .map(|six| [context(&six[..2]), context(&six[2..4]), context(&six[4..])])
        .collect())
}
