//! A multimodal language model: pixels and text to logits, through a view.
//!
//! The forward pass is a line of stages (vision, bridge, embed, attention and feed-forward of
//! each layer, head). [`Mllm::run`] carries a [`Batch`] from the stage it is at to another, so the
//! part below the first edited parameter is computed once and shared by all edits.

use std::collections::BTreeMap;

use burn::tensor::{Device, Tensor};
use debias_core::Picture;
use debias_weights::Checkpoint;

use crate::batch::{Batch, ImageSpan, Row, State};
use crate::change::{Parameters, View};
use crate::decoders::Decoder;
use crate::error::{Error, Result};
use crate::families::{self, Blip2Config, Parts};
use crate::host;
use crate::loader::{Loader, Weights, refuse_unused};
use crate::pixels::PixelConfig;
use crate::site::{Site, Stage};
use crate::text::{Joined, Text};

/// A loaded model. Its weights are never written.
pub struct Mllm {
    name: String,
    digest: String,
    parts: Parts,
    pixels: PixelConfig,
    text: Text,
    wrapper: Wrapper,
    sites: Vec<Site>,
    values: BTreeMap<String, Tensor<2>>,
    device: Device,
}

/// Tokens around the image vectors of every image row.
#[derive(Clone, Debug, Default)]
struct Wrapper {
    before: Vec<u32>,
    after: Vec<u32>,
    /// Whether the text behind the image still begins with the tokenizer's own BOS.
    text_special: bool,
}

/// A prompt and the answer to be scored after it.
#[derive(Clone, Debug)]
pub struct Question<'a> {
    /// Index of its picture in the batch; `None` for text alone.
    pub picture: Option<usize>,
    /// The full prompt, template applied.
    pub prompt: &'a str,
    /// The answer, joined with one space.
    pub answer: &'a str,
}

impl Mllm {
    /// Loads a checkpoint onto `device`.
    ///
    /// # Errors
    /// Anything unreadable, missing, misshapen, unknown or not finite, named.
    pub fn open(checkpoint: &Checkpoint, device: &Device) -> Result<Self> {
        let model = Self::assemble(checkpoint, checkpoint, device)?;
        refuse_unused(checkpoint, &model.sites)?;
        Ok(model)
    }

    /// Builds the model that `folder` describes with weights from elsewhere.
    ///
    /// # Errors
    /// As [`Mllm::open`], but tensors that `weights` has beyond the model's are not looked at.
    pub fn assemble(folder: &Checkpoint, weights: &dyn Weights, device: &Device) -> Result<Self> {
        let location = folder.location().to_string();
        let config: Blip2Config = families::config(folder)?;
        let mut loader = Loader::new(weights, device);
        let parts = families::parts(&mut loader, &config, &location)?;
        let (sites, values) = loader.finish();
        let text = Text::from_bytes(&folder.bytes("tokenizer.json")?, &location)?;
        let vocabulary = parts.decoder.vocabulary();
        if text.vocab_size() > vocabulary {
            return Err(Error::Text {
                location,
                problem: format!(
                    "tokenizer.json has {} tokens but the embedding only {vocabulary} rows; use the tokenizer of this checkpoint",
                    text.vocab_size()
                ),
            });
        }
        let pixels: PixelConfig = folder.json("preprocessor_config.json")?;
        let side = parts.vision.image_size();
        if (pixels.width(), pixels.height()) != (side, side) {
            return Err(Error::Pixels {
                location,
                problem: format!(
                    "does not produce the {side}x{side} pixels that config.json asks for"
                ),
            });
        }
        Ok(Self {
            name: folder.name().to_owned(),
            digest: folder.digest()?,
            wrapper: Wrapper::new(&config, &text)?,
            parts,
            pixels,
            text,
            sites,
            values,
            device: device.clone(),
        })
    }

    /// The folder's or embedded model's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// SHA-256 over weights, configuration, tokenizer and preprocessing.
    pub fn digest(&self) -> &str {
        &self.digest
    }

    /// Where the weights live.
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// The language model.
    pub fn decoder(&self) -> &dyn Decoder {
        self.parts.decoder.as_ref()
    }

    /// The tokenizer.
    pub fn text(&self) -> &Text {
        &self.text
    }

    /// Pictures through the vision tower: `[n, tokens, c]`.
    pub fn see(&self, pictures: &[&Picture], view: &View) -> Tensor<3> {
        let side = self.parts.vision.image_size();
        let mut pixels = Vec::with_capacity(pictures.len() * 3 * side * side);
        for picture in pictures {
            pixels.extend(self.pixels.preprocess(picture));
        }
        let pixels = host::tensor(pixels, [pictures.len(), 3, side, side], &self.device);
        self.parts.vision.forward(view.lift(&pixels), view)
    }

    /// Pictures through tower and bridge: queries `[n, q, c]`.
    pub(crate) fn look(&self, pictures: &[&Picture], view: &View) -> Tensor<3> {
        self.parts.bridge.forward(self.see(pictures, view), view)
    }

    /// Queries `[n, q, c]` → decoder vectors `[n, q, d]`.
    pub(crate) fn project(&self, queries: Tensor<3>, view: &View) -> Tensor<3> {
        self.parts.projection.forward(queries, view)
    }

    /// Number and width of the learned queries.
    pub(crate) fn bridge_shape(&self) -> [usize; 2] {
        self.parts.bridge.shape()
    }

    /// Tokenises questions that all have a picture, or all have none.
    ///
    /// # Errors
    /// An empty answer, or a sequence beyond the model's positions.
    pub fn rows(&self, questions: &[Question]) -> Result<Vec<Row>> {
        questions
            .iter()
            .map(|question| self.row(question))
            .collect()
    }

    /// Tokenises two answers to one prompt with a common boundary.
    ///
    /// # Errors
    /// As [`Mllm::rows`].
    pub fn row_pair(&self, picture: usize, prompt: &str, answers: [&str; 2]) -> Result<[Row; 2]> {
        let special = self.wrapper.text_special;
        let (first, second) = self
            .text
            .joint_pair(prompt, answers[0], answers[1], special)?;
        Ok([
            self.placed(Some(picture), first, prompt)?,
            self.placed(Some(picture), second, prompt)?,
        ])
    }

    fn row(&self, question: &Question) -> Result<Row> {
        // A text without picture has no wrapper, so the tokenizer's own BOS opens it.
        let special = question.picture.is_none() || self.wrapper.text_special;
        let joined = self
            .text
            .joint_ids(question.prompt, question.answer, special)?;
        self.placed(question.picture, joined, question.prompt)
    }

    /// Puts wrapper and image places in front of the text of a pictured row.
    fn placed(&self, picture: Option<usize>, joined: Joined, prompt: &str) -> Result<Row> {
        let Joined { ids, boundary } = joined;
        let row = match picture {
            None => Row {
                ids,
                image: None,
                answer_start: boundary,
            },
            Some(picture) => {
                let span = ImageSpan {
                    picture,
                    at: self.wrapper.before.len(),
                    len: self.parts.bridge.shape()[0],
                };
                let mut all = self.wrapper.before.clone();
                all.extend(std::iter::repeat_n(0, span.len));
                all.extend(&self.wrapper.after);
                let answer_start = all.len() + boundary;
                all.extend(ids);
                Row {
                    ids: all,
                    image: Some(span),
                    answer_start,
                }
            }
        };
        let (length, limit) = (row.ids.len(), self.decoder().max_positions());
        match length > limit {
            false => Ok(row),
            true => Err(Error::TooLong {
                text: prompt.chars().take(40).collect(),
                length,
                limit,
            }),
        }
    }

    /// Carries `batch` through the stages up to, not including, `to`, through `view`.
    ///
    /// The view must not touch anything the batch has already passed.
    pub fn run(&self, batch: Batch, to: Stage, view: &View) -> Batch {
        let Batch {
            rows,
            width,
            mut state,
        } = batch;
        if let State::Seen(tokens) = &state
            && Stage::Bridge.precedes(to)
        {
            let tokens = view.lift(tokens);
            state = State::Prefixed(Some(self.parts.prefix(tokens, view)));
        }
        if let State::Prefixed(prefix) = &state
            && Stage::Embed.precedes(to)
        {
            let x = self.embed(&rows, width, prefix.clone(), view);
            state = State::Hidden(x, Stage::Attention(0));
        }
        if let State::Hidden(x, from) = state {
            state = match from.precedes(to) {
                true => {
                    let x = self.decoder().advance(view.lift(&x), from, to, view);
                    State::Hidden(x, to)
                }
                false => State::Hidden(x, from),
            };
        }
        Batch { rows, width, state }
    }

    /// Logits of every position, `[b, t, vocabulary]`; padding rows hold arbitrary finite values.
    pub fn logits(&self, batch: Batch, view: &View) -> Tensor<3> {
        let batch = self.run(batch, Stage::Head, view);
        self.decoder().head(batch.hidden(view), view)
    }

    /// Logits of the positions that predict answer tokens, `[b, a, vocabulary]` with `a` the
    /// longest answer; rows with shorter answers repeat their last position.
    ///
    /// The last feed-forward block acts on every position alone, so it runs on these only.
    pub fn answer_logits(&self, batch: Batch, view: &View) -> Tensor<3> {
        let last = Stage::FeedForward(self.decoder().depth().saturating_sub(1));
        let batch = self.run(batch.clone(), last, view).answers(view);
        self.logits(batch, view)
    }

    /// Tokens and image vectors as one residual stream `[b, t, d]`, right-padded.
    fn embed(
        &self,
        rows: &[Row],
        width: usize,
        prefix: Option<Tensor<3>>,
        view: &View,
    ) -> Tensor<3> {
        let decoder = self.decoder();
        let (b, d) = (rows.len(), decoder.width());
        let padded = |row: &Row| {
            let pad = width - row.ids.len();
            row.ids
                .iter()
                .map(|id| i64::from(*id))
                .chain(std::iter::repeat_n(0, pad))
                .collect()
        };
        let ids: Vec<i64> = rows
            .iter()
            .flat_map(|row| -> Vec<i64> { padded(row) })
            .collect();
        let x = decoder.embed(host::indices(ids, &self.device), [b, width], view);
        let x = match prefix {
            None => x,
            Some(prefix) => {
                // Image vectors stand behind the tokens in one table; every place picks its row.
                let [n, q, _] = prefix.dims();
                let mut places: Vec<i64> = (0..(b * width) as i64).collect();
                for (r, span) in rows
                    .iter()
                    .enumerate()
                    .filter_map(|(r, row)| Some((r, row.image?)))
                {
                    for i in 0..span.len {
                        places[r * width + span.at + i] = (b * width + span.picture * q + i) as i64;
                    }
                }
                Tensor::cat(
                    vec![x.reshape([b * width, d]), prefix.reshape([n * q, d])],
                    0,
                )
                .select(0, host::indices(places, &self.device))
                .reshape([b, width, d])
            }
        };
        decoder.place(x, view)
    }
}

impl Parameters for Mllm {
    fn sites(&self) -> &[Site] {
        &self.sites
    }

    fn value(&self, name: &str) -> Option<Tensor<2>> {
        self.values.get(name).cloned()
    }
}

impl Wrapper {
    fn new(config: &Blip2Config, text: &Text) -> Result<Self> {
        match &config.image_wrapper {
            None => Ok(Self {
                text_special: true,
                ..Self::default()
            }),
            Some(wrapper) => Ok(Self {
                before: text.encode(&wrapper.before, true)?,
                after: text.encode(&wrapper.after, false)?,
                text_special: false,
            }),
        }
    }
}
