//! What a model is asked: a picture, a prompt, and the answer that is scored.

use crate::batch::ImageRef;

/// A prompt and the answer to be scored after it.
#[derive(Clone, Debug)]
pub struct Question<'a> {
    /// Its picture; `None` for text alone.
    pub picture: Option<ImageRef>,
    /// The prompt.
    pub prompt: &'a str,
    /// The answer; `None` for a prompt that is to be continued.
    pub answer: Option<&'a str>,
    /// Between prompt and answer.
    pub join: &'a str,
    /// What the model puts around the prompt.
    pub style: Style,
}

/// What a model puts around a prompt.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Style {
    /// Nothing; a picture stands where the prompt says, else in front.
    Raw,
    /// The chat template of a multimodal model; where its folder has none, the text that its family
    /// puts around a picture. Nothing around a text model's prompts.
    #[default]
    Framed,
    /// As framed, and a text model's chat template too, where its folder has one.
    Chat,
}

impl<'a> Question<'a> {
    /// A framed prompt with an answer after one space.
    pub fn new(picture: Option<ImageRef>, prompt: &'a str, answer: &'a str) -> Self {
        Self {
            picture,
            prompt,
            answer: Some(answer),
            join: " ",
            style: Style::Framed,
        }
    }
}
