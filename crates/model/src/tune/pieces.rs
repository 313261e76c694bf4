//! A batch in pieces: rows that pass through the model together.

use super::lesson::Lesson;

/// Tokens of a piece, padding included, where gradients are small.
const SMALL: usize = 128;
/// The same where a piece's gradients take so much memory and time that few should be made.
const LARGE: usize = 512;
/// Trained values from which on gradients are large: 64 MiB.
const MANY: usize = 1 << 24;

/// The most tokens of a piece when so many values are trained.
pub(super) fn budget(trained: usize) -> usize {
    if trained < MANY { SMALL } else { LARGE }
}

/// Cuts lessons into runs of at most `budget` tokens, padding included, and of at least one lesson.
pub(super) fn cut<'a, 'l>(lessons: &'a [&'l Lesson], budget: usize) -> Vec<&'a [&'l Lesson]> {
    let mut pieces = Vec::new();
    let (mut start, mut width) = (0, 0);
    for (at, lesson) in lessons.iter().enumerate() {
        let wider = width.max(lesson.row.ids.len());
        if at > start && wider * (at - start + 1) > budget {
            pieces.push(&lessons[start..at]);
            (start, width) = (at, lesson.row.ids.len());
        } else {
            width = wider;
        }
    }
    if start < lessons.len() {
        pieces.push(&lessons[start..]);
    }
    pieces
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::batch::Row;

    #[test]
    fn pieces_keep_order_and_size() {
        let lesson = |n: usize| Lesson {
            row: Row {
                ids: vec![1; n],
                image: None,
                answer_start: 1,
            },
            picture: None,
        };
        let lessons: Vec<Lesson> = [3, 4, 5, 20, 1, 1].map(lesson).into();
        let lessons: Vec<&Lesson> = lessons.iter().collect();
        let sizes: Vec<usize> = cut(&lessons, 10).iter().map(|piece| piece.len()).collect();
        assert_eq!(sizes, [2, 1, 1, 2]);
        assert!(cut(&[], 10).is_empty());
    }
}
