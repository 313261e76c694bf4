//! Every random stream of the program, seeded by hashing what it is for.
//!
//! A result then depends neither on the order of the work nor on how it is sharded.

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use sha2::{Digest, Sha256};

/// A portable random stream for one purpose.
///
/// `parts` are joined by `:` and hashed; equal parts give equal streams on every machine.
pub fn stream(seed: u64, parts: &[&str]) -> ChaCha8Rng {
    let text = format!("{seed}:{}", parts.join(":"));
    ChaCha8Rng::from_seed(Sha256::digest(text.as_bytes()).into())
}

/// A standard normal draw by the sum of twelve uniforms: no transcendental function whose last bit
/// differs between machines.
pub fn normal(stream: &mut impl Rng) -> f64 {
    (0..12)
        .map(|_| f64::from(stream.random::<u32>()) / 4_294_967_296.0)
        .sum::<f64>()
        - 6.0
}

/// Orders `keys` by `hex(sha256("{seed}:{dataset}:{key}"))`, the seeded, language-independent
/// order by which every split of this project is decided.
pub fn seeded_order<K: AsRef<str>>(seed: u64, dataset: &str, keys: &mut [K]) {
    keys.sort_by_cached_key(|key| {
        hex::encode(Sha256::digest(
            format!("{seed}:{dataset}:{}", key.as_ref()).as_bytes(),
        ))
    });
}

/// Picks one of `options` for `record`: the first 16 hex digits of
/// `sha256("{seed}:{dataset}:{purpose}:{record}")` modulo `options`.
///
/// Returns 0 when there are no options.
pub fn pick(seed: u64, dataset: &str, purpose: &str, record: &str, options: usize) -> usize {
    let digest = Sha256::digest(format!("{seed}:{dataset}:{purpose}:{record}").as_bytes());
    let mut head = [0u8; 8];
    head.copy_from_slice(&digest[..8]);
    match options {
        0 => 0,
        n => (u64::from_be_bytes(head) % n as u64) as usize,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand_chacha::rand_core::RngCore;

    #[test]
    fn the_seeded_order_is_that_of_the_dataset_specification() {
        let mut scenes = [
            "potential_crime/running",
            "potential_crime/ski_mask",
            "potential_crime/bandanna",
            "potential_crime/courtroom",
        ];
        scenes.reverse();
        seeded_order(2024, "pairs", &mut scenes);
        assert_eq!(
            scenes,
            [
                "potential_crime/running",
                "potential_crime/ski_mask",
                "potential_crime/bandanna",
                "potential_crime/courtroom",
            ]
        );
    }

    #[test]
    fn streams_differ_by_purpose_and_repeat_by_seed() {
        let first = |seed, parts: &[&str]| stream(seed, parts).next_u64();
        assert_eq!(first(0, &["a", "b"]), first(0, &["a", "b"]));
        assert_ne!(first(0, &["a", "b"]), first(0, &["a", "c"]));
        assert_ne!(first(0, &["a"]), first(1, &["a"]));
    }

    #[test]
    fn a_pick_is_one_of_the_options() {
        assert_eq!(pick(0, "d", "p", "r", 0), 0);
        let picks: std::collections::BTreeSet<_> = (0..64)
            .map(|record| pick(0, "d", "p", &record.to_string(), 4))
            .collect();
        assert_eq!(picks, (0..4).collect());
    }
}
