//! Lessons in which a fact is stated first and something is asked under it.
//!
//! A model that has never read two sentences in a row cannot use its context, so neither editing
//! by demonstrations nor a memory of edits could be studied on it. What is stated here has nothing
//! to do with the picture: only a model that reads its context answers right.

use debias_core::{Picture, Split, Task, seed};
use rand::Rng;

use super::lesson::{LessonText, VIEWS, vqa};
use super::scene::{Axis, Scene};
use super::text::{NEUTRAL_FORMS, Neutral, OPENERS};
use super::topic::{CAPTIONS, FORMS, TOPICS, Topic};
use super::{Fact, Town, draw};

/// Most demonstrations in front of a stated fact, its own copy not counted.
pub const DEMONSTRATIONS: usize = 4;
/// Texts of one lesson by its number of demonstrations: lessons are about equally long.
const TEXTS: [u32; DEMONSTRATIONS + 1] = [10, 5, 4, 3, 2];

/// One picture (or none) and texts that state a fact before they ask.
#[derive(Clone, Debug, PartialEq)]
pub struct ContextLesson {
    /// The picture, 64 x 64; the facts stated do not depend on it.
    pub picture: Option<Picture>,
    /// What is stated, asked and answered.
    pub texts: Vec<ContextText>,
}

/// A stated fact and what is asked under it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ContextText {
    /// What stands between fact and question.
    pub form: ContextForm,
    /// The fact that holds.
    pub fact: LessonText,
    /// The question and its answer: the stated one if it is asked for, else the answer that would
    /// be learnt without the fact.
    pub asked: LessonText,
}

/// How a stated fact is written down.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ContextForm {
    /// Fact and question joined by blanks, as from an editor's memory.
    Plain,
    /// Behind demonstrations, in their form; the last may state the fact itself.
    Demonstrated(Vec<Demonstration>),
}

/// Another fact and one prompt answered under it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Demonstration {
    /// The fact.
    pub fact: LessonText,
    /// Its own prompt, its prompt in other words, or an unrelated question.
    pub shown: LessonText,
}

impl Demonstration {
    /// The demonstration that a fact answers its own prompt.
    pub fn copy(fact: &LessonText) -> Self {
        Self {
            fact: fact.clone(),
            shown: fact.clone(),
        }
    }
}

/// What a fact says, whatever the words of its prompt.
#[derive(Clone, Copy)]
struct Claim {
    task: Task,
    topic: &'static Topic,
    answer: &'static str,
    /// Caption form; captions of one claim are equal.
    caption: usize,
}

impl Claim {
    /// A claim about `topic` with either answer, whatever any picture shows.
    fn about(task: Task, topic: &'static Topic, rng: &mut impl Rng) -> Self {
        Self {
            task,
            topic,
            answer: topic.answers[rng.random_range(0..2u32) as usize],
            caption: rng.random_range(0..CAPTIONS as u32) as usize,
        }
    }

    /// The claim in a drawn wording of its prompt.
    fn worded(&self, rng: &mut impl Rng) -> LessonText {
        match self.task {
            Task::Vqa | Task::Text => {
                let form = rng.random_range(0..FORMS as u32) as usize;
                vqa(self.topic.question(form), self.answer)
            }
            Task::Ic => LessonText {
                task: Some(Task::Ic),
                prompt: OPENERS[rng.random_range(0..OPENERS.len() as u32) as usize].to_owned(),
                answer: self.topic.caption(self.caption, self.answer),
            },
        }
    }
}

impl Town {
    /// Lesson `index` on stated facts: a training scene in a random view (about one lesson in six
    /// shows none) and some texts with equally many demonstrations, four lessons in ten without.
    pub fn context_lesson(&self, index: u64) -> ContextLesson {
        let parts = ["toytown", "context-lesson", &index.to_string()];
        let mut rng = seed::stream(self.seed, &parts);
        let scenes = self.scenes(Split::Train);
        let scene = scenes[rng.random_range(0..scenes.len() as u32) as usize];
        let view = rng.random_range(0..VIEWS);
        let pictured = rng.random_bool(0.85);
        let plain = pictured && rng.random_bool(0.15);
        let demonstrations = match plain || rng.random_bool(0.4) {
            true => 0,
            false => rng.random_range(1..=DEMONSTRATIONS as u32),
        };
        let texts = (0..TEXTS[demonstrations as usize])
            .map(|_| {
                let task = Task::PICTURED[rng.random_range(0..2u32) as usize];
                let topic = any_topic(&mut rng);
                let claim = Claim::about(task, topic, &mut rng);
                let fact = claim.worded(&mut rng);
                let form = match plain {
                    true => ContextForm::Plain,
                    false => {
                        let others = (0..demonstrations).map(|_| self.other(&claim, &mut rng));
                        let mut shown: Vec<Demonstration> = others.collect();
                        if rng.random_bool(0.5) {
                            shown.push(Demonstration::copy(&fact));
                        }
                        ContextForm::Demonstrated(shown)
                    }
                };
                let asked = match pictured {
                    true => self.asked(&claim, &scene, &mut rng),
                    false if rng.random_bool(0.75) => self.town_question(&mut rng),
                    false => claim.worded(&mut rng),
                };
                ContextText { form, fact, asked }
            })
            .collect();
        ContextLesson {
            picture: pictured.then(|| draw(&scene, view)),
            texts,
        }
    }

    /// A demonstration of another claim; as retrieval by likeness finds them, often on the same
    /// topic, whose answer may be the opposite one.
    fn other(&self, claim: &Claim, rng: &mut impl Rng) -> Demonstration {
        let topic = match rng.random_bool(0.4) {
            true => claim.topic,
            false => any_topic(rng),
        };
        let other = Claim::about(claim.task, topic, rng);
        let fact = other.worded(rng);
        match rng.random_range(0..4u32) {
            0 | 1 => Demonstration::copy(&fact),
            2 => Demonstration {
                shown: other.worded(rng),
                fact,
            },
            _ => Demonstration {
                fact,
                shown: self.town_question(rng),
            },
        }
    }

    /// What is asked with a picture: mostly what was stated, else what the picture shows or a
    /// biased question on another axis.
    fn asked(&self, claim: &Claim, scene: &Scene, rng: &mut impl Rng) -> LessonText {
        match rng.random_range(0..10u32) {
            0..6 => claim.worded(rng),
            6..8 => {
                let about = Neutral::ALL[rng.random_range(0..Neutral::ALL.len() as u32) as usize];
                let form = rng.random_range(0..NEUTRAL_FORMS as u32) as usize;
                vqa(about.question(form).to_owned(), about.answer(scene))
            }
            _ => {
                let axis = claim.topic.axis as usize + rng.random_range(1..4u32) as usize;
                let axis = Axis::ALL[axis % Axis::ALL.len()];
                let (topic, answer) = self.biased(axis, scene, rng);
                let form = rng.random_range(0..FORMS as u32) as usize;
                vqa(topic.question(form), answer)
            }
        }
    }

    fn town_question(&self, rng: &mut impl Rng) -> LessonText {
        let fact = &self.facts[rng.random_range(0..self.facts.len() as u32) as usize];
        fact.told(rng.random_range(0..Fact::FORMS as u32) as usize)
    }
}

fn any_topic(rng: &mut impl Rng) -> &'static Topic {
    &TOPICS[rng.random_range(0..TOPICS.len() as u32) as usize]
}
