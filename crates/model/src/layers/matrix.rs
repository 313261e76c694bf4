//! Parameters as layers hold them: a matrix with its published name and orientation.

use burn::tensor::{DType, Device, Int, Tensor};

use crate::change::{Patch, View};
use crate::cpu;
use crate::device::{affine, product};
use crate::dtype::as_dtype;
use crate::parameter::Orientation;

/// A matrix parameter with its published name.
#[derive(Clone, Debug)]
pub struct Matrix {
    name: String,
    value: Tensor<2>,
    orientation: Orientation,
}

impl Matrix {
    pub(crate) fn new(name: &str, value: Tensor<2>, orientation: Orientation) -> Self {
        Self {
            name: name.to_owned(),
            value,
            orientation,
        }
    }

    /// The published name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Rows and columns as published.
    pub fn shape(&self) -> [usize; 2] {
        self.value.dims()
    }

    /// Where the value lives.
    pub(crate) fn device(&self) -> Device {
        self.value.device()
    }

    /// The value as one row group sees it, `[rows, columns]`.
    ///
    /// Embeddings and heads are read this way: a view that changes them changes them for all rows.
    pub fn shared(&self, view: &View) -> Tensor<2> {
        let seen = match view.patch(&self.name).as_ref() {
            Some(Patch::Replace(value)) => match value.dims()[0] {
                // One for all rows: the backward pass of a cut would fill a table of zeros.
                1 => value.clone().squeeze_dim(0),
                _ => value.clone().narrow(0, 0, 1).squeeze_dim(0),
            },
            Some(Patch::Side { a, b }) => {
                let delta = product(b.clone(), a.clone()).narrow(0, 0, 1).squeeze_dim(0);
                view.at_least_f32().lift(&self.value) + delta
            }
            None => view.lift(&self.value),
        };
        as_dtype(seen, view.dtype())
    }

    /// Rows `ids` of the table as one row group sees them, `[n, columns]`; only these rows are
    /// converted from the stored number format.
    pub(crate) fn select(&self, ids: Tensor<1, Int>, view: &View) -> Tensor<2> {
        match view.patch(&self.name).as_ref() {
            None => {
                let rows = self.value.clone().select(0, ids);
                view.lift(&rows)
            }
            Some(_) => self.shared(view).select(0, ids),
        }
    }

    /// The value if all row groups see the same one.
    pub(crate) fn uniform(&self, view: &View) -> Option<Tensor<2>> {
        match view.patch(&self.name).as_ref() {
            Some(Patch::Replace(value)) => {
                (value.dims()[0] == 1).then(|| as_dtype(value.clone().squeeze_dim(0), view.dtype()))
            }
            Some(Patch::Side { .. }) => None,
            None => Some(view.lift(&self.value)),
        }
    }

    /// `x Wᵀ` (`x W` where the checkpoint stores `[d_in, d_out]`) for x `[b, t, d_in]` →
    /// `[b, t, d_out]`.
    pub fn product(&self, x: Tensor<3>, view: &View) -> Tensor<3> {
        self.affine(x, None, view)
    }

    /// [`Self::product`] plus a bias that all row groups share, `[d_out]`.
    pub(crate) fn affine(&self, x: Tensor<3>, bias: Option<Tensor<1>>, view: &View) -> Tensor<3> {
        let input_first = self.orientation == Orientation::InOut;
        let oriented = |w: Tensor<2>| if input_first { w } else { w.transpose() };
        let untouched = |x: Tensor<3>| {
            if !input_first && let Some(y) = cpu::widening_product(&x, &self.value) {
                return plus(y, bias.clone());
            }
            times(x, oriented(view.lift(&self.value)), bias.clone())
        };
        let patch = view.patch(&self.name);
        let Some(patch) = patch.as_ref() else {
            return untouched(x);
        };
        let wide = view.wide();
        let seen = match patch {
            Patch::Replace(value) => {
                let (x, bias) = (as_dtype(x, wide), bias.map(|bias| as_dtype(bias, wide)));
                match value.dims()[0] {
                    1 => times(x, oriented(value.clone().squeeze_dim(0)), bias),
                    _ => plus(grouped(x, value.clone(), input_first), bias),
                }
            }
            Patch::Side { a, b } => {
                let (first, second) = if input_first { (b, a) } else { (a, b) };
                let inner = grouped(as_dtype(x.clone(), wide), first.clone(), input_first);
                // The base's own product, so that a side path of zeros changes no bit.
                as_dtype(untouched(x), wide) + grouped(inner, second.clone(), input_first)
            }
        };
        as_dtype(seen, view.dtype())
    }
}

/// `x w + bias` for x `[b, t, k]` and w `[k, n]`.
///
/// burn's `linear` lays a transposed weight out anew before it multiplies; over rows of one
/// matrix it reads the weight as it is. Autodiff keeps `linear`, whose backward pass is one piece.
fn times(x: Tensor<3>, w: Tensor<2>, bias: Option<Tensor<1>>) -> Tensor<3> {
    if x.is_autodiff() || w.is_autodiff() {
        return affine(x, w, bias);
    }
    let [b, t, k] = x.dims();
    let n = w.dims()[1];
    plus(product(x.reshape([b * t, k]), w).reshape([b, t, n]), bias)
}

fn plus(x: Tensor<3>, bias: Option<Tensor<1>>) -> Tensor<3> {
    match bias {
        Some(bias) => x + bias.unsqueeze(),
        None => x,
    }
}

/// `x wᵀ` (`x w` when `input_first`) where row group i of x `[b, t, n]` meets w[i] of `[g, ..]`.
fn grouped(x: Tensor<3>, w: Tensor<3>, input_first: bool) -> Tensor<3> {
    let [b, t, n] = x.dims();
    let w = if input_first { w } else { w.swap_dims(1, 2) };
    let [g, _, m] = w.dims();
    match g {
        1 => affine(x, w.squeeze_dim::<2>(0), None),
        _ => product(x.reshape([g, b / g * t, n]), w).reshape([b, t, m]),
    }
}

/// A vector parameter with its published name; kept in f32, because it costs nothing.
#[derive(Clone, Debug)]
pub struct Vector(Matrix);

impl Vector {
    pub(crate) fn new(matrix: Matrix) -> Self {
        Self(Matrix {
            value: as_dtype(matrix.value, DType::F32),
            ..matrix
        })
    }

    /// The value if all row groups see the same one, `[n]`.
    pub(crate) fn uniform(&self, view: &View) -> Option<Tensor<1>> {
        self.0.uniform(view).map(|value| value.squeeze_dim(0))
    }

    fn combine(
        &self,
        x: Tensor<3>,
        view: &View,
        operation: impl Fn(Tensor<3>, Tensor<3>) -> Tensor<3>,
    ) -> Tensor<3> {
        let [b, t, n] = x.dims();
        match view.patch(&self.0.name).as_ref() {
            Some(Patch::Replace(value)) => {
                let g = value.dims()[0];
                let value = as_dtype(value.clone(), x.dtype());
                operation(x.reshape([g, b / g * t, n]), value).reshape([b, t, n])
            }
            _ => {
                let value = as_dtype(self.0.shared(view), x.dtype());
                operation(x, value.unsqueeze())
            }
        }
    }

    /// `x + v`.
    pub fn add(&self, x: Tensor<3>, view: &View) -> Tensor<3> {
        self.combine(x, view, |x, v| x + v)
    }

    /// `x ⊙ v`.
    pub fn scale(&self, x: Tensor<3>, view: &View) -> Tensor<3> {
        self.combine(x, view, |x, v| x * v)
    }
}
