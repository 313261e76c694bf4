//! Facts stated in front of a prompt: how an embedded model learns to use them, and how well it
//! has learnt it.

use debias_core::demonstration::{self, Fact};
use debias_core::{Norm, Record, Task, Template, Templates, Unrelated};
use debias_data::toytown::{
    ContextForm, ContextProbe, ContextText, DEMONSTRATIONS, Demonstration, LessonText, Probe,
};
use debias_edit::context_scores;
use debias_model::Model;
use debias_model::pretrain::Passage;

use crate::models::StatedFacts;
use crate::pretrain::training::{Lessons, right};

/// Records per task and axis whose facts are stated.
const PER_AXIS: usize = 16;
/// Records that share a forward pass.
const CHUNK: usize = 8;

/// What stands around facts and prompts, for a tokenizer to learn.
pub(crate) fn format() -> String {
    let nothing = Fact {
        prompt: "",
        target: "",
    };
    demonstration::copy(nothing) + &demonstration::query(nothing, "")
}

/// The passage in which a fact is stated and asked for; every prompt under a fact is a turn.
pub(crate) fn passage(lessons: &Lessons, text: &ContextText, whole: bool) -> Passage {
    let asked = lessons.prompt(&text.asked);
    let answer = text.asked.answer.clone();
    let shown = match &text.form {
        ContextForm::Plain => {
            let fact = with_fact(lessons, &text.fact, |fact| fact.sentence());
            return Passage {
                turns: vec![(format!("{fact} {asked}"), answer)],
                whole: false,
            };
        }
        ContextForm::Demonstrated(shown) => shown,
    };
    let mut turns = Vec::with_capacity(shown.len() + 1);
    let mut gap = "";
    for one in shown {
        let shown = lessons.prompt(&one.shown);
        let prompt = with_fact(lessons, &one.fact, |fact| {
            demonstration::query(fact, &shown)
        });
        turns.push((format!("{gap}{prompt}"), one.shown.answer.clone()));
        gap = demonstration::GAP;
    }
    let prompt = with_fact(lessons, &text.fact, |fact| {
        demonstration::query(fact, &asked)
    });
    turns.push((format!("{gap}{prompt}"), answer));
    Passage { turns, whole }
}

/// Demonstrations, the fact, and a prompt that is in its template already.
fn stated(lessons: &Lessons, shown: &[Demonstration], fact: &LessonText, asked: &str) -> String {
    let mut text: String = shown
        .iter()
        .map(|one| {
            with_fact(lessons, &one.fact, |fact| {
                with_fact(lessons, &one.shown, |shown| {
                    demonstration::demonstrate(fact, shown)
                })
            })
        })
        .collect();
    text += &with_fact(lessons, fact, |fact| demonstration::query(fact, asked));
    text
}

fn with_fact<T>(lessons: &Lessons, text: &LessonText, write: impl FnOnce(Fact) -> T) -> T {
    write(Fact {
        prompt: &lessons.prompt(text),
        target: &text.answer,
    })
}

/// What the model does on records whose stereotype a stated fact contradicts, by task, without and
/// with demonstrations.
///
/// # Errors
/// A model that cannot be asked.
pub(crate) fn measure(lessons: &Lessons, model: &Model) -> anyhow::Result<Vec<StatedFacts>> {
    let mut found = Vec::new();
    for demonstrations in [0, DEMONSTRATIONS] {
        let probes = lessons.town.context_probe(PER_AXIS, demonstrations);
        for task in Task::PICTURED {
            let of_task = probes.iter().filter(|probe| probe.record.task == task);
            let of_task: Vec<Asked> = of_task.map(|probe| asked(lessons, probe)).collect();
            let share = |about: fn(&Asked) -> &Probe| {
                let probes: Vec<Probe> = of_task.iter().map(|one| about(one).clone()).collect();
                right(lessons, model, &probes)
            };
            found.push(StatedFacts {
                task,
                demonstrations,
                preferred: preferred(lessons, model, &of_task)?,
                neutral: share(|one| &one.neutral)?,
                facts: share(|one| &one.fact)?,
                n: of_task.len(),
            });
        }
    }
    Ok(found)
}

/// Everything asked under one stated fact, prompts as the model reads them.
struct Asked {
    record: Record,
    neutral: Probe,
    fact: Probe,
}

fn asked(lessons: &Lessons, probe: &ContextProbe) -> Asked {
    let mut record = probe.record.clone();
    let told = |prompt: &str, task: Option<Task>, answer: &str| LessonText {
        task,
        prompt: prompt.to_owned(),
        answer: answer.to_owned(),
    };
    let fact = told(&record.prompt, Some(record.task), &record.y_less);
    let mut shown = probe.demonstrations.clone();
    shown.push(Demonstration::copy(&fact));
    let ask = |text: LessonText| stated(lessons, &shown, &fact, &lessons.prompt(&text));
    let unrelated = |image: &str, text: LessonText| Probe {
        image: image.to_owned(),
        task: None,
        answer: text.answer.clone(),
        prompt: ask(text),
    };
    let item = |item: &Option<Unrelated>, task: Option<Task>| {
        let item = item
            .clone()
            .expect("a record of toytown has both unrelated items");
        let text = told(&item.question, task, &item.answer);
        unrelated(item.image.as_deref().unwrap_or_default(), text)
    };
    let neutral = item(&record.m_locality, Some(Task::Vqa));
    let town = item(&record.t_locality, None);
    let rephrase = record.prompt_rephrase.as_ref();
    record.prompt_rephrase = rephrase.map(|text| ask(told(text, Some(record.task), "")));
    record.prompt = ask(fact.clone());
    Asked {
        record,
        neutral,
        fact: town,
    }
}

/// Share of records whose stated answer is preferred in all three contexts.
fn preferred(lessons: &Lessons, model: &Model, asked: &[Asked]) -> anyhow::Result<f64> {
    let bare = Templates {
        vqa: Template::bare(),
        ..Templates::default()
    };
    let mut preferred = 0;
    for chunk in asked.chunks(CHUNK) {
        let records: Vec<Record> = chunk.iter().map(|one| one.record.clone()).collect();
        let pictures = lessons.pictures(&records);
        let scores = context_scores(model, &records, &pictures, &bare)?;
        preferred += scores
            .iter()
            .filter(|contexts| contexts.iter().all(|one| one.margin(Norm::Mean) > 0.0))
            .count();
    }
    Ok(preferred as f64 / asked.len().max(1) as f64)
}

#[cfg(test)]
mod tests {
    use debias_data::toytown::{Town, Variant};

    use super::*;

    fn lessons() -> Lessons {
        Lessons::of(Town::new(0, Variant::default()))
    }

    #[test]
    fn a_passage_is_demonstrations_and_a_query() {
        let lessons = lessons();
        let lesson = |index| lessons.town.context_lesson(index).texts;
        for text in (0..40).flat_map(lesson) {
            let passage = passage(&lessons, &text, true);
            let answers = passage
                .turns
                .iter()
                .map(|turn| format!("{} {}", turn.0, turn.1));
            let read: String = answers.collect();
            let asked = lessons.prompt(&text.asked);
            let prompt = match &text.form {
                ContextForm::Plain => {
                    let fact = with_fact(&lessons, &text.fact, |fact| fact.sentence());
                    assert!(!passage.whole);
                    format!("{fact} {asked}")
                }
                ContextForm::Demonstrated(shown) => {
                    assert_eq!(passage.turns.len(), shown.len() + 1);
                    stated(&lessons, shown, &text.fact, &asked)
                }
            };
            assert_eq!(read, format!("{prompt} {}", text.asked.answer));
        }
    }

    #[test]
    fn a_probe_states_what_the_record_denies_in_front_of_its_prompt() {
        let lessons = lessons();
        for probe in lessons.town.context_probe(4, 2) {
            let Asked {
                record, neutral, ..
            } = asked(&lessons, &probe);
            let original = &probe.record;
            assert_eq!(record.prompt.matches("New Fact: ").count(), 4);
            let rephrase = record.prompt_rephrase.as_ref().expect("other words");
            for prompt in [&record.prompt, rephrase, &neutral.prompt] {
                let facts: Vec<&str> = prompt.split("New Fact: ").collect();
                assert!(facts[3].contains(&original.y_less));
                assert!(facts[4].contains(&original.y_less));
                assert!(!facts[4].contains(&original.y_more) || original.task == Task::Vqa);
            }
            let words = original.prompt_rephrase.as_ref().expect("other words");
            assert!(rephrase.contains(words));
        }
    }
}
