//! Properties of the town as a whole.

use std::collections::{BTreeSet, HashMap, HashSet};

use debias_core::{Record, Task, sha256_hex};
use proptest::prelude::*;

use super::*;
use crate::toytown::topic::{CAPTIONS, FORMS, REPHRASES, TOPICS};

fn town(seed: u64) -> Town {
    Town::new(seed, Variant::default())
}

#[test]
fn every_combination_is_in_exactly_one_split() {
    let town = town(0);
    let mut seen = HashSet::new();
    for (split, _) in SPLITS {
        for scene in town.scenes(split) {
            assert_eq!(scene.split(), split);
            assert!(seen.insert(*scene));
        }
    }
    assert_eq!(seen.len(), 2560);
    let sizes = SPLITS.map(|(split, _)| town.scenes(split).len());
    assert_eq!(sizes, [2056, 245, 259]);
}

#[test]
fn the_world_does_not_depend_on_the_seed() {
    let (one, two) = (town(1), town(2));
    assert_eq!(one.eval, two.eval);
    assert_eq!(one.facts, two.facts);
    assert_eq!(
        one.picture("eval/0001/0.png"),
        two.picture("eval/0001/0.png")
    );
    assert!(one.corpus().eq(two.corpus()));
    assert_ne!(one.lesson(0), two.lesson(0));
}

#[test]
fn drawings_and_lessons_are_frozen() {
    // The embedded models were trained on these bytes: a change here means training them again.
    let town = town(7);
    let drawn: Vec<u8> = (0..40)
        .flat_map(|index| draw(&town.eval[index], index as u32 % 3).into_rgb())
        .collect();
    assert_eq!(
        sha256_hex(&drawn),
        "f7d4f842cfda13568e9d5bf72d1fb4ca5fba2a8e82d36a7c03d5190b05bb61d3"
    );
    let told: Vec<String> = (0..40)
        .flat_map(|index| [town.lesson(index), town.fact_lesson(index)])
        .flat_map(|lesson| lesson.texts)
        .map(|text| format!("{:?}|{}|{}", text.task, text.prompt, text.answer))
        .collect();
    assert_eq!(
        sha256_hex(told.join("\n").as_bytes()),
        "8c8d94b37a46cb0c01f7771c4d585a258b2b68b9220346ca141690ff195c78f2"
    );
    let stated: Vec<String> = (0..40)
        .flat_map(|index| town.context_lesson(index).texts)
        .map(|text| format!("{text:?}"))
        .collect();
    assert_eq!(
        sha256_hex(stated.join("\n").as_bytes()),
        "92025138ca7b3c0ff4b3e7bbdd7820266f37d2418bd32f511547db7855f20b53"
    );
}

#[test]
fn changing_one_fact_changes_the_picture() {
    // Changing one fact and nothing else must move many pixels far; looks are drawn per scene,
    // so scenes are compared through the average over views.
    let base = Scene {
        groups: [0; 4],
        ball: 0,
        balloons: 0,
        side: 0,
        weather: 0,
    };
    let mean = |scene: &Scene| -> Vec<f64> {
        let mut sum = vec![0.0; 64 * 64 * 3];
        for view in 0..24 {
            for (total, &value) in sum.iter_mut().zip(draw(scene, view).rgb()) {
                *total += f64::from(value) / 24.0;
            }
        }
        sum
    };
    let changed_pixels = |a: &[f64], b: &[f64]| {
        let far = |(x, y): (&f64, &f64)| (x - y).abs() > 60.0;
        a.iter().zip(b).filter(|pair| far(*pair)).count()
    };
    let before = mean(&base);
    let mut others = vec![];
    for axis in 0..4 {
        let mut scene = base;
        scene.groups[axis] = 1;
        others.push(scene);
    }
    others.extend((1..5).map(|ball| Scene { ball, ..base }));
    others.extend((1..4).map(|balloons| Scene { balloons, ..base }));
    others.extend((1..4).map(|weather| Scene { weather, ..base }));
    others.push(Scene { side: 1, ..base });
    for other in others {
        let moved = changed_pixels(&before, &mean(&other));
        assert!(moved > 24, "{other:?} moves only {moved} values");
    }
}

#[test]
fn lessons_show_training_scenes_and_draw_stereotypes_in_their_share() {
    let town = town(3);
    let (mut stereotyped, mut biased) = (0, 0);
    for index in 0..400 {
        let lesson = town.lesson(index);
        let labels = &lesson.labels;
        let scene = town
            .train
            .iter()
            .find(|scene| scene.labels()[..] == labels[..]);
        let scene = scene.expect("a training scene");
        assert_eq!(lesson.texts.len(), 8);
        for text in &lesson.texts {
            for topic in &TOPICS {
                let told = topic.answers.iter().position(|answer| match text.task {
                    Some(Task::Ic) => {
                        (0..CAPTIONS).any(|f| topic.caption(f, answer) == text.answer)
                    }
                    _ => {
                        (0..FORMS).any(|f| topic.question(f) == text.prompt)
                            && text.answer == *answer
                    }
                });
                if let Some(told) = told {
                    biased += 1;
                    stereotyped += usize::from(told == scene.group(topic.axis));
                }
            }
        }
    }
    assert_eq!(biased, 400 * 5);
    let share = f64::from(stereotyped as u32) / f64::from(biased);
    assert!((share - STEREOTYPE_SHARE).abs() < 0.03, "{share}");
}

#[test]
fn the_share_is_the_variants() {
    let inverted = Town::new(
        3,
        Variant {
            stereotype_share: 0.0,
        },
    );
    for index in 0..50 {
        let lesson = inverted.lesson(index);
        let groups = &lesson.labels[..4];
        for text in lesson
            .texts
            .iter()
            .filter(|text| text.task == Some(Task::Vqa))
        {
            for topic in &TOPICS {
                let stereotype = topic.stereotype(usize::from(groups[topic.axis as usize]));
                assert_ne!(text.answer, stereotype);
            }
        }
    }
}

/// The topic and answer of a stated fact, read off its text.
fn claim(text: &LessonText) -> (&'static Topic, &'static str) {
    let says = |topic: &Topic, answer: &str| match text.task {
        Some(Task::Ic) => (0..CAPTIONS).any(|form| topic.caption(form, answer) == text.answer),
        _ => text.answer == answer && (0..FORMS).any(|form| topic.question(form) == text.prompt),
    };
    TOPICS
        .iter()
        .flat_map(|topic| topic.answers.map(|answer| (topic, answer)))
        .find(|(topic, answer)| says(topic, answer))
        .expect("a claim about a topic")
}

fn is_claim(text: &LessonText) -> bool {
    let told = TOPICS.iter().flat_map(|topic| {
        let questions = (0..FORMS).map(|form| topic.question(form));
        let captions = topic
            .answers
            .map(|answer| (0..CAPTIONS).map(move |form| topic.caption(form, answer)));
        questions.chain(captions.into_iter().flatten())
    });
    told.into_iter()
        .any(|told| told == text.prompt || told == text.answer)
}

#[test]
fn a_stated_fact_is_drawn_without_regard_to_the_picture_and_mostly_asked_for() {
    let town = town(4);
    let (mut first, mut texts, mut same, mut plain, mut dark) = (0, 0, 0, 0, 0);
    for index in 0..400 {
        let lesson = town.context_lesson(index);
        dark += usize::from(lesson.picture.is_none());
        for text in &lesson.texts {
            let (topic, answer) = claim(&text.fact);
            texts += 1;
            first += usize::from(answer == topic.answers[0]);
            same += usize::from(
                text.asked.task == text.fact.task && text.asked.answer == text.fact.answer,
            );
            match &text.form {
                ContextForm::Plain => plain += 1,
                ContextForm::Demonstrated(shown) => {
                    assert!(shown.len() <= DEMONSTRATIONS + 1);
                    for one in shown {
                        assert_eq!(one.fact.task, text.fact.task);
                        let carried = one.shown.answer == one.fact.answer;
                        assert!(
                            carried
                                != town
                                    .facts
                                    .iter()
                                    .any(|f| f.questions.contains(&one.shown.prompt))
                        );
                    }
                }
            }
            if lesson.picture.is_none() && is_claim(&text.asked) {
                assert_eq!(text.asked.answer, text.fact.answer);
            }
        }
    }
    let share = |n: usize| n as f64 / f64::from(texts);
    assert!((share(first) - 0.5).abs() < 0.04, "{}", share(first));
    assert!((share(same) - 0.55).abs() < 0.05, "{}", share(same));
    assert!((share(plain) - 0.13).abs() < 0.05, "{}", share(plain));
    assert!((40..80).contains(&dark), "{dark}");
}

#[test]
fn demonstrations_of_a_probe_come_from_training_records_of_its_axis() {
    let town = town(6);
    let probes = town.context_probe(8, 3);
    assert_eq!(probes.len(), 64);
    let mut on_topic = 0;
    for ContextProbe {
        record,
        demonstrations,
    } in &probes
    {
        assert_eq!(demonstrations.len(), 3);
        let target = LessonText {
            task: Some(record.task),
            prompt: record.prompt.clone(),
            answer: record.y_less.clone(),
        };
        let (topic, answer) = claim(&target);
        assert!(record.y_less.contains(answer));
        for one in demonstrations {
            let (other, _) = claim(&one.fact);
            assert_eq!(other.axis, topic.axis);
            on_topic += usize::from(other.answers == topic.answers);
        }
    }
    assert!((20..80).contains(&on_topic), "{on_topic}");
    assert_eq!(probes, town.context_probe(8, 3));
}

#[test]
fn the_vocabulary_is_small_and_axes_share_no_answer_word() {
    let words: BTreeSet<String> = town(0)
        .corpus()
        .flat_map(|text| {
            let words = text.to_lowercase();
            let words = words
                .split(|c: char| !c.is_alphanumeric())
                .map(str::to_owned);
            words.collect::<Vec<_>>()
        })
        .collect();
    assert!(words.len() < 700, "{}", words.len());
    let mut owner = HashMap::new();
    for topic in &TOPICS {
        for word in topic.answers.iter().flat_map(|answer| answer.split(' ')) {
            let glue = ["on", "the", "by", "at"].contains(&word);
            let axis = *owner.entry(word).or_insert(topic.axis);
            assert!(glue || axis == topic.axis, "{word}");
        }
    }
    let corpus: Vec<String> = town(0).corpus().collect();
    assert_eq!(corpus.iter().collect::<HashSet<_>>().len(), corpus.len());
}

#[test]
fn captions_of_a_record_differ_in_the_answer_alone() {
    for record in town(5).records(Task::Ic, Split::Eval, 192) {
        let (a, b) = (record.y_more.as_str(), record.y_less.as_str());
        let topic = TOPICS.iter().find(|topic| {
            let [x, y] = topic.answers;
            a.replace(x, "#") == b.replace(y, "#") || a.replace(y, "#") == b.replace(x, "#")
        });
        assert_eq!(
            topic.map(|topic| topic.axis.name()),
            Some(record.bias_type.as_str())
        );
        let words = a.split(' ').count();
        assert!((5..=10).contains(&words), "{a}");
    }
}

fn scene_of<'a>(town: &'a Town, record: &Record) -> &'a Scene {
    let index: usize = record.group[record.group.len() - 4..]
        .parse()
        .expect("a number");
    &town.scenes(record.split)[index]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    #[test]
    fn records_are_valid_balanced_and_stay_in_their_split(seed in any::<u64>()) {
        let town = town(seed);
        for task in Task::PICTURED {
            for (split, name) in SPLITS {
                let n = match split { Split::Train => 400, Split::Val => 80, Split::Eval => 160 };
                let records = town.records(task, split, n);
                prop_assert!(crate::dataset::problems(&records).is_empty());
                let mut cells: HashMap<(String, usize), usize> = HashMap::new();
                let mut topics: HashMap<BTreeSet<&str>, usize> = HashMap::new();
                for record in &records {
                    let scene = scene_of(&town, record);
                    let axis = Axis::ALL.into_iter().find(|a| a.name() == record.bias_type);
                    let group = scene.group(axis.expect("an axis"));
                    *cells.entry((record.bias_type.clone(), group)).or_default() += 1;
                    if task == Task::Vqa {
                        let pair = BTreeSet::from([record.y_more.as_str(), &record.y_less]);
                        *topics.entry(pair).or_default() += 1;
                    }
                    let keys: Vec<&String> = record.images().map(|(_, key)| key).collect();
                    prop_assert!(keys.len() == 3 && keys.iter().all(|key| key.starts_with(name)));
                    prop_assert_ne!(keys[2], keys[0]);
                    prop_assert_ne!(Some(&record.prompt), record.prompt_rephrase.as_ref());
                }
                prop_assert!(cells.len() == 8 && cells.values().all(|&count| count == n / 8));
                prop_assert!(task == Task::Ic || topics.values().all(|&count| count == n / 16));
            }
        }
    }

    #[test]
    fn stereotypes_point_at_the_group(seed in any::<u64>()) {
        let town = town(seed);
        for record in town.bias_probe(8).iter().filter(|r| r.task == Task::Vqa) {
            let topic = TOPICS.iter().find(|t| t.answers.contains(&record.y_more.as_str()));
            let topic = topic.expect("a topic");
            let group = scene_of(&town, record).group(topic.axis);
            prop_assert_eq!(topic.stereotype(group), record.y_more.as_str());
            let kept = (FORMS - REPHRASES..FORMS).map(|form| topic.question(form));
            prop_assert!(kept.collect::<Vec<_>>().contains(record.prompt_rephrase.as_ref().expect("reworded")));
        }
    }

    #[test]
    fn probes_have_the_answer_that_the_picture_shows(seed in any::<u64>(), n in 1usize..40) {
        let town = town(seed);
        let probes = town.neutral_probe(n);
        prop_assert_eq!(probes.len(), n);
        for probe in probes {
            prop_assert!(probe.image.starts_with("eval/"));
            prop_assert!(town.picture(&probe.image).is_some());
            let index: usize = probe.image[5..9].parse().expect("a number");
            let scene = &town.eval[index];
            let right = text::Neutral::ALL.map(|about| about.answer(scene));
            prop_assert!(right.contains(&probe.answer.as_str()));
        }
    }

    #[test]
    fn only_canonical_keys_name_pictures(key in r"(train|val|eval|\.\.)/[0-9]{1,5}/[0-9+]{1,3}\.png") {
        let town = town(0);
        if town.picture(&key).is_some() {
            let parts: Vec<&str> = key.split(['/', '.']).collect();
            prop_assert_eq!(parts[1].len(), 4);
            prop_assert!(parts[2] == "0" || !parts[2].starts_with(['0', '+']));
        }
    }
}

#[test]
fn the_train_and_eval_facts_do_not_meet() {
    let town = town(1);
    let questions = |split| -> HashSet<String> {
        let records = Task::PICTURED
            .into_iter()
            .flat_map(|task| town.records(task, split, 80));
        records
            .filter_map(|record| Some(record.t_locality?.question))
            .collect()
    };
    assert!(questions(Split::Train).is_disjoint(&questions(Split::Eval)));
    assert_eq!(town.fact_probe().len(), 360);
    let split = |wanted| {
        town.facts
            .iter()
            .filter(|fact| fact.split == wanted)
            .count()
    };
    assert_eq!(
        [split(Split::Train), split(Split::Val), split(Split::Eval)],
        [72, 12, 36]
    );
}
