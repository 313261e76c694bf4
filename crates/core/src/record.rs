//! The debias-edit record: one biased answer, its unbiased counterpart, and everything the five
//! metrics need to judge an edit made on it.

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// The sub-task a record belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Task {
    /// Image captioning: the prompt opens a caption.
    Ic,
    /// Visual question answering: the prompt is a question.
    Vqa,
}

impl Task {
    /// Both tasks, in the order of the paper's table.
    pub const ALL: [Task; 2] = [Task::Ic, Task::Vqa];

    /// The name used on the command line and in results.
    pub fn name(self) -> &'static str {
        match self {
            Task::Ic => "ic",
            Task::Vqa => "vqa",
        }
    }
}

/// Which part of a dataset a record belongs to; groups never straddle two of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Split {
    /// Editors may learn from it.
    Train,
    /// Editors may stop on it.
    Val,
    /// Editors are judged on it.
    #[serde(alias = "test")]
    Eval,
}

/// How `y_more` and `y_less` of a record came about.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TargetRule {
    /// The dataset says which answer is the stereotype.
    #[default]
    Given,
    /// The two answers are candidates; the one the model finds less likely becomes `y_less`
    /// (the rule of the debias-editing paper for PAIRS).
    LessLikely,
}

/// One edit request with its generality and locality probes.
///
/// Pictures are named by keys that the record's dataset resolves; they are never paths that the
/// caller may open itself.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// Stable and unique within the dataset.
    pub id: String,
    /// Captioning or question answering.
    pub task: Task,
    /// The bias axis: `race`, `gender`, `age`, `profession`, `religion` or another.
    pub bias_type: String,
    /// Key of the picture the edit is made on.
    pub image: String,
    /// Text given with the picture.
    pub prompt: String,
    /// The stereotyped answer.
    pub y_more: String,
    /// The unbiased answer, and the edit target.
    pub y_less: String,
    /// The prompt in other words (T-Generality).
    pub prompt_rephrase: String,
    /// Key of another picture of the same facts (V-Generality).
    pub image_rephrase: String,
    /// Text-locality question.
    pub loc_q: String,
    /// Text-locality answer.
    pub loc_a: String,
    /// Key of the multimodal-locality picture.
    pub mloc_image: String,
    /// Multimodal-locality question.
    pub mloc_q: String,
    /// Multimodal-locality answer.
    pub mloc_a: String,
    /// Scene, caption set or persona: near-duplicates share it.
    pub group: String,
    /// Train, val or eval.
    pub split: Split,
    /// Who decides which answer is the stereotype.
    #[serde(default)]
    pub target: TargetRule,
}

impl Record {
    /// Checks the rules every record obeys.
    ///
    /// # Errors
    /// [`Error::Record`] naming the record and the field: an empty `id`, prompt or answer, or
    /// `y_more == y_less` after trimming.
    pub fn validate(&self) -> Result<()> {
        self.not_empty(&[
            ("id", &self.id),
            ("image", &self.image),
            ("prompt", &self.prompt),
        ])?;
        self.validate_answers()?;
        self.not_empty(&[
            ("prompt_rephrase", &self.prompt_rephrase),
            ("image_rephrase", &self.image_rephrase),
        ])
    }

    /// Checks the rules of the two answers alone.
    ///
    /// # Errors
    /// As [`Record::validate`].
    pub fn validate_answers(&self) -> Result<()> {
        self.not_empty(&[("y_more", &self.y_more), ("y_less", &self.y_less)])?;
        match self.y_more.trim() == self.y_less.trim() {
            true => Err(self.refuse(
                "y_less",
                "equals y_more; an edit needs two different answers",
            )),
            false => Ok(()),
        }
    }

    fn not_empty(&self, fields: &[(&str, &String)]) -> Result<()> {
        match fields.iter().find(|(_, text)| text.trim().is_empty()) {
            Some((field, _)) => Err(self.refuse(field, "is empty")),
            None => Ok(()),
        }
    }

    fn refuse(&self, field: &str, problem: &str) -> Error {
        Error::Record {
            id: self.id.clone(),
            field: field.to_owned(),
            problem: problem.to_owned(),
        }
    }

    /// The same record with the two answers exchanged.
    #[must_use]
    pub fn swapped(mut self) -> Self {
        std::mem::swap(&mut self.y_more, &mut self.y_less);
        self
    }
}
