//! From a recipe to a training that can begin: model, items, what is trained, whether it fits.

use std::path::PathBuf;
use std::time::Instant;

use debias_core::{canonical_json, sha256_hex};
use debias_model::device::Placement;
use debias_model::engine::human_bytes;
use debias_model::tune::{
    Course, Lesson, Need, Pace, Primer, Pupil, State, Tuner, lora_sites, trained_sites,
};
use debias_model::{Model, Style};
use debias_weights::{Checkpoint, check_editable, check_target};
use serde_json::{Value, json};

use super::adapter::Adapting;
use super::choices::{Lora, Trains};
use super::data::{self, Corpus};
use super::keeper::{Keeper, Pause};
use super::output::{self, Cost, METHOD, Report};
use super::pictures::{self, Seen};
use super::recipe::Recipe;
use crate::asking::PictureFolder;
use crate::models::ModelSource;
use crate::roots::Roots;
use crate::terminal::exit::Exit;
use crate::terminal::failure::Refusal;
use crate::terminal::machine;

/// What was asked for.
#[derive(Clone, Debug)]
pub struct Request {
    /// The recipe.
    pub recipe: Recipe,
    /// Its folder.
    pub home: PathBuf,
    /// The model: a name, or a folder.
    pub model: String,
    /// Where datasets are.
    pub roots: Roots,
    /// Seed of orders and adapters.
    pub seed: u64,
    /// Pieces under way at once.
    pub threads: usize,
    /// Most memory; what the machine has free where none is given.
    pub max_memory: Option<u64>,
    /// The folder to write.
    pub out: PathBuf,
    /// Whether an earlier checkpoint there is replaced.
    pub force: bool,
    /// Whether the state of an earlier attempt is left aside.
    pub fresh: bool,
    /// Updates between two states on disk; as the time asks for where none is given.
    pub save_every: Option<usize>,
}

/// Digests of what a training reads.
#[derive(Clone, Debug)]
pub(super) struct Digests {
    pub base: String,
    pub data: String,
}

/// A training that can begin.
pub struct Planned {
    pub(super) request: Request,
    pub(super) checkpoint: Checkpoint,
    pub(super) model: Model,
    pub(super) lessons: Vec<Lesson>,
    pub(super) validation: Vec<Lesson>,
    pub(super) course: Course,
    pub(super) adapting: Option<Adapting>,
    pub(super) digests: Digests,
    /// Where this training is not what the base's configuration asks for.
    pub(super) differences: Vec<String>,
    pupil: Pupil,
    pictures: PictureFolder,
    notes: Vec<String>,
    key: String,
}

/// Who watches a training.
pub trait Watched {
    /// An update is done.
    fn updated(&self, state: &State, of: usize);
    /// Goes on from an update that was stored.
    fn resumed(&self, update: usize, of: usize);
    /// Whether to stop, with the state kept.
    fn stop(&self) -> bool;
}

impl Planned {
    /// Reads and checks everything before the first update.
    ///
    /// # Errors
    /// A model, file or item that cannot be used, a target that cannot be written, or too little memory.
    pub fn new(request: Request) -> anyhow::Result<Self> {
        check_target(&request.out, request.force)?;
        let recipe = &request.recipe;
        let source = ModelSource::resolve(&request.model)?;
        let checkpoint = source.checkpoint()?;
        let model = Model::open_across(&checkpoint, &Placement::default())?;
        let mut corpus = Corpus::open(recipe, &request.home, &request.roots)?;
        let (told, mut digest) = match Corpus::validation(recipe, &request.home)? {
            Some(other) => {
                corpus.notes.extend(other.notes);
                (other.items, format!("{} {}", corpus.digest, other.digest))
            }
            None => {
                let told = recipe.validation_share.map(|share| corpus.split(share));
                (told.unwrap_or_default(), corpus.digest.clone())
            }
        };
        let folder = match &recipe.images {
            Some(folder) => data::found(folder, &request.home),
            None => corpus.folder.clone(),
        };
        let shown = corpus.items.iter().chain(&told);
        let mut seen = Seen::default();
        if shown.clone().any(|item| item.picture.is_some()) {
            seen = pictures::look(
                &model,
                &folder,
                shown.filter_map(|item| item.picture.as_deref()),
            )?;
            digest += &seen.digest;
        }
        let primer = primer(&model, recipe)?;
        let lessons = data::lessons(&primer, &corpus.items, &seen)?;
        let validation = data::lessons(&primer, &told, &seen)?;
        let course = course(&model, recipe, lessons.len(), request.seed)?;
        let (adapting, pupil) = pupil(&request, &model, &checkpoint)?;
        let digests = Digests {
            base: checkpoint.digest()?,
            data: sha256_hex(digest.as_bytes()),
        };
        let mut planned = Self {
            differences: differences(&checkpoint.json("config.json")?),
            notes: corpus.notes,
            key: String::new(),
            pictures: PictureFolder::new(&folder),
            request,
            checkpoint,
            model,
            lessons,
            validation,
            course,
            adapting,
            digests,
            pupil,
        };
        planned.key = planned.identity();
        planned.count_silent()?;
        planned.check_memory()?;
        Ok(planned)
    }

    /// What the reader should know before the training begins.
    pub fn notes(&self) -> &[String] {
        &self.notes
    }

    /// Updates in all.
    pub fn updates(&self) -> usize {
        self.course.pace.updates
    }

    /// The recipe as far as it decides anything.
    pub(super) fn recipe(&self) -> Recipe {
        let recipe = &self.request.recipe;
        Recipe {
            lora: recipe.adapter(),
            ..recipe.clone()
        }
    }

    /// Everything that decides what comes of it.
    fn identity(&self) -> String {
        let key = json!({
            "method": METHOD,
            "recipe": self.recipe(),
            "base": self.digests.base,
            "data": self.digests.data,
            "seed": self.course.seed,
        });
        sha256_hex(canonical_json(&key).as_bytes())
    }

    /// Items of which no token is learnt: cut off, or empty.
    fn count_silent(&mut self) -> anyhow::Result<()> {
        let unlearnt = self.course.unlearnt;
        let silent = self
            .lessons
            .iter()
            .filter(|lesson| lesson.tokens(unlearnt) == 0)
            .count();
        if silent == self.lessons.len() {
            return Err(Refusal::new(
                Exit::Refused,
                "no item has a token to learn: what is learnt lies behind `max_length`",
            )
            .into());
        }
        if silent > 0 {
            self.notes.push(format!(
                "{silent} items have no token to learn within `max_length`"
            ));
        }
        Ok(())
    }

    /// Refuses a training that would not fit, with what an adapter would take.
    fn check_memory(&self) -> anyhow::Result<()> {
        let Some(limit) = self.request.max_memory.or_else(machine::available_bytes) else {
            return Ok(());
        };
        let trained = self.pupil.size();
        let wholes = self
            .adapting
            .as_ref()
            .map_or(trained, |adapting| adapting.wholes(&self.model));
        let need = self.need(trained, wholes);
        if need.total() <= limit {
            return Ok(());
        }
        let problem = format!(
            "training {trained} parameters takes about {}: {} for them with their gradients and moments, {} for weights that are only read, {} for passes; {} may be taken",
            human_bytes(need.total()),
            human_bytes(need.trained),
            human_bytes(need.frozen),
            human_bytes(need.passes),
            human_bytes(limit),
        );
        let lora = self
            .need(factors(&self.model, Lora::default().r), 0)
            .total();
        let help = if self.adapting.is_none() && lora < need.total() {
            format!(
                "LoRA (trains = \"lora\") would take about {}; a smaller `batch` or `max_length` may do too.",
                human_bytes(lora)
            )
        } else {
            "LoRA with a smaller `r`, a smaller `batch` or `max_length`, or fewer --threads may do."
                .to_owned()
        };
        Err(Refusal::new(Exit::Device, format!("{problem}. {help}")).into())
    }

    fn need(&self, trained: usize, wholes: usize) -> Need {
        let keeps = !self.validation.is_empty();
        let threads = self.request.threads;
        Need::new(
            &self.model,
            [trained, wholes],
            &self.lessons,
            self.course.batch,
            threads,
            keeps,
        )
    }

    /// Trains from the beginning or from what an earlier attempt has left, and writes the folder.
    ///
    /// # Errors
    /// What cannot be read or written, a loss that is not finite, or an interruption; the state stays
    /// for the same command to go on from.
    pub fn train(&self, watch: &dyn Watched) -> anyhow::Result<Option<Report>> {
        let began = Instant::now();
        let of = self.updates();
        let request = &self.request;
        let keeper = Keeper::new(&request.out, &self.key, request.fresh);
        let mut state = State::fresh(self.pupil.clone(), self.course.weight_decay);
        if keeper.resume(&mut state)? {
            watch.resumed(state.update(), of);
        }
        let tuner = Tuner {
            model: &self.model,
            course: &self.course,
            lessons: &self.lessons,
            validation: &self.validation,
            validate_every: self
                .request
                .recipe
                .validate_every
                .unwrap_or_else(|| self.course.per_epoch(self.lessons.len())),
            pictures: &self.pictures,
            threads: self.request.threads,
        };
        let (first, training) = (state.update(), Instant::now());
        let mut pause = Pause::new(self.request.save_every);
        let mut stopped = false;
        tuner.run(&mut state, |state| {
            watch.updated(state, of);
            stopped = watch.stop() && state.update() < of;
            if stopped || pause.is_due(state.update()) {
                let begin = Instant::now();
                keeper.keep(state)?;
                pause.took(begin.elapsed());
            }
            Ok::<_, anyhow::Error>(!stopped)
        })?;
        if stopped {
            return Ok(None);
        }
        let done = (state.update() - first) as f64;
        let updates_per_s = done / training.elapsed().as_secs_f64().max(f64::MIN_POSITIVE);
        let written = output::write(self, &state)?;
        keeper.forget()?;
        let cost = Cost {
            wall_s: began.elapsed().as_secs_f64(),
            updates_per_s,
            peak_bytes: machine::peak_bytes(),
        };
        Ok(Some(Report::new(self, &state, written, cost)))
    }
}

/// Tokens of an item unless the recipe says otherwise.
const LONGEST: usize = 512;

fn primer<'m>(model: &'m Model, recipe: &Recipe) -> anyhow::Result<Primer<'m>> {
    let positions = model.decoder().outline().max_positions;
    let max_length = match recipe.max_length {
        Some(n) if n > positions && recipe.max_length != Some(LONGEST) => {
            return Err(Refusal::new(
                Exit::Usage,
                format!(
                    "the recipe: `max_length` is {n}, but {} has {positions} positions",
                    model.name()
                ),
            )
            .into());
        }
        n => n.unwrap_or(LONGEST).min(positions),
    };
    if recipe.append_eos && model.marks().ends().is_empty() {
        return Err(Refusal::new(
            Exit::Usage,
            format!(
                "the recipe: `append_eos`: {} names no token that ends a text",
                model.name()
            ),
        )
        .help("Write append_eos = false.")
        .into());
    }
    Ok(Primer {
        model,
        style: if recipe.chat {
            Style::Chat
        } else {
            Style::Framed
        },
        max_length,
        end: recipe.append_eos,
    })
}

fn course(model: &Model, recipe: &Recipe, items: usize, seed: u64) -> anyhow::Result<Course> {
    let mut course = Course {
        batch: recipe.batch,
        pace: Pace::new(recipe.lr, recipe.schedule.into(), 0.0, 0),
        weight_decay: recipe.weight_decay,
        clip: (recipe.clip > 0.0).then_some(recipe.clip),
        reduction: recipe.reduction.into(),
        unlearnt: model
            .marks()
            .ends()
            .first()
            .copied()
            .filter(|_| recipe.hf_eos_mask),
        shuffle: recipe.shuffle,
        seed,
    };
    let updates = recipe.total(course.per_epoch(items));
    course.pace = Pace::new(
        recipe.lr,
        recipe.schedule.into(),
        recipe.warmup_ratio,
        updates,
    );
    Ok(course)
}

fn pupil(
    request: &Request,
    model: &Model,
    checkpoint: &Checkpoint,
) -> anyhow::Result<(Option<Adapting>, Pupil)> {
    if let Some(lora) = request.recipe.adapter() {
        let of = (request.model.as_str(), request.home.as_path());
        let (adapting, pupil) = Adapting::new(&lora, (model, checkpoint), of, request.seed)?;
        return Ok((Some(adapting), pupil));
    }
    check_editable(checkpoint)?;
    let parts = match &request.recipe.trains {
        Trains::Named(parts) => parts.as_slice(),
        Trains::Word(_) => &[],
    };
    let sites = trained_sites(model, parts)?;
    let names = sites.iter().map(|site| site.name.as_str());
    Ok((None, Pupil::of_weights(model, names)?))
}

/// Values of an adapter of this rank on every linear layer of the language model.
fn factors(model: &Model, rank: usize) -> usize {
    let sites = lora_sites(model).into_iter();
    sites
        .map(|site| site.linear_shape().iter().sum::<usize>() * rank)
        .sum()
}

/// Dropouts that a configuration asks for in training; here nothing is dropped.
fn differences(config: &Value) -> Vec<String> {
    let mut found = Vec::new();
    let parts = [
        ("", config),
        ("text_config.", &config["text_config"]),
        ("llm_config.", &config["llm_config"]),
    ];
    for (prefix, part) in parts {
        let fields = part.as_object().into_iter().flatten();
        for (key, value) in
            fields.filter(|(key, _)| key.contains("pdrop") || key.contains("dropout"))
        {
            if value.as_f64().is_some_and(|rate| rate > 0.0) {
                found.push(format!("{prefix}{key}: {value} in config.json, 0 here"));
            }
        }
    }
    found
}
