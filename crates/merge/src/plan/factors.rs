//! The tensors of a merged adapter: the factors of every module, and what was trained whole.

use std::collections::{BTreeMap, BTreeSet};

use debias_weights::{Dtype, TensorInfo};

use super::check::{Checked, merged_dtype};
use super::jobs::{Job, Tensor, Work, depth};
use super::layers::{in_layer, stacks};
use super::merged_adapter::{Among, PlannedModule, Whole};
use super::open::{Opened, adapter_of};
use super::resolve::Scopes;
use crate::adapter::{self, Adapter, MergedModule, common_scale};
use crate::card::Values;
use crate::error::{Error, Result};
use crate::recipe::{Recipe, Slice};

/// Decides the tensors of the output.
pub(super) struct AdapterLayout<'a> {
    pub recipe: &'a Recipe,
    pub slice: &'a Slice,
    pub models: &'a [Opened],
    pub among: Among,
    pub tensors: Vec<Checked>,
    /// Rank and scale of every module of the output.
    pub written: BTreeMap<String, MergedModule>,
}

impl AdapterLayout<'_> {
    /// Every module and every tensor that is no factor.
    ///
    /// # Errors
    /// Adapters that do not fit each other or the method; parameters that are missing or wrong.
    pub(super) fn all(&mut self) -> Result<()> {
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
        let all = self.among.inputs.iter();
        let changing: Vec<_> = all
            .filter_map(|model| Some((*model, self.adapter(*model).module(name)?)))
            .collect();
        let (_, first) = changing.first().expect("the name is one of their modules");
        let merger = self.recipe.merger.on_adapters();
        let ranks: Vec<usize> = changing.iter().map(|(_, module)| module.rank).collect();
        let merged = merger.and_then(|merger| Some((merger, merger.rank(&shared, &ranks)?)));
        let (takes_any_rank, rank) = match merged {
            Some((merger, rank)) => (merger.takes_any_rank(), rank),
            None => (false, first.rank),
        };
        self.check_module(name, !takes_any_rank)?;
        let written = MergedModule {
            rank,
            scale: common_scale(changing.iter().map(|(_, module)| module.scale)),
        };
        let keys = |key: fn(&adapter::Module) -> &String| -> Vec<Tensor> {
            let tensor = |(model, module): &(usize, &adapter::Module)| Tensor {
                model: *model,
                name: key(module).clone(),
            };
            changing.iter().map(tensor).collect()
        };
        let (a_keys, b_keys) = (keys(|module| &module.a), keys(|module| &module.b));
        let [a_name, b_name] = first.layout.names(name);
        let [a_shape, b_shape] = first.shapes(rank);
        let places = [
            self.push(a_name, a_shape, a_keys, &shared, &each)?,
            self.push(b_name, b_shape, b_keys, &shared, &each)?,
        ];
        self.written.insert(name.to_owned(), written);
        self.among.modules.push(PlannedModule {
            name: name.to_owned(),
            together: merged.is_some(),
            places,
        });
        Ok(())
    }

    /// Checks a module of all inputs against each other; `wholly` as in [`Adapter::check_module`].
    fn check_module(&self, name: &str, wholly: bool) -> Result<()> {
        for (at, one) in self.among.inputs.iter().enumerate() {
            for other in &self.among.inputs[at + 1..] {
                let (one, other) = (self.adapter(*one), self.adapter(*other));
                one.check_module(other, name, wholly)?;
            }
        }
        Ok(())
    }

    /// A tensor that was trained whole, or only saved: kept where it is the same in all adapters,
    /// else averaged, by the weights of the method.
    fn whole(&mut self, name: &str) -> Result<()> {
        let (shape, same) = self.whole_in_all(name)?;
        let merger = self.recipe.merger.on_adapters();
        if !same && merger.is_none() {
            return Err(Error::Model {
                model: self.models[self.among.inputs[0]].label.clone(),
                problem: format!(
                    "replaces `{name}` as a whole, of which {} sees no task vector without its base; give a base_model",
                    self.recipe.merger.card().id
                ),
            });
        }
        let (shared, each) = self.values(name, 0.0)?;
        let total = merger.map(|merger| each.iter().map(|values| merger.weight(values)).sum());
        if !same && total.is_some_and(|total: f64| total.abs() < 1e-12) {
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
