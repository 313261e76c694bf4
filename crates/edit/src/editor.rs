//! The editor's contract: propose an edit, never make one.
//!
//! An [`Editor`] is an entry of the catalogue. [`Editor::prepare`] binds it to a model and settings
//! and lets it learn; what comes back, [`Prepared`], answers requests.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, LazyLock};

use debias_core::{Preset, Record, Template, Templates, Unrelated};
use debias_model::{Change, ImageFeatures, ImageRef, Model, Side};

use crate::card::Card;
use crate::edit::Edit;
use crate::error::{Error, Result};
use crate::settings::Settings;
use crate::training_store::TrainingStore;

/// One edit request: make the model prefer `record.y_less` on this prompt and picture.
#[derive(Clone)]
pub struct Request {
    /// The record, answers oriented for the model being edited.
    pub record: Record,
    /// `record.prompt` in the task's template.
    pub prompt: String,
    /// Vision features of the record's picture, encoded once; none for text alone.
    pub image: Option<ImageFeatures>,
}

impl Request {
    /// Its picture, where it stands alone in a batch.
    pub fn image_ref(&self) -> Option<ImageRef> {
        self.image.as_ref().map(|image| image.image_ref(0))
    }

    /// Whether `model` can be asked for this edit: two different answers that are not empty, and
    /// no more tokens than the model has positions.
    ///
    /// # Errors
    /// [`Error::Core`] or [`Error::Record`], which name the record.
    pub fn check(&self, model: &Model) -> Result<()> {
        self.record.validate_answers()?;
        let answers = [self.record.y_more.as_str(), self.record.y_less.as_str()];
        let rows = model.row_pair(self.image_ref(), &self.prompt, answers);
        rows.map(drop).map_err(|source| self.refused(source))
    }

    /// What the model refuses, with the record's name.
    pub(crate) fn refused(&self, source: debias_model::Error) -> Error {
        Error::Record {
            id: self.record.id.clone(),
            source,
        }
    }
}

/// What every [`Prepared::edit_each`] begins with: there is a request, and each of them can be
/// edited on `model`.
///
/// # Errors
/// [`Error::EmptyEdit`], or as [`Request::check`].
pub fn check_requests(model: &Model, requests: &[Request]) -> Result<()> {
    not_empty(requests)?;
    requests.iter().try_for_each(|request| request.check(model))
}

/// A question with its answer, as it is put to the model.
#[derive(Clone)]
pub struct Posed {
    /// The question in its template.
    pub prompt: String,
    /// The answer.
    pub answer: String,
    /// Vision features of its picture; none for text alone.
    pub image: Option<ImageFeatures>,
}

/// A request with everything by which an edit of it is judged; what the record does not ask is absent.
#[derive(Clone)]
pub struct Example {
    /// The request.
    pub request: Request,
    /// `record.prompt_rephrase` in the task's template.
    pub rephrase: Option<String>,
    /// The rephrased picture.
    pub image_rephrase: Option<ImageFeatures>,
    /// The text-locality item.
    pub t_locality: Option<Posed>,
    /// The multimodal-locality item.
    pub m_locality: Option<Posed>,
}

/// A prompt and a picture on which both answers of a record are compared.
#[derive(Clone, Copy)]
pub struct Comparison<'e> {
    /// One of [`debias_core::CONTEXTS`].
    pub name: &'static str,
    /// The prompt in its template.
    pub prompt: &'e str,
    /// The picture.
    pub image: Option<&'e ImageFeatures>,
}

impl Example {
    /// Where both answers are compared: the request itself, the prompt in other words, the other
    /// picture.
    pub fn contexts(&self) -> Vec<Comparison<'_>> {
        let comparison = |name, prompt, image| Comparison {
            name,
            prompt,
            image,
        };
        let (own, image) = (self.request.prompt.as_str(), self.request.image.as_ref());
        let rephrase = self.rephrase.as_deref();
        let rephrase = rephrase.map(|prompt| comparison("rephrase", prompt, image));
        let other = self.image_rephrase.as_ref();
        let other = other.map(|image| comparison("image_rephrase", own, Some(image)));
        let own = comparison("prompt", own, image);
        [Some(own), rephrase, other].into_iter().flatten().collect()
    }
}

/// The texts of an [`Example`], each in its template.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wording {
    /// `record.prompt`.
    pub prompt: String,
    /// `record.prompt_rephrase`.
    pub rephrase: Option<String>,
    /// Question and answer of the text-locality item.
    pub t_locality: Option<(String, String)>,
    /// Question and answer of the multimodal-locality item.
    pub m_locality: Option<(String, String)>,
}

impl Wording {
    /// The texts of `record`.
    pub fn of(record: &Record, templates: &Templates) -> Self {
        let own = templates.of(record.task);
        let item = |item: &Option<Unrelated>, template: &Template| {
            let item = item.as_ref()?;
            Some((template.apply(&item.question), item.answer.clone()))
        };
        Self {
            prompt: own.apply(&record.prompt),
            rephrase: record.prompt_rephrase.as_ref().map(|text| own.apply(text)),
            t_locality: item(&record.t_locality, &templates.tloc),
            m_locality: item(&record.m_locality, &templates.mloc),
        }
    }
}

/// Records that an editor may learn from or stop on; pictures are encoded when asked for.
pub trait Examples: Sync {
    /// The records, admitted and oriented for the model.
    fn records(&self) -> &[Record];

    /// Text around prompts.
    fn templates(&self) -> &Templates;

    /// What the tower makes of the picture `key` of record `at`.
    ///
    /// # Errors
    /// A picture that cannot be read.
    fn see(&self, at: usize, key: &str) -> Result<ImageFeatures>;

    /// The texts of record `at`, for editors that read no picture.
    fn wording(&self, at: usize) -> Wording {
        Wording::of(&self.records()[at], self.templates())
    }

    /// The request of record `at`.
    ///
    /// # Errors
    /// A picture that cannot be read.
    fn request(&self, at: usize) -> Result<Request> {
        let record = &self.records()[at];
        let image = record.image.as_ref().map(|key| self.see(at, key));
        Ok(Request {
            record: record.clone(),
            prompt: self.wording(at).prompt,
            image: image.transpose()?,
        })
    }

    /// The whole example of record `at`.
    ///
    /// # Errors
    /// A picture that cannot be read.
    fn example(&self, at: usize) -> Result<Example> {
        let record = &self.records()[at];
        let see = |key: &Option<String>| key.as_ref().map(|key| self.see(at, key)).transpose();
        let posed = |texts: Option<(String, String)>, item: &Option<Unrelated>| {
            let Some((prompt, answer)) = texts else {
                return Ok(None);
            };
            let image = item.as_ref().map(|item| see(&item.image)).transpose()?;
            Ok::<_, Error>(Some(Posed {
                prompt,
                answer,
                image: image.flatten(),
            }))
        };
        let wording = self.wording(at);
        Ok(Example {
            request: self.request(at)?,
            rephrase: wording.rephrase,
            image_rephrase: see(&record.image_rephrase)?,
            t_locality: posed(wording.t_locality, &record.t_locality)?,
            m_locality: posed(wording.m_locality, &record.m_locality)?,
        })
    }
}

/// No records: what an editor is given that learns nothing.
struct NoExamples;

static NO_TEMPLATES: LazyLock<Templates> = LazyLock::new(Templates::default);

impl Examples for NoExamples {
    fn records(&self) -> &[Record] {
        &[]
    }

    fn templates(&self) -> &Templates {
        &NO_TEMPLATES
    }

    fn see(&self, _at: usize, _key: &str) -> Result<ImageFeatures> {
        Err(Error::EmptyEdit)
    }
}

/// What an editor may learn from.
pub struct Lessons<'a> {
    /// The training split.
    pub train: &'a dyn Examples,
    /// The validation split, disjoint from `train` by group.
    pub val: &'a dyn Examples,
    /// The evaluation requests themselves, for protocols that say so in their name.
    pub eval: &'a dyn Examples,
}

impl Lessons<'static> {
    /// Nothing to learn from.
    pub fn none() -> Self {
        Self {
            train: &NoExamples,
            val: &NoExamples,
            eval: &NoExamples,
        }
    }
}

/// What an editor may know besides the model and the data.
pub struct Ctx<'a> {
    /// Seed of everything the editor declares random.
    pub seed: u64,
    /// Merged settings.
    pub settings: &'a Settings,
    /// Where trained parts are kept, and who is told of the progress.
    pub store: &'a dyn TrainingStore,
}

/// What an editor learns before its first edit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Learns {
    /// Nothing; it is given empty [`Lessons`].
    Nothing,
    /// Something that costs little and is not kept.
    Examples,
    /// Parts that are kept as an artifact and used again.
    Parts,
}

/// What an editor does to the record it is asked to edit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Effect {
    /// None at all: the model as it is, to the bit.
    Identity,
    /// None on purpose: a control of how much a change by itself does.
    Control,
    /// The margin between the answers moves towards the target.
    #[default]
    Margin,
    /// The two answers come closer to being equally likely.
    Balance,
    /// The target becomes the preferred answer of every record it has learned on, or is fitted to.
    Reliability,
}

/// What an editor says of itself beyond the contract of its traits; the
/// [conformance kit](crate::conformance) holds it to this.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Claims {
    /// What an edit does to its own record.
    pub effect: Effect,
    /// What the seed decides, in words; empty where it decides nothing.
    pub random: &'static str,
    /// The only side of the model whose parameters it changes, where there is one.
    pub side: Option<Side>,
}

/// An editor's update as it would be without its learned part, for comparison with the gradient
/// of automatic differentiation.
#[derive(Clone, Debug)]
pub struct GradientProbe {
    /// What stands in the place of the gradient of `-1/a Σ_i log p(y_less_i)` of each edited
    /// parameter, in the orientation of the parameter, sign included: MEND's G̃ without
    /// normalisation and with U = 0, KE's ΔW with A = 1, B = 0 and gate 1.
    pub gradient: Change,
    /// The largest rank that an edit of this request may have at each edited parameter: the
    /// number of tokens that survive there, and one more where the editor adds a term of rank 1.
    pub ranks: BTreeMap<String, usize>,
}

/// A model editor.
pub trait Editor: Send + Sync {
    /// Name, paper, equation, cost, failures.
    fn card(&self) -> &'static Card;

    /// The scope of settings it reads: its own name, unless it must follow another editor's.
    fn scope(&self) -> &'static str {
        self.card().id
    }

    /// Settings under `preset`, before `--set`.
    fn defaults(&self, preset: Preset) -> Settings;

    /// Files and folders that `settings` name; their digests are part of what a result is made of.
    ///
    /// # Errors
    /// A setting of the wrong type.
    fn inputs(&self, _settings: &Settings) -> Result<Vec<PathBuf>> {
        Ok(Vec::new())
    }

    /// What it learns from the training split under `settings`.
    ///
    /// # Errors
    /// A setting of the wrong type.
    fn learns(&self, _settings: &Settings) -> Result<Learns> {
        Ok(Learns::Nothing)
    }

    /// What it promises under `settings`.
    ///
    /// # Errors
    /// A setting of the wrong type.
    fn claims(&self, _settings: &Settings) -> Result<Claims> {
        Ok(Claims::default())
    }

    /// `settings` changed so that every edit leaves the model as it is, bit for bit; `None` where
    /// no setting does that.
    fn identity(&self, _settings: &Settings) -> Option<Settings> {
        None
    }

    /// `settings` with as little training as still passes a validation, keeps a state and goes on
    /// after it: the conformance kit trains several times.
    fn rehearsal(&self, settings: &Settings) -> Settings {
        settings.clone()
    }

    /// Whether `settings` can be used with `model`; called before any work.
    ///
    /// # Errors
    /// A setting of the wrong type, or one that names what the model lacks.
    fn check(&self, model: &Model, settings: &Settings) -> Result<()>;

    /// Binds the editor to `model` and lets it learn what [`Editor::learns`] says.
    ///
    /// # Errors
    /// What [`Editor::check`] refuses, and whatever the model or the data refuse.
    fn prepare<'m>(
        &self,
        model: &'m Model,
        lessons: &Lessons,
        ctx: &Ctx,
    ) -> Result<Box<dyn Prepared + 'm>>;
}

/// An editor that is ready to edit one model.
pub trait Prepared: Send + Sync {
    /// One edit per request, each as if it were the only one, computed at the weights with
    /// `start` in place (empty but in sequential editing). `start` is not part of the answer.
    ///
    /// # Errors
    /// What [`check_requests`] refuses, or whatever the editor or the model refuses; no state of
    /// the editor is changed by it.
    fn edit_each(&self, requests: &[Request], start: &Change) -> Result<Vec<Arc<Edit>>>;

    /// One edit for all requests, every part of it computed at the never-edited weights: the sum
    /// of the single ones, unless the editor has a better way.
    ///
    /// # Errors
    /// As [`Prepared::edit_each`].
    fn edit_jointly(&self, requests: &[Request]) -> Result<Edit> {
        Edit::joined(&self.edit_each(requests, &Change::default())?)
    }

    /// The update of `request` without the learned part, from an editor whose hyper-network turns
    /// gradients; `None` from any other.
    ///
    /// # Errors
    /// As [`Prepared::edit_each`].
    fn gradient_probe(&self, _request: &Request) -> Result<Option<GradientProbe>> {
        Ok(None)
    }

    /// Bytes of the device's memory that one edit takes while it is made and looked through, beside
    /// those of the pass itself.
    fn footprint(&self) -> u64 {
        0
    }

    /// What a reader of the result must know, one sentence each.
    fn remarks(&self) -> Vec<String> {
        Vec::new()
    }
}

/// Refuses an empty list of requests.
///
/// # Errors
/// [`Error::EmptyEdit`].
pub(crate) fn not_empty(requests: &[Request]) -> Result<()> {
    match requests.is_empty() {
        true => Err(Error::EmptyEdit),
        false => Ok(()),
    }
}

/// The same change for every request; the judge then looks through one view.
pub(crate) fn for_all(change: Change, requests: &[Request]) -> Vec<Arc<Edit>> {
    let edit = Arc::new(Edit::Weights(change));
    requests.iter().map(|_| edit.clone()).collect()
}
