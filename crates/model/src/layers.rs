//! Layers over named parameters, in the checkpoint's own orientation `[d_out, d_in]`.
//!
//! Every layer takes the [`View`] it should compute through. A view may hold one value per group
//! of rows; rows of a batch `[b, t, d]` belong to `g` contiguous groups of `b / g` rows.

use burn::tensor::module::{attention, layer_norm, linear};
use burn::tensor::ops::AttentionModuleOptions;
use burn::tensor::{Int, Tensor};

use crate::change::{Patch, View};
use crate::error::Result;
use crate::loader::{Loader, Place};

/// A matrix parameter with its published name.
#[derive(Clone, Debug)]
pub struct Matrix {
    name: String,
    value: Tensor<2>,
}

impl Matrix {
    pub(crate) fn new(name: &str, value: Tensor<2>) -> Self {
        Self {
            name: name.to_owned(),
            value,
        }
    }

    /// Rows and columns.
    pub fn shape(&self) -> [usize; 2] {
        self.value.dims()
    }

    /// The value as one row group sees it, `[rows, columns]`.
    ///
    /// Embeddings and heads are read this way: a view that changes them changes them for all rows.
    pub fn shared(&self, view: &View) -> Tensor<2> {
        match view.patch(&self.name) {
            Some(Patch::Replace(value)) => value.clone().narrow(0, 0, 1).squeeze_dim(0),
            Some(Patch::Side { a, b }) => {
                let delta = b.clone().matmul(a.clone()).narrow(0, 0, 1).squeeze_dim(0);
                view.lift(&self.value) + delta
            }
            None => view.lift(&self.value),
        }
    }

    /// The value if all row groups see the same one.
    fn uniform(&self, view: &View) -> Option<Tensor<2>> {
        match view.patch(&self.name) {
            Some(Patch::Replace(value)) => {
                (value.dims()[0] == 1).then(|| value.clone().squeeze_dim(0))
            }
            Some(Patch::Side { .. }) => None,
            None => Some(view.lift(&self.value)),
        }
    }

    /// `x Wᵀ` for x `[b, t, d_in]` → `[b, t, d_out]`.
    pub fn product(&self, x: Tensor<3>, view: &View) -> Tensor<3> {
        match view.patch(&self.name) {
            Some(Patch::Replace(value)) => grouped(x, value.clone()),
            Some(Patch::Side { a, b }) => {
                let side = grouped(grouped(x.clone(), a.clone()), b.clone());
                linear(x, view.lift(&self.value).transpose(), None) + side
            }
            None => linear(x, view.lift(&self.value).transpose(), None),
        }
    }
}

/// `x wᵀ` where row group i of x `[b, t, n]` meets w[i] of `[g, m, n]`.
fn grouped(x: Tensor<3>, w: Tensor<3>) -> Tensor<3> {
    let [b, t, n] = x.dims();
    let [g, m, _] = w.dims();
    match g {
        1 => linear(x, w.squeeze_dim::<2>(0).transpose(), None),
        _ => x
            .reshape([g, b / g * t, n])
            .matmul(w.swap_dims(1, 2))
            .reshape([b, t, m]),
    }
}

/// A vector parameter with its published name.
#[derive(Clone, Debug)]
pub struct Vector(Matrix);

impl Vector {
    pub(crate) fn new(matrix: Matrix) -> Self {
        Self(matrix)
    }

    fn combine(
        &self,
        x: Tensor<3>,
        view: &View,
        operation: impl Fn(Tensor<3>, Tensor<3>) -> Tensor<3>,
    ) -> Tensor<3> {
        let [b, t, n] = x.dims();
        match view.patch(&self.0.name) {
            Some(Patch::Replace(value)) => {
                let g = value.dims()[0];
                operation(x.reshape([g, b / g * t, n]), value.clone()).reshape([b, t, n])
            }
            _ => operation(x, self.0.shared(view).unsqueeze()),
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

/// `y = x Wᵀ + b`, weight `[d_out, d_in]`.
#[derive(Clone, Debug)]
pub struct Linear {
    weight: Matrix,
    bias: Option<Vector>,
}

impl Linear {
    /// Loads `{prefix}.weight` and, if the layer has one, `{prefix}.bias`.
    ///
    /// # Errors
    /// What the source of the weights refuses.
    pub fn load(
        loader: &mut Loader,
        prefix: &str,
        [d_out, d_in]: [usize; 2],
        bias: bool,
        place: Place,
    ) -> Result<Self> {
        let weight = loader.matrix(&format!("{prefix}.weight"), &[d_out, d_in], place)?;
        let bias = match bias {
            true => Some(loader.vector(&format!("{prefix}.bias"), d_out, place)?),
            false => None,
        };
        Ok(Self { weight, bias })
    }

    /// x `[b, t, d_in]` → `[b, t, d_out]`.
    pub fn forward(&self, x: Tensor<3>, view: &View) -> Tensor<3> {
        match (self.weight.uniform(view), &self.bias) {
            (Some(weight), None) => linear(x, weight.transpose(), None),
            (Some(weight), Some(bias)) => match bias.0.uniform(view) {
                Some(bias) => linear(x, weight.transpose(), Some(bias.squeeze_dim(0))),
                None => bias.add(linear(x, weight.transpose(), None), view),
            },
            (None, None) => self.weight.product(x, view),
            (None, Some(bias)) => bias.add(self.weight.product(x, view), view),
        }
    }
}

/// `y = (x - mean) / sqrt(var + eps) ⊙ w + b`, biased variance.
#[derive(Clone, Debug)]
pub struct LayerNorm {
    weight: Vector,
    bias: Vector,
    eps: f64,
}

impl LayerNorm {
    /// Loads `{prefix}.weight` and `{prefix}.bias`.
    ///
    /// # Errors
    /// What the source of the weights refuses.
    pub fn load(
        loader: &mut Loader,
        prefix: &str,
        width: usize,
        eps: f64,
        place: Place,
    ) -> Result<Self> {
        Ok(Self {
            weight: loader.vector(&format!("{prefix}.weight"), width, place)?,
            bias: loader.vector(&format!("{prefix}.bias"), width, place)?,
            eps,
        })
    }

    /// x `[b, t, d]` → `[b, t, d]`.
    pub fn forward(&self, x: Tensor<3>, view: &View) -> Tensor<3> {
        if let (false, Some(gamma), Some(beta)) = (
            x.is_autodiff(),
            self.weight.0.uniform(view),
            self.bias.0.uniform(view),
        ) {
            return layer_norm(x, gamma.squeeze_dim(0), Some(beta.squeeze_dim(0)), self.eps);
        }
        let centred = x.clone() - x.mean_dim(2);
        let variance = centred.clone().square().mean_dim(2);
        let normal = centred / variance.add_scalar(self.eps).sqrt();
        self.bias.add(self.weight.scale(normal, view), view)
    }
}

/// `y = x / sqrt(mean(x²) + eps) ⊙ w`.
#[derive(Clone, Debug)]
pub struct RmsNorm {
    weight: Vector,
    eps: f64,
}

impl RmsNorm {
    /// Loads `{prefix}.weight`.
    ///
    /// # Errors
    /// What the source of the weights refuses.
    pub fn load(
        loader: &mut Loader,
        prefix: &str,
        width: usize,
        eps: f64,
        place: Place,
    ) -> Result<Self> {
        Ok(Self {
            weight: loader.vector(&format!("{prefix}.weight"), width, place)?,
            eps,
        })
    }

    /// x `[b, t, d]` → `[b, t, d]`.
    pub fn forward(&self, x: Tensor<3>, view: &View) -> Tensor<3> {
        let scale = x
            .clone()
            .square()
            .mean_dim(2)
            .add_scalar(self.eps)
            .sqrt()
            .recip();
        self.weight.scale(x * scale, view)
    }
}

/// A table of vectors, `[rows, d]`.
#[derive(Clone, Debug)]
pub struct Embedding(Matrix);

impl Embedding {
    /// Wraps a loaded matrix.
    pub fn new(table: Matrix) -> Self {
        Self(table)
    }

    /// ids `[b * t]` → `[b, t, d]`.
    pub fn forward(&self, ids: Tensor<1, Int>, [b, t]: [usize; 2], view: &View) -> Tensor<3> {
        let table = self.0.shared(view);
        let width = table.dims()[1];
        table.select(0, ids).reshape([b, t, width])
    }

    /// Logits by the transposed table: `h Eᵀ`.
    pub fn unembed(&self, h: Tensor<3>, view: &View) -> Tensor<3> {
        self.0.product(h, view)
    }
}

/// Splits `[b, t, heads * d]` into `[b, heads, t, d]`.
pub(crate) fn split_heads(x: Tensor<3>, heads: usize) -> Tensor<4> {
    let [b, t, width] = x.dims();
    x.reshape([b, t, heads, width / heads]).swap_dims(1, 2)
}

/// `softmax(q kᵀ / sqrt(d)) v` for `[b, heads, t, d]` → `[b, t, heads * d]`.
///
/// Padding stands on the right, so a causal mask alone keeps real positions from seeing it.
pub(crate) fn attend(q: Tensor<4>, k: Tensor<4>, v: Tensor<4>, causal: bool) -> Tensor<3> {
    let [b, heads, t, d] = q.dims();
    let options = AttentionModuleOptions {
        scale: None,
        softcap: None,
        is_causal: causal,
    };
    attention(q, k, v, None, None, options)
        .swap_dims(1, 2)
        .reshape([b, t, heads * d])
}

/// The activations named in published configurations.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Activation {
    /// `max(0, x)`.
    Relu,
    /// Exact GELU, by erf.
    Gelu,
    /// `x σ(x)`.
    Silu,
}

impl Activation {
    /// By its name in `config.json`.
    pub fn named(name: &str) -> Option<Self> {
        match name {
            "relu" => Some(Self::Relu),
            "gelu" => Some(Self::Gelu),
            "silu" | "swish" => Some(Self::Silu),
            _ => None,
        }
    }

    /// Element-wise.
    pub fn apply(self, x: Tensor<3>) -> Tensor<3> {
        match self {
            Self::Relu => burn::tensor::activation::relu(x),
            Self::Gelu => burn::tensor::activation::gelu(x),
            Self::Silu => burn::tensor::activation::silu(x),
        }
    }
}
