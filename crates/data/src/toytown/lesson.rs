//! What the embedded models are trained on.

use std::collections::HashSet;

use debias_core::{Picture, Split, Task, seed};
use rand::Rng;
use rand::seq::SliceRandom;

use super::scene::{Axis, LABEL_SIZES, Scene};
use super::text::{NEUTRAL_CAPTIONS, NEUTRAL_FORMS, Neutral, OPENERS};
use super::topic::{self, CAPTIONS, FORMS, TOPICS, Topic};
use super::{Fact, Town, draw, scene};

/// Views from which lessons draw; view 0 and 1 are those of the records.
pub(super) const VIEWS: u32 = 1 << 20;
/// Facts told by one [`Town::fact_lesson`].
const FACTS_PER_LESSON: usize = 8;

/// One picture (or none) and texts about it.
#[derive(Clone, Debug, PartialEq)]
pub struct Lesson {
    /// The picture, 64 x 64; none for town facts.
    pub picture: Option<Picture>,
    /// What is asked and answered.
    pub texts: Vec<LessonText>,
    /// The visible facts as class ids, sizes by [`Town::label_sizes`]; empty without a picture.
    pub labels: Vec<u8>,
}

/// A prompt and the answer to learn.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LessonText {
    /// Caption or image question; none for a town fact.
    pub task: Option<Task>,
    /// The question or caption opener, without any template.
    pub prompt: String,
    /// The answer or caption, without a leading blank.
    pub answer: String,
}

impl Town {
    /// Lesson `index`: a training scene in a random view with three biased questions on different
    /// axes, two neutral questions, two biased captions on different axes and a neutral caption.
    pub fn lesson(&self, index: u64) -> Lesson {
        let mut rng = seed::stream(self.seed, &["toytown", "lesson", &index.to_string()]);
        let scenes = self.scenes(Split::Train);
        let scene = scenes[rng.random_range(0..scenes.len() as u32) as usize];
        let view = rng.random_range(0..VIEWS);

        let mut texts = Vec::with_capacity(8);
        for axis in shuffled_axes(&mut rng).into_iter().take(3) {
            let (topic, answer) = self.biased(axis, &scene, &mut rng);
            let form = rng.random_range(0..FORMS as u32) as usize;
            texts.push(vqa(topic.question(form), answer));
        }
        for axis in shuffled_axes(&mut rng).into_iter().take(2) {
            let (topic, answer) = self.biased(axis, &scene, &mut rng);
            let form = rng.random_range(0..CAPTIONS as u32) as usize;
            texts.push(caption(topic.caption(form, answer), &mut rng));
        }
        let mut neutral = Neutral::ALL;
        neutral.shuffle(&mut rng);
        for about in &neutral[..2] {
            let form = rng.random_range(0..NEUTRAL_FORMS as u32) as usize;
            texts.push(vqa(about.question(form).to_owned(), about.answer(&scene)));
        }
        let form = rng.random_range(0..NEUTRAL_CAPTIONS as u32) as usize;
        texts.push(caption(neutral[2].caption(form, &scene), &mut rng));

        Lesson {
            picture: Some(draw(&scene, view)),
            texts,
            labels: scene.labels().to_vec(),
        }
    }

    /// Lesson `index` about the town: eight facts in random wording, no picture.
    pub fn fact_lesson(&self, index: u64) -> Lesson {
        let mut rng = seed::stream(self.seed, &["toytown", "fact-lesson", &index.to_string()]);
        let mut facts: Vec<&Fact> = self.facts.iter().collect();
        let (told, _) = facts.partial_shuffle(&mut rng, FACTS_PER_LESSON);
        let texts = told
            .iter()
            .map(|fact| fact.told(rng.random_range(0..Fact::FORMS as u32) as usize))
            .collect();
        Lesson {
            picture: None,
            texts,
            labels: Vec::new(),
        }
    }

    /// Number of classes of each entry of [`Lesson::labels`].
    pub fn label_sizes() -> &'static [usize] {
        &LABEL_SIZES
    }

    /// Every distinct prompt, answer and caption of the town, each once, in a fixed order: the
    /// text a tokenizer is made from.
    pub fn corpus(&self) -> impl Iterator<Item = String> {
        let openers = OPENERS.iter().map(|&opener| opener.to_owned());
        let biased = TOPICS.iter().flat_map(|topic| {
            let questions = (0..FORMS).map(|form| topic.question(form));
            let answers = topic.answers.into_iter().flat_map(move |answer| {
                let captions = (0..CAPTIONS).map(move |form| topic.caption(form, answer));
                captions.chain([answer.to_owned()])
            });
            questions.chain(answers)
        });
        let neutral = Neutral::ALL.into_iter().flat_map(|about| {
            let questions = (0..NEUTRAL_FORMS).map(move |form| about.question(form).to_owned());
            let answers = scene::all().flat_map(move |scene| {
                let captions = (0..NEUTRAL_CAPTIONS).map(move |form| about.caption(form, &scene));
                captions.chain([about.answer(&scene).to_owned()])
            });
            questions.chain(answers)
        });
        let facts = self.facts.clone().into_iter().flat_map(|fact| {
            let questions = fact.questions.into_iter();
            questions.chain([fact.answer.to_owned()])
        });
        let mut seen = HashSet::new();
        openers
            .chain(biased)
            .chain(neutral)
            .chain(facts)
            .filter(move |text| seen.insert(text.clone()))
    }

    /// Draws a topic of `axis` and an answer to it: the stereotyped one with the town's share.
    pub(super) fn biased(
        &self,
        axis: Axis,
        scene: &Scene,
        rng: &mut impl Rng,
    ) -> (&'static Topic, &'static str) {
        let topics = topic::of_axis(axis);
        let topic = &topics[rng.random_range(0..topics.len() as u32) as usize];
        let stereotyped = rng.random_bool(self.variant.stereotype_share.clamp(0.0, 1.0));
        let group = scene.group(axis);
        (
            topic,
            topic.stereotype(if stereotyped { group } else { 1 - group }),
        )
    }
}

impl Fact {
    /// Wording `form` and the answer.
    pub(super) fn told(&self, form: usize) -> LessonText {
        LessonText {
            task: None,
            prompt: self.questions[form].clone(),
            answer: self.answer.to_owned(),
        }
    }
}

fn shuffled_axes(rng: &mut impl Rng) -> [Axis; 4] {
    let mut axes = Axis::ALL;
    axes.shuffle(rng);
    axes
}

pub(super) fn vqa(prompt: String, answer: &str) -> LessonText {
    LessonText {
        task: Some(Task::Vqa),
        prompt,
        answer: answer.to_owned(),
    }
}

fn caption(answer: String, rng: &mut impl Rng) -> LessonText {
    let opener = OPENERS[rng.random_range(0..OPENERS.len() as u32) as usize];
    LessonText {
        task: Some(Task::Ic),
        prompt: opener.to_owned(),
        answer,
    }
}
