//! Counter-based draws: a draw depends on the seed, the tensor's name, the stream and the element's
//! place, and on nothing else.
//!
//! mergekit draws from one global generator, so that its masks depend on the order of tensors. Here
//! the same recipe gives the same bytes on any machine, with any number of threads.

pub(crate) use debias_core::Draws;

/// The number of 53-bit draws below `p`: `uniform < p` exactly when `bits < threshold(p)`.
pub(crate) fn threshold(p: f64) -> u64 {
    // Both factors are exact powers or held in f64; `ceil` keeps the comparison strict.
    (p.clamp(0.0, 1.0) * 2f64.powi(53)).ceil() as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_threshold_on_bits_is_the_comparison_of_uniforms() {
        let draws = Draws::new(3, "a", 0);
        for p in [0.0, 1e-9, 0.1, 0.5, 0.53, 1.0 - 1e-16, 1.0] {
            let below = threshold(p);
            for at in 0..2000 {
                assert_eq!(draws.uniform(at) < p, draws.bits(at) < below);
            }
        }
    }

    #[test]
    fn the_known_answers_of_the_specification_are_met() {
        let Some(known) = crate::tests::known("rng") else {
            return;
        };
        for stream in known.as_array().expect("a list") {
            let number = |key: &str| stream[key].as_u64().expect("a number");
            let name = stream["name"].as_str().expect("a name");
            let draws = Draws::new(number("seed"), name, number("stream"));
            assert_eq!(stream["key"], draws.key().to_string());
            let places = stream["at"].as_array().expect("places");
            for (at, want) in places.iter().zip(stream["u"].as_array().expect("draws")) {
                let at = at.as_u64().expect("a place") as usize;
                assert_eq!(Some(draws.uniform(at)), want.as_f64());
            }
        }
    }

    #[test]
    fn draws_in_a_row_are_the_single_ones() {
        let draws = Draws::new(3, "a", 1);
        let mut row = [0; 100];
        draws.fill(70_000, &mut row);
        for (i, draw) in row.iter().enumerate() {
            assert_eq!(*draw, draws.bits(70_000 + i));
        }
    }

    #[test]
    fn name_seed_and_stream_each_change_the_draws() {
        let first = Draws::new(0, "a", 0).bits(0);
        assert_ne!(first, Draws::new(1, "a", 0).bits(0));
        assert_ne!(first, Draws::new(0, "b", 0).bits(0));
        assert_ne!(first, Draws::new(0, "a", 1).bits(0));
        assert_ne!(first, Draws::new(0, "a", 0).bits(1));
    }
}
