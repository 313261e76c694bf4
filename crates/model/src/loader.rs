//! From named weights to layers: every tensor is asked for by its published name and shape.

use std::collections::BTreeMap;

use burn::tensor::AllocationProperty;
use burn::tensor::{Bytes, DType, Device, Tensor, TensorData};
use debias_core::seed;
use debias_weights::{Checkpoint, Dtype};

use crate::device::Placement;
use crate::error::{Error, Result};
use crate::layers::{Embedding, Matrix, Vector};
use crate::names::Names;
use crate::parameter::{Orientation, Parameter, Side, Stage};

/// Where weights come from: a checkpoint, or a seeded initialisation that asks for the same names.
pub trait Weights {
    /// Whether there is a tensor `name`; decides between layouts.
    fn has(&self, name: &str) -> bool;

    /// Tensor `name`, which must have `shape`, in the number format it is stored in.
    ///
    /// # Errors
    /// A missing tensor, another shape, or values that are not finite.
    fn tensor(&self, name: &str, shape: &[usize]) -> Result<TensorData>;
}

impl Weights for Checkpoint {
    fn has(&self, name: &str) -> bool {
        self.contains(name)
    }

    /// The file's own memory, mapped: nothing is copied. Values of 64 bits are rounded to 32.
    fn tensor(&self, name: &str, shape: &[usize]) -> Result<TensorData> {
        let stored = self.checked(name, shape)?;
        let dtype = match stored.dtype {
            Dtype::F64 => return Ok(TensorData::new(self.f32(name, shape)?, stored.shape)),
            Dtype::F16 => DType::F16,
            Dtype::BF16 => DType::BF16,
            _ => DType::F32,
        };
        Ok(TensorData::from_bytes(
            aligned(stored.bytes, dtype.size()),
            stored.shape,
            dtype,
        ))
    }
}

/// Stored bytes as they are, or a copy where they do not begin at a multiple of the number's size
/// (files compiled into the program, files with odd headers).
fn aligned(stored: debias_weights::Bytes, size: usize) -> Bytes {
    match (stored.as_ptr() as usize).is_multiple_of(size) {
        true => Bytes::from_shared(stored, AllocationProperty::File),
        false => Bytes::from_bytes_vec(stored.to_vec()),
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

impl Fresh {
    /// The values of tensor `name`, row-major.
    pub fn values(&self, name: &str, shape: &[usize]) -> Vec<f32> {
        let n: usize = shape.iter().product();
        let is_norm = ["norm", "LayerNorm", "layernorm"]
            .iter()
            .any(|part| name.contains(part));
        if name.ends_with("bias") {
            return vec![0.0; n];
        }
        if is_norm {
            return vec![1.0; n];
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
        (0..n)
            .map(|_| (deviation * seed::normal(&mut stream)) as f32)
            .collect()
    }
}

impl Weights for Fresh {
    /// Nothing is stored, so every family takes its first layout.
    fn has(&self, _name: &str) -> bool {
        false
    }

    fn tensor(&self, name: &str, shape: &[usize]) -> Result<TensorData> {
        Ok(TensorData::new(self.values(name, shape), shape.to_vec()))
    }
}

/// Builds layers and remembers which parameters they hold.
pub struct Loader<'a> {
    weights: &'a dyn Weights,
    placement: Placement,
    names: Names,
    sites: Vec<Parameter>,
    values: BTreeMap<String, Tensor<2>>,
    /// Bytes of the weights on each device, the processor apart: there they are the mapped file.
    held: Vec<(Device, u64)>,
    copies: BTreeMap<String, String>,
    notes: Vec<String>,
}

impl<'a> Loader<'a> {
    /// Reads from `weights`, each tensor in the number format it is stored in straight to where its
    /// part of the model lives.
    pub fn new(weights: &'a dyn Weights, placement: &Placement) -> Self {
        Self {
            weights,
            placement: placement.clone(),
            names: Names::default(),
            sites: Vec::new(),
            values: BTreeMap::new(),
            held: Vec::new(),
            copies: BTreeMap::new(),
            notes: Vec::new(),
        }
    }

    /// From here on, names are translated by `names` before the weights are asked.
    pub fn translate(&mut self, names: Names) {
        self.names = names;
    }

    /// The name under which this checkpoint publishes `name`.
    pub fn published(&self, name: &str) -> String {
        self.names.published(name)
    }

    /// Whether the checkpoint has `name`.
    pub fn has(&self, name: &str) -> bool {
        self.weights.has(&self.published(name))
    }

    /// The weight of a linear layer, `shape` as published.
    ///
    /// # Errors
    /// What the source refuses.
    pub fn linear(
        &mut self,
        name: &str,
        shape: [usize; 2],
        orientation: Orientation,
        place: Place,
    ) -> Result<Matrix> {
        self.folded(name, &shape, Some(orientation), place)
    }

    /// A parameter that is no linear layer's weight (a table, a learned vector).
    ///
    /// # Errors
    /// What the source refuses.
    pub fn matrix(&mut self, name: &str, shape: &[usize], place: Place) -> Result<Matrix> {
        self.folded(name, shape, None, place)
    }

    /// A parameter whose published shape is `shape`, kept as a matrix (see
    /// [`Parameter::matrix_shape`]).
    ///
    /// # Errors
    /// What the source refuses.
    pub fn folded(
        &mut self,
        name: &str,
        shape: &[usize],
        linear: Option<Orientation>,
        place: Place,
    ) -> Result<Matrix> {
        let name = self.published(name);
        let site = Parameter {
            name: name.clone(),
            shape: shape.to_vec(),
            side: place.side,
            stage: place.stage,
            linear,
        };
        let data = self.weights.tensor(&name, shape)?;
        let (bytes, _, dtype) = data.into_parts();
        self.count(&name, place.stage, bytes.len() as u64)?;
        let data = TensorData::from_bytes(bytes, site.matrix_shape(), dtype);
        let value = placed(data, self.placement.of(place.stage), dtype);
        self.values.insert(name.clone(), value.clone());
        self.sites.push(site);
        Ok(Matrix::new(
            &name,
            value,
            linear.unwrap_or(Orientation::OutIn),
        ))
    }

    /// A one-axis parameter.
    ///
    /// # Errors
    /// What the source refuses.
    pub fn vector(&mut self, name: &str, n: usize, place: Place) -> Result<Vector> {
        self.folded(name, &[n], None, place).map(Vector::new)
    }

    /// The output head `name`: where the configuration ties it, the table `tokens`, whose published
    /// name stands with it, unless the weights hold other values for the head, which are then taken;
    /// that is noted.
    ///
    /// # Errors
    /// What the source refuses.
    pub fn head(
        &mut self,
        name: &str,
        shape: [usize; 2],
        (table, tokens): (&str, &Embedding),
        tied: bool,
    ) -> Result<Embedding> {
        if tied {
            if !self.has(name) {
                return Ok(tokens.clone());
            }
            let (head, table) = (self.published(name), self.published(table));
            if self.same(&head, &table, &shape)? {
                self.copies.insert(table, head);
                return Ok(tokens.clone());
            }
            self.notes.push(format!(
                "config.json ties the head to `{table}`, but the file holds another `{head}`, which is used; \"tie_word_embeddings\": false says so"
            ));
        }
        let place = Place::language(Stage::Head);
        Ok(Embedding::new(self.matrix(name, &shape, place)?))
    }

    /// Whether two stored tensors of one shape hold the same values.
    fn same(&self, a: &str, b: &str, shape: &[usize]) -> Result<bool> {
        let (a, b) = (
            self.weights.tensor(a, shape)?,
            self.weights.tensor(b, shape)?,
        );
        Ok(if a.dtype() == b.dtype() {
            a.as_bytes() == b.as_bytes()
        } else {
            a.iter::<f32>().eq(b.iter::<f32>())
        })
    }

    /// Adds a tensor of `bytes` to what its device holds.
    fn count(&mut self, name: &str, stage: Stage, bytes: u64) -> Result<()> {
        let device = self.placement.of(stage);
        if *device == Device::flex() {
            return Ok(());
        }
        let at = match self.held.iter().position(|(other, _)| other == device) {
            Some(at) => at,
            None => {
                self.held.push((device.clone(), 0));
                self.held.len() - 1
            }
        };
        let held = &mut self.held[at].1;
        *held += bytes;
        match self.placement.limit(device) {
            Some(limit) if *held > limit => Err(Error::NoRoom {
                name: name.to_owned(),
                needed: *held,
                limit,
            }),
            _ => Ok(()),
        }
    }

    /// What was read.
    pub fn finish(self) -> Loaded {
        Loaded {
            sites: self.sites,
            values: self.values,
            held: self.held,
            copies: self.copies,
            notes: self.notes,
        }
    }
}

/// The parameters that layers asked for.
pub struct Loaded {
    /// Their places.
    pub sites: Vec<Parameter>,
    /// Their values by published name.
    pub values: BTreeMap<String, Tensor<2>>,
    /// The bytes that they take of each device other than the processor.
    pub held: Vec<(Device, u64)>,
    /// Tensors that the file holds twice, as a tied head beside its table, by the name that is read.
    pub copies: BTreeMap<String, String>,
    /// What a person should know about what was read; a sentence each.
    pub notes: Vec<String>,
}

/// A weight on its device for as long as the model lives: a card keeps such tensors apart from those
/// that come and go, so that no page is kept for the sake of one of them.
fn placed(data: TensorData, device: &Device, dtype: DType) -> Tensor<2> {
    device.memory_persistent_allocations(data, |data| Tensor::from_data(data, (device, dtype)))
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
