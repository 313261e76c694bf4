//! One bit per element: packed from flags, and laid over values.

/// Eight flags for every byte: all ones where its bit is set, the first in the lowest bits.
static FLAGS: [u64; 256] = flags();

const fn flags() -> [u64; 256] {
    let mut flags = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        let mut bit = 0;
        while bit < 8 {
            flags[byte] |= ((byte as u64 >> bit) & 1) * (0xff << (8 * bit));
            bit += 1;
        }
        byte += 1;
    }
    flags
}

/// Sixty-four flags of 0 or 1 as a word, the first in the lowest bit.
///
/// Never inlined: products of 64 bits are slower as vectors than one by one.
#[inline(never)]
pub(super) fn packed(flags: &[u8; 64]) -> u64 {
    let (bytes, _) = flags.as_chunks::<8>();
    let mut word = 0;
    for (at, bytes) in bytes.iter().enumerate() {
        // The product moves bit 8k to bit 56 + k.
        let gathered = u64::from_le_bytes(*bytes).wrapping_mul(0x0102_0408_1020_4080) >> 56;
        word |= gathered << (8 * at);
    }
    word
}

/// Draws that are made at a time, a multiple of 64.
const PIECE: usize = 512;

/// Sets a bit for each of `len` elements whose draw is below `below`.
#[inline(always)]
pub(super) fn pack(words: &mut [u64], len: usize, below: u64, fill: impl Fn(usize, &mut [u64])) {
    // Draws first, then flags: loops over one kind of number each, of a length that is not known
    // when they are compiled, are what vectorises.
    let mut draws = [0u64; PIECE];
    let mut flags = [0u8; PIECE];
    for (start, words) in (0..len).step_by(PIECE).zip(words.chunks_mut(PIECE / 64)) {
        let taken = PIECE.min(len - start);
        fill(start, &mut draws[..taken]);
        for (flag, draw) in flags[..taken].iter_mut().zip(&draws) {
            *flag = u8::from(*draw < below);
        }
        flags[taken..].fill(0);
        let (flags, _) = flags.as_chunks::<64>();
        for (word, flags) in words.iter_mut().zip(flags) {
            *word = packed(flags);
        }
    }
}

/// Zeroes the values whose bits are not set.
#[inline(always)]
pub(super) fn mask(values: &mut [f32], words: &[u64]) {
    // Flags first, then values, for the same reason.
    let mut flags = [0u8; PIECE];
    for (values, words) in values.chunks_mut(PIECE).zip(words.chunks(PIECE / 64)) {
        let (eights, _) = flags.as_chunks_mut::<8>();
        for (eights, word) in eights.chunks_exact_mut(8).zip(words) {
            for (flags, byte) in eights.iter_mut().zip(word.to_le_bytes()) {
                *flags = FLAGS[usize::from(byte)].to_le_bytes();
            }
        }
        for (value, flag) in values.iter_mut().zip(&flags) {
            let mask = i32::from(*flag as i8) as u32;
            *value = f32::from_bits(value.to_bits() & mask);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packed_bits_mask_what_the_flags_say() {
        for len in [1usize, 7, 64, 65, 200, 513, 1100] {
            let kept = |i: usize| i * i % 7 < 3;
            let mut words = vec![0; len.div_ceil(64)];
            pack(&mut words, len, 3, |start, draws| {
                for (i, draw) in (start..).zip(draws) {
                    *draw = (i * i % 7) as u64;
                }
            });
            let mut values: Vec<f32> = (0..len).map(|i| i as f32 + 1.0).collect();
            mask(&mut values, &words);
            for (i, value) in values.iter().enumerate() {
                assert_eq!(*value, if kept(i) { i as f32 + 1.0 } else { 0.0 });
            }
        }
    }
}
