//! What is trained: weights of a model, or the factors of a LoRA adapter beside them.

use std::collections::{BTreeMap, BTreeSet};

use burn::tensor::Tensor;
use debias_core::seed;
use rand::Rng;

use crate::change::{Parameters, View};
use crate::error::{Error, Result};
use crate::host;
use crate::model::Model;
use crate::parameter::{Orientation, Parameter, Side};

/// The factors of an adapter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Factor {
    /// `A`, `[r, in]`.
    A,
    /// `B`, `[out, r]`.
    B,
}

impl Factor {
    /// The name of this factor of `module` among trained values.
    pub fn of(self, module: &str) -> String {
        match self {
            Self::A => format!("{module}.A"),
            Self::B => format!("{module}.B"),
        }
    }
}

/// An adapter before its first update.
#[derive(Clone, Debug, PartialEq)]
pub struct AdapterPlan {
    /// Names of linear layers, without `.weight`.
    pub modules: Vec<String>,
    /// Inner dimension.
    pub rank: usize,
    /// What the product is multiplied by.
    pub scale: f64,
    /// Parameters that are trained whole beside it.
    pub also: Vec<String>,
    /// Seed of `A`.
    pub seed: u64,
}

/// Trained values, each `[1, rows, columns]`.
pub(super) type Values = BTreeMap<String, Tensor<3>>;

/// What is trained, and how it enters the model.
#[derive(Clone)]
pub struct Pupil {
    pub(super) values: Values,
    /// Names of values that decay.
    matrices: BTreeSet<String>,
    adapter: Option<Beside>,
}

/// How factors stand beside the weights of a model.
#[derive(Clone)]
struct Beside {
    scale: f64,
    modules: BTreeMap<String, Orientation>,
}

/// The parameters of `model` whose names contain one of `parts`; all of them without any.
///
/// # Errors
/// A part that no name contains, with the nearest name.
pub fn trained_sites<'m>(model: &'m Model, parts: &[String]) -> Result<Vec<&'m Parameter>> {
    for part in parts {
        let names = || model.parameters().iter().map(|site| site.name.as_str());
        if !names().any(|name| name.contains(part.as_str())) {
            return Err(Error::Unknown(debias_core::Error::unknown(
                "parameter",
                part,
                names(),
            )));
        }
    }
    let chosen = |site: &&Parameter| {
        parts.is_empty() || parts.iter().any(|part| site.name.contains(part.as_str()))
    };
    Ok(model.parameters().iter().filter(chosen).collect())
}

/// The linear layers of the language model, its head apart: where adapters go unless somebody says
/// otherwise (PEFT's `all-linear` on a text model).
pub fn lora_sites(model: &Model) -> Vec<&Parameter> {
    let sites = model.parameters().iter();
    sites
        .filter(|site| site.side == Side::Language && site.linear.is_some())
        .collect()
}

impl Pupil {
    /// Of these parameters of `model`.
    ///
    /// # Errors
    /// A name that the model lacks.
    pub fn of_weights<'n>(model: &Model, names: impl IntoIterator<Item = &'n str>) -> Result<Self> {
        let mut pupil = Self {
            values: Values::new(),
            matrices: BTreeSet::new(),
            adapter: None,
        };
        for name in names {
            let site = model.parameter(name)?;
            // Neither biases nor weights of norms, by what they are and not by what they are called.
            if site.shape.len() > 1 {
                pupil.matrices.insert(name.to_owned());
            }
            let value = model.value(name).ok_or_else(|| unknown(model, name))?;
            pupil.values.insert(name.to_owned(), value.unsqueeze());
        }
        Ok(pupil)
    }

    /// Of an adapter: `A` uniform within `1/sqrt(in)` (Kaiming's bound as PEFT draws it), `B` zero, so
    /// that the first update sees the base.
    ///
    /// # Errors
    /// A name that the model lacks.
    pub fn of_adapter(model: &Model, plan: &AdapterPlan) -> Result<Self> {
        let mut pupil = Self::of_weights(model, plan.also.iter().map(String::as_str))?;
        let mut modules = BTreeMap::new();
        for module in &plan.modules {
            let name = format!("{module}.weight");
            let site = model.parameter(&name)?;
            let Some(orientation) = site.linear else {
                return Err(unknown(model, &name));
            };
            let [outputs, inputs] = site.linear_shape();
            let bound = 1.0 / (inputs as f64).sqrt();
            let mut stream = seed::stream(plan.seed, &["tune", "lora", module]);
            let a = (0..plan.rank * inputs)
                .map(|_| (bound * (2.0 * uniform(&mut stream) - 1.0)) as f32)
                .collect();
            let factors = [
                (Factor::A, a, [1, plan.rank, inputs]),
                (
                    Factor::B,
                    vec![0.0; outputs * plan.rank],
                    [1, outputs, plan.rank],
                ),
            ];
            for (factor, values, shape) in factors {
                let name = factor.of(module);
                pupil.matrices.insert(name.clone());
                pupil
                    .values
                    .insert(name, host::tensor(values, shape, model.device()));
            }
            modules.insert(module.clone(), orientation);
        }
        pupil.adapter = Some(Beside {
            scale: plan.scale,
            modules,
        });
        Ok(pupil)
    }

    /// Names of what is trained, sorted.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.values.keys().map(String::as_str)
    }

    /// Number of trained values.
    pub fn size(&self) -> usize {
        let sizes = self
            .values
            .values()
            .map(|value| value.dims().iter().product::<usize>());
        sizes.sum()
    }

    /// Rows and columns of a trained value.
    pub fn shape(&self, name: &str) -> Option<[usize; 2]> {
        let [_, rows, columns] = self.values.get(name)?.dims();
        Some([rows, columns])
    }

    /// A trained value, row-major.
    pub fn value(&self, name: &str) -> Option<Vec<f32>> {
        self.values.get(name).cloned().map(host::values)
    }

    /// Puts another value in the place of one: an adapter that was begun elsewhere.
    ///
    /// # Errors
    /// A name that is not trained, or values that do not fill its shape.
    pub fn set(&mut self, name: &str, values: Vec<f32>) -> Result<()> {
        let names = self.values.keys().map(String::as_str);
        let known = Error::Unknown(debias_core::Error::unknown("parameter", name, names));
        let Some(value) = self.values.get_mut(name) else {
            return Err(known);
        };
        let shape = value.dims();
        if shape.iter().product::<usize>() != values.len() {
            return Err(Error::ChangeShape {
                site: name.to_owned(),
                found: vec![values.len()],
                expected: shape[1..].to_vec(),
            });
        }
        *value = host::tensor(values, shape, &value.device());
        Ok(())
    }

    /// Whether the value decays.
    pub(super) fn is_matrix(&self, name: &str) -> bool {
        self.matrices.contains(name)
    }

    /// The model with what was learnt.
    pub fn view(&self) -> View {
        self.seen(&self.values, false)
    }

    /// The model with `values` in the place of what is trained; `tracked` where they are leaves of
    /// a gradient.
    pub(super) fn seen(&self, values: &Values, tracked: bool) -> View {
        let Some(Beside { scale, modules }) = &self.adapter else {
            return View::replacing(values.clone(), tracked);
        };
        let mut wholes = values.clone();
        let mut factors = Vec::with_capacity(modules.len());
        for (module, orientation) in modules {
            let pair = (
                wholes.remove(&Factor::A.of(module)),
                wholes.remove(&Factor::B.of(module)),
            );
            if let (Some(a), Some(b)) = pair {
                let b = b.mul_scalar(*scale);
                let sides = match orientation {
                    Orientation::OutIn => (a, b),
                    // (s B A)ᵀ = Aᵀ (s B)ᵀ
                    Orientation::InOut => (b.swap_dims(1, 2), a.swap_dims(1, 2)),
                };
                factors.push((format!("{module}.weight"), sides));
            }
        }
        View::replacing(wholes, tracked).beside(factors)
    }
}

/// A uniform draw from [0, 1) of 32 bits, the same on every machine.
fn uniform(stream: &mut impl Rng) -> f64 {
    f64::from(stream.random::<u32>()) / 4_294_967_296.0
}

fn unknown(model: &Model, name: &str) -> Error {
    let names = model.parameters().iter().map(|site| site.name.as_str());
    Error::Unknown(debias_core::Error::unknown("parameter", name, names))
}
