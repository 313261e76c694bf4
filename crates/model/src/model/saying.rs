//! What stands around a prompt.

use super::Model;
use crate::chat::{ChatTemplate, Message, Part};
use crate::error::Result;
use crate::question::Style;

impl Model {
    /// The chat template that is put around prompts of that style: the file that it stands in, or the
    /// name by which `config.json` calls it. `None` where nothing is, or a family's own text.
    pub fn template(&self, style: Style) -> Option<&str> {
        self.chat_of(style).map(ChatTemplate::name)
    }

    fn chat_of(&self, style: Style) -> Option<&ChatTemplate> {
        let wanted = match style {
            Style::Raw => false,
            Style::Framed => self.parts.sight.is_some(),
            Style::Chat => true,
        };
        self.chat.as_ref().filter(|_| wanted)
    }

    /// A prompt as it is put to the model, in its chat template where `style` asks for one, and
    /// whether the tokens that open every text are still to be put in front. A prompt that says itself
    /// where its picture goes is put as it is.
    ///
    /// # Errors
    /// A template that cannot be rendered, or a text that cannot be tokenised.
    pub(crate) fn said(
        &self,
        prompt: &str,
        style: Style,
        pictured: bool,
    ) -> Result<(String, bool)> {
        let frame = &self.parts.frame;
        let Some(chat) = self
            .chat_of(style)
            .filter(|_| !(pictured && frame.is_placed(prompt)))
        else {
            return Ok((prompt.to_owned(), true));
        };
        let said = if pictured {
            let parts = vec![Part::Image, Part::text(prompt)];
            let in_parts = match chat.takes_parts() {
                true => frame.placed(&chat.render(&[Message::parts("user", parts)], true)?),
                false => None,
            };
            match in_parts {
                Some(said) => said,
                None => chat.render(&[Message::text("user", &frame.turn(prompt))], true)?,
            }
        } else {
            chat.render(&[self.words(chat, prompt)], true)?
        };
        let opened = self.parts.text.is_opened(&said)?;
        Ok((said, !opened))
    }

    /// A turn without a picture. Templates of multimodal models may know nothing but parts.
    fn words(&self, chat: &ChatTemplate, prompt: &str) -> Message {
        if self.parts.sight.is_some() && chat.takes_parts() {
            Message::parts("user", vec![Part::text(prompt)])
        } else {
            Message::text("user", prompt)
        }
    }
}
