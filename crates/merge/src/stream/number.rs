//! Stored numbers to f32 and back, in loops that vectorise.

use debias_weights::Dtype;
use half::f16;
use half::slice::HalfFloatSliceExt;

/// Bits of the exponent of an f32; all of them are set in infinity and NaN.
const EXPONENT: u32 = 0x7f80_0000;

/// Values per call of the processor's conversion to f16.
const F16_PIECE: usize = 1024;

/// Bytes of one value of a float format that is merged; `None` for other formats. F64 is read, and
/// never written.
pub(crate) fn width(dtype: Dtype) -> Option<usize> {
    match dtype {
        Dtype::F64 => Some(8),
        Dtype::F32 => Some(4),
        Dtype::F16 | Dtype::BF16 => Some(2),
        _ => None,
    }
}

/// Widens `bytes` (little endian, any alignment) into `out`, or rounds them where they have more
/// bits; whether all values are finite.
///
/// `dtype` is one that [`width`] knows.
#[inline(always)]
pub(crate) fn decode(dtype: Dtype, bytes: &[u8], out: &mut [f32]) -> bool {
    match dtype {
        Dtype::BF16 => each(bytes, out, |pair| u32::from(u16::from_le_bytes(pair)) << 16),
        Dtype::F16 => each(bytes, out, |pair| f16_bits(u16::from_le_bytes(pair))),
        Dtype::F64 => each(bytes, out, |value| {
            (f64::from_le_bytes(value) as f32).to_bits()
        }),
        _ => each(bytes, out, u32::from_le_bytes),
    }
}

#[inline(always)]
fn each<const N: usize>(bytes: &[u8], out: &mut [f32], bits: impl Fn([u8; N]) -> u32) -> bool {
    let (values, _) = bytes.as_chunks::<N>();
    let mut odd = 0u32;
    for (value, out) in values.iter().zip(out.iter_mut()) {
        let bits = bits(*value);
        odd |= u32::from(bits & EXPONENT == EXPONENT);
        *out = f32::from_bits(bits);
    }
    odd == 0
}

/// An f16 as the bits of the f32 of the same value, without a branch.
#[inline(always)]
fn f16_bits(value: u16) -> u32 {
    let value = u32::from(value);
    let magnitude = (value & 0x7fff) << 13;
    // Read as an f32 the exponent is 112 too small; the product mends it, also of subnormal values.
    let scaled = (f32::from_bits(magnitude) * f32::from_bits(0x7780_0000)).to_bits();
    let odd = if magnitude >= 0x0f80_0000 {
        EXPONENT
    } else {
        0
    };
    scaled | odd | ((value & 0x8000) << 16)
}

/// Rounds `values` to nearest, ties to even, into `out`; whether all of them are finite there.
///
/// `dtype` is one that [`width`] knows.
#[inline(always)]
pub(crate) fn encode(dtype: Dtype, values: &[f32], out: &mut [u8]) -> bool {
    match dtype {
        Dtype::BF16 => {
            let (places, _) = out.as_chunks_mut::<2>();
            for (value, place) in values.iter().zip(places) {
                *place = bf16_bits(*value).to_le_bytes();
            }
            // From here on a value rounds to infinity.
            below(values, 0x7f7f_8000)
        }
        Dtype::F16 => {
            let mut rounded = [f16::ZERO; F16_PIECE];
            for (values, out) in values.chunks(F16_PIECE).zip(out.chunks_mut(2 * F16_PIECE)) {
                let rounded = &mut rounded[..values.len()];
                rounded.convert_from_f32_slice(values);
                let (places, _) = out.as_chunks_mut::<2>();
                for (value, place) in rounded.iter().zip(places) {
                    *place = value.to_le_bytes();
                }
            }
            below(values, 65_520f32.to_bits())
        }
        _ => {
            let (places, _) = out.as_chunks_mut::<4>();
            for (value, place) in values.iter().zip(places) {
                *place = value.to_le_bytes();
            }
            below(values, EXPONENT)
        }
    }
}

/// The upper half of an f32, rounded to nearest, ties to even.
#[inline(always)]
fn bf16_bits(value: f32) -> u16 {
    let bits = value.to_bits();
    let rounded = bits.wrapping_add(0x7fff + ((bits >> 16) & 1)) >> 16;
    let quiet = (bits >> 16) | 0x40;
    (if value.is_nan() { quiet } else { rounded }) as u16
}

/// Whether the magnitudes of all values are below the f32 of these bits.
#[inline(always)]
fn below(values: &[f32], bits: u32) -> bool {
    let mut odd = 0u32;
    for value in values {
        odd |= u32::from(value.to_bits() & 0x7fff_ffff >= bits);
    }
    odd == 0
}

#[cfg(test)]
mod tests {
    use super::*;
    use half::bf16;

    #[test]
    fn every_half_number_is_read_as_the_crate_half_reads_it() {
        let all: Vec<u16> = (0..=u16::MAX).collect();
        let bytes: Vec<u8> = all.iter().flat_map(|v| v.to_le_bytes()).collect();
        let mut out = vec![0.0; all.len()];
        assert!(!decode(Dtype::F16, &bytes, &mut out));
        for (bits, got) in all.iter().zip(&out) {
            let want = f16::from_bits(*bits).to_f32();
            assert!(got.to_bits() == want.to_bits() || (got.is_nan() && want.is_nan()));
        }
        assert!(!decode(Dtype::BF16, &bytes, &mut out));
        for (bits, got) in all.iter().zip(&out) {
            assert_eq!(got.to_bits(), u32::from(*bits) << 16);
        }
    }

    #[test]
    fn numbers_of_64_bits_are_rounded() {
        let values = [0.1, -1.0, 1e-50, 16_777_217.0];
        let bytes: Vec<u8> = values.iter().flat_map(|v: &f64| v.to_le_bytes()).collect();
        let mut out = [0.0; 4];
        assert!(decode(Dtype::F64, &bytes, &mut out));
        assert_eq!(out, [0.1, -1.0, 0.0, 16_777_216.0]);
        for odd in [f64::NAN, f64::INFINITY, 1e300] {
            assert!(!decode(Dtype::F64, &odd.to_le_bytes(), &mut out[..1]));
        }
    }

    #[test]
    fn rounding_is_to_nearest_even_and_overflow_is_told() {
        let mut values: Vec<f32> = (0..200_000u32)
            .map(|i| f32::from_bits(i.wrapping_mul(0x9e37_79b9)))
            .filter(|v| v.is_finite() && v.abs() < 60_000.0)
            .collect();
        values.extend([0.0, -0.0, 1.0 + 2f32.powi(-9), 1.0 + 3.0 * 2f32.powi(-9)]);
        let mut out = vec![0; 2 * values.len()];
        assert!(encode(Dtype::BF16, &values, &mut out));
        for (value, stored) in values.iter().zip(out.as_chunks::<2>().0) {
            assert_eq!(*stored, bf16::from_f32(*value).to_le_bytes());
        }
        assert!(encode(Dtype::F16, &values, &mut out));
        for (value, stored) in values.iter().zip(out.as_chunks::<2>().0) {
            assert_eq!(*stored, f16::from_f32(*value).to_le_bytes());
        }
        let mut one = [0; 2];
        assert!(encode(Dtype::F16, &[65_519.0], &mut one));
        assert!(!encode(Dtype::F16, &[65_520.0], &mut one));
        assert!(!encode(Dtype::BF16, &[f32::MAX], &mut one));
        assert!(!encode(Dtype::BF16, &[f32::NAN], &mut one));
    }
}
