//! The scores of an edit's record by name, and the answers that they are stored as.

use crate::answer::{Answer, Answers, Y_LESS, Y_MORE};
use crate::score::{ContextScore, LocalityScore};

/// Everything measured on one record of an edit with one model. What a record does not ask is absent.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RecordScores {
    /// `(image, prompt)`: Reliability.
    pub prompt: ContextScore,
    /// `(image, prompt_rephrase)`: T-Generality.
    pub rephrase: Option<ContextScore>,
    /// `(image_rephrase, prompt)`: V-Generality.
    pub image_rephrase: Option<ContextScore>,
    /// Text-only item: T-Locality.
    pub t_locality: Option<LocalityScore>,
    /// Image item: M-Locality.
    pub m_locality: Option<LocalityScore>,
}

/// The names of the three contexts, in the order in which they are asked.
pub const CONTEXTS: [&str; 3] = ["prompt", "rephrase", "image_rephrase"];

/// The names of the two locality items.
pub const LOCALITIES: [&str; 2] = ["t_locality", "m_locality"];

impl RecordScores {
    /// The scores that `answers` are; none where the edited context was not asked.
    pub fn of(answers: &Answers) -> Option<Self> {
        Some(Self {
            prompt: answers.context("prompt")?,
            rephrase: answers.context("rephrase"),
            image_rephrase: answers.context("image_rephrase"),
            t_locality: answers.drift("t_locality").copied(),
            m_locality: answers.drift("m_locality").copied(),
        })
    }

    /// The contexts in which an admitted record must show the bias, the edited one first.
    pub fn contexts(&self) -> Vec<ContextScore> {
        let others = [self.rephrase, self.image_rephrase];
        let others = others.into_iter().flatten();
        std::iter::once(self.prompt).chain(others).collect()
    }

    /// The locality items.
    pub fn localities(&self) -> impl Iterator<Item = LocalityScore> {
        [self.t_locality, self.m_locality].into_iter().flatten()
    }

    /// The same scores with the two answers exchanged in every context.
    #[must_use]
    pub fn swapped(self) -> Self {
        Self {
            prompt: self.prompt.swapped(),
            rephrase: self.rephrase.map(ContextScore::swapped),
            image_rephrase: self.image_rephrase.map(ContextScore::swapped),
            ..self
        }
    }

    /// Whether every number is finite; a record with another is counted as failed.
    pub fn is_finite(&self) -> bool {
        let answers = self
            .contexts()
            .into_iter()
            .flat_map(|context| [context.y_more, context.y_less])
            .all(|answer| answer.sum.is_finite() && answer.mean.is_finite());
        let mut items = self.localities();
        answers && items.all(|item| item.kl.is_finite() && item.answer_kl.is_finite())
    }
}

impl From<RecordScores> for Answers {
    fn from(scores: RecordScores) -> Self {
        let contexts = [Some(scores.prompt), scores.rephrase, scores.image_rephrase];
        let contexts = CONTEXTS
            .into_iter()
            .zip(contexts)
            .filter_map(|(name, context)| {
                let ContextScore { y_more, y_less } = context?;
                let choices = [(Y_MORE, Some(y_more)), (Y_LESS, Some(y_less))];
                Some((name, Answer::Choices(choices.into_iter().collect())))
            });
        let items = LOCALITIES
            .into_iter()
            .zip([scores.t_locality, scores.m_locality]);
        let items = items.filter_map(|(name, item)| Some((name, Answer::Drift(item?))));
        contexts.chain(items).collect()
    }
}
