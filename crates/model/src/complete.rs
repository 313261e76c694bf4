//! A checkpoint that counts what it lacks, so that one error names every missing tensor.

use std::cell::RefCell;

use burn::tensor::TensorData;
use debias_weights::Checkpoint;

use crate::error::{Error, Result};
use crate::loader::Weights;
use crate::names::listed;

/// Zeros that may stand for missing tensors until all of them are known.
const ZEROS: usize = 1 << 24;

/// The weights of a checkpoint; what it does not have is noted and read as zeros, which nobody
/// sees because [`Complete::check`] then refuses the checkpoint.
pub(crate) struct Complete<'a> {
    checkpoint: &'a Checkpoint,
    missing: RefCell<Missing>,
}

#[derive(Default)]
struct Missing {
    names: Vec<String>,
    zeros: usize,
}

impl<'a> Complete<'a> {
    /// The weights of `checkpoint`.
    pub fn new(checkpoint: &'a Checkpoint) -> Self {
        Self {
            checkpoint,
            missing: RefCell::default(),
        }
    }

    /// Refuses a checkpoint that was asked for what it does not have.
    ///
    /// # Errors
    /// [`Error::MissingTensors`].
    pub fn check(&self) -> Result<()> {
        let missing = self.missing.borrow();
        match missing.names.is_empty() {
            true => Ok(()),
            false => Err(self.refusal(&missing.names)),
        }
    }

    fn refusal(&self, names: &[String]) -> Error {
        Error::MissingTensors {
            location: self.checkpoint.location(),
            names: listed(names),
        }
    }
}

impl Weights for Complete<'_> {
    fn has(&self, name: &str) -> bool {
        self.checkpoint.has(name)
    }

    fn tensor(&self, name: &str, shape: &[usize]) -> Result<TensorData> {
        if self.has(name) {
            return self.checkpoint.tensor(name, shape);
        }
        let mut missing = self.missing.borrow_mut();
        missing.names.push(name.to_owned());
        let size = shape
            .iter()
            .try_fold(1_usize, |n, axis| n.checked_mul(*axis));
        let size = size.filter(|n| *n > 0 && *n <= ZEROS.saturating_sub(missing.zeros));
        match size {
            Some(n) => {
                missing.zeros += n;
                Ok(TensorData::new(vec![0.0_f32; n], shape.to_vec()))
            }
            // Shapes beyond all bounds: what is known so far has to do.
            None => Err(self.refusal(&missing.names)),
        }
    }
}
