//! How much memory a training takes, before it begins.

use super::lesson::Lesson;
use super::pieces::{budget, cut};
use crate::change::Parameters;
use crate::model::Model;

/// Bytes of an f32.
const F32: u64 = 4;
/// Bytes of a trained value: itself, two moments, its gradient.
const TRAINED: u64 = 16;

/// What a training takes, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Need {
    /// Trained values with their moments and gradients, and of the best moment so far.
    pub trained: u64,
    /// Weights that are only read.
    pub frozen: u64,
    /// What the passes keep for the gradient, and the gradients of pieces under way.
    pub passes: u64,
}

impl Need {
    /// When `trained` values of which `wholes` are weights of `model` itself learn `lessons`,
    /// `batch` at a time on so many threads; `keeps` a best moment beside the last.
    pub fn new(
        model: &Model,
        [trained, wholes]: [usize; 2],
        lessons: &[Lesson],
        batch: usize,
        threads: usize,
        keeps: bool,
    ) -> Self {
        let all: usize = model
            .parameters()
            .iter()
            .map(|site| site.shape.iter().product::<usize>())
            .sum();
        // The longest items together: no batch takes more.
        let mut longest: Vec<&Lesson> = lessons.iter().collect();
        longest.sort_by_key(|lesson| std::cmp::Reverse(lesson.row.ids.len()));
        longest.truncate(batch);
        let pieces = cut(&longest, budget(trained));
        let footprint = model.footprint();
        let piece = pieces.iter().map(|piece| {
            let width = piece
                .iter()
                .map(|lesson| lesson.row.ids.len())
                .max()
                .unwrap_or(0);
            let pictured = piece
                .iter()
                .filter(|lesson| lesson.picture.is_some())
                .count();
            footprint.training(piece.len(), width) + footprint.pictures(pictured)
        });
        let under_way = threads.clamp(1, pieces.len().max(1)) as u64;
        let moment = if keeps { F32 } else { 0 };
        Self {
            trained: trained as u64 * (TRAINED + moment),
            frozen: all.saturating_sub(wholes) as u64 * F32,
            passes: under_way * (piece.max().unwrap_or(0) + trained as u64 * F32),
        }
    }

    /// All of it.
    pub fn total(&self) -> u64 {
        self.trained + self.frozen + self.passes
    }
}
