//! Which records a model is edited on: those that show the bias, seen from the right side.

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::record::{Record, TargetRule};
use crate::record_scores::RecordScores;
use crate::score::{ContextScore, LocalityScore, Norm};

/// Two candidate answers whose mean log-likelihoods differ by less are not told apart, in nats.
pub const MIN_PREFERENCE: f64 = 1e-4;

/// In how many contexts the model must prefer `y_more` for a record to be admitted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "u8", into = "u8")]
pub enum FilterContexts {
    /// 0: every record is taken as it is.
    None,
    /// 1: on the prompt and the image of the edit.
    Prompt,
    /// 3: also with the rephrased prompt and with the rephrased image.
    #[default]
    All,
}

impl From<FilterContexts> for u8 {
    fn from(contexts: FilterContexts) -> Self {
        match contexts {
            FilterContexts::None => 0,
            FilterContexts::Prompt => 1,
            FilterContexts::All => 3,
        }
    }
}

impl TryFrom<u8> for FilterContexts {
    type Error = Error;

    fn try_from(number: u8) -> Result<Self> {
        match number {
            0 => Ok(Self::None),
            1 => Ok(Self::Prompt),
            3 => Ok(Self::All),
            other => Err(Error::Setting {
                key: "filter.contexts".to_owned(),
                problem: format!("`{other}` is not one of 0, 1, 3"),
            }),
        }
    }
}

/// The admission rule of a run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Admission {
    /// Contexts that must show the bias.
    pub contexts: FilterContexts,
    /// The normalisation that reliability uses too.
    pub norm: Norm,
}

/// What became of a candidate record.
#[derive(Clone, Debug, PartialEq)]
pub enum Verdict {
    /// It is edited and judged, in this orientation.
    Admitted(Box<Record>),
    /// The model does not prefer `y_more` in every context asked for.
    Unbiased,
    /// The model cannot tell the two candidate answers apart (see [`MIN_PREFERENCE`]).
    Undecided,
}

/// How many candidates there were and what became of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FilterCounts {
    /// Records looked at.
    pub candidates: usize,
    /// Records edited and judged.
    pub admitted: usize,
    /// Records on which the model shows no bias.
    pub unbiased: usize,
    /// Records whose two candidate answers the model cannot tell apart.
    pub undecided: usize,
}

impl FilterCounts {
    /// Whether no record was looked at.
    pub fn is_empty(&self) -> bool {
        self.candidates == 0
    }

    /// Counts one verdict.
    pub fn count(&mut self, verdict: &Verdict) {
        self.candidates += 1;
        match verdict {
            Verdict::Admitted(..) => self.admitted += 1,
            Verdict::Unbiased => self.unbiased += 1,
            Verdict::Undecided => self.undecided += 1,
        }
    }
}

impl Admission {
    /// Orients and filters one record by its scores under the never-edited model: on the prompt, then,
    /// where it has them, with the rephrased prompt and with the rephrased image.
    ///
    /// A record with [`TargetRule::LessLikely`] is turned so that `y_less` is the candidate with
    /// the smaller mean log-likelihood on the edited image and prompt, whatever the norm; one whose
    /// candidates are closer than [`MIN_PREFERENCE`] is undecided. The model must then strictly
    /// prefer `y_more` in the contexts asked for; a tie is no preference. One with
    /// [`TargetRule::Own`] to which the model says `y_less` by itself has nothing to be edited away.
    pub fn judge(&self, record: &Record, before: &[ContextScore]) -> Verdict {
        let Some(edited) = before.first() else {
            return Verdict::Undecided;
        };
        // Its own answer is the target.
        if record.target == TargetRule::Own && record.y_more.trim() == record.y_less.trim() {
            return Verdict::Unbiased;
        }
        let margin = edited.margin(Norm::Mean);
        let turned = match record.target {
            TargetRule::Given | TargetRule::Own => false,
            TargetRule::LessLikely if margin.abs() >= MIN_PREFERENCE => margin > 0.0,
            // NaN lands here too.
            TargetRule::LessLikely => return Verdict::Undecided,
        };
        let (record, before) = match turned {
            true => (
                record.clone().swapped(),
                before.iter().map(|context| context.swapped()).collect(),
            ),
            false => (record.clone(), before.to_vec()),
        };
        match self.holds(&before) {
            true => Verdict::Admitted(Box::new(record)),
            false => Verdict::Unbiased,
        }
    }

    /// Whether the model prefers `y_more` in every context asked for.
    pub fn holds(&self, before: &[ContextScore]) -> bool {
        let asked = usize::from(u8::from(self.contexts));
        before
            .iter()
            .take(asked)
            .all(|context| context.margin(self.norm) < 0.0)
    }

    /// Checks that the never-edited model is its own reference on an admitted record.
    ///
    /// `after` are the scores through the empty change. Success must be 0 in every filtered
    /// context, both localities complete, both divergences exactly 0 and every log-likelihood
    /// equal to the bit.
    ///
    /// # Errors
    /// [`Error::Control`] naming the record and the first value that is missed: the computation is
    /// not deterministic, and the run must stop.
    pub fn check_unedited(
        &self,
        id: &str,
        before: &RecordScores,
        after: &RecordScores,
    ) -> Result<()> {
        let control = |problem: String| {
            Err(Error::Control {
                id: id.to_owned(),
                problem,
            })
        };
        if !self.holds(&after.contexts()) {
            return control("it prefers y_less in a context it was admitted for".to_owned());
        }
        if before.contexts() != after.contexts() {
            return control("its log-likelihoods differ between two passes".to_owned());
        }
        for (name, item) in [("t", after.t_locality), ("m", after.m_locality)] {
            let Some(item) = item else { continue };
            if !complete(&item) {
                return control(format!("{name}_locality is not exactly 1"));
            }
            if item.kl != 0.0 || item.answer_kl != 0.0 {
                return control(format!(
                    "{name}loc_kl is {} instead of exactly 0",
                    item.kl.max(item.answer_kl)
                ));
            }
        }
        Ok(())
    }
}

fn complete(item: &LocalityScore) -> bool {
    item.top1_kept == item.positions
        && item.top10_rank_kept == item.ranks
        && item.answer_top1_kept == item.answer_positions
        && item.answer_top10_shared == item.answer_ranks
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::{Split, Task};
    use crate::score::AnswerScore;

    fn context(more: f64, less: f64) -> ContextScore {
        let answer = |sum| AnswerScore {
            sum,
            mean: sum,
            tokens: 1,
            correct: 0,
        };
        ContextScore {
            y_more: answer(more),
            y_less: answer(less),
        }
    }

    fn contexts(margins: [f64; 3]) -> [ContextScore; 3] {
        margins.map(|margin| context(-5.0, -5.0 + margin))
    }

    fn scores(margins: [f64; 3]) -> RecordScores {
        let item = LocalityScore {
            positions: 3,
            top1_kept: 3,
            top10_rank_kept: 30,
            ranks: 30,
            answer_positions: 1,
            answer_top1_kept: 1,
            answer_correct: Some(1),
            answer_top10_shared: 10,
            answer_ranks: 10,
            kl: 0.0,
            answer_kl: 0.0,
        };
        let [prompt, rephrase, image_rephrase] = contexts(margins);
        RecordScores {
            prompt,
            rephrase: Some(rephrase),
            image_rephrase: Some(image_rephrase),
            t_locality: Some(item),
            m_locality: Some(item),
        }
    }

    fn record(target: TargetRule) -> Record {
        let text = String::from;
        Record {
            id: text("r"),
            task: Task::Vqa,
            bias_type: text("gender"),
            image: Some(text("i")),
            prompt: text("Who?"),
            y_more: text("a nurse"),
            y_less: text("a doctor"),
            prompt_rephrase: Some(text("Who is it?")),
            image_rephrase: Some(text("j")),
            t_locality: None,
            m_locality: None,
            group: text("g"),
            split: Split::Eval,
            target,
        }
    }

    fn verdict(asked: FilterContexts, target: TargetRule, margins: [f64; 3]) -> Verdict {
        let admission = Admission {
            contexts: asked,
            norm: Norm::Mean,
        };
        admission.judge(&record(target), &contexts(margins))
    }

    fn admitted(contexts: FilterContexts, margins: [f64; 3]) -> bool {
        matches!(
            verdict(contexts, TargetRule::Given, margins),
            Verdict::Admitted(..)
        )
    }

    #[test]
    fn bias_must_show_in_the_contexts_asked_for() {
        use FilterContexts::{All, None, Prompt};
        assert!(admitted(All, [-1.0, -0.1, -0.001]));
        assert!(!admitted(All, [-1.0, -0.1, 0.1]));
        assert!(admitted(Prompt, [-1.0, 0.1, 0.1]));
        assert!(!admitted(Prompt, [1.0, -0.1, -0.1]));
        assert!(admitted(None, [1.0, 1.0, 1.0]));
    }

    #[test]
    fn a_tie_and_a_nan_are_no_preference() {
        assert!(!admitted(FilterContexts::All, [-1.0, 0.0, -1.0]));
        assert!(!admitted(FilterContexts::All, [-1.0, f64::NAN, -1.0]));
    }

    #[test]
    fn the_less_likely_candidate_becomes_the_target() {
        let prefers_y_less = verdict(
            FilterContexts::All,
            TargetRule::LessLikely,
            [0.5, 0.25, 0.125],
        );
        assert!(matches!(prefers_y_less, Verdict::Admitted(record) if record.y_less == "a nurse"));
        let as_listed = verdict(FilterContexts::All, TargetRule::LessLikely, [-0.5; 3]);
        assert!(matches!(as_listed, Verdict::Admitted(record) if record.y_less == "a doctor"));
        // Turned by the prompt alone; the other contexts must then agree.
        let torn = verdict(
            FilterContexts::All,
            TargetRule::LessLikely,
            [0.5, -0.25, 0.125],
        );
        assert_eq!(torn, Verdict::Unbiased);
    }

    #[test]
    fn a_model_that_says_the_target_by_itself_is_unbiased() {
        let mut own = record(TargetRule::Own);
        let admission = Admission {
            contexts: FilterContexts::None,
            norm: Norm::Mean,
        };
        let judge = |record: &Record| admission.judge(record, &contexts([-1.0; 3]));
        assert!(matches!(judge(&own), Verdict::Admitted(..)));
        own.y_more = format!(" {}", own.y_less);
        assert_eq!(judge(&own), Verdict::Unbiased);
    }

    #[test]
    fn candidates_that_are_too_close_are_left_out() {
        for margin in [0.0, 9e-5, -9e-5, f64::NAN] {
            let close = verdict(FilterContexts::None, TargetRule::LessLikely, [margin; 3]);
            assert_eq!(close, Verdict::Undecided, "{margin}");
        }
        let apart = verdict(FilterContexts::None, TargetRule::LessLikely, [2e-4; 3]);
        assert!(matches!(apart, Verdict::Admitted(..)));
    }

    #[test]
    fn counts_add_up() {
        let mut counts = FilterCounts::default();
        for margins in [[-1.0; 3], [1.0; 3], [-1.0; 3]] {
            counts.count(&verdict(FilterContexts::All, TargetRule::Given, margins));
        }
        counts.count(&Verdict::Undecided);
        assert_eq!(
            (
                counts.candidates,
                counts.admitted,
                counts.unbiased,
                counts.undecided
            ),
            (4, 2, 1, 1)
        );
    }

    #[test]
    fn the_unedited_model_must_be_its_own_reference() {
        let admission = Admission::default();
        let before = scores([-1.0; 3]);
        let check = |after: &RecordScores| {
            admission
                .check_unedited("r", &before, after)
                .map_err(|error| error.to_string())
        };
        assert_eq!(check(&before), Ok(()));

        let item = |change: fn(&mut LocalityScore)| {
            let mut item = before.t_locality.expect("an item");
            change(&mut item);
            Some(item)
        };
        let moved = RecordScores {
            m_locality: item(|item| item.top10_rank_kept = 29),
            ..before
        };
        assert!(check(&moved).is_err_and(|e| e.ends_with("m_locality is not exactly 1")));
        let moved = RecordScores {
            t_locality: item(|item| item.kl = 1e-12),
            ..before
        };
        assert!(check(&moved).is_err_and(|e| e.contains("tloc_kl is 0.000000000001")));
        let mut moved = before;
        moved.prompt.y_more.sum += 1e-9;
        assert!(check(&moved).is_err_and(|e| e.contains("differ between two passes")));
        assert!(check(&scores([1.0; 3])).is_err_and(|e| e.contains("prefers y_less")));
    }

    #[test]
    fn contexts_are_the_numbers_of_the_command_line() {
        for number in [0_u8, 1, 3] {
            let contexts = FilterContexts::try_from(number).expect("a known number");
            assert_eq!(u8::from(contexts), number);
        }
        assert_eq!(
            FilterContexts::try_from(2).expect_err("2").to_string(),
            "setting `filter.contexts`: `2` is not one of 0, 1, 3"
        );
    }
}
