//! The float formats of checkpoints, widened to `f32`.

use half::slice::HalfFloatSliceExt;
use half::{bf16, f16};
use rayon::prelude::*;
use safetensors::Dtype;

/// Values per call of the vectorised half conversion.
const BLOCK: usize = 1024;

/// Bytes checked at a time by one thread; a multiple of every value's size. It also bounds how much
/// is read in vain when the first value is already odd.
const STRETCH: usize = 1 << 20;

/// Whether [`widen`] reads `dtype`.
pub(crate) fn readable(dtype: Dtype) -> bool {
    matches!(dtype, Dtype::F64 | Dtype::F32 | Dtype::F16 | Dtype::BF16)
}

/// `bytes` (little endian, any alignment) as `f32`, rounded to nearest where they have more bits;
/// `None` when `dtype` is not a float format of 16, 32 or 64 bits.
pub(crate) fn widen(dtype: Dtype, bytes: &[u8]) -> Option<Vec<f32>> {
    match dtype {
        Dtype::F64 => Some(each(bytes, |value| f64::from_le_bytes(value) as f32)),
        Dtype::F32 => Some(each(bytes, f32::from_le_bytes)),
        Dtype::BF16 => Some(each(bytes, |pair| {
            f32::from_bits(u32::from(u16::from_le_bytes(pair)) << 16)
        })),
        Dtype::F16 => Some(from_f16(bytes)),
        _ => None,
    }
}

/// `values` in the number format `dtype`, rounded to nearest, ties to even; `None` as in [`widen`].
pub(crate) fn narrow(dtype: Dtype, values: &[f32]) -> Option<Vec<u8>> {
    match dtype {
        Dtype::F64 => {
            let stored = values.iter().map(|v| f64::from(*v).to_le_bytes());
            Some(stored.flatten().collect())
        }
        Dtype::F32 => Some(values.iter().flat_map(|v| v.to_le_bytes()).collect()),
        Dtype::BF16 => {
            let stored = values.iter().map(|v| bf16::from_f32(*v).to_le_bytes());
            Some(stored.flatten().collect())
        }
        Dtype::F16 => {
            let stored = values.iter().map(|v| f16::from_f32(*v).to_le_bytes());
            Some(stored.flatten().collect())
        }
        _ => None,
    }
}

fn each<const N: usize>(bytes: &[u8], convert: impl Fn([u8; N]) -> f32) -> Vec<f32> {
    let (values, _) = bytes.as_chunks::<N>();
    values.iter().map(|value| convert(*value)).collect()
}

fn from_f16(bytes: &[u8]) -> Vec<f32> {
    let (values, _) = bytes.as_chunks::<2>();
    let mut out = vec![0.0; values.len()];
    // The crate converts with the processor's own instruction, but only aligned slices.
    let mut aligned = [f16::ZERO; BLOCK];
    for (values, out) in values.chunks(BLOCK).zip(out.chunks_mut(BLOCK)) {
        let aligned = &mut aligned[..values.len()];
        for (to, from) in aligned.iter_mut().zip(values) {
            *to = f16::from_le_bytes(*from);
        }
        aligned.convert_to_f32_slice(out);
    }
    out
}

/// The position of the first NaN or infinity.
pub(crate) fn first_odd(values: &[f32]) -> Option<usize> {
    // Without an early exit the common case, all finite, is checked many values at a time.
    let finite = values.iter().fold(true, |all, v| all & v.is_finite());
    if finite {
        return None;
    }
    values.iter().position(|value| !value.is_finite())
}

/// Position and value of the first NaN or infinity among stored values of a [`readable`] `dtype`, or
/// of the first that is beyond the range of `f32`; the bits are looked at where they lie.
pub(crate) fn first_odd_stored(dtype: Dtype, bytes: &[u8]) -> Option<(usize, f32)> {
    let (size, odd): (usize, fn(&[u8]) -> bool) = match dtype {
        Dtype::F64 => (8, |bytes| {
            let (values, _) = bytes.as_chunks::<8>();
            let mut values = values.iter().map(|v| f64::from_le_bytes(*v) as f32);
            values.any(|v| !v.is_finite())
        }),
        Dtype::F32 => (4, |bytes| {
            let (values, _) = bytes.as_chunks::<4>();
            let mask = 0x7f80_0000;
            values.iter().fold(false, |any, v| {
                any | (u32::from_le_bytes(*v) & mask == mask)
            })
        }),
        Dtype::BF16 => (2, |bytes| any_saturated(bytes, 0x7f80)),
        Dtype::F16 => (2, |bytes| any_saturated(bytes, 0x7c00)),
        _ => return None,
    };
    let position = bytes.par_chunks(STRETCH).position_first(odd)?;
    let start = position * STRETCH;
    let stretch = &bytes[start..bytes.len().min(start + STRETCH)];
    let values = widen(dtype, stretch)?;
    let index = first_odd(&values)?;
    Some((start / size + index, values[index]))
}

/// Whether a value of 16 bits has all bits of `exponent` set.
fn any_saturated(bytes: &[u8], exponent: u16) -> bool {
    let (values, _) = bytes.as_chunks::<2>();
    // Without an early exit many values are checked at a time.
    values.iter().fold(false, |any, v| {
        any | (u16::from_le_bytes(*v) & exponent == exponent)
    })
}
