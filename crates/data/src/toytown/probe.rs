//! What a trained model is asked on scenes it has never seen.

use debias_core::{Record, Split, Task, seed};
use rand::Rng;

use super::scene::Axis;
use super::text::{NEUTRAL_FORMS, Neutral};
use super::{Town, picture_key};

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
        Task::ALL
            .into_iter()
            .flat_map(|task| self.records(task, Split::Eval, n_per_axis * Axis::ALL.len()))
            .collect()
    }
}
