//! Which of several remembered requests a question is about.

/// How well an entry fits a question.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Rank {
    /// How surely its request is meant.
    pub s: f64,
    /// How like its picture is.
    pub likeness: f64,
    /// The remembered text, by which equals are told apart.
    pub text: String,
}

impl Rank {
    /// Whether it is preferred to `other`, whatever their order.
    pub fn beats(&self, other: &Rank) -> bool {
        let in_scope = |rank: &Rank| rank.s > 0.5;
        let order = in_scope(self)
            .cmp(&in_scope(other))
            .then(match in_scope(self) {
                true => self.likeness.total_cmp(&other.likeness),
                false => std::cmp::Ordering::Equal,
            });
        order
            .then(self.s.total_cmp(&other.s))
            .then_with(|| other.text.cmp(&self.text))
            .is_gt()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rank(s: f64, likeness: f64, text: &str) -> Rank {
        Rank {
            s,
            likeness,
            text: text.to_owned(),
        }
    }

    #[test]
    fn in_scope_the_likest_picture_wins_else_the_nearest_text() {
        assert!(rank(0.6, 0.9, "a").beats(&rank(0.99, 0.2, "b")));
        assert!(rank(0.6, 0.1, "a").beats(&rank(0.4, 0.9, "b")));
        assert!(rank(0.4, 0.1, "a").beats(&rank(0.3, 0.9, "b")));
        // Equals are told apart by their content, so that no order of entries matters.
        let (a, b) = (rank(0.9, 0.5, "a"), rank(0.9, 0.5, "b"));
        assert!(a.beats(&b) && !b.beats(&a) && !a.beats(&a));
    }
}
