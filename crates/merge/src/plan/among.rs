//! Adapters that are merged among themselves: without a base, the output is an adapter.
//!
//! `linear` puts the factors of all adapters side by side, so that the product of the output is
//! exactly the weighted sum of their products; `robust_merge` has its own rule; all other methods
//! merge `A` and `B` each as a tensor, with zeros for a base.

use std::collections::{BTreeMap, BTreeSet};

use debias_weights::{Dtype, TensorInfo};

use super::check::{Checked, merged_dtype};
use super::jobs::{Job, Planner, Tensor, Work, depth};
use super::layers::{in_layer, stacks};
use super::open::Opened;
use super::resolve::Scopes;
use super::{Options, adapters};
use crate::adapter::robust::Settings;
use crate::adapter::{Adapter, Written, written};
use crate::card::{Base, Value, Values};
use crate::error::{Error, Result};
use crate::library::Library;
use crate::merger::OnAdapters;
use crate::recipe::{ModelRef, Recipe, Slice};

/// A merge of adapters, besides its tensors.
pub(crate) struct Among {
    /// Models in the order of the recipe, the base where it stands there.
    pub inputs: Vec<usize>,
    /// The base among the inputs; behind the last, it is zeros.
    pub base: Option<usize>,
    pub modules: Vec<Module>,
    /// Tensors that were trained whole.
    pub wholes: Vec<Whole>,
}

/// A module of the output.
pub(crate) struct Module {
    pub name: String,
    pub how: OnAdapters,
    /// Places of its `A` and `B` in the output.
    pub places: [usize; 2],
}

/// A tensor of the output that is no factor.
pub(crate) struct Whole {
    /// Its published name.
    pub name: String,
    /// Its place in the output.
    pub place: usize,
    /// Whether all adapters have the same.
    pub same: bool,
}

/// Whether all models of a recipe are adapters.
pub(super) fn applies(recipe: &Recipe, library: &dyn Library) -> bool {
    let mut models = recipe.models().into_iter();
    models.all(|model| adapters::is_adapter(model, library))
}

/// What a planned merge of adapters is made of.
pub(super) struct Plan {
    pub models: Vec<Opened>,
    pub among: Among,
    pub tensors: Vec<Checked>,
    /// What a reader should know.
    pub notes: Vec<String>,
    /// `adapter_config.json`.
    pub config: serde_json::Value,
}

/// Plans a merge of adapters.
///
/// # Errors
/// An adapter that is damaged or no plain LoRA; adapters that do not fit each other or the method;
/// settings that adapters do not have.
pub(super) fn plan(recipe: &Recipe, library: &dyn Library, options: &Options) -> Result<Plan> {
    let open = |model: &ModelRef| Opened::adapter(model, library, options.allow_nonfinite);
    let models: Result<Vec<_>> = recipe.models().into_iter().map(open).collect();
    let models = models?;
    let slice = only_slice(recipe)?;
    let planner = Planner::new(recipe, &models, 0);
    let (inputs, base) = planner.seats(slice)?;
    let mut layout = Layout {
        recipe,
        slice,
        models: &models,
        among: Among {
            inputs,
            base,
            modules: Vec::new(),
            wholes: Vec::new(),
        },
        tensors: Vec::new(),
        written: BTreeMap::new(),
    };
    layout.all()?;
    let (among, tensors) = (layout.among, layout.tensors);
    let adapters: Vec<&Adapter> = among
        .inputs
        .iter()
        .map(|at| adapter_of(&models, *at))
        .collect();
    let config = written(&adapters, &layout.written);
    let notes = notes(&among, &tensors);
    Ok(Plan {
        notes,
        models,
        among,
        tensors,
        config,
    })
}

/// What factors that are merged apart do not give.
fn notes(among: &Among, tensors: &[Checked]) -> Vec<String> {
    let apart = |module: &&Module| module.how == OnAdapters::Apart;
    let negative = |values: &Values| matches!(values.get("weight"), Some(Value::Number(weight)) if *weight < 0.0);
    let turned = |module: &Module| match &tensors[module.places[0]].job.work {
        Work::Merge { each, .. } => each.iter().any(negative),
        Work::Copy { .. } => false,
    };
    let mut notes = Vec::new();
    let all: Vec<&Module> = among.modules.iter().filter(apart).collect();
    if !all.is_empty() {
        notes.push("A and B are merged each for itself, which is not the merge of their products; base_model merges the products, linear adds them up exactly".to_owned());
    }
    if all.into_iter().any(turned) {
        notes.push("a negative weight turns both factors of an adapter, so that its product keeps its sign; name a base_model, or use linear".to_owned());
    }
    notes
}

/// The adapter that a model of such a merge is.
pub(crate) fn adapter_of(models: &[Opened], at: usize) -> &Adapter {
    let adapter = models[at].adapter.as_ref();
    adapter.expect("every model of a merge of adapters was opened as one")
}

/// The one list of models of the recipe.
fn only_slice(recipe: &Recipe) -> Result<&Slice> {
    let refuse = |field: &str, problem: &str| {
        Err(Error::Recipe {
            origin: recipe.origin.clone(),
            field: field.to_owned(),
            problem: problem.to_owned(),
        })
    };
    if recipe.tokenizer.is_some() || recipe.chat_template.is_some() {
        let field = match recipe.tokenizer {
            Some(_) => "tokenizer",
            None => "chat_template",
        };
        return refuse(
            field,
            "adapters have no vocabulary; give a base_model, or leave it out",
        );
    }
    match recipe.parts.as_slice() {
        [part] if part.name.is_none() => match part.slices.as_slice() {
            [slice] if slice.sources.iter().all(|source| source.layers.is_none()) => Ok(slice),
            _ => refuse(
                "slices",
                "adapters are merged whole; list them under models, or give a base_model",
            ),
        },
        _ => refuse(
            "modules",
            "adapters are merged whole; list them under models, or give a base_model",
        ),
    }
}

impl Planner<'_> {
    /// Inputs of a merge of adapters, and the base among them; behind the last it is zeros.
    fn seats(&self, slice: &Slice) -> Result<(Vec<usize>, Option<usize>)> {
        let sources = slice.sources.iter();
        let mut inputs: Vec<usize> = sources.map(|source| self.model(&source.model)).collect();
        let card = self.recipe.merger.card();
        let named = self.recipe.base.as_ref().map(|base| self.model(base));
        let place = named.map(|base| {
            inputs.iter().position(|at| *at == base).unwrap_or_else(|| {
                inputs.push(base);
                inputs.len() - 1
            })
        });
        let base = match (card.inputs.base, place, self.recipe.merger.on_adapters()) {
            (_, Some(_), OnAdapters::Robust) => {
                return Err(self.refuse(
                    "base_model",
                    "is an adapter; give the model that all adapters lie on, or leave it out",
                ));
            }
            (Base::Ignored, ..) | (Base::Optional, None, _) | (_, None, OnAdapters::Robust) => None,
            (Base::Optional | Base::Required, Some(place), _) => Some(place),
            // One of two ends; zeros are none.
            (Base::Required, None, _) if card.inputs.max == Some(1) => {
                return Err(self.without_base(slice, false));
            }
            (Base::Required, None, _) => Some(inputs.len()),
        };
        let others = (0..inputs.len()).filter(|at| base != Some(*at)).count();
        self.check_count(slice, others)?;
        Ok((inputs, base))
    }
}

/// Decides the tensors of the output.
struct Layout<'a> {
    recipe: &'a Recipe,
    slice: &'a Slice,
    models: &'a [Opened],
    among: Among,
    tensors: Vec<Checked>,
    /// Rank and scale of every module of the output.
    written: BTreeMap<String, Written>,
}

impl Layout<'_> {
    fn all(&mut self) -> Result<()> {
        let all = self.among.inputs.iter().map(|at| self.adapter(*at));
        let modules: BTreeSet<String> = all
            .clone()
            .flat_map(Adapter::modules)
            .map(str::to_owned)
            .collect();
        let wholes: BTreeSet<String> = all.flat_map(Adapter::wholes).map(str::to_owned).collect();
        let wanted = |name: &str| {
            let only = &self.recipe.only;
            only.is_empty() || only.iter().any(|part| name.contains(part))
        };
        if let Some(left_out) = modules.iter().chain(&wholes).find(|name| !wanted(name)) {
            return Err(self.refuse("only", &format!("would leave out `{left_out}`, and there is no base to take it from; give a base_model")));
        }
        let weights: Vec<String> = modules
            .iter()
            .map(|name| format!("{name}.weight"))
            .collect();
        let depths = stacks(weights.iter().map(String::as_str));
        for (name, weight) in modules.iter().zip(&weights) {
            let t =
                in_layer(weight).map_or(0.0, |inside| depth(inside.layer, depths[inside.stack]));
            self.module(name, weight, t)?;
        }
        wholes.iter().try_for_each(|name| self.whole(name))
    }

    fn adapter(&self, model: usize) -> &Adapter {
        adapter_of(self.models, model)
    }

    fn refuse(&self, field: &str, problem: &str) -> Error {
        Error::Recipe {
            origin: self.recipe.origin.clone(),
            field: field.to_owned(),
            problem: problem.to_owned(),
        }
    }

    /// Parameters for the tensor `name`: shared ones, and those of every input.
    fn values(&self, name: &str, t: f64) -> Result<(Values, Vec<Values>)> {
        let scopes = Scopes {
            recipe: self.recipe,
            part: &self.recipe.parts[0],
            slice: self.slice,
            t,
        };
        let listed = self.slice.sources.len();
        let mut each = Vec::new();
        for at in 0..self.among.inputs.len() {
            let is_base = self.among.base == Some(at);
            each.push(scopes.input(name, (at < listed).then_some(at), is_base)?);
        }
        let shared = scopes.shared(name)?;
        let others: Vec<&Values> = (0..each.len())
            .filter(|at| self.among.base != Some(*at))
            .map(|at| &each[at])
            .collect();
        let checked = self.recipe.merger.check(&shared, &others);
        checked.map_err(|(parameter, problem)| Error::Range {
            tensor: name.to_owned(),
            parameter,
            problem,
        })?;
        // The parameters of zeros.
        if self.among.base == Some(each.len()) {
            each.push(Values::EMPTY);
        }
        Ok((shared, each))
    }

    fn module(&mut self, name: &str, weight: &str, t: f64) -> Result<()> {
        let (shared, each) = self.values(weight, t)?;
        let separate = shared.get("lora_factors") == Some(&Value::Word("separate"));
        let how = match self.recipe.merger.on_adapters() {
            OnAdapters::Concatenated if separate => OnAdapters::Apart,
            how => how,
        };
        let inputs = self.among.inputs.iter().map(|at| self.adapter(*at));
        let inputs: Vec<&Adapter> = inputs.collect();
        for (at, one) in inputs.iter().enumerate() {
            let others = inputs[at + 1..].iter();
            let wholly = how != OnAdapters::Concatenated;
            others
                .clone()
                .try_for_each(|other| one.check_module(other, name, wholly))?;
        }
        let changing: Vec<_> = inputs
            .iter()
            .filter_map(|adapter| adapter.module(name))
            .collect();
        let first = changing.first().expect("the name is one of their modules");
        let rank = match how {
            OnAdapters::Concatenated => changing.iter().map(|module| module.rank).sum(),
            OnAdapters::Robust => Settings::of(&shared).rank(first.rank, inputs.len()),
            OnAdapters::Apart => first.rank,
        };
        let mut a_shape = vec![rank];
        a_shape.extend(&first.inner);
        let mut b_shape = vec![first.outputs, rank];
        b_shape.extend(vec![1; first.inner.len() - 1]);
        let [a_name, b_name] = first.layout.names(name);
        let scales: Vec<f64> = changing.iter().map(|module| module.scale).collect();
        let written = Written {
            rank,
            scale: scales
                .iter()
                .copied()
                .find(|scale| *scale != 0.0)
                .unwrap_or_default(),
        };
        let keys = |key: fn(&crate::adapter::Module) -> &String| -> Vec<Tensor> {
            let all = self.among.inputs.iter();
            all.filter_map(|model| {
                let module = self.adapter(*model).module(name)?;
                let name = key(module).clone();
                Some(Tensor {
                    model: *model,
                    name,
                })
            })
            .collect()
        };
        let (a_keys, b_keys) = (keys(|module| &module.a), keys(|module| &module.b));
        let places = [
            self.push(a_name, a_shape, a_keys, &shared, &each)?,
            self.push(b_name, b_shape, b_keys, &shared, &each)?,
        ];
        self.written.insert(name.to_owned(), written);
        self.among.modules.push(Module {
            name: name.to_owned(),
            how,
            places,
        });
        Ok(())
    }

    /// A tensor that was trained whole, or only saved: kept where it is the same in all adapters,
    /// else averaged, by the weights of `linear`.
    fn whole(&mut self, name: &str) -> Result<()> {
        let (shape, same) = self.whole_in_all(name)?;
        let merger = self.recipe.merger;
        if !same && merger.on_adapters() == OnAdapters::Apart {
            return Err(Error::Model {
                model: self.models[self.among.inputs[0]].label.clone(),
                problem: format!(
                    "replaces `{name}` as a whole, of which {} sees no task vector without its base; give a base_model",
                    merger.card().id
                ),
            });
        }
        let (shared, each) = self.values(name, 0.0)?;
        let total: f64 = each
            .iter()
            .filter_map(|values| values.get("weight"))
            .map(number)
            .sum();
        if !same && merger.on_adapters() == OnAdapters::Concatenated && total.abs() < 1e-12 {
            return Err(Error::Range {
                tensor: name.to_owned(),
                parameter: "weight",
                problem: "the weights sum to zero, of which a tensor that was trained whole has no mean; give a base_model".to_owned(),
            });
        }
        let having = self.among.inputs.iter().copied();
        let having = having.filter(|at| self.adapter(*at).whole(name).is_some());
        let key = |model: usize| Tensor {
            model,
            name: name.to_owned(),
        };
        let keys: Vec<Tensor> = having.map(key).collect();
        let place = self.push(self.key(name), shape, keys, &shared, &each)?;
        self.among.wholes.push(Whole {
            name: name.to_owned(),
            place,
            same,
        });
        Ok(())
    }

    /// The shape of a tensor in all inputs, and whether it is the same in all of them.
    fn whole_in_all(&self, name: &str) -> Result<(Vec<usize>, bool)> {
        // The weight under factors is the base's, saved with the adapter by some of them.
        let module = name.strip_suffix(".weight");
        let frozen = module.is_some_and(|module| self.written.contains_key(module));
        let mut all = Vec::new();
        for at in &self.among.inputs {
            let label = &self.models[*at].label;
            match self.adapter(*at).replaced(name)? {
                Some((stored, shape)) => all.push((label, stored, shape)),
                None if frozen => {}
                None => {
                    return Err(Error::MissingTensor {
                        tensor: name.to_owned(),
                        model: label.clone(),
                    });
                }
            }
        }
        let (first, stored, shape) = all[0];
        let mut others = all.iter();
        let same = all.iter().all(|(_, other, _)| *other == stored);
        match others.find(|(_, _, other)| *other != shape || (frozen && !same)) {
            None => Ok((shape.to_vec(), same)),
            Some((label, ..)) if frozen => Err(Error::Model {
                model: (*label).clone(),
                problem: format!(
                    "its copy of the base's `{name}` is not that of every other adapter; merge adapters of one base"
                ),
            }),
            Some((label, _, other)) => Err(Error::Shapes {
                problems: vec![
                    format!(
                        "tensor `{name}` has shape {shape:?} in `{first}`, {other:?} in `{label}`"
                    ),
                    "merge adapters of one base".to_owned(),
                ],
            }),
        }
    }

    /// The name of a whole tensor in the file: PEFT wraps the weight of a module that has factors.
    fn key(&self, name: &str) -> String {
        let wrapped = name
            .rsplit_once('.')
            .filter(|(module, _)| self.written.contains_key(*module));
        match wrapped {
            Some((module, rest)) => format!("base_model.model.{module}.base_layer.{rest}"),
            None => format!("base_model.model.{name}"),
        }
    }

    fn push(
        &mut self,
        name: String,
        shape: Vec<usize>,
        inputs: Vec<Tensor>,
        shared: &Values,
        each: &[Values],
    ) -> Result<usize> {
        let asked: Option<Dtype> = self.recipe.out_dtype.or(self.recipe.dtype);
        let dtype = merged_dtype(&name, &inputs, self.models, asked)?;
        self.tensors.push(Checked {
            info: TensorInfo { dtype, shape },
            job: Job {
                name,
                work: Work::Merge {
                    inputs,
                    base: self.among.base,
                    shared: shared.clone(),
                    each: each.to_vec(),
                },
            },
        });
        Ok(self.tensors.len() - 1)
    }
}

fn number(value: &Value) -> f64 {
    match value {
        Value::Number(number) => *number,
        Value::Flag(_) | Value::Word(_) => 0.0,
    }
}
