//! The loss of a batch and its slope at the logits, in one pass over them.
//!
//! Composed of tensor operations, a log-softmax over a vocabulary reads and writes the logits, by far
//! the largest tensors of a training, a dozen times. The slope is `p - 1` at the token that follows and
//! `p` elsewhere; multiplied with the logits it gives a number whose gradient is that of the loss.

use crate::batch::Row;
use crate::cpu;

/// Of the tokens that were learnt.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Nats {
    /// Sum of `-log p`.
    pub sum: f64,
    /// Their number.
    pub tokens: usize,
}

impl Nats {
    pub fn add(&mut self, other: Self) {
        self.sum += other.sum;
        self.tokens += other.tokens;
    }
}

/// Whether the token at place `at` of `row` is learnt: one that follows another, belongs to what is
/// learnt of the row, is no place of a picture and not the token `unlearnt`.
pub(super) fn learns(row: &Row, at: usize, unlearnt: Option<u32>) -> bool {
    let pictured = row
        .image
        .is_some_and(|span| (span.at..span.at + span.len).contains(&at));
    at > 0 && at >= row.answer_start && !pictured && Some(row.ids[at]) != unlearnt
}

/// Turns the logits of the answer positions, `[b, a, vocabulary]`, into `weight` times the slope of
/// the summed `-log p` of what is learnt, and returns that sum.
pub(super) fn slope(
    rows: &[Row],
    logits: &mut [f32],
    [a, vocabulary]: [usize; 2],
    unlearnt: Option<u32>,
    weight: f32,
) -> Nats {
    let mut nats = Nats::default();
    for (row, logits) in rows
        .iter()
        .zip(logits.chunks_exact_mut((a * vocabulary).max(1)))
    {
        for (i, logits) in logits.chunks_exact_mut(vocabulary).enumerate() {
            let at = row.answer_start + i;
            if at < row.ids.len() && learns(row, at, unlearnt) {
                nats.sum -= cpu::softmax_slope(logits, row.ids[at] as usize, weight);
                nats.tokens += 1;
            } else {
                logits.fill(0.0);
            }
        }
    }
    nats
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::batch::ImageSpan;

    #[test]
    fn the_slope_is_the_probability_less_what_came() {
        let row = |ids: &[u32], answer_start| Row {
            ids: ids.to_vec(),
            image: None,
            answer_start,
        };
        let rows = [row(&[0, 1, 2], 1), row(&[1, 2], 1)];
        let mut logits = vec![0.0; 12];
        logits[0] = 3f32.ln();
        let nats = slope(&rows, &mut logits, [2, 3], Some(2), 2.0);
        // Probabilities 3/5, 1/5, 1/5; of what the first row learns, the token 2 is left out.
        assert_eq!(nats.tokens, 1);
        assert!((nats.sum - 5f64.ln()).abs() < 1e-6);
        for (found, expected) in logits.iter().zip([1.2, -1.6, 0.4]) {
            assert!((found - expected).abs() < 1e-6, "{logits:?}");
        }
        assert!(logits[3..].iter().all(|slope| *slope == 0.0));
    }

    #[test]
    fn places_of_pictures_are_not_learnt() {
        let row = Row {
            ids: vec![7, 0, 0, 8],
            image: Some(ImageSpan {
                picture: 0,
                at: 1,
                len: 2,
            }),
            answer_start: 1,
        };
        let learnt: Vec<bool> = (0..4).map(|at| learns(&row, at, None)).collect();
        assert_eq!(learnt, [false, false, false, true]);
    }
}
