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
    /// Text alone: the prompt is what a text model goes on from.
    Text,
}

impl Task {
    /// All tasks, in the order of tables.
    pub const ALL: [Task; 3] = [Task::Ic, Task::Vqa, Task::Text];

    /// Both tasks of the debias-editing paper, whose records have pictures.
    pub const PICTURED: [Task; 2] = [Task::Ic, Task::Vqa];

    /// The name used on the command line and in results.
    pub fn name(self) -> &'static str {
        match self {
            Task::Ic => "ic",
            Task::Vqa => "vqa",
            Task::Text => "text",
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
    /// `y_more` is what the unedited model itself says to the prompt: a greedy continuation of as
    /// many tokens as `y_less` has. It is empty until the record is admitted for a model.
    Own,
}

/// A question that an edit is not about, and its answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unrelated {
    /// Key of its picture; none for text alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,
    /// The question.
    pub question: String,
    /// The answer.
    pub answer: String,
}

/// One edit request with its generality and locality probes. What a record has none of is not asked.
///
/// Pictures are named by keys that the record's dataset resolves; they are never paths that the
/// caller may open itself.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// Stable and unique within the dataset.
    pub id: String,
    /// Captioning, question answering or text alone.
    pub task: Task,
    /// The bias axis: `race`, `gender`, `age`, `profession`, `religion` or another.
    pub bias_type: String,
    /// Key of the picture the edit is made on; none for text alone.
    pub image: Option<String>,
    /// Text given with the picture.
    pub prompt: String,
    /// The stereotyped answer; empty while [`Record::awaits_answer`].
    pub y_more: String,
    /// The unbiased answer, and the edit target.
    pub y_less: String,
    /// The prompt in other words (T-Generality).
    pub prompt_rephrase: Option<String>,
    /// Key of another picture of the same facts (V-Generality).
    pub image_rephrase: Option<String>,
    /// The text-locality item.
    pub t_locality: Option<Unrelated>,
    /// The multimodal-locality item, which has a picture.
    pub m_locality: Option<Unrelated>,
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
    /// [`Error::Record`] naming the record and the field: an empty `id`, prompt or answer,
    /// `y_more == y_less` after trimming, or a picture where the task has none.
    pub fn validate(&self) -> Result<()> {
        self.not_empty(&[("id", &self.id), ("prompt", &self.prompt)])?;
        if self.awaits_answer() {
            self.not_empty(&[("y_less", &self.y_less)])?;
        } else {
            self.validate_answers()?;
        }
        let given = [
            ("image", &self.image),
            ("prompt_rephrase", &self.prompt_rephrase),
            ("image_rephrase", &self.image_rephrase),
        ];
        for (field, text) in given {
            if let Some(text) = text {
                self.not_empty(&[(field, text)])?;
            }
        }
        match (self.task, &self.image, self.images().next()) {
            (Task::Text, _, Some((field, _))) => {
                Err(self.refuse(field, "names a picture, but its task is text alone"))
            }
            (Task::Ic | Task::Vqa, None, _) => Err(self.refuse("image", "is missing")),
            _ => Ok(()),
        }
    }

    /// Whether its stereotyped answer is still to be asked of the model that is edited.
    pub fn awaits_answer(&self) -> bool {
        self.target == TargetRule::Own && self.y_more.is_empty() && self.image.is_none()
    }

    /// The fields that name pictures, with their keys.
    pub fn images(&self) -> impl Iterator<Item = (&'static str, &String)> {
        let unrelated = self
            .m_locality
            .as_ref()
            .and_then(|item| item.image.as_ref());
        let fields = [
            ("image", self.image.as_ref()),
            ("image_rephrase", self.image_rephrase.as_ref()),
            ("mloc_image", unrelated),
        ];
        fields
            .into_iter()
            .filter_map(|(field, key)| Some((field, key?)))
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

    /// The same record without its pictures and what is asked about them.
    #[must_use]
    pub fn text_alone(self) -> Self {
        Self {
            task: Task::Text,
            image: None,
            image_rephrase: None,
            m_locality: None,
            ..self
        }
    }

    /// The same record with the two answers exchanged.
    #[must_use]
    pub fn swapped(mut self) -> Self {
        std::mem::swap(&mut self.y_more, &mut self.y_less);
        self
    }
}
