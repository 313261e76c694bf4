//! How a picture, a prompt and an answer become one row of tokens.
//!
//! Families differ in where the vectors of a picture stand and in what is tokenised together:
//! BLIP-2 puts them in front of the text, MiniGPT-4 cuts the text around them and tokenises each
//! piece on its own, LLaVA, InternVL and GLM-4V tokenise one text in which marker tokens are
//! replaced.

use crate::batch::{ImageSpan, Row};
use crate::error::{Error, Result};
use crate::text::{IMAGE_TOKEN, Text};

/// Stands for the prompt in a piece of a frame.
const PROMPT: &str = "{prompt}";

/// One of the pieces that are tokenised on their own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Piece {
    /// Text, with [`PROMPT`] where the prompt goes.
    Text(String),
    /// The vectors of the picture.
    Image,
}

/// How a picture enters a prompt.
#[derive(Clone, Debug, Default)]
pub(crate) struct Frame {
    /// What is said around a picture and a prompt unless a caller wants neither.
    pieces: Vec<Piece>,
    /// Text by which a prompt says itself where its picture goes.
    placeholder: String,
    /// Ids that the vectors replace; empty where the placeholder cuts the text.
    marker: Vec<u32>,
    /// The placeholder with what always stands around it.
    picture: String,
    /// Between a picture and the words of a turn that is text alone.
    gap: &'static str,
}

/// What templates write where a picture goes: the processors of most families put the family's own
/// placeholder there.
const PICTURES: [&str; 2] = [IMAGE_TOKEN, "<|image|>"];

impl Frame {
    /// Of a model without pictures.
    pub fn none() -> Self {
        Self::default()
    }

    /// The picture in front of the text (BLIP-2).
    pub fn front(placeholder: &str) -> Self {
        Self::cut(vec![Piece::Image, Piece::Text(PROMPT.into())], placeholder)
    }

    /// Pieces tokenised on their own (MiniGPT-4).
    pub fn cut(pieces: Vec<Piece>, placeholder: &str) -> Self {
        Self {
            pieces,
            placeholder: placeholder.to_owned(),
            marker: Vec::new(),
            picture: placeholder.to_owned(),
            gap: "\n",
        }
    }

    /// One text with `placeholder` in it, for which the tokenizer writes `marker` (LLaVA, InternVL,
    /// GLM-4V).
    pub fn marked(template: String, placeholder: &str, marker: Vec<u32>) -> Self {
        Self {
            pieces: vec![Piece::Text(template)],
            marker,
            ..Self::cut(Vec::new(), placeholder)
        }
    }

    /// The same, whose placeholder always stands in `picture`, and `gap` between that and the words
    /// of a turn.
    pub fn shown_as(self, picture: &str, gap: &'static str) -> Self {
        Self {
            picture: picture.to_owned(),
            gap,
            ..self
        }
    }

    /// Whether a prompt says itself where its picture goes.
    pub fn is_placed(&self, prompt: &str) -> bool {
        !self.placeholder.is_empty() && prompt.contains(&self.placeholder)
    }

    /// A user's turn as text: a picture, then the prompt.
    pub fn turn(&self, prompt: &str) -> String {
        format!("{}{}{prompt}", self.picture, self.gap)
    }

    /// What a template wrote for a turn with a picture, with the family's own placeholder in the place
    /// of the template's, as the family's processor does it; `None` where it wrote none.
    pub fn placed(&self, said: &str) -> Option<String> {
        if said.contains(&self.picture) {
            return Some(said.to_owned());
        }
        let written = [self.placeholder.as_str()].into_iter().chain(PICTURES);
        let mut written = written.filter(|written| !written.is_empty());
        let found = written.find(|written| said.contains(written))?;
        Some(said.replacen(found, &self.picture, 1))
    }

    /// Ids in whose place the vectors of a picture stand.
    pub fn marker(&self) -> &[u32] {
        &self.marker
    }

    /// The row of a prompt and its answer; without an answer, `answer_start` is the row's end.
    ///
    /// # Errors
    /// An answer without a token of its own, or a prompt whose placeholder is lost on the way.
    pub fn row(&self, text: &Text, prompt: &Prompt, answer: Option<&Answer>) -> Result<Row> {
        let mut row = Row {
            ids: Vec::new(),
            image: None,
            answer_start: 0,
        };
        self.check_places(prompt)?;
        let pieces = self.pieces(prompt);
        let last = pieces.iter().rposition(|p| matches!(p, Piece::Text(_)));
        let mut first = prompt.special;
        for (i, piece) in pieces.iter().enumerate() {
            match (piece, prompt.picture) {
                (Piece::Image, Some((picture, len))) => {
                    let at = row.ids.len();
                    row.image = Some(ImageSpan { picture, at, len });
                    row.ids.extend(std::iter::repeat_n(0, len));
                }
                (Piece::Image, None) => {}
                (Piece::Text(piece), _) => {
                    let answer = answer.filter(|_| Some(i) == last);
                    let (ids, boundary) = joint(text, piece, answer, first)?;
                    row.answer_start = row.ids.len() + boundary;
                    row.ids.extend(ids);
                    first = false;
                }
            }
        }
        let row = match (prompt.picture, row.image) {
            (Some((picture, len)), None) => self.replace_marker(row, picture, len, prompt.text)?,
            _ => row,
        };
        match row.answer_start {
            0 => Err(Error::Prompt {
                prompt: opening(prompt.text),
                problem: "has no token to begin from; give a longer prompt".into(),
            }),
            _ => Ok(row),
        }
    }

    /// Refuses a prompt that says more than once where its picture goes.
    fn check_places(&self, prompt: &Prompt) -> Result<()> {
        let pictured = prompt.picture.is_some() && !self.placeholder.is_empty();
        if pictured && prompt.text.matches(&self.placeholder).nth(1).is_some() {
            Err(Error::Prompt {
                prompt: opening(prompt.text),
                problem: format!(
                    "has more than one place for its picture; write `{}` once",
                    self.placeholder
                ),
            })
        } else {
            Ok(())
        }
    }

    fn pieces(&self, prompt: &Prompt) -> Vec<Piece> {
        let whole = || vec![Piece::Text(prompt.text.to_owned())];
        if prompt.picture.is_none() {
            return whole();
        }
        let says_where = self.is_placed(prompt.text);
        match (says_where, self.marker.is_empty()) {
            (true, false) => whole(),
            (true, true) => {
                let (before, after) = prompt
                    .text
                    .split_once(&self.placeholder)
                    .unwrap_or(("", prompt.text));
                let before = (!before.is_empty()).then(|| Piece::Text(before.to_owned()));
                let after = [Piece::Image, Piece::Text(after.to_owned())];
                before.into_iter().chain(after).collect()
            }
            (false, _) if prompt.raw => {
                vec![Piece::Image, Piece::Text(prompt.text.to_owned())]
            }
            (false, _) => self
                .pieces
                .iter()
                .map(|piece| match piece {
                    Piece::Text(text) => Piece::Text(text.replace(PROMPT, prompt.text)),
                    Piece::Image => Piece::Image,
                })
                .collect(),
        }
    }

    /// Puts `len` vectors in the place of the marker ids.
    fn replace_marker(&self, row: Row, picture: usize, len: usize, prompt: &str) -> Result<Row> {
        let n = self.marker.len();
        let found = (n > 0)
            .then(|| row.ids.windows(n).position(|ids| ids == self.marker))
            .flatten()
            .filter(|at| at + n <= row.answer_start);
        let Some(at) = found else {
            return Err(Error::Prompt {
                prompt: opening(prompt),
                problem: format!(
                    "has a picture, but the tokenizer does not keep the place of `{}`; use the tokenizer of this checkpoint",
                    self.placeholder
                ),
            });
        };
        let vectors = std::iter::repeat_n(0, len);
        let ids = row.ids[..at].iter().copied().chain(vectors);
        Ok(Row {
            ids: ids.chain(row.ids[at + n..].iter().copied()).collect(),
            image: Some(ImageSpan { picture, at, len }),
            answer_start: row.answer_start + len - n,
        })
    }
}

/// What is asked.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Prompt<'a> {
    /// Index and number of vectors of its picture.
    pub picture: Option<(usize, usize)>,
    /// The text.
    pub text: &'a str,
    /// Whether the model's own frame is left away.
    pub raw: bool,
    /// Whether the tokens that open every text are still to be put in front.
    pub special: bool,
}

/// What is answered, and what stands between.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Answer<'a> {
    /// The text.
    pub text: &'a str,
    /// Between prompt and answer; a space unless somebody says otherwise.
    pub join: &'a str,
}

/// The ids of `piece` and `answer` tokenised as one text, and the index of the answer's first
/// token: where the ids part from those of the piece alone, which is its end unless the tokenizer
/// merged across it.
fn joint(
    text: &Text,
    piece: &str,
    answer: Option<&Answer>,
    special: bool,
) -> Result<(Vec<u32>, usize)> {
    let alone = text.encode(piece, special)?;
    let Some(answer) = answer else {
        let end = alone.len();
        return Ok((alone, end));
    };
    let ids = text.encode(&format!("{piece}{}{}", answer.join, answer.text), special)?;
    let boundary = alone.iter().zip(&ids).take_while(|(a, b)| a == b).count();
    if answer.text.trim().is_empty() || boundary == ids.len() {
        return Err(Error::Prompt {
            prompt: opening(piece),
            problem: format!(
                "is answered by `{}`, which has no token of its own; give a longer answer",
                opening(answer.text)
            ),
        });
    }
    Ok((ids, boundary))
}

/// The beginning of a text, for messages.
fn opening(text: &str) -> String {
    const LONGEST: usize = 60;
    let mut line: String = text
        .chars()
        .take(LONGEST)
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect();
    if text.chars().nth(LONGEST).is_some() {
        line.push('…');
    }
    line
}
