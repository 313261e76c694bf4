//! The judge: every score of a chunk of records, before and after their edits.
//!
//! A chunk encodes its pictures once, keeps what the never-edited model computed, and after an
//! edit starts at the first stage the edit touches. Locality is always measured against the
//! never-edited model (`spec/editors.md` section 2).

mod features;
mod needs;
mod recorded;
mod replaced;

pub use needs::Needs;

use std::collections::HashMap;
use std::ops::Range;
use std::sync::{Arc, Mutex};

use burn::tensor::Tensor;
use debias_core::{
    AnswerScore, ContextScore, LocalityScore, Picture, Record, RecordScores, Templates,
};
use debias_model::{
    Batch, Change, ImageFeatures, ImageRef, Model, Parameters, Question, Row, Stage, View,
    answer_scores, locality,
};

use self::features::{Features, context_keys, look, no_picture};
use self::recorded::{Recorded, scores};
use crate::edit::Edit;
use crate::editor::{Example, Examples, Request, Wording};
use crate::error::{Error, Result};

/// Pictures a record needs at most: its own, the rephrased one, and the locality item's.
pub const PICTURES: usize = 3;

/// Scores the contexts of each record with the model as it is, the edited one first.
///
/// `picture` is given the keys that the records name.
///
/// # Errors
/// A record that cannot be tokenised, or logits that are not finite.
pub fn context_scores(
    model: &Model,
    records: &[Record],
    pictures: &HashMap<String, Picture>,
    templates: &Templates,
) -> Result<Vec<Vec<ContextScore>>> {
    if records.is_empty() {
        return Ok(Vec::new());
    }
    let keys = |record: &Record| context_keys(record).map(str::to_owned).collect();
    let features = Features::see(model, records, pictures, keys)?;
    let (rows, layout) = context_rows(model, records, &features, templates)?;
    let batch = Batch::over(rows, features.all);
    score_contexts(model, batch, &layout, &model.base())
}

/// A few records, everything the base model says of them, and the means to ask again.
pub struct RecordBatch<'m> {
    model: &'m Model,
    records: Vec<Record>,
    templates: Templates,
    /// Own and rephrased picture of each record.
    seen: Features,
    /// Picture of each record's locality item.
    elsewhere: Features,
    /// Context rows of each record.
    layout: Vec<Range<usize>>,
    start: Probes,
    reference: Probes,
    before: Vec<RecordScores>,
    reached: Mutex<HashMap<Stage, Probes>>,
}

/// The three batches of a chunk: answers in context, and the two locality items of the records that
/// have them.
#[derive(Clone)]
struct Probes {
    contexts: Batch,
    m_locality: Option<Batch>,
    t_locality: Option<Batch>,
}

impl Probes {
    /// What is asked about `records`, at the first stage behind the tower, and the context rows of
    /// each.
    fn new(
        model: &Model,
        records: &[Record],
        (seen, elsewhere): (&Features, &Features),
        templates: &Templates,
    ) -> Result<(Self, Vec<Range<usize>>)> {
        let (contexts, layout) = context_rows(model, records, seen, templates)?;
        let m_locality = item_rows(model, records, |at, record| {
            let item = record.m_locality.as_ref()?;
            let picture = elsewhere.image_ref(at, item.image.as_ref());
            Some((picture, templates.mloc.apply(&item.question), &item.answer))
        })?;
        let t_locality = item_rows(model, records, |_, record| {
            let item = record.t_locality.as_ref()?;
            Some((None, templates.tloc.apply(&item.question), &item.answer))
        })?;
        let some = |rows: Vec<Row>, seen: Option<&ImageFeatures>| {
            (!rows.is_empty()).then(|| Batch::over(rows, seen.cloned()))
        };
        let probes = Self {
            contexts: Batch::over(contexts, seen.all.clone()),
            m_locality: some(m_locality, elsewhere.all.as_ref()),
            t_locality: some(t_locality, None),
        };
        Ok((probes, layout))
    }

    fn run(self, model: &Model, to: Stage, view: &View) -> Self {
        Self {
            contexts: model.run(self.contexts, to.earliest(answers_from(model)), view),
            m_locality: self.m_locality.map(|batch| model.run(batch, to, view)),
            t_locality: self.t_locality.map(|batch| model.run(batch, to, view)),
        }
    }
}

/// Contexts only need answer positions, which are cut out in front of the last feed-forward.
fn answers_from(model: &Model) -> Stage {
    Stage::FeedForward(model.decoder().outline().depth.saturating_sub(1))
}

impl<'m> RecordBatch<'m> {
    /// Encodes and scores `records` with the never-edited model.
    ///
    /// `pictures` holds every picture that the records name. All records have a picture, or none has.
    ///
    /// # Errors
    /// A record that cannot be tokenised, or logits that are not finite.
    pub fn new(
        model: &'m Model,
        records: Vec<Record>,
        pictures: &HashMap<String, Picture>,
        templates: &Templates,
    ) -> Result<Self> {
        let base = model.base();
        let (seen, elsewhere) = look(model, &records, pictures)?;
        let (start, layout) = Probes::new(model, &records, (&seen, &elsewhere), templates)?;
        // Edits of the last layer start from here.
        let last = start.clone().run(model, answers_from(model), &base);
        let reference = last.clone().run(model, Stage::Head, &base);
        let mut chunk = Self {
            model,
            records,
            templates: templates.clone(),
            seen,
            elsewhere,
            layout,
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
        (0..self.records.len())
            .map(|at| self.of_record(Examples::request, at))
            .collect()
    }

    /// The edit request of record `at`.
    pub fn request(&self, at: usize) -> Request {
        self.of_record(Examples::request, at)
    }

    /// Record `at` as something to learn from.
    pub fn example(&self, at: usize) -> Example {
        self.of_record(Examples::example, at)
    }

    /// What [`Examples`] makes of a record whose pictures were all seen.
    fn of_record<T>(&self, make: impl Fn(&Self, usize) -> Result<T>, at: usize) -> T {
        make(self, at).expect("every picture of the records was seen when they were scored")
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
            .map(|(at, edit)| {
                let base = Recorded::of(self, at);
                match edit.over(&base) {
                    Some(respondent) => scores(&base, respondent.as_ref()),
                    None => self.alone(at, edit),
                }
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
        let changes = if even { distinct } else { changes };
        if changes.len() > 1 && (!self.asks_alike() || self.reach_all_rows(&changes)?) {
            return self.one_by_one(&changes);
        }
        self.check_reach(&changes)?;
        let stage = self.model.first_stage(&changes)?;
        let view = self.model.view(&changes)?;
        let probes = self.reach(stage).run(self.model, Stage::Head, &view);
        self.score(self.model, probes, &view)
    }

    /// Whether the same things are asked of every record, so that their rows fall into equal groups.
    fn asks_alike(&self) -> bool {
        let asked = |at: usize| {
            let record = &self.records[at];
            let (t, m) = (record.t_locality.is_some(), record.m_locality.is_some());
            (self.layout[at].len(), t, m)
        };
        (1..self.records.len()).all(|at| asked(at) == asked(0))
    }

    /// Whether a change touches what all row groups of a pass must share: token tables, heads and
    /// learned queries.
    fn reach_all_rows(&self, changes: &[&Change]) -> Result<bool> {
        let names = changes.iter().flat_map(|change| change.weights.keys());
        for name in names {
            let site = self.model.parameter(name)?;
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
            if self.model.parameter(name)?.stage == Stage::Vision {
                return Err(Error::BehindTheTower { site: name.clone() });
            }
        }
        Ok(())
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
    fn score(&self, by: &Model, probes: Probes, view: &View) -> Result<Vec<RecordScores>> {
        let contexts = score_contexts(by, probes.contexts, &self.layout, view)?;
        let compare = |base: &Option<Batch>, asked: Option<Batch>| match (base, asked) {
            (Some(base), Some(asked)) => self.compare(base, by.logits(asked, view)),
            _ => Ok(Vec::new()),
        };
        let m = compare(&self.reference.m_locality, probes.m_locality)?;
        let t = compare(&self.reference.t_locality, probes.t_locality)?;
        let (mut m, mut t) = (m.into_iter(), t.into_iter());
        let records = self.records.iter().zip(contexts);
        let scores = records.map(|(record, contexts)| {
            let mut contexts = contexts.into_iter();
            let mut next = |asked: bool| if asked { contexts.next() } else { None };
            let own = next(true).ok_or(Error::EmptyEdit)?;
            Ok(RecordScores {
                prompt: own,
                rephrase: next(record.prompt_rephrase.is_some()),
                image_rephrase: next(record.image_rephrase.is_some()),
                t_locality: record.t_locality.as_ref().and_then(|_| t.next()),
                m_locality: record.m_locality.as_ref().and_then(|_| m.next()),
            })
        });
        scores.collect()
    }

    fn compare(&self, base: &Batch, edited: Tensor<3>) -> Result<Vec<LocalityScore>> {
        let reference = self.model.logits(base.clone(), &self.model.base());
        Ok(locality(base.rows(), &reference, edited)?)
    }
}

impl Examples for RecordBatch<'_> {
    fn records(&self) -> &[Record] {
        &self.records
    }

    fn templates(&self) -> &Templates {
        &self.templates
    }

    fn see(&self, at: usize, key: &str) -> Result<ImageFeatures> {
        let seen = self
            .seen
            .only(at, key)
            .or_else(|| self.elsewhere.only(at, key));
        seen.ok_or_else(|| no_picture(&self.records[at], key))
    }
}

/// Two rows for each context of a record, `y_more` first, and which rows are whose.
fn context_rows(
    model: &Model,
    records: &[Record],
    seen: &Features,
    templates: &Templates,
) -> Result<(Vec<Row>, Vec<Range<usize>>)> {
    let (mut rows, mut layout) = (Vec::new(), Vec::with_capacity(records.len()));
    for (at, record) in records.iter().enumerate() {
        let Wording {
            prompt, rephrase, ..
        } = Wording::of(record, templates);
        let from = rows.len();
        let own = seen.image_ref(at, record.image.as_ref());
        let other = record.image_rephrase.as_ref();
        let asked = [
            Some((own, &prompt)),
            rephrase.as_ref().map(|rephrase| (own, rephrase)),
            other.map(|key| (seen.image_ref(at, Some(key)), &prompt)),
        ];
        for (picture, text) in asked.into_iter().flatten() {
            let pair = model
                .row_pair(picture, text, [&record.y_more, &record.y_less])
                .map_err(|source| in_record(record, source))?;
            rows.extend(pair);
        }
        layout.push(from..rows.len());
    }
    Ok((rows, layout))
}

/// One row for each record of which `ask` has a picture, a prompt and an answer.
fn item_rows<'r>(
    model: &Model,
    records: &'r [Record],
    ask: impl Fn(usize, &'r Record) -> Option<(Option<ImageRef>, String, &'r String)>,
) -> Result<Vec<Row>> {
    let mut rows = Vec::with_capacity(records.len());
    for (at, record) in records.iter().enumerate() {
        let Some((picture, prompt, answer)) = ask(at, record) else {
            continue;
        };
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

/// Scores the context rows of each record.
fn score_contexts(
    model: &Model,
    batch: Batch,
    layout: &[Range<usize>],
    view: &View,
) -> Result<Vec<Vec<ContextScore>>> {
    let rows = batch.rows().to_vec();
    let scores = answer_scores(&rows, model.answer_logits(batch, view))?;
    let context = |pair: &[AnswerScore]| ContextScore {
        y_more: pair[0],
        y_less: pair[1],
    };
    let records = layout
        .iter()
        .map(|rows| scores[rows.clone()].chunks_exact(2));
    Ok(records.map(|pairs| pairs.map(context).collect()).collect())
}
