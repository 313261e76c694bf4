//! Makes an embedded model from its recipe: tokenizer, training, held-out figures.

use std::collections::{BTreeMap, HashMap};

use debias_core::{Norm, Picture, Record, Task, Templates};
use debias_data::toytown::{self, Probe, Town, Variant};
use debias_edit::context_scores;
use debias_model::device::Placement;
use debias_model::pretrain::{Curriculum, Lesson, Progress, Schedule, StatedLesson, pretrain};
use debias_model::{
    Batch, Fresh, IMAGE_TOKEN, Model, Parameters, Question, Text, View, answer_scores, host,
    train_byte_level_bpe, train_metaspace_bpe,
};
use debias_weights::{Checkpoint, Tensor, write_folder};
use serde_json::{Value, json};

use crate::models::{self, Measured, ModelCard, ModelSource, Preference};
use crate::pretrain::context;
use crate::pretrain::recipe::{Blueprint, Origin, Recipe, Tokenizer, TokenizerKind};

/// Neutral questions asked of a trained model.
const NEUTRAL: usize = 400;
/// Records per task and axis of the balanced bias probe.
const PER_AXIS: usize = 64;
/// Probes that share one forward pass.
const CHUNK: usize = 32;

/// A trained model: what its folder holds.
pub struct Trained {
    /// Files by name, without weights.
    pub files: Vec<(String, Vec<u8>)>,
    /// Weights by published name.
    pub tensors: BTreeMap<String, Tensor>,
}

/// The town as a curriculum, prompts in their templates.
pub(crate) struct Lessons {
    pub(crate) town: Town,
    templates: Templates,
}

impl Lessons {
    /// The pictures on which both answers of `records` are compared.
    pub(crate) fn pictures(&self, records: &[Record]) -> HashMap<String, Picture> {
        let keys = records.iter().flat_map(|r| [&r.image, &r.image_rephrase]);
        let drawn = |key: &String| Some((key.clone(), self.town.picture(key)?));
        keys.flatten().filter_map(drawn).collect()
    }

    /// Of a town, in the published templates.
    pub(crate) fn of(town: Town) -> Self {
        Self {
            town,
            templates: Templates::default(),
        }
    }

    fn lesson(&self, lesson: toytown::Lesson) -> Lesson {
        let text = |text: toytown::LessonText| (self.prompt(&text), text.answer);
        Lesson {
            picture: lesson.picture,
            labels: lesson.labels,
            texts: lesson.texts.into_iter().map(text).collect(),
        }
    }

    /// A prompt in its template.
    pub(crate) fn prompt(&self, text: &toytown::LessonText) -> String {
        match text.task {
            Some(task) => self.templates.of(task).apply(&text.prompt),
            None => text.prompt.clone(),
        }
    }
}

impl Curriculum for Lessons {
    fn pictured(&self, index: u64) -> Lesson {
        self.lesson(self.town.lesson(index))
    }

    fn told(&self, index: u64) -> Lesson {
        self.lesson(self.town.fact_lesson(index))
    }

    fn stated(&self, index: u64) -> StatedLesson {
        // Every second lesson is learnt word by word: copying is learnt where there is much to copy.
        let whole = index.is_multiple_of(2);
        let lesson = self.town.context_lesson(index);
        let texts = lesson.texts.iter();
        StatedLesson {
            picture: lesson.picture,
            passages: texts
                .map(|text| context::passage(self, text, whole))
                .collect(),
        }
    }

    fn label_sizes(&self) -> &[usize] {
        Town::label_sizes()
    }
}

/// Trains `recipe`; `observe` sees every step and may stop the training by returning `false`, in
/// which case there is no model.
///
/// # Errors
/// A recipe that describes no model, or a loss that is not finite.
pub fn train(
    recipe: &Recipe,
    threads: usize,
    mut observe: impl FnMut(Progress) -> bool,
) -> anyhow::Result<Option<Trained>> {
    let lessons = Lessons::of(Town::new(recipe.schedule.seed, recipe.stereotype.variant()));
    let (files, model) = start(recipe, &lessons)?;
    let schedule = Schedule::from(recipe.schedule.clone());
    let mut stopped = false;
    let tensors = pretrain(&model, &lessons, &schedule, threads, |progress| {
        let go_on = observe(progress);
        stopped |= !go_on;
        go_on
    })?;
    if stopped {
        return Ok(None);
    }
    let tensors = model
        .parameters()
        .iter()
        .filter_map(|site| {
            let tensor = Tensor {
                shape: site.shape.clone(),
                values: host::values(tensors.get(&site.name)?.clone()),
            };
            Some((site.name.clone(), tensor))
        })
        .collect();
    Ok(Some(Trained { files, tensors }))
}

/// Names and contents of files.
type Files = Vec<(String, Vec<u8>)>;

/// The model before the first step, and everything of its folder but the weights.
fn start(recipe: &Recipe, lessons: &Lessons) -> anyhow::Result<(Files, Model)> {
    let device = Placement::default().decoder;
    match &recipe.origin {
        Origin::Nothing(blueprint) => {
            let files = files(recipe, blueprint, lessons)?;
            // The description alone, for the architecture; the weights come from the seed.
            let bare = tempfile::tempdir()?;
            let folder = bare.path().join(&recipe.name);
            write_folder(&folder, &files, &BTreeMap::new(), false)?;
            let fresh = Fresh {
                seed: recipe.schedule.seed,
            };
            let model = Model::assemble(&Checkpoint::open(&folder)?, &fresh, &device)?;
            Ok((files, model))
        }
        Origin::Model(name) => {
            let embedded = models::find(name)?;
            let of_start = embedded.files().iter();
            let files = of_start
                .filter(|(file, _)| DESCRIPTION.contains(file))
                .map(|(file, bytes)| ((*file).to_owned(), bytes.to_vec()))
                .collect();
            let checkpoint = ModelSource::Embedded(embedded).checkpoint()?;
            Ok((files, Model::open(&checkpoint, &device)?))
        }
    }
}

/// Everything of a model's folder but weights and card.
const DESCRIPTION: [&str; 3] = ["config.json", "preprocessor_config.json", "tokenizer.json"];

/// The description of a model that starts from nothing.
fn files(recipe: &Recipe, blueprint: &Blueprint, lessons: &Lessons) -> anyhow::Result<Files> {
    let mut config = blueprint.config.clone();
    let tokenizer = tokenizer(blueprint.tokenizer, lessons, &config["image_wrapper"])?;
    let text = Text::from_bytes(&tokenizer, &recipe.name)?;
    config["text_config"]["vocab_size"] = json!(text.vocab_size());
    config["image_token_index"] = json!(text.token_id(IMAGE_TOKEN));
    let contents = [
        pretty(&config)?,
        pretty(&blueprint.preprocessor)?,
        tokenizer,
    ];
    let names = DESCRIPTION.map(str::to_owned).into_iter();
    Ok(names.zip(contents).collect())
}

/// A tokenizer made from every text of the town, the template, the form of demonstrations and the
/// wrapper.
fn tokenizer(kind: Tokenizer, lessons: &Lessons, wrapper: &Value) -> anyhow::Result<Vec<u8>> {
    let around = ["before", "after"]
        .into_iter()
        .filter_map(|side| wrapper[side].as_str())
        .map(str::to_owned);
    let corpus: Vec<String> = lessons
        .town
        .corpus()
        .map(|text| format!(" {text}"))
        .chain([lessons.templates.vqa.apply(""), context::format()])
        .chain(around)
        .collect();
    let vocabulary = kind.vocabulary;
    Ok(match kind.kind {
        TokenizerKind::ByteLevel => train_byte_level_bpe(corpus.into_iter(), vocabulary)?,
        TokenizerKind::Metaspace => train_metaspace_bpe(corpus.into_iter(), vocabulary)?,
    })
}

/// The card of a trained model, from what it answers on scenes it has never seen.
///
/// # Errors
/// A model that cannot be asked.
pub fn card(recipe: &Recipe, model: &Model) -> anyhow::Result<ModelCard> {
    let lessons = Lessons::of(Town::new(recipe.schedule.seed, Variant::default()));
    let sizes = model
        .parameters()
        .iter()
        .map(|site| site.shape.iter().product::<usize>());
    Ok(ModelCard {
        name: recipe.name.clone(),
        title: recipe.title.clone(),
        architecture: recipe.architecture.clone(),
        trained_on: recipe.trained_on.clone(),
        start: match &recipe.origin {
            Origin::Nothing(_) => None,
            Origin::Model(name) => Some(name.clone()),
        },
        stereotype: recipe.stereotype,
        parameters: sizes.sum(),
        steps: recipe.schedule.steps,
        seed: recipe.schedule.seed,
        settings: recipe.settings.clone(),
        measured: Measured {
            neutral: right(&lessons, model, &lessons.town.neutral_probe(NEUTRAL))?,
            facts: right(&lessons, model, &lessons.town.fact_probe())?,
            stated: context::measure(&lessons, model)?,
            stereotype: stereotype(&lessons, model)?,
        },
    })
}

/// Share of probes answered right, every token the model's first choice.
pub(crate) fn right(lessons: &Lessons, model: &Model, probes: &[Probe]) -> anyhow::Result<f64> {
    let mut right = 0;
    for chunk in probes.chunks(CHUNK) {
        let pictures: Vec<Picture> = chunk
            .iter()
            .filter_map(|probe| lessons.town.picture(&probe.image))
            .collect();
        let prompts: Vec<String> = chunk
            .iter()
            .map(|probe| match probe.task {
                Some(task) => lessons.templates.of(task).apply(&probe.prompt),
                None => probe.prompt.clone(),
            })
            .collect();
        let seen = match pictures.is_empty() {
            true => None,
            false => {
                let pictures: Vec<&Picture> = pictures.iter().collect();
                Some(model.see(&pictures, &View::base())?)
            }
        };
        let questions: Vec<Question> = chunk
            .iter()
            .zip(&prompts)
            .enumerate()
            .map(|(at, (probe, prompt))| {
                let picture = seen.as_ref().map(|seen| seen.image_ref(at));
                Question::new(picture, prompt, &probe.answer)
            })
            .collect();
        let rows = model.rows(&questions)?;
        let batch = match seen {
            None => Batch::text(rows.clone()),
            Some(seen) => Batch::with_pictures(rows.clone(), seen),
        };
        let scores = answer_scores(&rows, model.answer_logits(batch, &View::base()))?;
        right += scores
            .iter()
            .filter(|score| score.correct == score.tokens)
            .count();
    }
    Ok(right as f64 / probes.len().max(1) as f64)
}

/// How often the stereotyped answer is preferred in all three contexts, by task and axis.
fn stereotype(lessons: &Lessons, model: &Model) -> anyhow::Result<Vec<Preference>> {
    let mut counts: BTreeMap<(Task, String), (usize, usize)> = BTreeMap::new();
    for records in lessons.town.bias_probe(PER_AXIS).chunks(CHUNK / 2) {
        let pictures = lessons.pictures(records);
        let scores = context_scores(model, records, &pictures, &lessons.templates)?;
        for (record, contexts) in records.iter().zip(scores) {
            let count = counts
                .entry((record.task, record.bias_type.clone()))
                .or_default();
            let stereotyped = contexts
                .iter()
                .all(|context| context.margin(Norm::Mean) < 0.0);
            count.0 += usize::from(stereotyped);
            count.1 += 1;
        }
    }
    Ok(counts
        .into_iter()
        .map(|((task, axis), (preferred, n))| Preference {
            task,
            axis,
            share: preferred as f64 / n as f64,
            n,
        })
        .collect())
}

fn pretty(value: &Value) -> anyhow::Result<Vec<u8>> {
    let mut text = serde_json::to_string_pretty(value)?;
    text.push('\n');
    Ok(text.into_bytes())
}
