//! LoRA adapters as PEFT saves them: `adapter_config.json` beside `adapter_model.safetensors`.
//!
//! An adapter changes a weight to `W + s B A` (Hu et al., LoRA, arXiv:2106.09685, equation 3) with
//! `s = alpha / r`, or `alpha / sqrt(r)` where it is rank-stabilized (arXiv:2312.03732). The product
//! is never stored: a [`LowRank`] is added while the weight is read.

mod alike;
mod among;
mod base;
pub(crate) mod config;
mod factors;
mod merged_config;
mod names;
pub(crate) mod robust;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use debias_weights::{Checkpoint, Dtype, TensorInfo};

use crate::error::{Error, Result};
use crate::stream::{LowRank, Stored};

use config::Config;
pub use factors::{Factors, Layout};
pub(crate) use factors::{common_scale, concatenate};
pub(crate) use merged_config::{MergedModule, merged_config};
use names::Part;

/// The weights of an adapter; the first that is there is read.
const WEIGHTS: [&str; 2] = ["adapter_model.safetensors", "adapter_model.bin"];

/// Tensors that were trained whole and saved beside the adapter, as LLaVA does.
const BESIDE: [&str; 2] = ["non_lora_trainables.safetensors", "non_lora_trainables.bin"];

/// What an adapter is, or what is wrong with it.
type Judged<T> = std::result::Result<T, String>;

/// An adapter's folder.
#[derive(Debug)]
pub struct Adapter {
    label: String,
    config: Config,
    /// One or two files.
    files: Vec<Checkpoint>,
    modules: BTreeMap<String, Module>,
    /// File and key of the tensors that were trained whole, by their published names.
    wholes: BTreeMap<String, (usize, String)>,
}

/// Where a module's factors lie.
#[derive(Debug)]
pub(crate) struct Module {
    /// The name of `A` in the file.
    pub a: String,
    /// The name of `B` in the file.
    pub b: String,
    pub rank: usize,
    /// Sides of `A` behind the rank: `[in]`, of a convolution `[in, …]`.
    pub inner: Vec<usize>,
    /// Height of `B`.
    pub outputs: usize,
    /// What the product is multiplied by.
    pub scale: f64,
    pub layout: Layout,
}

/// Keys of a module's factors while names are read.
#[derive(Default)]
struct Pair {
    /// By `lora_A` and `lora_B`.
    keys: BTreeMap<&'static str, String>,
    embedding: bool,
}

impl Adapter {
    /// Whether `dir` is an adapter's folder and not a model's.
    pub fn is_at(dir: &Path) -> bool {
        dir.join(config::FILE).is_file()
    }

    /// Its configuration.
    pub(crate) fn config(&self) -> &Config {
        &self.config
    }

    /// Opens the adapter in `dir`, called `label` in messages. Reads the configuration and the
    /// headers.
    ///
    /// # Errors
    /// A file that is missing or damaged; anything but plain LoRA; an `A` without its `B`, or of
    /// another rank than it or the configuration; a tensor that is no part of an adapter.
    pub fn open(dir: &Path, label: &str) -> Result<Self> {
        let refuse = |problem| refused(label, problem);
        let config = Config::read(&Checkpoint::bare(dir)?)?.map_err(refuse)?;
        let mut files = vec![Checkpoint::open_file(&Self::weights(dir, label)?)?];
        if let Some(beside) = first_there(dir, BESIDE) {
            files.push(Checkpoint::open_file(&beside)?);
        }
        Self::index(label, config, files).map_err(refuse)
    }

    /// The file of its factors.
    ///
    /// # Errors
    /// There is none.
    pub(crate) fn weights(dir: &Path, label: &str) -> Result<PathBuf> {
        first_there(dir, WEIGHTS).ok_or_else(|| {
            let problem = format!("{} holds no {}", dir.display(), WEIGHTS[0]);
            refused(label, problem)
        })
    }

    /// Accepts NaN and infinity in what is read.
    #[must_use]
    pub fn allow_nonfinite(mut self, allow: bool) -> Self {
        let files = self.files.into_iter();
        self.files = files.map(|file| file.allow_nan(allow)).collect();
        self
    }

    /// What it is called in messages.
    pub fn label(&self) -> &str {
        &self.label
    }

    /// The modules that it changes, sorted.
    pub fn modules(&self) -> impl Iterator<Item = &str> {
        self.modules.keys().map(String::as_str)
    }

    /// The published names of the tensors that it replaces, sorted.
    pub fn wholes(&self) -> impl Iterator<Item = &str> {
        self.wholes.keys().map(String::as_str)
    }

    pub(crate) fn module(&self, name: &str) -> Option<&Module> {
        self.modules.get(name)
    }

    /// The factors of a module, if it has any.
    ///
    /// # Errors
    /// A value that is NaN or infinite, unless that is allowed.
    pub fn factors(&self, module: &str) -> Result<Option<Factors>> {
        let Some(Module {
            a,
            b,
            rank,
            scale,
            layout,
            ..
        }) = self.modules.get(module)
        else {
            return Ok(None);
        };
        let read = |key: &str| {
            let info = self.files[0]
                .info(key)
                .expect("the key was read from this file");
            self.files[0].f32(key, &info.shape)
        };
        Ok(Some(Factors {
            a: read(a)?,
            b: read(b)?,
            rank: *rank,
            scale: *scale,
            layout: *layout,
        }))
    }

    /// What is added to the tensor `name` of this shape, if anything.
    ///
    /// # Errors
    /// Factors that do not fit the shape; a value that is NaN or infinite, unless that is allowed.
    pub fn change(&self, name: &str, shape: &[usize]) -> Result<Option<LowRank>> {
        let Some(module) = name.strip_suffix(".weight") else {
            return Ok(None);
        };
        let Some(factors) = self.factors(module)? else {
            return Ok(None);
        };
        match factors.on(shape) {
            Some(change) => Ok(Some(change)),
            None => {
                let problem = self.modules[module].misfit(module, shape);
                Err(refused(&self.label, problem))
            }
        }
    }

    /// The tensor that stands in the place of `name`, with its shape, where the adapter trained it
    /// whole: `modules_to_save`, biases, embeddings of another size. [`Adapter::change`] comes on
    /// top of it.
    ///
    /// # Errors
    /// A dtype that is no float of 16 or 32 bits; a strided PyTorch view.
    pub fn replaced(&self, name: &str) -> Result<Option<(Stored<'_>, &[usize])>> {
        let Some((file, key)) = self.wholes.get(name) else {
            return Ok(None);
        };
        let raw = self.files[*file].raw(key)?;
        match Stored::new(raw.dtype, raw.bytes) {
            Some(stored) => Ok(Some((stored, raw.shape))),
            None => Err(Error::Dtype {
                tensor: name.to_owned(),
                model: self.label.clone(),
                found: raw.dtype,
            }),
        }
    }

    /// Dtype and shape of the tensor that [`Adapter::replaced`] gives.
    pub(crate) fn whole(&self, name: &str) -> Option<&TensorInfo> {
        let (file, key) = self.wholes.get(name)?;
        self.files[*file].info(key)
    }

    /// Whether it changes or replaces the tensor `name`.
    pub(crate) fn touches(&self, name: &str) -> bool {
        let module = name.strip_suffix(".weight");
        self.wholes.contains_key(name) || module.is_some_and(|m| self.modules.contains_key(m))
    }

    /// Bytes that its factors take in memory.
    pub(crate) fn memory(&self) -> u64 {
        let values = |m: &Module| (m.rank * (m.inputs() + m.outputs)) as u64;
        self.modules.values().map(|module| 4 * values(module)).sum()
    }

    fn index(label: &str, config: Config, files: Vec<Checkpoint>) -> Judged<Self> {
        let mut pairs: BTreeMap<String, Pair> = BTreeMap::new();
        let mut wholes = BTreeMap::new();
        for (at, file) in files.iter().enumerate() {
            for key in file.names() {
                let (module, factor) = match names::parse(key)? {
                    Part::Original => continue,
                    Part::Whole(name) => {
                        let place = (at, key.to_owned());
                        if let Some(other) = wholes.insert(name.clone(), place)
                            && !repeats(&files, &other, file, key)
                        {
                            return Err(twice(&name));
                        }
                        continue;
                    }
                    _ if at > 0 => {
                        return Err(format!("tensor `{key}` belongs into {}", WEIGHTS[0]));
                    }
                    Part::A(module) | Part::EmbeddingA(module) => (module, "lora_A"),
                    Part::B(module) | Part::EmbeddingB(module) => (module, "lora_B"),
                };
                let pair = pairs.entry(module.clone()).or_default();
                pair.embedding |= key.contains(".lora_embedding_");
                if pair.keys.insert(factor, key.to_owned()).is_some() {
                    return Err(twice(&module));
                }
            }
        }
        let mut modules = BTreeMap::new();
        for (name, pair) in pairs {
            let module = Module::judge(&name, &pair, &config, &files[0])?;
            modules.insert(name, module);
        }
        if modules.is_empty() && wholes.is_empty() {
            Err("it holds no tensors".to_owned())
        } else {
            Ok(Self {
                label: label.to_owned(),
                config,
                files,
                modules,
                wholes,
            })
        }
    }
}

impl Module {
    /// Checks a module's factors against each other and the configuration.
    fn judge(module: &str, pair: &Pair, config: &Config, file: &Checkpoint) -> Judged<Self> {
        let key = |factor| {
            pair.keys.get(factor).cloned().ok_or_else(|| {
                format!(
                    "module `{module}` has no {factor}; save the adapter again with both factors"
                )
            })
        };
        let (a, b) = (key("lora_A")?, key("lora_B")?);
        let info = |key: &str| file.info(key).expect("the key was read from this file");
        for key in [&a, &b] {
            let dtype = info(key).dtype;
            if !matches!(dtype, Dtype::F64 | Dtype::F32 | Dtype::F16 | Dtype::BF16) {
                return Err(format!(
                    "tensor `{key}` has dtype {dtype}; convert it to F32, F16 or BF16"
                ));
            }
        }
        let rank = config.rank(module)?;
        let (a_shape, b_shape) = (info(&a).shape.clone(), info(&b).shape.clone());
        if !fit(&a_shape, &b_shape, rank) {
            return Err(format!(
                "module `{module}`: lora_A has shape {a_shape:?} and lora_B {b_shape:?}, but {} promises rank {rank}: [{rank}, in] and [out, {rank}]; save the adapter again with its configuration",
                config::FILE
            ));
        }
        Ok(Self {
            scale: config.scale(module)?,
            layout: if pair.embedding {
                Layout::Embedding
            } else {
                Layout::Matrix {
                    transposed: config.transposed,
                }
            },
            inner: a_shape[1..].to_vec(),
            outputs: b_shape[0],
            a,
            b,
            rank,
        })
    }

    fn misfit(&self, module: &str, shape: &[usize]) -> String {
        format!(
            "its factors of `{module}`, {}, do not fit the weight's shape {shape:?}; give the base that it was trained on",
            self.sides()
        )
    }

    /// Shapes of `A` and `B` at this rank.
    pub fn shapes(&self, rank: usize) -> [Vec<usize>; 2] {
        let mut a = vec![rank];
        a.extend(&self.inner);
        let mut b = vec![self.outputs, rank];
        b.resize(self.inner.len() + 1, 1);
        [a, b]
    }

    /// Width of `A`.
    fn inputs(&self) -> usize {
        self.inner.iter().product()
    }

    /// For messages.
    fn sides(&self) -> String {
        format!("{} outputs by {} inputs", self.outputs, self.inputs())
    }

    /// Whether the products of both lie on the same weight in the same way.
    fn lies_as(&self, other: &Self) -> bool {
        let lie = |one: &Self| (one.outputs, one.inner.clone(), one.layout);
        lie(self) == lie(other)
    }
}

/// Whether these are the shapes of an `A` and a `B` of this rank: `[rank, in]` and `[out, rank]`,
/// of a convolution `[rank, in, …]` and `[out, rank, 1…]`.
fn fit(a: &[usize], b: &[usize], rank: usize) -> bool {
    let ([a_rank, inputs @ ..], [outputs, b_rank, ones @ ..]) = (a, b) else {
        return false;
    };
    (*a_rank, *b_rank) == (rank, rank)
        && *outputs > 0
        && inputs.len() == ones.len() + 1
        && inputs.iter().all(|side| *side > 0)
        && ones.iter().all(|side| *side == 1)
}

fn first_there(dir: &Path, files: [&str; 2]) -> Option<PathBuf> {
    let mut paths = files.into_iter().map(|file| dir.join(file));
    paths.find(|path| path.is_file())
}

/// Whether two tensors are equal: with `bias: all` PEFT saves the bias of a module that was trained
/// whole under two names.
fn repeats(files: &[Checkpoint], one: &(usize, String), file: &Checkpoint, key: &str) -> bool {
    match (files[one.0].raw(&one.1), file.raw(key)) {
        (Ok(one), Ok(other)) => one == other,
        _ => false,
    }
}

fn twice(name: &str) -> String {
    format!("`{name}` is there under two names with different values; keep one of them")
}

fn refused(label: &str, problem: String) -> Error {
    Error::Model {
        model: label.to_owned(),
        problem,
    }
}
