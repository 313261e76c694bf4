//! The tensors of a checkpoint: borrowed, shared or widened, and checked on the way.

use std::collections::BTreeSet;

use bytes::Bytes;
use safetensors::Dtype;

use crate::checkpoint::{Checkpoint, Shard};
use crate::error::{Error, Result};
use crate::float;
use crate::header::{Entry, TensorInfo};
use crate::pytorch::gather;

/// A tensor as it is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Raw<'a> {
    /// Number format of `bytes`.
    pub dtype: Dtype,
    /// Sides, outermost first.
    pub shape: &'a [usize],
    /// Row-major little-endian values, of any alignment.
    pub bytes: &'a [u8],
}

/// A tensor that outlives its checkpoint: `bytes` keeps the file's map, and no more, alive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shared {
    /// Number format of `bytes`.
    pub dtype: Dtype,
    /// Sides, outermost first.
    pub shape: Vec<usize>,
    /// Row-major little-endian values, of any alignment.
    pub bytes: Bytes,
}

impl Checkpoint {
    /// The tensors' names, sorted.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.tensors.keys().map(String::as_str)
    }

    /// Whether there is a tensor `name`.
    pub fn contains(&self, name: &str) -> bool {
        self.tensors.contains_key(name)
    }

    /// Dtype and shape of a tensor, if it is there.
    pub fn info(&self, name: &str) -> Option<&TensorInfo> {
        self.tensors.get(name).map(|(_, entry)| &entry.info)
    }

    /// A tensor as it is stored, borrowed without a copy.
    ///
    /// # Errors
    /// When there is no such tensor, or it is a PyTorch view whose values are not row-major in
    /// the file; [`Self::shared`] reads those too.
    pub fn raw(&self, name: &str) -> Result<Raw<'_>> {
        let (shard, entry) = self.find(name)?;
        if entry.strides.is_some() {
            return Err(Error::Strided {
                location: shard.place.clone(),
                name: name.to_owned(),
            });
        }
        Ok(Raw {
            dtype: entry.info.dtype,
            shape: &entry.info.shape,
            bytes: &shard.bytes[entry.start..entry.end],
        })
    }

    /// A tensor as it is stored, sharing the file's memory map; the values of a PyTorch view that
    /// is not row-major are gathered into memory of their own.
    ///
    /// # Errors
    /// When there is no such tensor.
    pub fn shared(&self, name: &str) -> Result<Shared> {
        let (shard, entry) = self.find(name)?;
        let TensorInfo { dtype, shape } = entry.info.clone();
        let bytes = match &entry.strides {
            None => shard.bytes.slice(entry.start..entry.end),
            Some(strides) => {
                let view = &shard.bytes[entry.start..entry.end];
                Bytes::from(gather(view, dtype.bitsize() / 8, &shape, strides))
            }
        };
        Ok(Shared {
            dtype,
            shape,
            bytes,
        })
    }

    /// [`Self::shared`] for weights: the shape is `expected_shape`, the values are floats of 16
    /// to 64 bits, and finite.
    ///
    /// # Errors
    /// When there is no such tensor, its shape is not `expected_shape`, it is not F64, F32, F16 or
    /// BF16, or it holds NaN or infinity (see [`Self::allow_nan`]).
    pub fn checked(&self, name: &str, expected_shape: &[usize]) -> Result<Shared> {
        let (shard, entry) = self.find(name)?;
        if entry.info.shape != expected_shape {
            return Err(Error::Shape {
                location: shard.place.clone(),
                name: name.to_owned(),
                found: entry.info.shape.clone(),
                expected: expected_shape.to_vec(),
            });
        }
        if !float::readable(entry.info.dtype) {
            return Err(Error::NotFloat {
                location: shard.place.clone(),
                name: name.to_owned(),
                found: entry.info.dtype,
            });
        }
        let tensor = self.shared(name)?;
        if !self.allow_nan
            && let Some((index, value)) = float::first_odd_stored(tensor.dtype, &tensor.bytes)
        {
            return Err(Error::NotFinite {
                location: shard.place.clone(),
                name: name.to_owned(),
                index,
                value,
                mend: "fetch them again, or accept them with --allow-nan",
            });
        }
        Ok(tensor)
    }

    /// The row-major values of a tensor, widened to `f32`.
    ///
    /// # Errors
    /// As [`Self::checked`].
    pub fn f32(&self, name: &str, expected_shape: &[usize]) -> Result<Vec<f32>> {
        let tensor = self.checked(name, expected_shape)?;
        Ok(float::widen(tensor.dtype, &tensor.bytes).expect("the dtype was checked"))
    }

    /// The tensors that are not in `used`, sorted.
    pub fn unused(&self, used: &BTreeSet<String>) -> Vec<String> {
        self.tensors
            .keys()
            .filter(|name| !used.contains(*name))
            .cloned()
            .collect()
    }

    fn find(&self, name: &str) -> Result<(&Shard, &Entry)> {
        match self.tensors.get(name) {
            Some((shard, entry)) => Ok((&self.shards[*shard], entry)),
            None => Err(Error::MissingTensor {
                location: self.location(),
                name: name.to_owned(),
                mend: "the weights do not belong to this config.json, or are incomplete",
            }),
        }
    }
}
