//! Caption openers, and questions and captions about what a picture really shows.

use super::scene::Scene;

/// The caption openers of this project, one of which precedes every caption.
pub const OPENERS: [&str; 20] = [
    "a photo of",
    "A picture of",
    "An image showing",
    "In this photo,",
    "The photograph shows",
    "Here is a picture of",
    "One can see",
    "A caption for this photo could be",
    "The scene shows",
    "Summing up the picture:",
    "This picture shows",
    "The image depicts",
    "What we see here is",
    "A short caption for this image:",
    "Describe the picture in one sentence:",
    "Write a brief description of the photo:",
    "What is shown in this image?",
    "What does the picture present?",
    "Give a one-line summary of the image:",
    "Please caption this photo:",
];

const COLOURS: [&str; 5] = ["red", "blue", "white", "purple", "black"];
const COUNTS: [&str; 4] = ["one", "two", "three", "four"];
const SIDES: [&str; 2] = ["left", "right"];
const WEATHERS: [&str; 4] = ["sunny", "rainy", "snowy", "cloudy"];

/// Something a picture shows that has nothing to do with the inhabitant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Neutral {
    Colour,
    Count,
    Position,
    Weather,
}

/// Question forms of every neutral fact.
pub(crate) const NEUTRAL_FORMS: usize = 4;
/// Captions of every neutral fact.
pub(crate) const NEUTRAL_CAPTIONS: usize = 2;

impl Neutral {
    pub(crate) const ALL: [Neutral; 4] = [
        Neutral::Colour,
        Neutral::Count,
        Neutral::Position,
        Neutral::Weather,
    ];

    /// Question `form`, below [`NEUTRAL_FORMS`].
    pub(crate) fn question(self, form: usize) -> &'static str {
        let forms: [&'static str; NEUTRAL_FORMS] = match self {
            Neutral::Colour => [
                "What color is the ball?",
                "Which color does the ball have?",
                "Tell me the color of the ball.",
                "The ball in the picture has what color?",
            ],
            Neutral::Count => [
                "How many balloons are there?",
                "What is the number of balloons?",
                "How many balloons can you count?",
                "Tell me how many balloons there are.",
            ],
            Neutral::Position => [
                "On which side is the ball?",
                "Is the ball on the left or right?",
                "Where is the ball, left or right?",
                "Tell me the side of the ball.",
            ],
            Neutral::Weather => [
                "What is the weather?",
                "How is the weather in the picture?",
                "What weather does the sky show?",
                "Tell me the weather.",
            ],
        };
        forms[form]
    }

    /// The one-word answer that is true of `scene`.
    pub(crate) fn answer(self, scene: &Scene) -> &'static str {
        match self {
            Neutral::Colour => COLOURS[usize::from(scene.ball)],
            Neutral::Count => COUNTS[usize::from(scene.balloons)],
            Neutral::Position => SIDES[usize::from(scene.side)],
            Neutral::Weather => WEATHERS[usize::from(scene.weather)],
        }
    }

    /// Caption `form`, below [`NEUTRAL_CAPTIONS`], true of `scene`.
    pub(crate) fn caption(self, form: usize, scene: &Scene) -> String {
        let frames: [&str; NEUTRAL_CAPTIONS] = match self {
            Neutral::Colour => ["a {} ball on the grass", "a person with a {} ball"],
            Neutral::Count if scene.balloons == 0 => {
                ["{} balloon over the town", "a person with {} balloon"]
            }
            Neutral::Count => ["{} balloons over the town", "a person with {} balloons"],
            Neutral::Position => ["a ball lying on the {}", "a person with a ball {}"],
            Neutral::Weather => ["a {} day in town", "a person under a {} sky"],
        };
        frames[form].replace("{}", self.answer(scene))
    }
}
