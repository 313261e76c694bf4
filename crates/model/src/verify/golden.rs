//! Reading golden files.

use debias_weights::{Checkpoint, Dtype};

use crate::error::Result;

/// Batches a golden file may hold; the last one has no name.
const BATCHES: [&str; 5] = ["single.", "right.", "left.", "textonly.", ""];

/// Last parts of the names of inputs.
const INPUTS: [&str; 5] = [
    "input_ids",
    "attention_mask",
    "labels",
    "token_type_ids",
    "pixel_attention_mask",
];

/// Values of either kind.
#[derive(Clone, Debug)]
pub(crate) enum Values {
    /// Floating-point numbers.
    Numbers(Vec<f32>),
    /// Ids and counts, compared exactly.
    Ids(Vec<i64>),
}

/// A golden file.
pub(crate) struct Golden<'a>(pub &'a Checkpoint);

impl Golden<'_> {
    /// All tensor names.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.names()
    }

    /// Whether there is a tensor `name`.
    pub fn has(&self, name: &str) -> bool {
        self.0.contains(name)
    }

    /// The shape of a tensor.
    pub fn shape(&self, name: &str) -> Option<&[usize]> {
        self.0.info(name).map(|info| info.shape.as_slice())
    }

    /// Everything that is to be computed.
    pub fn outputs(&self) -> impl Iterator<Item = &str> {
        self.names().filter(|name| {
            let last = name.rsplit('.').next().unwrap_or(name);
            !INPUTS.contains(&last)
        })
    }

    /// Names of the batches that are here, with their dots.
    pub fn batches(&self) -> Vec<String> {
        let mut batches = BATCHES.map(str::to_owned).to_vec();
        batches.retain(|prefix| self.has(&format!("{prefix}input_ids")));
        batches
    }

    /// Parameters whose gradients are here.
    pub fn gradients(&self) -> impl Iterator<Item = String> + '_ {
        self.names()
            .filter_map(|name| name.strip_prefix("grad.").map(str::to_owned))
    }

    /// The numbers of a tensor; `None` when it is absent.
    ///
    /// # Errors
    /// Numbers that are not finite.
    pub fn floats_if_present(&self, name: &str) -> Result<Option<Vec<f32>>> {
        match self.shape(name) {
            Some(shape) => Ok(Some(self.0.f32(name, shape)?)),
            None => Ok(None),
        }
    }

    /// Integers of any width; `None` when the tensor is absent or holds something else.
    pub fn ints(&self, name: &str) -> Option<Vec<i64>> {
        let raw = self.0.raw(name).ok()?;
        let size = match raw.dtype {
            Dtype::I64 => 8,
            Dtype::I32 => 4,
            Dtype::U8 | Dtype::I8 | Dtype::BOOL => 1,
            _ => return None,
        };
        let values = raw.bytes.chunks_exact(size).map(|bytes| {
            let mut wide = [0; 8];
            wide[..size].copy_from_slice(bytes);
            let value = i64::from_le_bytes(wide);
            match raw.dtype {
                Dtype::I32 => i64::from(value as i32),
                Dtype::I8 => i64::from(value as i8),
                _ => value,
            }
        });
        Some(values.collect())
    }

    /// The values of a tensor.
    pub fn values(&self, name: &str) -> Option<Values> {
        match self.ints(name) {
            Some(ids) => Some(Values::Ids(ids)),
            None => self.floats_if_present(name).ok()?.map(Values::Numbers),
        }
    }
}
