//! One bit per element: packed from flags, and laid over values, eight at a time.

/// Eight masks for every byte: all ones where its bit is set.
static MASKS: [[u32; 8]; 256] = masks();

const fn masks() -> [[u32; 8]; 256] {
    let mut masks = [[0; 8]; 256];
    let mut byte = 0;
    while byte < 256 {
        let mut bit = 0;
        while bit < 8 {
            if byte >> bit & 1 == 1 {
                masks[byte][bit] = u32::MAX;
            }
            bit += 1;
        }
        byte += 1;
    }
    masks
}

/// Sixty-four flags of 0 or 1 as a word, the first in the lowest bit.
#[inline(always)]
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
    let (whole, rest) = values.as_chunks_mut::<64>();
    for (values, word) in whole.iter_mut().zip(words) {
        let (eights, _) = values.as_chunks_mut::<8>();
        for (values, byte) in eights.iter_mut().zip(word.to_le_bytes()) {
            let masks = &MASKS[usize::from(byte)];
            for lane in 0..8 {
                values[lane] = f32::from_bits(values[lane].to_bits() & masks[lane]);
            }
        }
    }
    let last = words.get(whole.len()).copied().unwrap_or(0);
    for (lane, value) in rest.iter_mut().enumerate() {
        if last >> lane & 1 == 0 {
            *value = 0.0;
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
