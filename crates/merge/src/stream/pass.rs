//! Passes over one tensor: fold it to a number, or map it to the output.

use std::cell::RefCell;
use std::ops::Range;

use rayon::prelude::*;

use super::input::Input;
use super::number;
use super::reading::{Grain, Reading};
use crate::error::{Error, Result};
use crate::target::Target;

/// Decoded values of all inputs of a pass, from [`Block::at`] on; a kernel may change them.
#[derive(Debug)]
pub struct Block<'a> {
    /// Row-major place of the first value in the tensor.
    pub at: usize,
    /// Which chunk of the tensor this belongs to.
    pub chunk: usize,
    /// Which block of the chunk this is.
    pub place: usize,
    len: usize,
    stride: usize,
    inputs: usize,
    values: &'a mut [f32],
}

impl Block<'_> {
    /// Number of values of each input.
    #[inline(always)]
    #[allow(clippy::len_without_is_empty)]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Number of inputs.
    #[inline(always)]
    pub fn count(&self) -> usize {
        self.inputs
    }

    /// Input `i` of the reading, the origin subtracted.
    #[inline(always)]
    pub fn input(&self, i: usize) -> &[f32] {
        &self.values[i * self.stride..][..self.len]
    }

    /// The same, to be changed in place.
    #[inline(always)]
    pub fn input_mut(&mut self, i: usize) -> &mut [f32] {
        &mut self.values[i * self.stride..][..self.len]
    }

    /// The origin of the reading.
    #[inline(always)]
    pub fn base(&self) -> &[f32] {
        self.input(self.inputs)
    }
}

/// A kernel that turns blocks into something small. `block` is compiled for every set of vector
/// instructions: mark it `#[inline(always)]`.
pub trait Fold: Sync {
    /// What a chunk gives.
    type Part: Send;

    /// The part of an empty chunk.
    fn part(&self) -> Self::Part;

    /// Adds a block.
    fn block(&self, block: &mut Block, part: &mut Self::Part);
}

/// A kernel that gives every value of the output. `block` is compiled for every set of vector
/// instructions: mark it `#[inline(always)]`.
pub trait Each: Sync {
    /// Writes the values of a block.
    fn block(&self, block: &mut Block, out: &mut [f32]);
}

thread_local! {
    /// Room for decoded blocks; kept, because giving it back would fault its pages in again.
    static SCRATCH: RefCell<(Vec<f32>, Vec<u8>)> = const { RefCell::new((Vec::new(), Vec::new())) };
}

/// A chunk of a pass.
struct Chunk<'a> {
    target: &'a Target<'a>,
    reading: Reading<'a>,
    at: usize,
}

impl Chunk<'_> {
    fn range(&self) -> Range<usize> {
        let start = self.at * self.reading.grain.chunk;
        start..(start + self.reading.grain.chunk).min(self.target.len())
    }

    /// Decodes `values.len() / (inputs + origin)` values of each input.
    #[inline(always)]
    fn read<'v>(&self, at: usize, len: usize, values: &'v mut [f32]) -> Result<Block<'v>> {
        let Reading { inputs, origin, .. } = self.reading;
        let stride = self.reading.grain.block;
        let (others, base) = values.split_at_mut(inputs.len() * stride);
        if let Some(origin) = origin {
            self.decode(origin, at, &mut base[..len])?;
        }
        for (place, others) in inputs.iter().zip(others.chunks_mut(stride)) {
            let values = &mut others[..len];
            self.decode(*place, at, values)?;
            if origin.is_some() {
                for (value, base) in values.iter_mut().zip(&base[..len]) {
                    *value -= base;
                }
            }
        }
        let within = at - self.at * self.reading.grain.chunk;
        Ok(Block {
            at,
            chunk: self.at,
            place: within / stride,
            len,
            stride,
            inputs: inputs.len(),
            values,
        })
    }

    #[inline(always)]
    fn decode(&self, place: usize, at: usize, out: &mut [f32]) -> Result<()> {
        let finite = self.target.input(place).read(at, out);
        if finite || self.target.run.allow_nonfinite {
            Ok(())
        } else {
            Err(non_finite(self.target, place))
        }
    }

    /// Room for one block of every input.
    fn room(&self) -> usize {
        let rows = self.reading.inputs.len() + usize::from(self.reading.origin.is_some());
        rows * self.reading.grain.block
    }
}

/// Counts, for the message, what a block has shown to be there.
#[cold]
fn non_finite(target: &Target, place: usize) -> Error {
    let mut block = vec![0.0; Grain::default().block];
    let mut count = 0;
    let mut first = None;
    for start in (0..target.len()).step_by(block.len()) {
        let end = (start + block.len()).min(target.len());
        let values = &mut block[..end - start];
        if !target.input(place).read(start, values) {
            count += values.iter().filter(|v| !v.is_finite()).count();
            let odd = values.iter().position(|v| !v.is_finite());
            first = first.or(odd.map(|i| start + i));
        }
    }
    Error::NonFinite {
        tensor: target.name().to_owned(),
        model: target.label(place).to_owned(),
        count,
        index: first.unwrap_or_default(),
    }
}

struct FoldChunk<'a, F: Fold> {
    chunk: Chunk<'a>,
    fold: &'a F,
    part: &'a mut F::Part,
    values: &'a mut [f32],
}

impl<F: Fold> pulp::NullaryFnOnce for FoldChunk<'_, F> {
    type Output = Result<()>;

    #[inline(always)]
    fn call(self) -> Self::Output {
        let range = self.chunk.range();
        let step = self.chunk.reading.grain.block;
        for start in range.clone().step_by(step) {
            let len = step.min(range.end - start);
            let mut block = self.chunk.read(start, len, self.values)?;
            self.fold.block(&mut block, self.part);
        }
        Ok(())
    }
}

struct EachChunk<'a, E: Each> {
    chunk: Chunk<'a>,
    each: &'a E,
    values: &'a mut [f32],
    out: &'a mut [f32],
    bytes: &'a mut [u8],
}

impl<E: Each> pulp::NullaryFnOnce for EachChunk<'_, E> {
    type Output = Result<()>;

    #[inline(always)]
    fn call(self) -> Self::Output {
        let range = self.chunk.range();
        let step = self.chunk.reading.grain.block;
        let target = self.chunk.target;
        let width = target.width();
        for start in range.clone().step_by(step) {
            let len = step.min(range.end - start);
            let mut block = self.chunk.read(start, len, self.values)?;
            let out = &mut self.out[..len];
            self.each.block(&mut block, out);
            let place = (start - range.start) * width;
            let bytes = &mut self.bytes[place..place + len * width];
            if !number::encode(target.dtype(), out, bytes) && !target.run.allow_nonfinite {
                return Err(target.overflow(start, out));
            }
        }
        target.write(range.start, self.bytes)
    }
}

impl Target<'_> {
    /// Folds the chunks of the tensor; parts come in the order of chunks.
    ///
    /// # Errors
    /// A value that is not finite, unless that was allowed; an interruption.
    pub fn fold<F: Fold>(&self, reading: Reading, fold: &F) -> Result<Vec<F::Part>> {
        self.run.check()?;
        (0..reading.grain.chunks(self.len()))
            .into_par_iter()
            .map(|at| {
                let mut part = fold.part();
                self.fold_chunk(reading, fold, at, &mut part)?;
                Ok(part)
            })
            .collect()
    }

    /// Folds the chunks of the tensor into one part, in no particular order: for counts, whose sums
    /// have no last bits.
    ///
    /// # Errors
    /// As [`Target::fold`].
    pub fn tally<F: Fold>(
        &self,
        reading: Reading,
        fold: &F,
        join: impl Fn(F::Part, F::Part) -> F::Part + Sync,
    ) -> Result<F::Part> {
        self.run.check()?;
        (0..reading.grain.chunks(self.len()))
            .into_par_iter()
            .try_fold(
                || fold.part(),
                |mut part, at| {
                    self.fold_chunk(reading, fold, at, &mut part)?;
                    Ok(part)
                },
            )
            .try_reduce_with(|a, b| Ok(join(a, b)))
            .unwrap_or_else(|| Ok(fold.part()))
    }

    fn fold_chunk<F: Fold>(
        &self,
        reading: Reading,
        fold: &F,
        at: usize,
        part: &mut F::Part,
    ) -> Result<()> {
        SCRATCH.with_borrow_mut(|(values, _)| {
            let chunk = Chunk {
                target: self,
                reading,
                at,
            };
            let room = chunk.room();
            grow(values, room);
            pulp::Arch::new().dispatch(FoldChunk {
                chunk,
                fold,
                part,
                values: &mut values[..room],
            })
        })
    }

    /// Writes the tensor, each value made by the kernel.
    ///
    /// # Errors
    /// A value that is not finite, before or behind the kernel, unless that was allowed; a disk
    /// that is full.
    pub fn each<E: Each>(&self, reading: Reading, each: &E) -> Result<()> {
        self.run.check()?;
        (0..reading.grain.chunks(self.len()))
            .into_par_iter()
            .try_for_each(|at| {
                SCRATCH.with_borrow_mut(|(values, bytes)| {
                    let chunk = Chunk {
                        target: self,
                        reading,
                        at,
                    };
                    let room = chunk.room();
                    grow(values, room + reading.grain.block);
                    let length = chunk.range().len() * self.width();
                    if bytes.len() < length {
                        bytes.resize(length, 0);
                    }
                    let (values, out) = values.split_at_mut(room);
                    pulp::Arch::new().dispatch(EachChunk {
                        chunk,
                        each,
                        values,
                        out: &mut out[..reading.grain.block],
                        bytes: &mut bytes[..length],
                    })
                })
            })
    }

    pub(crate) fn input(&self, place: usize) -> &Input<'_> {
        &self.inputs[place]
    }
}

fn grow(values: &mut Vec<f32>, len: usize) {
    if values.len() < len {
        values.resize(len, 0.0);
    }
}

impl Target<'_> {
    /// Decodes `len` values from `at` on, outside any pass: for samples.
    ///
    /// # Errors
    /// A value that is not finite, unless that was allowed.
    pub(crate) fn peek(
        &self,
        reading: Reading,
        at: usize,
        len: usize,
        see: impl FnOnce(&mut Block),
    ) -> Result<()> {
        let grain = Grain {
            block: len.max(1),
            chunk: self.len().max(1),
        };
        let chunk = Chunk {
            target: self,
            reading: Reading { grain, ..reading },
            at: 0,
        };
        SCRATCH.with_borrow_mut(|(values, _)| {
            let room = chunk.room();
            grow(values, room);
            see(&mut chunk.read(at, len, &mut values[..room])?);
            Ok(())
        })
    }
}
