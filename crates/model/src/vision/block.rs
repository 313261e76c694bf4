//! The transformer block of every vision tower.

use burn::tensor::Tensor;

use crate::change::View;
use crate::error::Result;
use crate::layers::{
    Activation, LayerNorm, Linear, Norm, RmsNorm, Vector, Visible, attend, split_heads,
};
use crate::loader::{Loader, Place};
use crate::parameter::Stage;

/// Sizes and kind of a tower's blocks.
pub(super) struct BlockPlan {
    /// Width of the residual stream.
    pub width: usize,
    /// Width of the feed-forward block.
    pub inner: usize,
    /// Attention heads.
    pub heads: usize,
    /// Between the feed-forward matrices.
    pub activation: Activation,
    /// Of every norm.
    pub eps: f64,
    /// Whether the norms are root-mean-square norms.
    pub rms: bool,
    /// Whether queries, keys and values have a bias.
    pub qkv_bias: bool,
    /// Whether the norms stand behind attention and feed-forward instead of in front.
    pub norms_follow: bool,
    /// Published names of the parts.
    pub labels: Labels,
}

/// Published names of a block's parts.
#[derive(Clone, Copy)]
pub(super) struct Labels {
    /// The norm of the attention.
    pub norm1: &'static str,
    /// Queries, keys and values.
    pub qkv: Stored,
    /// Root-mean-square norms of queries and keys over the full width, where there are some.
    pub qk_norms: Option<[&'static str; 2]>,
    /// What mixes the heads.
    pub out: &'static str,
    /// The norm of the feed-forward block.
    pub norm2: &'static str,
    /// The factors of attention and feed-forward, where there are some.
    pub scales: Option<[&'static str; 2]>,
}

/// How queries, keys and values are stored.
#[derive(Clone, Copy)]
pub(super) enum Stored {
    /// Three matrices.
    Apart([&'static str; 3]),
    /// One matrix: all rows of q, then k, then v; head-major inside each.
    Packed(&'static str),
}

/// Attention and feed-forward, each with its norm and residual.
#[derive(Clone, Debug)]
pub(super) struct Block {
    norm1: Norm,
    qkv: Qkv,
    qk_norms: Option<[RmsNorm; 2]>,
    out: Linear,
    norm2: Norm,
    fc1: Linear,
    fc2: Linear,
    scales: Option<[Vector; 2]>,
    heads: usize,
    activation: Activation,
    norms_follow: bool,
}

#[derive(Clone, Debug)]
enum Qkv {
    Apart([Linear; 3]),
    Packed(Linear),
    /// Packed, with biases of queries and values of their own; that of the keys is zero.
    TwoBiases {
        weight: Linear,
        query: Vector,
        value: Vector,
    },
}

impl Block {
    /// Loads the block whose parts' names begin with `at`.
    ///
    /// # Errors
    /// Missing or misshapen tensors.
    pub fn load(loader: &mut Loader, plan: &BlockPlan, at: &str) -> Result<Self> {
        let place = Place::vision(Stage::Vision);
        let (d, f, labels) = (plan.width, plan.inner, &plan.labels);
        let name = |part: &str| format!("{at}{part}");
        let norm = |loader: &mut Loader, part: &str| match plan.rms {
            true => RmsNorm::load(loader, &name(part), d, plan.eps, place).map(Norm::Rms),
            false => LayerNorm::load(loader, &name(part), d, plan.eps, place).map(Norm::Layer),
        };
        let qk_norms = match labels.qk_norms {
            Some([q, k]) => Some([
                RmsNorm::load(loader, &name(q), d, plan.eps, place)?,
                RmsNorm::load(loader, &name(k), d, plan.eps, place)?,
            ]),
            None => None,
        };
        let scales = match labels.scales {
            Some([attention, inner]) => Some([
                loader.vector(&name(attention), d, place)?,
                loader.vector(&name(inner), d, place)?,
            ]),
            None => None,
        };
        Ok(Self {
            norm1: norm(loader, labels.norm1)?,
            qkv: Qkv::load(loader, at, labels.qkv, d, plan.qkv_bias)?,
            qk_norms,
            out: Linear::load(loader, &name(labels.out), [d, d], true, place)?,
            norm2: norm(loader, labels.norm2)?,
            fc1: Linear::load(loader, &name("mlp.fc1"), [f, d], true, place)?,
            fc2: Linear::load(loader, &name("mlp.fc2"), [d, f], true, place)?,
            scales,
            heads: plan.heads,
            activation: plan.activation,
            norms_follow: plan.norms_follow,
        })
    }

    /// x `[n, t, d]` → `[n, t, d]`.
    pub fn forward(&self, x: Tensor<3>, view: &View) -> Tensor<3> {
        let [first, second] = match &self.scales {
            Some([first, second]) => [Some(first), Some(second)],
            None => [None, None],
        };
        let x = self.residual(x, &self.norm1, first, view, |h| self.attention(h, view));
        self.residual(x, &self.norm2, second, view, |h| {
            let h = self.activation.apply(self.fc1.forward(h, view));
            self.fc2.forward(h, view)
        })
    }

    fn residual(
        &self,
        x: Tensor<3>,
        norm: &Norm,
        scale: Option<&Vector>,
        view: &View,
        part: impl FnOnce(Tensor<3>) -> Tensor<3>,
    ) -> Tensor<3> {
        let h = match self.norms_follow {
            true => norm.forward(part(x.clone()), view),
            false => part(norm.forward(x.clone(), view)),
        };
        match scale {
            Some(scale) => x + scale.scale(h, view),
            None => x + h,
        }
    }

    fn attention(&self, h: Tensor<3>, view: &View) -> Tensor<3> {
        let [q, k, v] = self.qkv.forward(h, view);
        let [q, k] = match &self.qk_norms {
            Some([query, key]) => [query.forward(q, view), key.forward(k, view)],
            None => [q, k],
        };
        let [q, k, v] = [q, k, v].map(|part| split_heads(part, self.heads));
        let mixed = attend(q, k, v, &Visible::All, None);
        self.out.forward(mixed, view)
    }
}

impl Qkv {
    fn load(loader: &mut Loader, at: &str, stored: Stored, d: usize, bias: bool) -> Result<Self> {
        let place = Place::vision(Stage::Vision);
        let packed = match stored {
            Stored::Packed(name) => format!("{at}{name}"),
            Stored::Apart(names) => {
                let mut part =
                    |name| Linear::load(loader, &format!("{at}{name}"), [d, d], bias, place);
                let [q, k, v] = names;
                return Ok(Self::Apart([part(q)?, part(k)?, part(v)?]));
            }
        };
        let shape = [3 * d, d];
        // LAVIS writes `attn.q_bias` and `attn.v_bias` beside `attn.qkv.weight`.
        let beside = |bias: &str| match packed.rsplit_once('.') {
            Some((parent, _)) => format!("{parent}.{bias}"),
            None => bias.to_owned(),
        };
        let [query, value] = ["q_bias", "v_bias"].map(beside);
        if !loader.has(&query) {
            return Ok(Self::Packed(Linear::load(
                loader, &packed, shape, bias, place,
            )?));
        }
        Ok(Self::TwoBiases {
            weight: Linear::load(loader, &packed, shape, false, place)?,
            query: loader.vector(&query, d, place)?,
            value: loader.vector(&value, d, place)?,
        })
    }

    /// Queries, keys and values, `[n, t, d]` each.
    fn forward(&self, x: Tensor<3>, view: &View) -> [Tensor<3>; 3] {
        let cut = |all: Tensor<3>| {
            let width = all.dims()[2] / 3;
            [0, 1, 2].map(|i| all.clone().narrow(2, i * width, width))
        };
        match self {
            Self::Apart(linears) => linears.each_ref().map(|l| l.forward(x.clone(), view)),
            Self::Packed(linear) => cut(linear.forward(x, view)),
            Self::TwoBiases {
                weight,
                query,
                value,
            } => {
                let [q, k, v] = cut(weight.forward(x, view));
                [query.add(q, view), k, value.add(v, view)]
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use burn::tensor::{Device, TensorData};

    use super::*;
    use crate::host;
    use crate::loader::Weights;

    const WIDTH: usize = 4;
    const INNER: usize = 6;
    const HEADS: usize = 2;
    const EPS: f64 = 1e-6;

    type Rows = Vec<Vec<f64>>;

    /// Numbers between -1 and 1 that depend on the name.
    fn numbers(name: &str, n: usize) -> Vec<f64> {
        let start = name
            .bytes()
            .fold(7u32, |sum, byte| sum * 31 % 9973 + u32::from(byte));
        let number = |i: u32| f64::from((start + i * 577) % 199) / 99.5 - 1.0;
        (0..n as u32).map(number).collect()
    }

    struct ByName;

    impl Weights for ByName {
        fn has(&self, _name: &str) -> bool {
            false
        }

        fn tensor(&self, name: &str, shape: &[usize]) -> Result<TensorData> {
            let values = numbers(name, shape.iter().product());
            let values: Vec<f32> = values.into_iter().map(|value| value as f32).collect();
            Ok(TensorData::new(values, shape.to_vec()))
        }
    }

    fn linear(x: &Rows, name: &str, out: usize, bias: bool) -> Rows {
        let inputs = x[0].len();
        let w = numbers(&format!("{name}.weight"), out * inputs);
        let b = numbers(&format!("{name}.bias"), out);
        let dot = |row: &[f64], o: usize| {
            let sum: f64 = (0..inputs).map(|i| row[i] * w[o * inputs + i]).sum();
            sum + if bias { b[o] } else { 0.0 }
        };
        x.iter()
            .map(|row| (0..out).map(|o| dot(row, o)).collect())
            .collect()
    }

    fn rms(x: &Rows, name: &str) -> Rows {
        let w = numbers(&format!("{name}.weight"), WIDTH);
        let norm = |row: &Vec<f64>| {
            let mean = row.iter().map(|v| v * v).sum::<f64>() / WIDTH as f64;
            row.iter()
                .zip(&w)
                .map(|(v, w)| v / (mean + EPS).sqrt() * w)
                .collect()
        };
        x.iter().map(norm).collect()
    }

    /// One head after the other, `softmax(q kᵀ / sqrt(d)) v`.
    fn mix(q: &Rows, k: &Rows, v: &Rows) -> Rows {
        let d = WIDTH / HEADS;
        let mut out = vec![vec![0.0; WIDTH]; q.len()];
        for (row, q) in out.iter_mut().zip(q) {
            for at in (0..HEADS).map(|head| head * d) {
                let dot = |k: &Vec<f64>| (at..at + d).map(|i| q[i] * k[i]).sum::<f64>();
                let weights = k.iter().map(|k| (dot(k) / (d as f64).sqrt()).exp());
                let weights: Vec<f64> = weights.collect();
                let all: f64 = weights.iter().sum();
                for (weight, v) in weights.iter().zip(v) {
                    (at..at + d).for_each(|i| row[i] += weight / all * v[i]);
                }
            }
        }
        out
    }

    fn add_scaled(x: &Rows, h: &Rows, name: &str) -> Rows {
        let scale = numbers(name, WIDTH);
        let row =
            |(x, h): (&Vec<f64>, &Vec<f64>)| (0..WIDTH).map(|i| x[i] + scale[i] * h[i]).collect();
        x.iter().zip(h).map(row).collect()
    }

    /// No fixture has the root-mean-square norms of InternViT-6B, nor those of queries and keys.
    #[test]
    fn the_blocks_of_the_large_intern_vit_are_those_of_the_paper() {
        let plan = BlockPlan {
            width: WIDTH,
            inner: INNER,
            heads: HEADS,
            activation: Activation::Relu,
            eps: EPS,
            rms: true,
            qkv_bias: false,
            norms_follow: false,
            labels: Labels {
                norm1: "norm1",
                qkv: Stored::Packed("attn.qkv"),
                qk_norms: Some(["attn.q_norm", "attn.k_norm"]),
                out: "attn.proj",
                norm2: "norm2",
                scales: Some(["ls1", "ls2"]),
            },
        };
        let device = Device::flex();
        let mut loader = Loader::new(&ByName, &(&device).into());
        let block = Block::load(&mut loader, &plan, "b.").expect("it loads");
        let x: Rows = (0..3).map(|t| numbers(&format!("x{t}"), WIDTH)).collect();

        let all = linear(&rms(&x, "b.norm1"), "b.attn.qkv", 3 * WIDTH, false);
        let part = |i: usize| -> Rows {
            let rows = all
                .iter()
                .map(|row| row[i * WIDTH..(i + 1) * WIDTH].to_vec());
            rows.collect()
        };
        let (q, k) = (
            rms(&part(0), "b.attn.q_norm"),
            rms(&part(1), "b.attn.k_norm"),
        );
        let h = linear(&mix(&q, &k, &part(2)), "b.attn.proj", WIDTH, true);
        let y = add_scaled(&x, &h, "b.ls1");
        let mut h = linear(&rms(&y, "b.norm2"), "b.mlp.fc1", INNER, true);
        h.iter_mut().flatten().for_each(|v| *v = v.max(0.0));
        let expected = add_scaled(&y, &linear(&h, "b.mlp.fc2", WIDTH, true), "b.ls2").concat();

        let values = x.concat().into_iter().map(|v| v as f32).collect();
        let found = block.forward(host::tensor(values, [1, 3, WIDTH], &device), &View::base());
        for (found, expected) in host::values(found).into_iter().zip(expected) {
            assert!(
                (f64::from(found) - expected).abs() < 1e-5,
                "{found} is not {expected}"
            );
        }
    }
}
