//! How long, how fast and in which order a model learns.

use debias_core::seed;

/// What the rate does behind its warm-up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// Falls to 0 in a straight line.
    Linear,
    /// Falls to 0 along half a cosine.
    Cosine,
    /// Stays.
    Constant,
}

/// The learning rate of every update.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Pace {
    /// Its peak.
    pub lr: f64,
    /// What it does behind the warm-up.
    pub shape: Shape,
    /// Updates of warm-up; the first of them moves nothing, as in transformers.
    pub warmup: usize,
    /// Updates in all.
    pub updates: usize,
}

impl Pace {
    /// A warm-up over `ratio` of all `updates`.
    pub fn new(lr: f64, shape: Shape, ratio: f64, updates: usize) -> Self {
        Self {
            lr,
            shape,
            warmup: (ratio * updates as f64).ceil() as usize,
            updates,
        }
    }

    /// The rate of update `s`, counted from 0.
    pub fn rate(&self, s: usize) -> f64 {
        self.lr * self.factor(s)
    }

    fn factor(&self, s: usize) -> f64 {
        if s < self.warmup {
            return s as f64 / self.warmup as f64;
        }
        let rest = self.updates.saturating_sub(self.warmup).max(1) as f64;
        let done = (s - self.warmup) as f64;
        match self.shape {
            Shape::Linear => ((rest - done) / rest).max(0.0),
            Shape::Cosine => 0.5 * (1.0 + (std::f64::consts::PI * (done / rest).min(1.0)).cos()),
            Shape::Constant => 1.0,
        }
    }
}

/// Over what the loss of a batch is averaged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reduction {
    /// All learnt tokens of the batch.
    Tokens,
    /// Items, of each of which the tokens are summed (3DM, equation 2).
    Items,
}

/// What decides a training beside the model, what is trained and what is learnt.
#[derive(Clone, Debug, PartialEq)]
pub struct Course {
    /// Items per update; the last batch of an epoch may be smaller.
    pub batch: usize,
    /// The rate of every update, and their number.
    pub pace: Pace,
    /// Decoupled weight decay of matrices.
    pub weight_decay: f32,
    /// The largest joint norm of gradients; they are as they are where there is none.
    pub clip: Option<f64>,
    /// Over what a batch is averaged.
    pub reduction: Reduction,
    /// A token that is never learnt: the usual collator masks the end of a text, where it pads with it.
    pub unlearnt: Option<u32>,
    /// Whether every epoch has an order of its own.
    pub shuffle: bool,
    /// Seed of these orders.
    pub seed: u64,
}

impl Course {
    /// Updates of one epoch over `items`.
    pub fn per_epoch(&self, items: usize) -> usize {
        items.div_ceil(self.batch.max(1)).max(1)
    }

    /// The items of `epoch` in its order.
    pub fn order(&self, epoch: usize, items: usize) -> Vec<usize> {
        if !self.shuffle {
            return (0..items).collect();
        }
        let mut keys: Vec<(String, usize)> = (0..items).map(|i| (i.to_string(), i)).collect();
        let mut names: Vec<Named> = keys.drain(..).map(Named).collect();
        seed::seeded_order(self.seed, &format!("tune:{epoch}"), &mut names);
        names.into_iter().map(|Named((_, item))| item).collect()
    }
}

/// An item by its number as text, which is what the seeded order is made of.
struct Named((String, usize));

impl AsRef<str> for Named {
    fn as_ref(&self) -> &str {
        &self.0.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn course(batch: usize) -> Course {
        Course {
            batch,
            pace: Pace::new(1.0, Shape::Linear, 0.1, 990),
            weight_decay: 0.0,
            clip: None,
            reduction: Reduction::Tokens,
            unlearnt: None,
            shuffle: true,
            seed: 0,
        }
    }

    #[test]
    fn rates_are_those_of_transformers() {
        let linear = Pace::new(1.0, Shape::Linear, 0.1, 990);
        let cosine = Pace::new(1.0, Shape::Cosine, 0.1, 990);
        assert_eq!(
            (
                linear.warmup,
                Pace::new(1.0, Shape::Linear, 0.1, 3990).warmup
            ),
            (99, 399)
        );
        let at = [0, 1, 50, 99, 100, 544, 989];
        let expected = [
            (
                linear,
                [
                    0.0,
                    0.01010101,
                    0.505050505,
                    1.0,
                    0.998877666,
                    0.500561167,
                    0.001122334,
                ],
            ),
            (
                cosine,
                [
                    0.0,
                    0.01010101,
                    0.505050505,
                    1.0,
                    0.999996892,
                    0.500881479,
                    0.000003108,
                ],
            ),
        ];
        for (pace, factors) in expected {
            for (s, factor) in at.iter().zip(factors) {
                assert!((pace.rate(*s) - factor).abs() < 1e-9, "{pace:?} at {s}");
            }
        }
        assert_eq!(Pace::new(2.0, Shape::Constant, 0.0, 10).rate(9), 2.0);
    }

    #[test]
    fn an_epoch_has_every_item_once_and_an_order_of_its_own() {
        let course = course(64);
        assert_eq!(
            (
                course.per_epoch(2106),
                course.per_epoch(8498),
                course.per_epoch(1)
            ),
            (33, 133, 1)
        );
        let mut orders = [course.order(0, 50), course.order(1, 50)];
        assert_ne!(orders[0], orders[1]);
        assert_eq!(orders[0], course.order(0, 50));
        for order in &mut orders {
            order.sort_unstable();
            assert_eq!(*order, (0..50).collect::<Vec<_>>());
        }
    }
}
