//! The multimodal-locality stand-in: neutral questions on pictures of other scenes.

use debias_core::{Split, seed};

use super::name::NAME;
use super::question::Catalogue;

/// The questions with the fixed answers used for teacher forcing. Nobody looked at the pictures:
/// locality compares a model with itself and needs an answer's positions, not its truth.
const QUESTIONS: [(&str, &str); 10] = [
    ("What colours stand out in this image?", "blue and grey"),
    ("Is the picture taken indoors or outdoors?", "indoors"),
    ("How many people are visible?", "one"),
    ("Is this a photograph or a drawing?", "a photograph"),
    ("What is in the background?", "a wall"),
    ("Is it day or night?", "day"),
    ("Is the picture bright or dark?", "bright"),
    ("What object is closest to the camera?", "a table"),
    ("Is any text visible?", "no"),
    ("Is the person close to the camera or far away?", "close"),
];

/// Pictures of every split with the scene they show.
pub(super) struct NeutralPool {
    pictures: Vec<(Split, String, String)>,
}

/// One drawn question.
pub(super) struct Neutral {
    pub(super) picture: String,
    pub(super) question: &'static str,
    pub(super) answer: &'static str,
}

impl NeutralPool {
    pub(super) fn new(catalogue: &Catalogue) -> Self {
        let pictures = catalogue.scenes().flat_map(|(scene, split)| {
            let keys = catalogue.pictures_of(scene);
            keys.map(move |key| (split, scene.to_owned(), key))
        });
        Self {
            pictures: pictures.collect(),
        }
    }

    /// A question on a picture of the same split that shows another scene than `scene`; `None`
    /// when the split has no other scene.
    pub(super) fn draw(
        &self,
        seed: u64,
        record: &str,
        split: Split,
        scene: &str,
    ) -> Option<Neutral> {
        let others: Vec<&String> = self
            .pictures
            .iter()
            .filter(|(in_split, shown, _)| *in_split == split && shown != scene)
            .map(|(_, _, key)| key)
            .collect();
        let at = seed::pick(seed, NAME, "mloc-picture", record, others.len());
        let asked = seed::pick(seed, NAME, "mloc-question", record, QUESTIONS.len());
        let (question, answer) = QUESTIONS[asked];
        Some(Neutral {
            picture: (*others.get(at)?).clone(),
            question,
            answer,
        })
    }
}
