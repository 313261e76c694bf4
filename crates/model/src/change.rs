//! An edit is a value: deltas of named parameters that a [`View`] lays over immutable weights.
//!
//! The base tensors are never written, so dropping a change *is* the undo. A view carries one
//! change for all rows, or one change per group of rows, so that many independent edits share
//! one forward pass.

use std::collections::{BTreeMap, BTreeSet};

use std::sync::Arc;

use burn::tensor::{DType, Tensor};

use crate::device::product;
use crate::dtype::{as_dtype, f32_at_least};
use crate::error::{Error, Result};
use crate::parameter::{Parameter, Stage};
use crate::recorder::Recorder;

/// The change of one parameter, in the checkpoint's own orientation `[rows, columns]`
/// (`[d_out, d_in]` but for [`Orientation::InOut`](crate::Orientation); vectors are `[1, n]`).
#[derive(Clone, Debug)]
pub enum Delta {
    /// `W' = W + Δ`, Δ `[rows, columns]`.
    Dense(Tensor<2>),
    /// `W' = W + b a`, a `[r, columns]`, b `[rows, r]`.
    LowRank {
        /// Right factor, `[r, columns]`.
        a: Tensor<2>,
        /// Left factor, `[rows, r]`.
        b: Tensor<2>,
    },
}

impl Delta {
    /// Shape of the dense matrix this delta stands for.
    pub fn shape(&self) -> [usize; 2] {
        match self {
            Delta::Dense(delta) => delta.dims(),
            Delta::LowRank { a, b } => [b.dims()[0], a.dims()[1]],
        }
    }

    /// The dense matrix, `[rows, columns]`.
    pub fn dense(&self) -> Tensor<2> {
        match self {
            Delta::Dense(delta) => delta.clone(),
            Delta::LowRank { a, b } => product(b.clone(), a.clone()),
        }
    }

    /// Frobenius norm, accumulated in `f64`.
    pub fn norm(&self) -> f64 {
        crate::host::values(self.dense())
            .iter()
            .map(|v| f64::from(*v) * f64::from(*v))
            .sum::<f64>()
            .sqrt()
    }
}

/// A proposed edit. The empty change is the identity.
#[derive(Clone, Debug, Default)]
pub struct Change {
    /// Parameter name → delta.
    pub weights: BTreeMap<String, Delta>,
}

impl Change {
    /// Whether applying this change leaves the model as it is.
    pub fn is_identity(&self) -> bool {
        self.weights.is_empty()
    }

    /// Bytes held by the change when stored in f32.
    pub fn bytes(&self) -> usize {
        self.weights
            .values()
            .map(|delta| match delta {
                Delta::Dense(d) => d.dims().iter().product::<usize>(),
                Delta::LowRank { a, b } => {
                    a.dims().iter().product::<usize>() + b.dims().iter().product::<usize>()
                }
            })
            .sum::<usize>()
            * size_of::<f32>()
    }
}

/// One patched parameter inside a [`View`]; `g` is 1 or the number of row groups.
#[derive(Clone, Debug)]
pub(crate) enum Patch {
    /// The parameter's value is replaced, `[g, rows, columns]`.
    Replace(Tensor<3>),
    /// The product is corrected by a side path: a `[g, r, columns]`, b `[g, rows, r]`.
    Side { a: Tensor<3>, b: Tensor<3> },
}

/// What a forward pass sees in place of the base weights.
#[derive(Clone, Debug)]
pub struct View {
    patches: BTreeMap<String, Patch>,
    tracked: bool,
    recorder: Option<Arc<Recorder>>,
    dtype: DType,
}

impl Default for View {
    fn default() -> Self {
        Self {
            patches: BTreeMap::new(),
            tracked: false,
            recorder: None,
            dtype: DType::F32,
        }
    }
}

impl View {
    /// The model as it is.
    pub fn base() -> Self {
        Self::default()
    }

    /// Replaces parameters by autodiff leaves or plain tensors, `[g, rows, columns]` each.
    ///
    /// With `tracked`, base weights enter the autodiff graph as constants so that gradients flow
    /// to the replaced ones.
    pub fn replacing(
        patches: impl IntoIterator<Item = (String, Tensor<3>)>,
        tracked: bool,
    ) -> Self {
        Self {
            patches: patches
                .into_iter()
                .map(|(name, value)| (name, Patch::Replace(value)))
                .collect(),
            tracked,
            ..Self::default()
        }
    }

    /// The same view with a side path at each of `factors`: a `[g, r, columns]` and
    /// b `[g, rows, r]`, plain or autodiff, so that `W' = W + b a` in row group g.
    #[must_use]
    pub fn beside(
        mut self,
        factors: impl IntoIterator<Item = (String, (Tensor<3>, Tensor<3>))>,
    ) -> Self {
        let sides = factors
            .into_iter()
            .map(|(name, (a, b))| (name, Patch::Side { a, b }));
        self.patches.extend(sides);
        self
    }

    /// The same view with numbers computed in `dtype`; f32 unless somebody asks for another.
    #[must_use]
    pub fn computing_in(mut self, dtype: DType) -> Self {
        self.dtype = dtype;
        self
    }

    /// The same view, in f32 where it computes in less.
    pub(crate) fn at_least_f32(&self) -> Self {
        self.clone().computing_in(self.wide())
    }

    /// The number format it computes in, or f32 where that is narrower.
    pub(crate) fn wide(&self) -> DType {
        f32_at_least(self.dtype)
    }

    /// The number format it computes in.
    pub fn dtype(&self) -> DType {
        self.dtype
    }

    /// The same view with base weights in the autodiff graph, as constants.
    #[must_use]
    pub fn tracked(mut self) -> Self {
        self.tracked = true;
        self
    }

    /// The same view, watched by `recorder`.
    #[must_use]
    pub fn watched(mut self, recorder: Arc<Recorder>) -> Self {
        self.recorder = Some(recorder);
        self
    }

    pub(crate) fn recorder(&self) -> Option<&Recorder> {
        self.recorder.as_deref()
    }

    /// `layer(x)`, its input and output shown to the recorder if that watches `site`.
    pub(crate) fn watch(
        &self,
        site: &str,
        x: Tensor<3>,
        layer: impl FnOnce(Tensor<3>) -> Tensor<3>,
    ) -> Tensor<3> {
        match self.recorder().filter(|recorder| recorder.watches(site)) {
            None => layer(x),
            Some(recorder) => {
                recorder.input(site, &x);
                recorder.output(site, layer(x))
            }
        }
    }

    /// Shows an intermediate value to the recorder, if there is one that wants it.
    pub(crate) fn note(&self, name: &str, x: &Tensor<3>) {
        if let Some(recorder) = self.recorder() {
            recorder.note(name, x);
        }
    }

    /// What stands in the place of parameter `name`, in this view's number format, or in f32 where
    /// that is narrower: most of a small edit would be lost in the rounding of the sum.
    pub(crate) fn patch(&self, name: &str) -> Option<Patch> {
        let wide = self.wide();
        Some(match self.patches.get(name)? {
            Patch::Replace(value) => Patch::Replace(as_dtype(value.clone(), wide)),
            Patch::Side { a, b } => Patch::Side {
                a: as_dtype(a.clone(), wide),
                b: as_dtype(b.clone(), wide),
            },
        })
    }

    /// A base tensor as this view's graph needs it.
    pub(crate) fn lift<const D: usize>(&self, tensor: &Tensor<D>) -> Tensor<D> {
        let tensor = as_dtype(tensor.clone(), self.dtype);
        if self.tracked {
            tensor.autodiff()
        } else {
            tensor
        }
    }
}

/// Parameters of a model by name: what a change is checked against and laid over.
pub trait Parameters {
    /// All edit sites.
    fn parameters(&self) -> &[Parameter];
    /// The stored value in f32, `[rows, columns]` as in [`Parameter::matrix_shape`].
    fn value(&self, name: &str) -> Option<Tensor<2>>;
    /// The number format that views of these parameters compute in.
    fn dtype(&self) -> DType {
        DType::F32
    }

    /// The parameters as they are.
    fn base(&self) -> View {
        View::base().computing_in(self.dtype())
    }

    /// Looks a site up.
    ///
    /// # Errors
    /// [`Error::Unknown`] with the nearest name.
    fn parameter(&self, name: &str) -> Result<&Parameter> {
        self.parameters()
            .iter()
            .find(|site| site.name == name)
            .ok_or_else(|| {
                let known = self.parameters().iter().map(|site| site.name.as_str());
                Error::Unknown(debias_core::Error::unknown("parameter", name, known))
            })
    }

    /// The earliest stage that any of `changes` touches; [`Stage::Head`] when none does anything.
    ///
    /// # Errors
    /// [`Error::Unknown`] for a parameter that the model lacks.
    fn first_stage(&self, changes: &[&Change]) -> Result<Stage> {
        let names: BTreeSet<&String> = changes.iter().flat_map(|c| c.weights.keys()).collect();
        names
            .into_iter()
            .map(|name| self.parameter(name).map(|site| site.stage))
            .try_fold(Stage::Head, |first, stage| Ok(first.earliest(stage?)))
    }

    /// Lays `changes` over the base: none, one for all rows, or one per row group.
    ///
    /// Dense deltas become replaced values `W + Δ`, low-rank ones a side path; a parameter that
    /// only some groups change gets a zero delta in the others.
    ///
    /// # Errors
    /// [`Error::Unknown`] or [`Error::ChangeShape`].
    fn view(&self, changes: &[&Change]) -> Result<View> {
        let names: BTreeSet<&String> = changes.iter().flat_map(|c| c.weights.keys()).collect();
        let mut patches = BTreeMap::new();
        for name in names {
            let site = self.parameter(name)?;
            let expected = site.matrix_shape();
            let deltas: Vec<Option<&Delta>> = changes.iter().map(|c| c.weights.get(name)).collect();
            for delta in deltas.iter().flatten() {
                if delta.shape() != expected {
                    return Err(Error::ChangeShape {
                        site: name.clone(),
                        found: delta.shape().to_vec(),
                        expected: expected.to_vec(),
                    });
                }
            }
            let base = self.value(name).ok_or_else(|| {
                Error::Unknown(debias_core::Error::unknown("parameter", name, []))
            })?;
            patches.insert(name.clone(), patch(&base, &deltas));
        }
        Ok(View {
            patches,
            ..self.base()
        })
    }
}

fn patch(base: &Tensor<2>, deltas: &[Option<&Delta>]) -> Patch {
    let low_rank: Option<Vec<_>> = deltas
        .iter()
        .map(|delta| match delta {
            Some(Delta::LowRank { a, b }) => Some((a, b)),
            _ => None,
        })
        .collect();
    match low_rank {
        Some(pairs) => {
            // Factors of different rank stand side by side once the shorter ones end in zeros.
            let rank = pairs.iter().map(|(a, _)| a.dims()[0]).max().unwrap_or(0);
            let stack = |side: usize, factors: Vec<Tensor<2>>| {
                let padded = factors.into_iter().map(|f| zero_padded(f, side, rank));
                Tensor::stack(padded.collect(), 0)
            };
            Patch::Side {
                a: stack(0, pairs.iter().map(|(a, _)| (*a).clone()).collect()),
                b: stack(1, pairs.iter().map(|(_, b)| (*b).clone()).collect()),
            }
        }
        _ => Patch::Replace(Tensor::stack(
            deltas
                .iter()
                .map(|delta| match delta {
                    Some(delta) => base.clone() + delta.dense(),
                    None => base.clone(),
                })
                .collect(),
            0,
        )),
    }
}

/// `factor` with zeros behind it on axis `axis`, up to length `length`.
fn zero_padded(factor: Tensor<2>, axis: usize, length: usize) -> Tensor<2> {
    let mut missing = factor.dims();
    missing[axis] = length - missing[axis];
    match missing[axis] {
        0 => factor,
        _ => {
            let zeros = Tensor::zeros(missing, &factor.device());
            Tensor::cat(vec![factor, zeros], axis)
        }
    }
}
