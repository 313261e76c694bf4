//! The model that a hyper-network edits, and the questions that are put to it.

use debias_model::{
    Batch, ImageFeatures, ImageRef, Model, Parameter, Parameters, Question, Row, Stage,
};

use crate::editor::{Example, Posed, Request};
use crate::error::{Error, Result};

/// The model that is edited, and where.
pub(crate) struct Subject<'m> {
    /// The editor's name, for messages.
    pub editor: &'static str,
    /// The never-edited model.
    pub model: &'m Model,
    /// The weights of linear layers that are edited.
    pub sites: Vec<&'m Parameter>,
}

impl Subject<'_> {
    /// The first stage that an edit touches.
    pub fn first(&self) -> Stage {
        self.sites
            .iter()
            .fold(Stage::Head, |first, site| first.earliest(site.stage))
    }

    /// The last feed-forward block, behind which only positions that predict answers are computed.
    pub fn last(&self) -> Stage {
        Stage::FeedForward(self.model.decoder().outline().depth.saturating_sub(1))
    }

    /// `batch` in front of the first edited stage, as far as answers are asked of it.
    pub fn to_first(&self, batch: Batch) -> Batch {
        let to = self.first().earliest(self.last());
        self.model.run(batch, to, &self.model.base())
    }

    /// Both answers of `request` to its prompt, the stereotyped one first.
    ///
    /// # Errors
    /// A request that cannot be tokenised.
    pub fn pair(&self, request: &Request, image: Option<ImageRef>) -> Result<[Row; 2]> {
        let record = &request.record;
        let answers = [record.y_more.as_str(), record.y_less.as_str()];
        let rows = self.model.row_pair(image, &request.prompt, answers);
        rows.map_err(|source| request.refused(source))
    }

    /// Another answer to the prompt of `request`.
    ///
    /// # Errors
    /// As [`Subject::pair`].
    pub fn row(&self, request: &Request, image: Option<ImageRef>, answer: &str) -> Result<Row> {
        let question = Question::new(image, &request.prompt, answer);
        let rows = self.model.rows(&[question]);
        let mut rows = rows.map_err(|source| request.refused(source))?;
        Ok(rows.swap_remove(0))
    }

    /// Why the record of `request` cannot be used by this editor.
    pub fn refused(&self, request: &Request, why: &str) -> Error {
        Error::Elsewhere {
            editor: self.editor,
            problem: format!("record `{}` {why}", request.record.id),
        }
    }

    /// The same number of rows for each of `requests`, on its own picture.
    ///
    /// # Errors
    /// What `rows` refuses.
    pub fn batch(
        &self,
        requests: &[&Request],
        rows: impl Fn(&Request, Option<ImageRef>) -> Result<Vec<Row>>,
    ) -> Result<(Vec<Row>, Batch)> {
        let seen = ImageFeatures::join(requests.iter().filter_map(|r| r.image.clone()));
        let image = |at| seen.as_ref().map(|seen| seen.image_ref(at));
        let of = requests.iter().enumerate();
        let of = of.map(|(at, request)| rows(request, image(at)));
        let rows = of.collect::<Result<Vec<_>>>()?.concat();
        Ok((rows.clone(), Batch::over(rows, seen)))
    }

    /// One question per example; none where an example has no such question.
    ///
    /// # Errors
    /// Text that cannot be tokenised.
    pub fn put<'e>(
        &self,
        examples: &'e [Example],
        ask: impl Fn(&'e Example) -> Option<Put<'e>>,
    ) -> Result<Option<(Vec<Row>, Batch)>> {
        let asked: Option<Vec<Put>> = examples.iter().map(ask).collect();
        asked.map(|asked| batch_of(self.model, asked)).transpose()
    }
}

/// A question to one of several requests, with the answer that is scored.
#[derive(Clone, Copy)]
pub(crate) struct Put<'r> {
    pub request: &'r Request,
    pub image: Option<&'r ImageFeatures>,
    pub prompt: &'r str,
    pub answer: &'r str,
}

/// One row per request: its prompt and target on its own picture.
pub(crate) fn target_batch(model: &Model, requests: &[&Request]) -> Result<(Vec<Row>, Batch)> {
    let targets = requests.iter().map(|request| Put {
        request,
        image: request.image.as_ref(),
        prompt: request.prompt.as_str(),
        answer: request.record.y_less.as_str(),
    });
    batch_of(model, targets.collect())
}

/// An unrelated item of an example, as it is put to the model.
pub(crate) fn unrelated<'e>(example: &'e Example, item: &'e Posed) -> Put<'e> {
    Put {
        request: &example.request,
        image: item.image.as_ref(),
        prompt: &item.prompt,
        answer: &item.answer,
    }
}

/// One row per question; all of them have a picture, or none has.
pub(crate) fn batch_of(model: &Model, asked: Vec<Put>) -> Result<(Vec<Row>, Batch)> {
    let seen = ImageFeatures::join(asked.iter().filter_map(|put| put.image.cloned()));
    let mut rows = Vec::with_capacity(asked.len());
    for (at, put) in asked.into_iter().enumerate() {
        let picture = seen.as_ref().map(|seen| seen.image_ref(at));
        let question = Question::new(picture, put.prompt, put.answer);
        let own = model.rows(&[question]);
        rows.extend(own.map_err(|source| put.request.refused(source))?);
    }
    Ok((rows.clone(), Batch::over(rows, seen)))
}
