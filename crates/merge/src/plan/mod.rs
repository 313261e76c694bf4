//! A recipe against the headers of its models: everything that can be known before the first weight
//! is read is decided and refused here.

mod adapters;
mod among;
mod check;
mod companions;
mod config;
mod extras;
mod factors;
mod gaps;
mod jobs;
mod layers;
mod manifest;
mod merged_adapter;
mod open;
mod options;
mod resolve;
mod tied;
mod tokens;
mod untied;

use debias_weights::{Dtype, TensorInfo};

use crate::adapter::Adapter;
use crate::adapter::config::FILE as ADAPTER_CONFIG;
use crate::error::{Error, Result};
use crate::library::Library;
use crate::masks::Masks;
use crate::recipe::Recipe;
use crate::stream::number::width;
use crate::stream::{Grain, Input};
use crate::vocabulary::{self, Vocabulary};

use check::Checked;
use config::Changes;
use jobs::Planner;
pub(crate) use jobs::Work;
pub(crate) use merged_adapter::{Among, PlannedModule, Whole};
pub(crate) use open::{Opened, adapter_of};
pub use options::Options;
use tokens::Spoken;

/// A merge that is ready to be written.
pub struct Planned {
    pub(crate) recipe: Recipe,
    pub(crate) options: Options,
    pub(crate) models: Vec<Opened>,
    pub(crate) tensors: Vec<Checked>,
    pub(crate) masks: Option<Masks>,
    pub(crate) files: Vec<(String, Vec<u8>)>,
    notes: Vec<String>,
    /// New rows of vocabulary tensors.
    vocabulary: Option<Vocabulary>,
    /// What a merge of adapters among themselves has besides.
    pub(crate) among: Option<Among>,
}

/// The recipe as a file beside the weights, under the name that mergekit gives it.
fn kept(recipe: &Recipe) -> (String, Vec<u8>) {
    let text = recipe.text.clone().into_bytes();
    ("mergekit_config.yml".to_owned(), text)
}

/// What a merge will take.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Size {
    /// Tensors of the output.
    pub tensors: usize,
    /// Values of the output.
    pub parameters: u64,
    /// Bytes of input, each read once or more.
    pub bytes_read: u64,
    /// Bytes of output.
    pub bytes_written: u64,
    /// Most memory besides mapped files.
    pub memory: u64,
}

impl Planned {
    /// Opens the models and decides everything.
    ///
    /// # Errors
    /// A model that is missing or damaged; models, tensors, shapes, parameters or tokenizers that do
    /// not fit each other; a bound on memory that cannot be kept.
    pub fn new(mut recipe: Recipe, library: &dyn Library, options: Options) -> Result<Self> {
        if among::applies(&recipe, library) {
            return Self::among(recipe, library, options);
        }
        let seat = adapters::seat(&mut recipe, library)?;
        let references = recipe.models();
        let open = |reference: &&_| Opened::new(reference, library, options.allow_nonfinite);
        let models: Result<Vec<_>> = references.iter().map(open).collect();
        let mut models = models?;
        adapters::check_adapters(&recipe, &models)?;
        // The base comes first among the models; without one, the first that is listed.
        let donor = 0;
        if let Some((donor, others)) = models.split_first_mut() {
            others.iter_mut().for_each(|model| model.respell(donor));
        }
        let mut notes: Vec<String> = models
            .iter()
            .flat_map(|model| model.notes.clone())
            .collect();
        let mut planner = Planner::new(&recipe, &models, donor);
        planner.seat = seat;
        planner.plan()?;
        notes.extend(planner.notes());
        let layers = planner.cut_layers();
        let jobs = std::mem::take(&mut planner.jobs);
        let asked = recipe.out_dtype.or(recipe.dtype);
        let voice = tokens::voice(&jobs, donor);
        let spoken = Spoken::new(&recipe, &models, (donor, voice), library)?;
        notes.extend(spoken.notes);
        let difference = |a, b| tokens::difference(&models, a, b);
        let rows = spoken.vocabulary.as_ref().map(|vocabulary| vocabulary.size);
        let mut tensors = check::check(jobs, &models, asked, rows, &difference)?;
        let untied = untied::settle(&mut tensors, &models, donor)?;
        let tied = models[donor].is_tied();
        notes.extend((untied && tied).then(|| untied::NOTE.to_owned()));
        let masks = options.masks.as_deref().map(Masks::open).transpose()?;
        let given = &recipe.models()[donor].path;
        let changes = Changes {
            dtype: asked.or_else(|| uniform(&tensors)),
            layers,
            vocabulary: rows.or_else(|| {
                models[donor].new_rows(|name| {
                    let made = tensors.iter().find(|tensor| tensor.job.name == name)?;
                    made.info.shape.first().copied()
                })
            }),
            untied,
            architecture: recipe.architectures.get(given).cloned(),
        };
        let config = config::edited(&models[donor].config, &changes);
        let mut files = vec![("config.json".to_owned(), pretty(&config))];
        files.extend(spoken.files);
        companions::add(&mut files, &models[donor].checkpoint)?;
        notes.extend(companions::missing_code(&files));
        files.push(kept(&recipe));
        let planned = Self {
            files,
            recipe,
            options,
            models,
            tensors,
            masks,
            notes,
            vocabulary: spoken.vocabulary,
            among: None,
        };
        planned.bounded()
    }

    /// Adapters among themselves.
    fn among(recipe: Recipe, library: &dyn Library, options: Options) -> Result<Self> {
        let plan = among::plan(&recipe, library, &options)?;
        let masks = options.masks.as_deref().map(Masks::open).transpose()?;
        let mut files = vec![(ADAPTER_CONFIG.to_owned(), pretty(&plan.config))];
        files.extend(vocabulary::copied(&plan.models[0].checkpoint)?);
        files.push(kept(&recipe));
        let planned = Self {
            files,
            recipe,
            options,
            models: plan.models,
            tensors: plan.tensors,
            masks,
            notes: plan.notes,
            vocabulary: None,
            among: Some(plan.among),
        };
        planned.bounded()
    }

    fn bounded(self) -> Result<Self> {
        let needed = self.size().memory;
        match self.options.max_memory {
            Some(given) if needed > given => Err(Error::Memory { needed, given }),
            _ => Ok(self),
        }
    }

    /// The seed of everything random: 0 unless caller or recipe say otherwise.
    pub(crate) fn seed(&self) -> u64 {
        self.options.seed.or(self.recipe.seed).unwrap_or(0)
    }

    /// The tensor `name` of one model as the output tensor `output` needs it.
    pub(crate) fn input(&self, output: &str, model: usize, name: &str) -> Result<Input<'_>> {
        match &self.vocabulary {
            Some(vocabulary) if tied::is_vocabulary(output) => {
                tokens::with_rows(&self.models, vocabulary, model, name)
            }
            _ => self.models[model].input(name),
        }
    }

    /// Whether the tensor gets other rows than it has.
    pub(crate) fn changes_rows(&self, output: &str, model: usize) -> bool {
        let vocabulary = self
            .vocabulary
            .as_ref()
            .filter(|_| tied::is_vocabulary(output));
        vocabulary.is_some_and(|vocabulary| vocabulary.rows[model].is_some())
    }

    /// The recipe.
    pub fn recipe(&self) -> &Recipe {
        &self.recipe
    }

    /// Names, formats and shapes of the output, in its order.
    pub fn tensors(&self) -> impl Iterator<Item = (&str, &TensorInfo)> {
        self.tensors.iter().map(|t| (t.job.name.as_str(), &t.info))
    }

    /// What a reader should know, one sentence each.
    pub fn notes(&self) -> impl Iterator<Item = &str> {
        self.notes.iter().map(String::as_str)
    }

    /// How the tensor `name` comes about, for people.
    pub fn made(&self, name: &str) -> String {
        let tensor = self.tensors.iter().find(|t| t.job.name == name);
        match tensor.map(|t| &t.job.work) {
            None => String::new(),
            Some(Work::Copy { model, tensor }) => {
                format!("copied from `{}` ({tensor})", self.models[*model].label)
            }
            Some(Work::Merge {
                inputs,
                shared,
                each,
                ..
            }) => {
                let each = inputs.iter().zip(each).map(|(input, values)| {
                    format!(
                        "`{}` ({}) {values}",
                        self.models[input.model].label, input.name
                    )
                });
                format!("merged {shared} of {}", each.collect::<Vec<_>>().join(", "))
            }
        }
    }

    /// What the merge will take.
    pub fn size(&self) -> Size {
        let sum = |each: &dyn Fn(&Checked) -> u64| self.tensors.iter().map(each).sum();
        Size {
            tensors: self.tensors.len(),
            parameters: sum(&|t| t.info.elements().unwrap_or(0) as u64),
            bytes_read: sum(&|t| self.read(t)),
            bytes_written: sum(&|t| t.info.bytes().unwrap_or(0)),
            memory: self.memory(),
        }
    }

    fn read(&self, tensor: &Checked) -> u64 {
        let bytes = |model: usize, name: &str| {
            let info = self.models[model].info(name);
            info.and_then(TensorInfo::bytes).unwrap_or(0)
        };
        match &tensor.job.work {
            Work::Copy { model, tensor } => bytes(*model, tensor),
            Work::Merge { inputs, .. } => inputs.iter().map(|i| bytes(i.model, &i.name)).sum(),
        }
    }

    /// Room for decoded blocks on every thread, for what a selection keeps and for drawn masks.
    fn memory(&self) -> u64 {
        let inputs = |t: &Checked| match &t.job.work {
            Work::Copy { .. } => 1,
            Work::Merge { inputs, .. } => inputs.len(),
        };
        let most = self.tensors.iter().map(inputs).max().unwrap_or(1) as u64;
        let largest = self
            .tensors
            .iter()
            .filter_map(|t| t.info.elements())
            .max()
            .unwrap_or(0) as u64;
        let grain = Grain::default();
        let per_thread = (most + 2) * 4 * grain.block as u64 + 4 * grain.chunk as u64;
        let selection = match self.recipe.merger.passes() {
            1 => 0,
            _ => most * (largest / 8).max(4 * largest.min(1 << 24)),
        };
        let adapters = self
            .models
            .iter()
            .filter_map(|model| model.adapter.as_ref());
        let factors: u64 = adapters.map(Adapter::memory).sum();
        // Merged among themselves, factors are held and converted.
        let factors = factors * if self.among.is_some() { 3 } else { 1 };
        RUNTIME + factors + self.options.threads as u64 * per_thread + selection
    }
}

/// Code, headers and plans of the program itself.
const RUNTIME: u64 = 32 << 20;

/// The number format of all floats, where they have one.
fn uniform(tensors: &[Checked]) -> Option<Dtype> {
    let mut floats = tensors
        .iter()
        .map(|t| t.info.dtype)
        .filter(|d| width(*d).is_some());
    let first = floats.next()?;
    floats.all(|dtype| dtype == first).then_some(first)
}

fn pretty(value: &serde_json::Value) -> Vec<u8> {
    format!("{value:#}\n").into_bytes()
}
