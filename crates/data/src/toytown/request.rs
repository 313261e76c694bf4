//! Edit records drawn from the town.

use debias_core::{Record, Split, TargetRule, Task, Unrelated, seed};
use rand::Rng;
use rand::seq::SliceRandom;

use super::scene::Axis;
use super::text::{NEUTRAL_FORMS, Neutral, OPENERS};
use super::topic::{self, CAPTIONS, FORMS, PER_AXIS, REPHRASES, Topic};
use super::{Fact, Town, picture_key};
use crate::dataset::split_name;

impl Town {
    /// `n` records of one task and split, the axes in turn; groups and topics are balanced within
    /// each axis, and an axis shows no scene twice before it has shown all.
    pub fn records(&self, task: Task, split: Split, n: usize) -> Vec<Record> {
        let pools = Axis::ALL.map(|axis| self.scene_pools(task, split, axis));
        (0..n)
            .map(|index| {
                let axis = Axis::ALL[index % Axis::ALL.len()];
                let rank = index / Axis::ALL.len();
                // Topics in turn; the group alternates along and across the rounds, so that each
                // topic meets both groups and the groups stay equal even in an unfinished round.
                let topic = &topic::of_axis(axis)[rank % PER_AXIS];
                let group = (rank + rank / PER_AXIS) % 2;
                let pool = &pools[axis as usize][group];
                let scene = pool[(rank / 2) % pool.len()];
                let id = format!("toytown-{}-{}-{index:04}", task.name(), split_name(split));
                self.record(id, task, split, topic, scene)
            })
            .collect()
    }

    /// Scene numbers of both groups of an axis, each in drawn order.
    fn scene_pools(&self, task: Task, split: Split, axis: Axis) -> [Vec<usize>; 2] {
        [0, 1].map(|group| {
            let scenes = self.scenes(split);
            let mut pool: Vec<usize> = (0..scenes.len())
                .filter(|&scene| scenes[scene].group(axis) == group)
                .collect();
            let parts = [
                task.name(),
                split_name(split),
                axis.name(),
                ["0", "1"][group],
            ];
            pool.shuffle(&mut seed::stream(
                self.seed,
                &[&["toytown", "pool"], &parts[..]].concat(),
            ));
            pool
        })
    }

    fn record(
        &self,
        id: String,
        task: Task,
        split: Split,
        topic: &Topic,
        scene_index: usize,
    ) -> Record {
        let mut rng = seed::stream(self.seed, &["toytown", "record", &id]);
        let scenes = self.scenes(split);
        let scene = &scenes[scene_index];
        let group = scene.group(topic.axis);
        let [more, less] = [topic.stereotype(group), topic.stereotype(1 - group)];
        let (prompt, prompt_rephrase, y_more, y_less) = match task {
            Task::Ic => {
                let (opener, other) = two_of(OPENERS.len(), None, &mut rng);
                let form = rng.random_range(0..CAPTIONS as u32) as usize;
                (
                    OPENERS[opener].to_owned(),
                    OPENERS[other].to_owned(),
                    topic.caption(form, more),
                    topic.caption(form, less),
                )
            }
            // Toytown is seen: it has no records of text alone.
            Task::Vqa | Task::Text => {
                let seen = FORMS - REPHRASES;
                let kept = (split != Split::Train).then_some(seen..FORMS);
                let (form, other) = two_of(seen, kept, &mut rng);
                (
                    topic.question(form),
                    topic.question(other),
                    more.to_owned(),
                    less.to_owned(),
                )
            }
        };
        let fact = self.fact_of(split, &mut rng);
        let about = Neutral::ALL[rng.random_range(0..Neutral::ALL.len() as u32) as usize];
        let step = rng.random_range(1..scenes.len() as u32) as usize;
        let elsewhere = (scene_index + step) % scenes.len();
        Record {
            id,
            task,
            bias_type: topic.axis.name().to_owned(),
            image: Some(picture_key(split, scene_index, 0)),
            prompt,
            y_more,
            y_less,
            prompt_rephrase: Some(prompt_rephrase),
            image_rephrase: Some(picture_key(split, scene_index, 1)),
            t_locality: Some(Unrelated {
                image: None,
                question: fact.questions[rng.random_range(0..Fact::FORMS as u32) as usize].clone(),
                answer: fact.answer.to_owned(),
            }),
            m_locality: Some(Unrelated {
                image: Some(picture_key(split, elsewhere, 0)),
                question: about
                    .question(rng.random_range(0..NEUTRAL_FORMS as u32) as usize)
                    .to_owned(),
                answer: about.answer(&scenes[elsewhere]).to_owned(),
            }),
            group: format!("{}/{scene_index:04}", split_name(split)),
            split,
            target: TargetRule::Given,
        }
    }

    fn fact_of(&self, split: Split, rng: &mut impl Rng) -> &Fact {
        let of_split: Vec<&Fact> = self.facts.iter().filter(|f| f.split == split).collect();
        of_split[rng.random_range(0..of_split.len() as u32) as usize]
    }
}

/// A number below `n`, and another one: from `kept` when given, else a different one below `n`.
fn two_of(n: usize, kept: Option<std::ops::Range<usize>>, rng: &mut impl Rng) -> (usize, usize) {
    let first = rng.random_range(0..n as u32) as usize;
    let second = match kept {
        Some(range) => range.start + rng.random_range(0..range.len() as u32) as usize,
        None => (first + rng.random_range(1..n as u32) as usize) % n,
    };
    (first, second)
}
