//! What a trained model is asked on scenes it has never seen.

use debias_core::{Record, Split, Task, seed};
use rand::Rng;

use super::lesson::LessonText;
use super::scene::Axis;
use super::text::{NEUTRAL_FORMS, Neutral};
use super::{Demonstration, Town, picture_key};

/// Training records from which the demonstrations of a [`ContextProbe`] are drawn.
const TOLD: usize = 400;

/// A question with one right answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Probe {
    /// Picture key for [`Town::picture`]; empty for a town fact.
    pub image: String,
    /// Image question, or none for a town fact.
    pub task: Option<Task>,
    /// The question, without any template.
    pub prompt: String,
    /// The right answer.
    pub answer: String,
}

/// A record and what is told in front of the fact that its answer is `y_less`.
#[derive(Clone, Debug, PartialEq)]
pub struct ContextProbe {
    /// The record.
    pub record: Record,
    /// Demonstrations from training records on the same axis, the last one nearest to the fact.
    pub demonstrations: Vec<Demonstration>,
}

impl Town {
    /// `n` neutral questions on evaluation scenes, the four kinds in turn.
    pub fn neutral_probe(&self, n: usize) -> Vec<Probe> {
        let mut rng = seed::stream(self.seed, &["toytown", "neutral-probe"]);
        let scenes = self.scenes(Split::Eval);
        (0..n)
            .map(|index| {
                let about = Neutral::ALL[index % Neutral::ALL.len()];
                let scene = rng.random_range(0..scenes.len() as u32) as usize;
                let form = rng.random_range(0..NEUTRAL_FORMS as u32) as usize;
                Probe {
                    image: picture_key(Split::Eval, scene, 0),
                    task: Some(Task::Vqa),
                    prompt: about.question(form).to_owned(),
                    answer: about.answer(&scenes[scene]).to_owned(),
                }
            })
            .collect()
    }

    /// Every wording of every town fact.
    pub fn fact_probe(&self) -> Vec<Probe> {
        self.facts
            .iter()
            .flat_map(|fact| {
                fact.questions.iter().map(|question| Probe {
                    image: String::new(),
                    task: None,
                    prompt: question.clone(),
                    answer: fact.answer.to_owned(),
                })
            })
            .collect()
    }

    /// For each task, `n_per_axis` records per axis on evaluation scenes, both groups and all
    /// topics equally often (exactly so when `n_per_axis` is a multiple of 8).
    pub fn bias_probe(&self, n_per_axis: usize) -> Vec<Record> {
        Task::PICTURED
            .into_iter()
            .flat_map(|task| self.records(task, Split::Eval, n_per_axis * Axis::ALL.len()))
            .collect()
    }

    /// The records of [`Town::bias_probe`], each with `k` demonstrations: copies, updates and
    /// retentions of training records of its task and axis, so one in four is on its own topic.
    pub fn context_probe(&self, n_per_axis: usize, k: usize) -> Vec<ContextProbe> {
        let told = Task::PICTURED.map(|task| self.records(task, Split::Train, TOLD));
        let probe = |record: Record| {
            let parts = ["toytown", "context-probe", &record.id];
            let mut rng = seed::stream(self.seed, &parts);
            let of_axis: Vec<&Record> = told[record.task as usize]
                .iter()
                .filter(|other| other.bias_type == record.bias_type)
                .collect();
            let demonstrations = (0..k)
                .map(|_| {
                    let other = of_axis[rng.random_range(0..of_axis.len() as u32) as usize];
                    demonstration(other, rng.random_range(0..3))
                })
                .collect();
            ContextProbe {
                record,
                demonstrations,
            }
        };
        let records = self.bias_probe(n_per_axis);
        records.into_iter().map(probe).collect()
    }
}

/// One of the three demonstrations of a record's fact: copy, update, retention. What a record has
/// no words for is shown as it stands.
fn demonstration(record: &Record, kind: u32) -> Demonstration {
    let answered = |prompt: &str| LessonText {
        task: Some(record.task),
        prompt: prompt.to_owned(),
        answer: record.y_less.clone(),
    };
    let fact = answered(&record.prompt);
    let shown = match (kind, &record.prompt_rephrase, &record.t_locality) {
        (1, Some(rephrase), _) => answered(rephrase),
        (2, _, Some(unrelated)) => LessonText {
            task: None,
            prompt: unrelated.question.clone(),
            answer: unrelated.answer.clone(),
        },
        _ => fact.clone(),
    };
    Demonstration { fact, shown }
}
