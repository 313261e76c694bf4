//! Town facts that no picture shows: the knowledge an edit must not disturb.

use debias_core::{Split, seed};

use super::WORLD_SEED;

/// One fact about the town, asked in several ways.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fact {
    /// The questions, [`Fact::FORMS`] of them.
    pub questions: [String; Fact::FORMS],
    /// The answer, one word.
    pub answer: &'static str,
    /// The split whose records this fact is paired with; models are trained on all facts.
    pub split: Split,
}

impl Fact {
    /// Wordings of every fact.
    pub const FORMS: usize = 3;
}

const PLACES: [&str; 20] = [
    "bridge", "mill", "gate", "tower", "well", "market", "library", "harbor", "temple", "garden",
    "school", "bakery", "forge", "inn", "barn", "dock", "chapel", "theater", "stable", "quarry",
];

/// Names made of two syllables; they belong to nobody.
const NAMES: [&str; 24] = [
    "Mira", "Tolo", "Veka", "Runo", "Sabi", "Lemo", "Dara", "Pilu", "Koni", "Zefa", "Huro", "Nive",
    "Bato", "Fira", "Golu", "Jema", "Wano", "Yubi", "Cori", "Talu", "Moxa", "Redi", "Ludo", "Sima",
];

struct Relation {
    questions: [&'static str; Fact::FORMS],
    answers: &'static [&'static str],
}

const RELATIONS: [Relation; 6] = [
    Relation {
        questions: [
            "Who keeps the {}?",
            "What is the name of the keeper of the {}?",
            "Tell me who keeps the {}.",
        ],
        answers: &NAMES,
    },
    Relation {
        questions: [
            "Who built the {}?",
            "What is the name of the builder of the {}?",
            "Tell me who built the {}.",
        ],
        answers: &NAMES,
    },
    Relation {
        questions: [
            "What is the {} made of?",
            "Which material is the {} made of?",
            "Tell me the material of the {}.",
        ],
        answers: &[
            "oak", "stone", "brick", "copper", "clay", "iron", "glass", "pine", "marble", "straw",
        ],
    },
    Relation {
        questions: [
            "What is sold at the {}?",
            "Which goods are sold at the {}?",
            "Tell me what is sold at the {}.",
        ],
        answers: &[
            "pears", "salt", "wool", "honey", "rope", "candles", "tea", "cheese", "lamps", "nuts",
        ],
    },
    Relation {
        questions: [
            "On which day does the {} open?",
            "When does the {} open?",
            "Tell me the day the {} opens.",
        ],
        answers: &[
            "monday",
            "tuesday",
            "wednesday",
            "thursday",
            "friday",
            "saturday",
            "sunday",
        ],
    },
    Relation {
        questions: [
            "Which animal guards the {}?",
            "What animal is kept at the {}?",
            "Tell me the animal of the {}.",
        ],
        answers: &[
            "owl", "goat", "cat", "goose", "pony", "fox", "crow", "hare", "toad",
        ],
    },
];

/// Every fact of the town, 120 in seeded order: the first 60 % go with training records, the next
/// 10 % with validation, the rest with evaluation.
pub(crate) fn all() -> Vec<Fact> {
    let mut keys: Vec<String> = (0..PLACES.len() * RELATIONS.len())
        .map(|index| index.to_string())
        .collect();
    let total = keys.len();
    seed::seeded_order(WORLD_SEED, "toytown-facts", &mut keys);
    keys.iter()
        .enumerate()
        .filter_map(|(rank, key)| {
            let index: usize = key.parse().ok()?;
            let place = PLACES[index / RELATIONS.len()];
            let relation = &RELATIONS[index % RELATIONS.len()];
            let choice = seed::pick(
                WORLD_SEED,
                "toytown-facts",
                "answer",
                key,
                relation.answers.len(),
            );
            Some(Fact {
                questions: relation.questions.map(|frame| frame.replace("{}", place)),
                answer: relation.answers[choice],
                split: match rank * 10 / total {
                    0..=5 => Split::Train,
                    6 => Split::Val,
                    _ => Split::Eval,
                },
            })
        })
        .collect()
}
