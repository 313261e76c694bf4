//! Rotary positions (Su et al. 2021) with the published ways of stretching them.

use burn::tensor::Tensor;
use serde::Deserialize;
use serde_json::{Map, Value};

use crate::change::View;
use crate::error::{Error, Result};
use crate::host;

/// The base of every family's frequencies where its configuration names none.
const DEFAULT_THETA: f64 = 10_000.0;

/// Which entries of a head turn together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pairing {
    /// Entry i with i + D/2 (LLaMA, Qwen2, InternLM2).
    Halves,
    /// Entries 2i and 2i + 1, on the first half of the head only (GLM-4).
    NeighboursOfFirstHalf,
}

/// The rotary fields of a `config.json`, old and new spellings. As transformers 5 has it,
/// `rope_scaling` goes before `rope_parameters` where it says anything, and a base in either before
/// one beside them.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct RotaryConfig {
    rope_theta: Option<f64>,
    rope_scaling: Option<Value>,
    rope_parameters: Option<Value>,
}

/// How frequencies change with length.
#[derive(Clone, Debug)]
enum Scaling {
    /// Fixed frequencies.
    None,
    /// The base grows beyond `trained` positions (NTK-aware, "dynamic").
    Dynamic { factor: f64, trained: usize },
}

/// Frequencies of a decoder.
#[derive(Clone, Debug)]
pub struct Rotary {
    inverse: Vec<f64>,
    theta: f64,
    scaling: Scaling,
    pairing: Pairing,
}

impl RotaryConfig {
    /// Frequencies for heads of size `d` of a model trained on `max_positions`.
    ///
    /// # Errors
    /// A scaling kind that this build does not know, or one that lacks a number it needs.
    pub fn build(&self, d: usize, max_positions: usize, location: &str) -> Result<Rotary> {
        let empty = |value: &Value| value.as_object().is_some_and(Map::is_empty);
        let said = |value: &&Value| !value.is_null() && !empty(value);
        let written = [
            ("rope_scaling", self.rope_scaling.as_ref()),
            ("rope_parameters", self.rope_parameters.as_ref()),
        ];
        let written = written
            .into_iter()
            .find_map(|(name, value)| Some((name, value.filter(said)?)));
        let own = self.rope_theta.unwrap_or(DEFAULT_THETA);
        let Some((name, value)) = written else {
            return Ok(Rotary::new(d, own, Pairing::Halves));
        };
        let read = RotaryFields {
            name,
            value,
            positions: max_positions,
            location,
        };
        read.check()?;
        let theta = match value.get("rope_theta") {
            None | Some(Value::Null) => own,
            Some(_) => read.number("rope_theta")?,
        };
        let mut rotary = Rotary::new(d, theta, Pairing::Halves);
        match read.kind()? {
            "default" => {}
            "linear" => {
                let factor = read.number("factor")?;
                for inverse in &mut rotary.inverse {
                    *inverse /= factor;
                }
            }
            "dynamic" => {
                rotary.scaling = Scaling::Dynamic {
                    factor: read.number("factor")?,
                    trained: max_positions,
                }
            }
            "llama3" => read.llama3(&mut rotary.inverse)?,
            other => {
                return Err(read.refuse(
                    "rope_type",
                    format!("is `{other}`; known: default, linear, dynamic, llama3"),
                ));
            }
        }
        Ok(rotary)
    }
}

/// The scaling object as it is written.
struct RotaryFields<'a> {
    /// Its name in `config.json`.
    name: &'static str,
    value: &'a Value,
    /// The longest sequence of the model.
    positions: usize,
    location: &'a str,
}

impl<'a> RotaryFields<'a> {
    fn refuse(&self, field: &str, problem: String) -> Error {
        Error::Config {
            location: self.location.to_owned(),
            field: format!("{}.{field}", self.name),
            problem,
        }
    }

    /// Refuses parameters by kind of layer, and heads of which only a part turns.
    fn check(&self) -> Result<()> {
        let mut fields = self.value.as_object().into_iter().flatten();
        if let Some((kind, _)) = fields.find(|(_, value)| value.is_object()) {
            let problem =
                "holds parameters of one kind of layers; only those of all layers are read";
            return Err(self.refuse(kind, problem.into()));
        }
        let part = self.value.get("partial_rotary_factor");
        match part.and_then(Value::as_f64) {
            Some(part) if part != 1.0 => {
                let problem = format!("is {part}; only 1, heads that turn as a whole, is known");
                Err(self.refuse("partial_rotary_factor", problem))
            }
            _ => Ok(()),
        }
    }

    fn kind(&self) -> Result<&'a str> {
        let written = self.value.get("rope_type").or(self.value.get("type"));
        match written {
            None => Ok("default"),
            Some(kind) => kind
                .as_str()
                .ok_or_else(|| self.refuse("rope_type", "must be a text".into())),
        }
    }

    fn number(&self, field: &str) -> Result<f64> {
        self.value
            .get(field)
            .and_then(Value::as_f64)
            .filter(|value| *value > 0.0)
            .ok_or_else(|| self.refuse(field, "must be a positive number".into()))
    }

    /// Dubey et al. 2024: long wavelengths are slowed by `factor`, short ones kept, and those
    /// between blended.
    fn llama3(&self, inverse: &mut [f64]) -> Result<()> {
        let factor = self.number("factor")?;
        let low = self.number("low_freq_factor")?;
        let high = self.number("high_freq_factor")?;
        let trained = match self.value.get("original_max_position_embeddings") {
            None => self.positions as f64,
            Some(_) => self.number("original_max_position_embeddings")?,
        };
        for value in inverse {
            let wavelength = std::f64::consts::TAU / *value;
            if wavelength < trained / high {
                continue;
            }
            if wavelength > trained / low {
                *value /= factor;
                continue;
            }
            let smooth = (trained / wavelength - low) / (high - low);
            *value = (1.0 - smooth) * *value / factor + smooth * *value;
        }
        Ok(())
    }
}

impl Rotary {
    /// `inv_i = theta^(-2i/D)` over the `d` entries that turn.
    pub fn new(d: usize, theta: f64, pairing: Pairing) -> Self {
        Self {
            inverse: frequencies(d, theta),
            theta,
            scaling: Scaling::None,
            pairing,
        }
    }

    /// Turns x `[b, heads, t, d]` by its `positions`: `[t]` for all rows, or `[b * t]`.
    pub fn turn(&self, x: Tensor<4>, angles: &Angles) -> Tensor<4> {
        match self.pairing {
            Pairing::Halves => {
                let half = x.dims()[3] / 2;
                let turned = Tensor::cat(
                    vec![
                        x.clone().narrow(3, half, half).neg(),
                        x.clone().narrow(3, 0, half),
                    ],
                    3,
                );
                x * angles.cos.clone() + turned * angles.sin.clone()
            }
            Pairing::NeighboursOfFirstHalf => {
                let [b, heads, t, d] = x.dims();
                let still = x.clone().narrow(3, d / 2, d / 2);
                let x = x.narrow(3, 0, d / 2);
                let pairs = x.clone().reshape([b, heads, t, d / 4, 2]);
                let turned = Tensor::cat(
                    vec![pairs.clone().narrow(4, 1, 1).neg(), pairs.narrow(4, 0, 1)],
                    4,
                )
                .reshape([b, heads, t, d / 2]);
                let turned = x * angles.cos.clone() + turned * angles.sin.clone();
                Tensor::cat(vec![turned, still], 3)
            }
        }
    }

    /// Cosines and sines for `positions` of `b` rows (one list for all rows, or one per row).
    pub fn angles(&self, positions: &[i64], t: usize, like: &Tensor<3>, view: &View) -> Angles {
        let rows = positions.len() / t.max(1);
        let inverse = self.stretched(positions);
        let n = 2 * inverse.len();
        let table = |f: fn(f64) -> f64| {
            let mut values = Vec::with_capacity(positions.len() * n);
            for position in positions {
                let row = inverse.iter().map(|w| f(*position as f64 * w) as f32);
                match self.pairing {
                    Pairing::Halves => {
                        let row: Vec<f32> = row.collect();
                        values.extend(&row);
                        values.extend(&row);
                    }
                    Pairing::NeighboursOfFirstHalf => values.extend(row.flat_map(|v| [v, v])),
                }
            }
            let device = like.device().inner();
            let table: Tensor<4> = host::tensor(values, [rows, 1, t, n], &device);
            view.lift(&table)
        };
        Angles {
            cos: table(f64::cos),
            sin: table(f64::sin),
        }
    }

    /// Frequencies for a stretch of text that ends at the highest of `positions`.
    fn stretched(&self, positions: &[i64]) -> Vec<f64> {
        let Scaling::Dynamic { factor, trained } = self.scaling else {
            return self.inverse.clone();
        };
        let length = positions.iter().max().map_or(0, |last| last + 1) as f64;
        if length <= trained as f64 {
            return self.inverse.clone();
        }
        let d = 2.0 * self.inverse.len() as f64;
        let growth = factor * length / trained as f64 - (factor - 1.0);
        frequencies(d as usize, self.theta * growth.powf(d / (d - 2.0)))
    }
}

fn frequencies(d: usize, theta: f64) -> Vec<f64> {
    (0..d / 2)
        .map(|i| theta.powf(-2.0 * i as f64 / d as f64))
        .collect()
}

/// Cosines and sines, `[rows or 1, 1, t, entries that turn]`.
#[derive(Clone, Debug)]
pub struct Angles {
    cos: Tensor<4>,
    sin: Tensor<4>,
}
