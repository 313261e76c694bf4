//! From named weights to layers: every tensor is asked for by its published name and shape.

use std::collections::{BTreeMap, BTreeSet};

use burn::tensor::{Device, Tensor};
use debias_core::seed;
use debias_weights::Checkpoint;
use rand::Rng;

use crate::error::{Error, Result};
use crate::host;
use crate::layers::{Matrix, Vector};
use crate::site::{Side, Site, Stage};

/// Where weights come from: a checkpoint, or a seeded initialisation that asks for the same names.
pub trait Weights {
    /// The row-major values of tensor `name`.
    ///
    /// # Errors
    /// A missing tensor, another shape, or values that are not finite.
    fn f32(&self, name: &str, shape: &[usize]) -> Result<Vec<f32>>;
}

impl Weights for Checkpoint {
    fn f32(&self, name: &str, shape: &[usize]) -> Result<Vec<f32>> {
        Ok(Checkpoint::f32(self, name, shape)?)
    }
}

/// Fresh weights: norms one, biases zero, tables normal with deviation 0.02 (the published
/// initialiser range of OPT, LLaMA and BLIP-2), products normal with a gain a little below one,
/// because narrow models learn too slowly from 0.02.
///
/// Each tensor has its own stream named by the tensor, so the values do not depend on the order
/// in which layers are built.
pub struct Fresh {
    /// Seed of the initialisation.
    pub seed: u64,
}

impl Weights for Fresh {
    fn f32(&self, name: &str, shape: &[usize]) -> Result<Vec<f32>> {
        let n: usize = shape.iter().product();
        let is_norm = ["norm", "LayerNorm", "layernorm"]
            .iter()
            .any(|part| name.contains(part));
        if name.ends_with("bias") {
            return Ok(vec![0.0; n]);
        }
        if is_norm {
            return Ok(vec![1.0; n]);
        }
        let fan_in = *shape.last().unwrap_or(&1) as f64;
        let deviation = match shape.len() {
            2 if !name.contains("embed") => (1.0 / fan_in).sqrt() * 0.7,
            4 => (1.0 / (shape[1..].iter().product::<usize>() as f64)).sqrt(),
            // Class token, patch positions and queries: as loud as the patches they meet, or the
            // tower learns what is there long before where it is.
            3 => 0.5,
            _ => 0.02,
        };
        let mut stream = seed::stream(self.seed, &["init", name]);
        Ok((0..n)
            .map(|_| (deviation * normal(&mut stream)) as f32)
            .collect())
    }
}

/// Standard normal by the sum of twelve uniforms: no transcendental function whose last bit
/// differs between machines.
fn normal(stream: &mut impl Rng) -> f64 {
    (0..12)
        .map(|_| f64::from(stream.random::<u32>()) / 4_294_967_296.0)
        .sum::<f64>()
        - 6.0
}

/// Builds layers and remembers which parameters they hold.
pub struct Loader<'a> {
    weights: &'a dyn Weights,
    device: Device,
    sites: Vec<Site>,
    values: BTreeMap<String, Tensor<2>>,
}

impl<'a> Loader<'a> {
    /// Reads from `weights` onto `device`.
    pub fn new(weights: &'a dyn Weights, device: &Device) -> Self {
        Self {
            weights,
            device: device.clone(),
            sites: Vec::new(),
            values: BTreeMap::new(),
        }
    }

    /// A parameter whose published shape is `shape`, kept as a matrix (leading axes folded into
    /// the rows unless `rows` says otherwise).
    ///
    /// # Errors
    /// What the source refuses.
    pub fn matrix(&mut self, name: &str, shape: &[usize], place: Place) -> Result<Matrix> {
        let site = Site {
            name: name.to_owned(),
            shape: shape.to_vec(),
            side: place.side,
            stage: place.stage,
        };
        let folded = site.matrix_shape();
        let value = host::tensor(self.weights.f32(name, shape)?, folded, &self.device);
        self.values.insert(name.to_owned(), value.clone());
        self.sites.push(site);
        Ok(Matrix::new(name, value))
    }

    /// A one-axis parameter.
    ///
    /// # Errors
    /// What the source refuses.
    pub fn vector(&mut self, name: &str, n: usize, place: Place) -> Result<Vector> {
        self.matrix(name, &[n], place).map(Vector::new)
    }

    /// The parameters read so far.
    pub fn finish(self) -> (Vec<Site>, BTreeMap<String, Tensor<2>>) {
        (self.sites, self.values)
    }
}

/// Side and stage of the parameters being loaded.
#[derive(Clone, Copy, Debug)]
pub struct Place {
    /// Vision or language.
    pub side: Side,
    /// First stage that reads them.
    pub stage: Stage,
}

impl Place {
    /// Language side at `stage`.
    pub fn language(stage: Stage) -> Self {
        Self {
            side: Side::Language,
            stage,
        }
    }

    /// Vision side at `stage`.
    pub fn vision(stage: Stage) -> Self {
        Self {
            side: Side::Vision,
            stage,
        }
    }
}

/// Refuses tensors of `checkpoint` that no layer asked for.
///
/// # Errors
/// [`Error::UnusedTensors`] naming up to five.
pub fn refuse_unused(checkpoint: &Checkpoint, sites: &[Site]) -> Result<()> {
    let used: BTreeSet<String> = sites.iter().map(|site| site.name.clone()).collect();
    let unused = checkpoint.unused(&used);
    if unused.is_empty() {
        return Ok(());
    }
    let shown = unused
        .iter()
        .take(5)
        .cloned()
        .collect::<Vec<_>>()
        .join(", ");
    let more = match unused.len() {
        0..=5 => String::new(),
        n => format!(" and {} more", n - 5),
    };
    Err(Error::UnusedTensors {
        location: checkpoint.location().to_string(),
        names: format!("{shown}{more}"),
    })
}
