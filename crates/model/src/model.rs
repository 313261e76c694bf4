//! A model: pixels and text to logits, through a view.
//!
//! The forward pass is a line of stages (vision, projector, embed, attention and feed-forward of
//! each layer, head). [`Model::run`] carries a [`Batch`] from the stage it is at to another, so the
//! part below the first edited parameter is computed once and shared by all edits.

mod saying;
mod vision_side;

use std::collections::BTreeMap;
use std::sync::Arc;

use burn::tensor::{DType, Device, Tensor};
use debias_weights::Checkpoint;
use serde_json::Value;

use crate::batch::{Batch, ImageFeatures, ImageRef, ImageSpan, Row, State};
use crate::change::{Parameters, View};
use crate::chat::ChatTemplate;
use crate::complete::Complete;
use crate::decoders::Decoder;
use crate::device::{Placement, moved};
use crate::dtype::as_dtype;
use crate::error::{Error, Result};
use crate::families::{self, Folder, ModelParts};
use crate::host;
use crate::loader::{Loaded, Loader, Weights};
use crate::names::refuse_unused;
use crate::parameter::{Parameter, Stage};
use crate::passes;
use crate::positions::{ImagePositions, Pass, Positions};
use crate::projector::QUERY_OUTPUT;
use crate::prompt::{Answer, Prompt};
use crate::question::{Question, Style};
use crate::text::{Marks, Text};

/// A loaded model, multimodal or text alone. Its weights are never written.
pub struct Model {
    name: String,
    location: String,
    parts: ModelParts,
    /// The template of conversations, where the folder has one.
    chat: Option<ChatTemplate>,
    marks: Marks,
    sites: Vec<Parameter>,
    values: BTreeMap<String, Tensor<2>>,
    placement: Placement,
    /// Bytes of weights on each device that has memory of its own.
    held: Vec<(Device, u64)>,
    /// Tensors of the file that repeat others, by the name that is read.
    copies: BTreeMap<String, String>,
    notes: Vec<String>,
    dtype: DType,
}

impl Model {
    /// Loads a checkpoint onto `device`.
    ///
    /// # Errors
    /// Anything unreadable, missing, misshapen, unknown or not finite, named.
    pub fn open(checkpoint: &Checkpoint, device: &Device) -> Result<Self> {
        Self::open_across(checkpoint, &device.into())
    }

    /// Loads a checkpoint, each part onto the device that `placement` says.
    ///
    /// # Errors
    /// As [`Model::open`].
    pub fn open_across(checkpoint: &Checkpoint, placement: &Placement) -> Result<Self> {
        checkpoint.refuse_quantised()?;
        let weights = Complete::new(checkpoint);
        let model = Self::placed(checkpoint, &weights, placement);
        weights.check()?;
        let model = model?;
        let optional: Vec<&str> = model.parts.optional.iter().map(String::as_str).collect();
        refuse_unused(checkpoint, &model.sites, &optional)?;
        Ok(model)
    }

    /// Builds the model that `folder` describes with weights from elsewhere.
    ///
    /// # Errors
    /// As [`Model::open`], but tensors that `weights` has beyond the model's are not looked at.
    pub fn assemble(folder: &Checkpoint, weights: &dyn Weights, device: &Device) -> Result<Self> {
        Self::placed(folder, weights, &device.into())
    }

    fn placed(folder: &Checkpoint, weights: &dyn Weights, placement: &Placement) -> Result<Self> {
        let location = folder.location().to_string();
        let config: Value = families::config(folder)?;
        let mut loader = Loader::new(weights, placement);
        let mut parts = families::load(
            &mut loader,
            &Folder {
                checkpoint: folder,
                config: &config,
                location: &location,
            },
        )?;
        let Loaded {
            sites,
            values,
            held,
            copies,
            notes,
        } = loader.finish();
        let rows = parts.decoder.outline().vocabulary;
        parts.text = parts.text.embedded_in(rows, parts.frame.marker())?;
        let of_files = folder.notes().iter().cloned();
        let of_weights = notes.into_iter().map(|note| format!("{location}: {note}"));
        let notes = of_files.chain(of_weights).collect();
        let chat = match (ChatTemplate::of_model(folder)?, parts.chat.take()) {
            (Some(chat), _) | (None, Some(chat)) => Some(chat),
            (None, None) => ChatTemplate::of_tokenizer(folder)?,
        };
        Ok(Self {
            name: folder.name().to_owned(),
            location,
            marks: Marks::of(folder, &parts.text)?,
            parts,
            chat,
            sites,
            values,
            placement: placement.clone(),
            held,
            copies,
            notes,
            dtype: DType::F32,
        })
    }

    /// The same model, whose views compute in `dtype`; f32 unless somebody asks for another.
    #[must_use]
    pub fn computing_in(mut self, dtype: DType) -> Self {
        self.dtype = dtype;
        self
    }

    /// The folder's or embedded model's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Where it came from, for messages.
    pub fn location(&self) -> &str {
        &self.location
    }

    /// What a person should know about how its folder was read; a sentence each.
    pub fn notes(&self) -> &[String] {
        &self.notes
    }

    /// The tensor of its file that holds the values of `name` once more, as a head tied to the token
    /// table does; who writes the one writes the other.
    pub fn copy_of(&self, name: &str) -> Option<&str> {
        self.copies.get(name).map(String::as_str)
    }

    /// Where the language model lives.
    pub fn device(&self) -> &Device {
        &self.placement.decoder
    }

    /// Where all parts live.
    pub fn placement(&self) -> &Placement {
        &self.placement
    }

    /// The memory that is left to compute in, in bytes: what may be taken of the scarcest of its
    /// devices, less the weights there. `None` where nothing limits it.
    pub fn room(&self) -> Option<u64> {
        let Placement {
            vision,
            projector,
            decoder,
            ..
        } = &self.placement;
        let left = |device: &Device| {
            let limit = self.placement.limit(device)?;
            let held = self.held.iter().find(|(other, _)| other == device);
            Some(limit.saturating_sub(held.map_or(0, |(_, bytes)| *bytes)))
        };
        [vision, projector, decoder]
            .into_iter()
            .filter_map(left)
            .min()
    }

    /// The language model.
    pub fn decoder(&self) -> &dyn Decoder {
        self.parts.decoder.as_ref()
    }

    /// The language model with an owner of its own; its weights are shared, not copied.
    pub(crate) fn shared_decoder(&self) -> Arc<dyn Decoder> {
        self.parts.decoder.clone()
    }

    /// The tokenizer.
    pub fn text(&self) -> &Text {
        &self.parts.text
    }

    /// The tokens that begin and end a text.
    pub fn marks(&self) -> &Marks {
        &self.marks
    }

    /// The language model's input vectors of all tokens, f32 `[vocabulary, d]`.
    pub fn token_table(&self) -> Tensor<2> {
        let rows = self.decoder().outline().vocabulary;
        let ids = host::indices((0..rows as i64).collect(), self.device());
        let table = self.decoder().embed(ids, [1, rows], &View::base());
        table.squeeze_dim(0)
    }

    /// Names of the weights of the projector's linear layers, in the order in which they are read;
    /// none for a text model.
    pub fn projector_weights(&self) -> Vec<&str> {
        let sites = self.sites.iter();
        let linear = sites.filter(|s| s.stage == Stage::Projector && s.linear.is_some());
        linear.map(|site| site.name.as_str()).collect()
    }

    /// Names of the output weights of the Q-Former's layers for its queries, first layer first; none
    /// for a family without a Q-Former.
    pub fn query_outputs(&self) -> Vec<&str> {
        let mut names = self.projector_weights();
        let end = format!(".{QUERY_OUTPUT}.weight");
        names.retain(|name| name.ends_with(&end));
        names
    }

    /// Whether the family left its Q-Former as it was and trained the projection behind it alone
    /// (MiniGPT-4).
    pub fn has_frozen_queries(&self) -> bool {
        self.parts.frozen_queries
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

    /// Tokenises two answers to one prompt with a common boundary: the smaller of the two, so
    /// that neither answer is scored on fewer of its tokens.
    ///
    /// # Errors
    /// As [`Model::rows`].
    pub fn row_pair(
        &self,
        picture: Option<ImageRef>,
        prompt: &str,
        answers: [&str; 2],
    ) -> Result<[Row; 2]> {
        let row = |answer| self.row(&Question::new(picture, prompt, answer));
        let (mut first, mut second) = (row(answers[0])?, row(answers[1])?);
        let start = first.answer_start.min(second.answer_start);
        first.answer_start = start;
        second.answer_start = start;
        Ok([first, second])
    }

    /// Tokenises one question.
    ///
    /// # Errors
    /// As [`Model::rows`].
    pub(crate) fn row(&self, question: &Question) -> Result<Row> {
        let row = self.uncut_row(question)?;
        let (length, limit) = (row.ids.len(), self.decoder().outline().max_positions);
        match length > limit {
            false => Ok(row),
            true => Err(Error::TooLong {
                text: question.prompt.chars().take(40).collect(),
                more: 0,
                length,
                limit,
            }),
        }
    }

    /// [`Model::row`] of any length.
    ///
    /// # Errors
    /// An empty answer.
    pub(crate) fn uncut_row(&self, question: &Question) -> Result<Row> {
        let picture = match question.picture {
            Some(picture) => {
                let vectors = self.sight()?.vectors();
                Some((picture.index, picture.tiles * vectors))
            }
            None => None,
        };
        let (said, special) = self.said(question.prompt, question.style, picture.is_some())?;
        let prompt = Prompt {
            picture,
            text: &said,
            raw: question.style == Style::Raw,
            special,
        };
        let answer = question.answer.map(|text| Answer {
            text,
            join: question.join,
        });
        self.parts
            .frame
            .row(&self.parts.text, &prompt, answer.as_ref())
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
        passes::count();
        if let State::ImageFeatures(seen) = &state
            && Stage::Projector.precedes(to)
        {
            state = State::Prefixed(self.vectors(seen, view));
        }
        if let State::Prefixed(prefix) = &state
            && Stage::Embed.precedes(to)
        {
            let places = self.places(&rows, width);
            let starts = vec![0; rows.len()];
            let x = self.embed(&rows, &starts, width, prefix.as_ref(), view);
            let x = self.decoder().place(x, &places, view);
            view.note("hidden.embeds", &x);
            state = State::Hidden(x, Stage::Attention(0));
        }
        if let State::Hidden(x, from) = state {
            state = match from.precedes(to) {
                true => {
                    let places = self.places(&rows, width);
                    let mut pass = Pass::alone(&places);
                    let x = view.lift(&x);
                    let x = self.decoder().advance(x, &mut pass, from, to, view);
                    State::Hidden(x, to)
                }
                false => State::Hidden(x, from),
            };
        }
        Batch { rows, width, state }
    }

    /// Features through the projector; none for a text model, which has no features either.
    pub(crate) fn vectors(&self, seen: &ImageFeatures, view: &View) -> Option<ImageFeatures> {
        let sight = self.parts.sight.as_deref()?;
        let features = moved(seen.features.clone(), &self.placement.projector);
        let vectors = sight.projector(view.lift(&features), view);
        Some(seen.with(moved(vectors, self.device())))
    }

    /// Order and positions of whole rows.
    pub(crate) fn places(&self, rows: &[Row], width: usize) -> Positions {
        Positions::of(rows, width, self.parts.image_positions)
    }

    /// How positional encodings count a picture's vectors.
    pub(crate) fn image_positions(&self) -> ImagePositions {
        self.parts.image_positions
    }

    /// Logits of every position, `[b, t, vocabulary]`; padding rows hold arbitrary finite values.
    pub fn logits(&self, batch: Batch, view: &View) -> Tensor<3> {
        let batch = self.run(batch, Stage::Head, view);
        self.head(batch.hidden(view), view)
    }

    /// Residual stream → logits in f32.
    pub(crate) fn head(&self, x: Tensor<3>, view: &View) -> Tensor<3> {
        let logits = self.decoder().head(view.lift(&x), view);
        as_dtype(logits, DType::F32)
    }

    /// Logits of the positions that predict answer tokens, `[b, a, vocabulary]` with `a` the
    /// longest answer; rows with shorter answers repeat their last position.
    ///
    /// The last feed-forward block acts on every position alone, so it runs on these only.
    pub fn answer_logits(&self, batch: Batch, view: &View) -> Tensor<3> {
        let last = Stage::FeedForward(self.decoder().outline().depth.saturating_sub(1));
        let batch = self.run(batch.clone(), last, view).answers(view);
        self.logits(batch, view)
    }

    /// Tokens `starts[r] .. starts[r] + width` of each row r and the image vectors among them as one residual
    /// stream `[b, width, d]`, right-padded.
    pub(crate) fn embed(
        &self,
        rows: &[Row],
        starts: &[usize],
        width: usize,
        vectors: Option<&ImageFeatures>,
        view: &View,
    ) -> Tensor<3> {
        let decoder = self.decoder();
        let (b, d) = (rows.len(), decoder.outline().width);
        let id = |row: &Row, i: usize| row.ids.get(i).map_or(0, |id| i64::from(*id));
        let ids: Vec<i64> = rows
            .iter()
            .zip(starts)
            .flat_map(|(row, start)| (*start..start + width).map(|i| id(row, i)))
            .collect();
        let x = decoder.embed(host::indices(ids, self.device()), [b, width], view);
        let Some(vectors) = vectors else {
            return x;
        };
        // Image vectors stand behind the tokens in one table; every place picks its row.
        let [n, q, _] = vectors.features.dims();
        let mut places: Vec<i64> = (0..(b * width) as i64).collect();
        let pictured = rows.iter().enumerate();
        for (r, span) in pictured.filter_map(|(r, row)| Some((r, row.image?))) {
            let ImageSpan { picture, at, len } = span;
            let first = b * width + vectors.first_tile(picture) * q;
            for i in 0..len {
                if let Some(column) = (at + i).checked_sub(starts[r]).filter(|c| *c < width) {
                    places[r * width + column] = (first + i) as i64;
                }
            }
        }
        let table = vec![
            x.reshape([b * width, d]),
            vectors.features.clone().reshape([n * q, d]),
        ];
        Tensor::cat(table, 0)
            .select(0, host::indices(places, self.device()))
            .reshape([b, width, d])
    }
}

impl Parameters for Model {
    fn parameters(&self) -> &[Parameter] {
        &self.sites
    }

    fn value(&self, name: &str) -> Option<Tensor<2>> {
        Some(as_dtype(self.values.get(name)?.clone(), DType::F32))
    }

    fn dtype(&self) -> DType {
        self.dtype
    }
}
