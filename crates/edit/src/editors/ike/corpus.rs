//! The corpus of demonstrations, and which of them are shown.

use std::sync::Arc;

use debias_core::demonstration::{Fact, copy, retain, update};
use debias_core::{Record, seed};
use debias_model::Model;
use rand::seq::SliceRandom;
use serde::{Deserialize, Serialize};

use super::{ID, kin};
use crate::context::Demonstration;
use crate::editor::{Examples, Wording};
use crate::embedding::{TextEmbedding, cosine};
use crate::error::Result;

/// Whose way of choosing demonstrations.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Variant {
    /// The nearest sentences, nearest first.
    #[default]
    Easyedit,
    /// The nearest records, one sentence each in a fixed ratio of roles; nearest last.
    Original,
}

/// What a demonstration shows, in the order of a record's sentences.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Role {
    Copy,
    Update,
    Retain,
}

/// The roles of the 32 demonstrations of the original, and how many have each.
const ROLES: [(Role, usize); 3] = [(Role::Copy, 4), (Role::Update, 12), (Role::Retain, 16)];

/// Sentences of the training split.
#[derive(Debug, Default)]
pub(super) struct Corpus {
    variant: Variant,
    lessons: Vec<Lesson>,
    /// Directions of all sentences (easyedit), or of each record's copy sentence (original).
    vectors: Vec<Vec<f32>>,
}

/// The sentences of one training record.
#[derive(Debug)]
struct Lesson {
    id: String,
    group: String,
    /// Copy, update, retain; a record without other words or without an unrelated question shows
    /// its own prompt in their place.
    sentences: [Arc<Demonstration>; 3],
}

impl Lesson {
    fn of(model: &Model, record: &Record, wording: &Wording) -> Result<Self> {
        let fact = Fact {
            prompt: &wording.prompt,
            target: &record.y_less,
        };
        let unrelated = wording.t_locality.as_ref().map(|(question, answer)| Fact {
            prompt: question,
            target: answer,
        });
        let reworded = wording.rephrase.as_ref().unwrap_or(&wording.prompt);
        let sentence = |text: String| Demonstration::new(model, text).map(Arc::new);
        Ok(Self {
            id: record.id.clone(),
            group: record.group.clone(),
            sentences: [
                sentence(copy(fact))?,
                sentence(update(fact, reworded))?,
                sentence(unrelated.map_or_else(|| copy(fact), |other| retain(fact, other)))?,
            ],
        })
    }

    fn sentence(&self, role: Role) -> Arc<Demonstration> {
        self.sentences[role as usize].clone()
    }
}

impl Corpus {
    /// Writes and embeds the sentences of `train`.
    ///
    /// # Errors
    /// A record that cannot be read, or a sentence that cannot be embedded.
    pub fn read(
        model: &Model,
        train: &dyn Examples,
        variant: Variant,
        embedding: &TextEmbedding,
    ) -> Result<Self> {
        let records = train.records().iter().enumerate();
        let lessons = records.map(|(at, record)| Lesson::of(model, record, &train.wording(at)));
        let lessons: Vec<Lesson> = lessons.collect::<Result<_>>()?;
        let searched = match variant {
            Variant::Easyedit => 3,
            Variant::Original => 1,
        };
        let texts: Vec<&str> = lessons
            .iter()
            .flat_map(|lesson| &lesson.sentences[..searched])
            .map(|sentence| sentence.text.as_str())
            .collect();
        let vectors = embedding.embed(&texts)?;
        Ok(Self {
            variant,
            vectors,
            lessons,
        })
    }

    /// At most `k` demonstrations for `record`, whose copy sentence has the direction `query`, in
    /// the order in which they are shown.
    pub fn demonstrations(
        &self,
        record: &Record,
        query: &[f32],
        k: usize,
        seed: u64,
    ) -> Vec<Arc<Demonstration>> {
        let foreign = |lesson: &Lesson| !kin(record, &lesson.id, &lesson.group);
        match self.variant {
            Variant::Easyedit => {
                let places = self.nearest(query, k, |at| foreign(&self.lessons[at / 3]));
                let sentence = |at: usize| self.lessons[at / 3].sentences[at % 3].clone();
                places.into_iter().map(sentence).collect()
            }
            Variant::Original => {
                let places = self.nearest(query, k, |at| foreign(&self.lessons[at]));
                let roles = roles(places.len(), seed, &record.id);
                let shown = places.into_iter().zip(roles).rev();
                shown
                    .map(|(at, role)| self.lessons[at].sentence(role))
                    .collect()
            }
        }
    }

    /// The `k` vectors nearest to `query` among those allowed, nearest first; of equally near ones
    /// the lower index.
    fn nearest(&self, query: &[f32], k: usize, allowed: impl Fn(usize) -> bool) -> Vec<usize> {
        let vectors = self.vectors.iter().enumerate();
        let mut found: Vec<(usize, f64)> = vectors
            .filter(|(at, _)| allowed(*at))
            .map(|(at, vector)| (at, cosine(vector, query)))
            .collect();
        found.sort_by(|(_, a), (_, b)| b.total_cmp(a));
        found.into_iter().take(k).map(|(at, _)| at).collect()
    }
}

/// The roles of `k` demonstrations in the ratio of [`ROLES`], shuffled for the record `id`.
fn roles(k: usize, seed: u64, id: &str) -> Vec<Role> {
    let whole: usize = ROLES.iter().map(|(_, share)| share).sum();
    let mut counts: Vec<usize> = ROLES.iter().map(|(_, share)| share * k / whole).collect();
    // What rounding down has left goes to the largest remainders.
    let mut by_remainder: Vec<usize> = (0..ROLES.len()).collect();
    by_remainder.sort_by_key(|role| std::cmp::Reverse(ROLES[*role].1 * k % whole));
    let left = k - counts.iter().sum::<usize>();
    for role in by_remainder.into_iter().take(left) {
        counts[role] += 1;
    }
    let each = ROLES.iter().zip(counts);
    let mut roles: Vec<Role> = each
        .flat_map(|((role, _), count)| std::iter::repeat_n(*role, count))
        .collect();
    roles.shuffle(&mut seed::stream(seed, &[ID, "roles", id]));
    roles
}

#[cfg(test)]
mod tests {
    use debias_core::{Split, TargetRule, Task};

    use super::*;

    fn lesson(id: &str, group: &str) -> Lesson {
        let sentence = |role: &str| {
            Arc::new(Demonstration {
                text: format!("{id} {role}"),
                tokens: 2,
            })
        };
        Lesson {
            id: id.into(),
            group: group.into(),
            sentences: ["copy", "update", "retain"].map(sentence),
        }
    }

    fn record(id: &str, group: &str) -> Record {
        Record {
            id: id.into(),
            task: Task::Ic,
            bias_type: "age".into(),
            image: None,
            prompt: String::new(),
            y_more: String::new(),
            y_less: String::new(),
            prompt_rephrase: None,
            image_rephrase: None,
            t_locality: None,
            m_locality: None,
            group: group.into(),
            split: Split::Eval,
            target: TargetRule::Given,
        }
    }

    /// Four records whose sentences point where the test says.
    fn corpus(variant: Variant, vectors: &[[f32; 2]]) -> Corpus {
        let lessons = [("a", "g1"), ("b", "g2"), ("c", "g3"), ("d", "g4")];
        Corpus {
            variant,
            lessons: lessons.map(|(id, group)| lesson(id, group)).into(),
            vectors: vectors.iter().map(|vector| vector.to_vec()).collect(),
        }
    }

    fn shown(corpus: &Corpus, record: &Record, k: usize) -> Vec<String> {
        let found = corpus.demonstrations(record, &[1.0, 0.0], k, 0);
        found.iter().map(|shown| shown.text.clone()).collect()
    }

    const SENTENCES: [[f32; 2]; 12] = [
        // a: copy, update, retain; the cosine with the query is the first value.
        [0.6, 0.8],
        [0.0, 1.0],
        [0.8, 0.6],
        // b
        [1.0, 0.0],
        [0.6, -0.8],
        [-1.0, 0.0],
        // c
        [0.8, -0.6],
        [0.28, 0.96],
        [0.0, -1.0],
        // d
        [0.96, 0.28],
        [0.6, 0.8],
        [-0.6, 0.8],
    ];

    #[test]
    fn easyedit_shows_the_nearest_sentences_nearest_first() {
        // By cosine: b copy 1, d copy .96, a retain .8, c copy .8, a copy .6, b update .6, …
        let corpus = corpus(Variant::Easyedit, &SENTENCES);
        let expected = [
            "b copy", "d copy", "a retain", "c copy", "a copy", "b update",
        ];
        let record = record("r", "g");
        assert_eq!(shown(&corpus, &record, 6), expected);
        assert_eq!(shown(&corpus, &record, 2), expected[..2]);
        // There are no more than all.
        assert_eq!(shown(&corpus, &record, 99).len(), 12);
    }

    #[test]
    fn the_own_group_and_the_own_record_are_never_shown() {
        // [C18]
        let corpus = corpus(Variant::Easyedit, &SENTENCES);
        for own in [record("r", "g2"), record("b", "elsewhere")] {
            let expected = ["d copy", "a retain", "c copy"];
            assert_eq!(shown(&corpus, &own, 3), expected);
        }
        // Records without a group are not all one group.
        let mut ungrouped = corpus;
        for lesson in &mut ungrouped.lessons {
            lesson.group.clear();
        }
        assert_eq!(shown(&ungrouped, &record("r", ""), 1), ["b copy"]);
    }

    #[test]
    fn the_original_shows_the_nearest_records_nearest_last() {
        // By cosine: c 1, a .8, d .8, b 0.
        let records = [[0.8, 0.6], [0.0, 1.0], [1.0, 0.0], [0.8, -0.6]];
        let corpus = corpus(Variant::Original, &records);
        let names = |texts: Vec<String>| -> String {
            let names = texts.iter().filter_map(|text| text.chars().next());
            names.collect()
        };
        assert_eq!(names(shown(&corpus, &record("r", "g"), 4)), "bdac");
        assert_eq!(names(shown(&corpus, &record("r", "g"), 2)), "ac");
        assert_eq!(names(shown(&corpus, &record("r", "g3"), 2)), "da");
        // The nearest gets the first role that the shuffle deals.
        let texts = shown(&corpus, &record("r", "g"), 4);
        let dealt = roles(4, 0, "r");
        let last = corpus.lessons[2].sentence(dealt[0]);
        assert_eq!(texts[3], last.text);
    }

    #[test]
    fn roles_stand_in_the_ratio_of_the_original() {
        let counts = |k: usize| {
            let roles = roles(k, 7, "r");
            ROLES.map(|(role, _)| roles.iter().filter(|dealt| **dealt == role).count())
        };
        assert_eq!(counts(32), [4, 12, 16]);
        assert_eq!(counts(16), [2, 6, 8]);
        assert_eq!(counts(8), [1, 3, 4]);
        // 0.5, 1.5 and 2: the tie of the remainders goes to the first.
        assert_eq!(counts(4), [1, 1, 2]);
        assert_eq!(counts(0), [0, 0, 0]);
        assert_eq!(roles(32, 7, "r"), roles(32, 7, "r"));
        assert_ne!(roles(32, 7, "r"), roles(32, 8, "r"));
        assert_ne!(roles(32, 7, "r"), roles(32, 7, "s"));
    }
}
