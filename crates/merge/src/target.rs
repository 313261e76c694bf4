//! One tensor of the output with everything that it is made from: what a merger is given.

use debias_weights::Dtype;

use crate::card::{Value, Values};
use crate::error::{Error, Result};
use crate::masks::Masks;
use crate::stream::{Grain, Input, Reading};

/// Takes the bytes of a tensor, from any thread and in any order.
pub trait Sink: Sync {
    /// `bytes` of the tensor `tensor`, `offset` bytes behind its first.
    ///
    /// # Errors
    /// A disk that is full or fails.
    fn write(&self, tensor: usize, offset: u64, bytes: &[u8]) -> Result<()>;
}

/// What is the same for all tensors of a merge.
pub struct Run<'a> {
    /// Where the output goes.
    pub sink: &'a dyn Sink,
    /// Seed of everything random.
    pub seed: u64,
    /// Keep masks in the place of draws, for tests against another generator.
    pub masks: Option<&'a Masks>,
    /// Whether NaN and infinity pass.
    pub allow_nonfinite: bool,
    /// Whether to stop.
    pub stop: &'a (dyn Fn() -> bool + Sync),
    /// Takes what a reader should know of the result.
    pub warn: &'a (dyn Fn(String) + Sync),
    /// How tensors are cut.
    pub grain: Grain,
}

impl Run<'_> {
    /// Tells of something odd that is no error.
    pub(crate) fn warn(&self, message: String) {
        (self.warn)(message);
    }

    /// # Errors
    /// [`Error::Interrupted`] once `stop` says so.
    pub(crate) fn check(&self) -> Result<()> {
        match (self.stop)() {
            true => Err(Error::Interrupted),
            false => Ok(()),
        }
    }
}

/// One tensor to be made.
pub struct Target<'a> {
    pub(crate) run: &'a Run<'a>,
    /// Its place in the output.
    pub(crate) at: usize,
    pub(crate) name: &'a str,
    pub(crate) shape: &'a [usize],
    pub(crate) dtype: Dtype,
    /// Inputs in the order of the recipe, the base where it stands there.
    pub(crate) inputs: Vec<Input<'a>>,
    /// What the inputs are called in messages.
    pub(crate) labels: Vec<&'a str>,
    /// The base among the inputs.
    pub(crate) base: Option<usize>,
    /// The inputs besides the base.
    pub(crate) others: Vec<usize>,
    pub(crate) all: Vec<usize>,
    /// The base and the others behind it.
    pub(crate) base_first: Vec<usize>,
    pub(crate) shared: &'a Values,
    /// Parameters of each input.
    pub(crate) each: &'a [Values],
}

impl<'a> Target<'a> {
    /// Its name in the output.
    pub fn name(&self) -> &'a str {
        self.name
    }

    /// Sides, outermost first.
    pub fn shape(&self) -> &'a [usize] {
        self.shape
    }

    /// Number of values.
    pub fn len(&self) -> usize {
        self.shape.iter().product()
    }

    /// Whether it has no values.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The number format of the output.
    pub fn dtype(&self) -> Dtype {
        self.dtype
    }

    /// Bytes per value of the output.
    pub(crate) fn width(&self) -> usize {
        self.dtype.bitsize() / 8
    }

    /// What input `place` is called.
    pub fn label(&self, place: usize) -> &'a str {
        self.labels[place]
    }

    /// The places of the inputs besides the base, in the order of the recipe.
    pub fn others(&self) -> &[usize] {
        &self.others
    }

    /// The same tensor made from other inputs, all alike.
    pub(crate) fn with(&self, inputs: Vec<Input<'a>>, labels: Vec<&'a str>) -> Target<'a> {
        let all: Vec<usize> = (0..inputs.len()).collect();
        Target {
            run: self.run,
            at: self.at,
            name: self.name,
            shape: self.shape,
            dtype: self.dtype,
            inputs,
            labels,
            base: None,
            others: all.clone(),
            base_first: all.clone(),
            all,
            shared: self.shared,
            each: self.each,
        }
    }

    /// All inputs as they are.
    pub fn values(&self) -> Reading<'_> {
        Reading {
            inputs: &self.all,
            origin: None,
            grain: self.run.grain,
        }
    }

    /// The inputs besides the base, with the base (if there is one) subtracted: task vectors.
    pub fn deltas(&self) -> Reading<'_> {
        Reading {
            inputs: &self.others,
            origin: self.base,
            grain: self.run.grain,
        }
    }

    /// A shared parameter that is a number.
    pub fn number(&self, name: &str) -> f64 {
        self.shared.number(name)
    }

    /// A shared parameter that is a flag.
    pub fn flag(&self, name: &str) -> bool {
        self.shared.flag(name)
    }

    /// A shared parameter that is a text.
    pub fn text(&self, name: &str) -> &str {
        self.shared.text(name)
    }

    /// A parameter of every input, in the order of the recipe.
    pub fn of_all(&self, name: &str) -> Vec<f64> {
        self.each.iter().map(|values| values.number(name)).collect()
    }

    /// A parameter of every input besides the base, in the order of the recipe.
    pub fn of_others(&self, name: &str) -> Vec<f64> {
        let number = |place: &usize| self.each[*place].number(name);
        self.others.iter().map(number).collect()
    }

    /// An optional parameter of input `place`.
    pub(crate) fn given(&self, place: usize, name: &str) -> Option<&'a Value> {
        self.each[place].get(name)
    }

    pub(crate) fn write(&self, first: usize, bytes: &[u8]) -> Result<()> {
        let offset = (first * self.width()) as u64;
        self.run.sink.write(self.at, offset, bytes)
    }

    /// The error of a result that the output format cannot hold.
    #[cold]
    pub(crate) fn overflow(&self, start: usize, values: &[f32]) -> Error {
        let largest = values
            .iter()
            .enumerate()
            .max_by(|a, b| a.1.abs().total_cmp(&b.1.abs()));
        Error::Overflow {
            tensor: self.name.to_owned(),
            index: start + largest.map_or(0, |(i, _)| i),
            value: largest.map_or(f32::NAN, |(_, value)| *value),
            dtype: self.dtype,
        }
    }
}

impl Target<'_> {
    /// The base and the one other input, the base first whatever the recipe's order.
    pub(crate) fn base_first(&self) -> Reading<'_> {
        Reading {
            inputs: &self.base_first,
            origin: None,
            grain: self.run.grain,
        }
    }

    /// The inputs besides the base as they are.
    pub(crate) fn only_others(&self) -> Reading<'_> {
        Reading {
            inputs: &self.others,
            origin: None,
            grain: self.run.grain,
        }
    }
}
