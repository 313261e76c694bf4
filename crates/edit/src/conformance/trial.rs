//! An editor at work in a world: what all properties start from.

use std::sync::Arc;

use debias_core::{Answers, RecordScores, canonical_json, sha256_hex};
use debias_model::{Batch, Change, Delta, Model, Parameters, Question, host};
use serde_json::json;

use super::Options;
use super::shelf::{Ledger, Shelf};
use super::world::World;
use crate::edit::Edit;
use crate::editor::{Claims, Ctx, Editor, Learns, Lessons, Prepared, Request};
use crate::error::Result;
use crate::judge::RecordBatch;
use crate::settings::Settings;
use crate::training_store::TrainingStore;

/// Records on which properties of several edits are tested.
pub(super) const FEW: usize = 3;

/// An editor, the world it is tested in, and what it does there when all is well.
pub(super) struct Trial<'a> {
    pub editor: &'a dyn Editor,
    pub world: &'a World<'a>,
    pub settings: &'a Settings,
    pub options: &'a Options<'a>,
    /// The world's evaluation records.
    pub chunk: RecordBatch<'a>,
    /// One request for each of them.
    pub requests: Vec<Request>,
    /// One edit for each of them.
    pub edits: Vec<Arc<Edit>>,
    /// [`fingerprint`] of the model before the editor saw it.
    pub fingerprint: String,
    /// Trained parts under `settings`, trained once for all properties.
    trained: Ledger,
}

impl<'a> Trial<'a> {
    pub fn new(
        editor: &'a dyn Editor,
        world: &'a World<'a>,
        settings: &'a Settings,
        options: &'a Options<'a>,
    ) -> Result<Self> {
        let fingerprint = fingerprint(world)?;
        let chunk = world.chunk(world.eval.clone())?;
        let requests = chunk.requests();
        let shelf = Shelf::new(world.model.device());
        let mut prepared = prepare(editor, world, settings, options.seed, &shelf)?;
        let trained = shelf.ledger();
        if trained.finished.is_some() {
            // All properties but C16 see parts that were loaded.
            let shelf = Shelf::with(world.model.device(), trained.clone());
            prepared = prepare(editor, world, settings, options.seed, &shelf)?;
        }
        let edits = prepared.edit_each(&requests, &Change::default())?;
        drop(prepared);
        Ok(Self {
            editor,
            world,
            settings,
            options,
            chunk,
            requests,
            edits,
            fingerprint,
            trained,
        })
    }

    /// What the editor promises.
    pub fn claims(&self) -> Result<Claims> {
        self.editor.claims(self.settings)
    }

    /// The editor without any memory of what it did before, its parts as they were trained once.
    pub fn fresh(&self) -> Result<Box<dyn Prepared + 'a>> {
        let shelf = Shelf::with(self.world.model.device(), self.trained.clone());
        let seed = self.options.seed;
        prepare(self.editor, self.world, self.settings, seed, &shelf)
    }

    /// The first few requests.
    pub fn few(&self) -> &[Request] {
        &self.requests[..FEW.min(self.requests.len())]
    }

    /// The changes of weights among its edits.
    pub fn changes(&self) -> impl Iterator<Item = &Change> {
        let changes = self.edits.iter().filter_map(|edit| edit.change());
        changes.filter(|change| !change.is_identity())
    }

    /// Scores of every evaluation record through `edit`.
    pub fn through(&self, edit: &Arc<Edit>) -> Result<Vec<RecordScores>> {
        self.chunk.after(&vec![edit.clone(); self.requests.len()])
    }

    /// Scores through one edit for the first record, and so on; the rest unedited.
    pub fn scores(&self, edits: &[Arc<Edit>]) -> Result<Vec<RecordScores>> {
        let mut all = edits.to_vec();
        all.resize_with(self.requests.len(), Arc::default);
        self.chunk.after(&all)
    }
}

/// Prepares `editor` in `world`.
pub(super) fn prepare<'a>(
    editor: &dyn Editor,
    world: &'a World<'a>,
    settings: &Settings,
    seed: u64,
    store: &dyn TrainingStore,
) -> Result<Box<dyn Prepared + 'a>> {
    let (train, val) = match editor.learns(settings)? {
        Learns::Nothing => (Vec::new(), Vec::new()),
        Learns::Examples | Learns::Parts => (world.train.clone(), world.val.clone()),
    };
    let lessons = Lessons {
        train: &world.split(train),
        val: &world.split(val),
        eval: &world.split(world.eval.clone()),
    };
    let ctx = Ctx {
        seed,
        settings,
        store,
    };
    editor.prepare(world.model, &lessons, &ctx)
}

/// Everything `editor` does to the evaluation records of `world`, trained from the beginning
/// under its [`Editor::rehearsal`] of `settings`, as one SHA-256: equal wherever and however often
/// it is computed on one kind of device.
///
/// # Errors
/// Whatever the editor or the model refuses.
pub fn digest(
    editor: &dyn Editor,
    world: &World,
    settings: &Settings,
    seed: u64,
) -> Result<String> {
    let settings = editor.rehearsal(settings);
    let chunk = world.chunk(world.eval.clone())?;
    let shelf = Shelf::new(world.model.device());
    let prepared = prepare(editor, world, &settings, seed, &shelf)?;
    let edits = prepared.edit_each(&chunk.requests(), &Change::default())?;
    let after = chunk.after(&edits)?;
    let after: Vec<Answers> = after.into_iter().map(Answers::from).collect();
    let seen = json!([signatures(&edits), after]);
    Ok(sha256_hex(canonical_json(&seen).as_bytes()))
}

/// SHA-256 of every weight of the world's model, and of its logits on the evaluation records.
///
/// # Errors
/// A record that cannot be tokenised, or a picture that is not there.
pub fn fingerprint(world: &World) -> Result<String> {
    let model = world.model;
    let mut bytes = Vec::new();
    for site in model.parameters() {
        let value = model.value(&site.name).map(host::values);
        bytes.extend(site.name.as_bytes());
        bytes.extend(le_bytes(value.unwrap_or_default()));
    }
    for request in world.chunk(world.eval.clone())?.requests() {
        bytes.extend(logits(model, &request)?);
    }
    Ok(sha256_hex(&bytes))
}

/// Logits of the request's target with its picture, and of its locality item without one.
fn logits(model: &Model, request: &Request) -> Result<Vec<u8>> {
    let record = &request.record;
    let base = model.base();
    let with = Question::new(request.image_ref(), &request.prompt, &record.y_less);
    let own = Batch::over(model.rows(&[with])?, request.image.clone());
    let mut values = host::values(model.logits(own, &base));
    if let Some(item) = &record.t_locality {
        let without = Question::new(None, &item.question, &item.answer);
        let text = Batch::text(model.rows(&[without])?);
        values.extend(host::values(model.logits(text, &base)));
    }
    Ok(le_bytes(values))
}

fn le_bytes(values: Vec<f32>) -> Vec<u8> {
    values.into_iter().flat_map(f32::to_le_bytes).collect()
}

/// What each edit holds, as one SHA-256.
pub(super) fn signatures(edits: &[Arc<Edit>]) -> Vec<String> {
    edits.iter().map(|edit| signature(edit)).collect()
}

/// What an edit holds, as one SHA-256. What wraps the model is told by its texts, or by its size; its
/// scores say the rest.
pub(super) fn signature(edit: &Edit) -> String {
    let mut bytes = Vec::new();
    match edit {
        Edit::Weights(change) => {
            for (name, delta) in &change.weights {
                bytes.extend(name.as_bytes());
                let parts = match delta {
                    Delta::Dense(delta) => vec![delta],
                    Delta::LowRank { a, b } => vec![a, b],
                };
                for part in parts {
                    bytes.extend(format!("{:?}", part.dims()).bytes());
                    bytes.extend(le_bytes(host::values(part.clone())));
                }
            }
        }
        Edit::Wrapped(wrap) => {
            let texts = wrap.texts();
            if texts.is_empty() {
                bytes.extend(wrap.bytes().to_le_bytes());
            }
            for text in texts {
                bytes.extend(text.bytes().chain([0]));
            }
        }
    }
    sha256_hex(&bytes)
}

/// The largest difference between two scorings: of log-likelihoods relative to their size (at
/// least 1 nat), of divergences in nats.
pub(super) fn furthest(a: &[RecordScores], b: &[RecordScores]) -> f64 {
    let pairs = a.iter().zip(b);
    pairs.map(|(a, b)| apart(a, b)).fold(0.0, f64::max)
}

/// [`furthest`] of one record.
pub(super) fn apart(a: &RecordScores, b: &RecordScores) -> f64 {
    let answers = a.contexts().into_iter().zip(b.contexts());
    let answers = answers.flat_map(|(a, b)| [(a.y_more, b.y_more), (a.y_less, b.y_less)]);
    let likelihoods = answers.map(|(a, b)| relative(a.sum, b.sum));
    let items = a.localities().zip(b.localities());
    let divergences = items.map(|(a, b)| (a.kl - b.kl).abs());
    likelihoods.chain(divergences).fold(0.0, f64::max)
}

/// `|a - b|` relative to the larger of `|a|` and 1.
pub(super) fn relative(a: f64, b: f64) -> f64 {
    (a - b).abs() / a.abs().max(1.0)
}
