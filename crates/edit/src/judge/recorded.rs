//! How a record is judged that somebody else than a view of the model answers: the never-edited model
//! as a respondent over what its batch has computed already, and the scores of whoever stands over it.

use burn::tensor::Tensor;
use debias_core::{ContextScore, LocalityScore, RecordScores};
use debias_model::engine::{Asked, Joining, Reading, Wanted};
use debias_model::{
    AnswerLikelihood, Batch, Continuation, ImageFeatures, Model, Parameters, Row, Steps, View,
};

use super::{RecordBatch, in_record};
use crate::editor::Examples;
use crate::error::{Error, Result};
use crate::respondent::{Each, Respondent, compared, likelihoods};

/// What is asked about one record.
struct Questions {
    /// Names and questions of the contexts, both answers each, `y_more` first.
    contexts: Vec<(&'static str, Asked)>,
    m_locality: Option<Asked>,
    t_locality: Option<Asked>,
}

/// The never-edited model before one record of a batch. What the batch has read already is not read
/// again.
pub(super) struct Recorded<'b> {
    batch: &'b RecordBatch<'b>,
    at: usize,
    questions: Questions,
    view: View,
}

impl<'b> Recorded<'b> {
    pub fn of(batch: &'b RecordBatch<'b>, at: usize) -> Self {
        Self {
            batch,
            at,
            questions: Questions::of(batch, at),
            view: batch.model.base(),
        }
    }

    /// The base model's context rows and the logits of their answer positions.
    fn contexts(&self) -> Vec<Reading> {
        let rows = self.batch.layout[self.at].clone();
        let batch = self.batch.reference.contexts.part(rows.start, rows.len());
        let rows = batch.rows().to_vec();
        let logits = self.batch.model.answer_logits(batch, &self.view);
        let readings = rows.into_iter().enumerate().map(|(i, row)| {
            let positions = row.answer_positions();
            let logits = logits.clone().narrow(0, i, 1).squeeze_dim::<2>(0);
            Reading {
                logits: logits.narrow(0, 0, positions.len()),
                positions,
                row,
                edited: false,
            }
        });
        readings.collect()
    }

    /// The base model's row of a locality item and all its logits.
    fn item(&self, items: &Option<Batch>, place: usize) -> Option<Reading> {
        let batch = items.as_ref()?.part(place, 1);
        let row = batch.rows()[0].clone();
        let logits: Tensor<3> = self.batch.model.logits(batch, &self.view);
        let positions = 0..row.ids.len();
        Some(Reading {
            logits: logits.squeeze_dim::<2>(0).narrow(0, 0, positions.len()),
            positions,
            row,
            edited: false,
        })
    }

    fn m_locality(&self) -> Option<Reading> {
        let before = self.batch.records[..self.at].iter();
        let place = before.filter(|record| record.m_locality.is_some()).count();
        self.item(&self.batch.reference.m_locality, place)
    }

    fn t_locality(&self) -> Option<Reading> {
        let before = self.batch.records[..self.at].iter();
        let place = before.filter(|record| record.t_locality.is_some()).count();
        self.item(&self.batch.reference.t_locality, place)
    }

    /// What the batch has computed of these questions; none where one of them is not the record's own.
    fn known(&self, asked: &[(Asked, Wanted)]) -> Option<Vec<Vec<Reading>>> {
        let Questions {
            contexts,
            m_locality,
            t_locality,
        } = &self.questions;
        let mut of_contexts = None;
        let known = asked.iter().map(|(asked, wanted)| match wanted {
            Wanted::Answers => {
                let place = contexts.iter().position(|(_, own)| own == asked)?;
                let readings = of_contexts.get_or_insert_with(|| self.contexts());
                Some(readings[2 * place..2 * place + 2].to_vec())
            }
            Wanted::Whole if m_locality.as_ref() == Some(asked) => Some(vec![self.m_locality()?]),
            Wanted::Whole if t_locality.as_ref() == Some(asked) => Some(vec![self.t_locality()?]),
            Wanted::Whole | Wanted::Last(_) => None,
        });
        known.collect()
    }

    /// Rows of questions and their pictures, each picture once.
    fn rows(&self, asked: &[&Asked]) -> Result<(Vec<Vec<Row>>, Option<ImageFeatures>)> {
        let (mut keys, mut images): (Vec<&str>, Vec<ImageFeatures>) = Default::default();
        let mut rows = Vec::with_capacity(asked.len());
        for asked in asked {
            let mut picture = None;
            if let Some(key) = asked.image.as_deref() {
                let known = keys.iter().position(|known| *known == key);
                let index = match known {
                    Some(index) => index,
                    None => {
                        images.push(self.see(key)?);
                        keys.push(key);
                        keys.len() - 1
                    }
                };
                picture = Some(debias_model::ImageRef {
                    index,
                    ..images[index].image_ref(0)
                });
            }
            let found = asked.rows(self.batch.model, picture)?.into_iter().flatten();
            rows.push(found.map(|choice| choice.row).collect());
        }
        Ok((rows, ImageFeatures::join(images)))
    }
}

impl Respondent for Recorded<'_> {
    fn model(&self) -> &Model {
        self.batch.model
    }

    fn see(&self, key: &str) -> Result<ImageFeatures> {
        Examples::see(self.batch, self.at, key)
    }

    fn choices(&self, asked: &[Asked]) -> Each<Vec<Option<AnswerLikelihood>>> {
        let asked: Vec<_> = asked
            .iter()
            .map(|asked| (asked.clone(), Wanted::Answers))
            .collect();
        let found = self.logits(&asked)?.into_iter();
        let scored = found.map(|readings| {
            let found = likelihoods(&readings?)?;
            Ok(found.into_iter().map(Some).collect())
        });
        Ok(scored.collect())
    }

    /// All questions are read in one pass, because what they begin with is shared.
    fn logits(&self, asked: &[(Asked, Wanted)]) -> Each<Vec<Reading>> {
        if let Some(known) = self.known(asked) {
            return Ok(known.into_iter().map(Ok).collect());
        }
        let questions: Vec<&Asked> = asked.iter().map(|(asked, _)| asked).collect();
        let (rows, seen) = self.rows(&questions)?;
        let counts: Vec<usize> = rows.iter().map(Vec::len).collect();
        let wanted = rows.iter().zip(asked);
        let wanted: Vec<_> = wanted
            .flat_map(|(rows, (_, wanted))| rows.iter().map(|row| wanted.of(row)))
            .collect();
        let rows = rows.concat();
        let logits = self
            .batch
            .model
            .logits_at(&rows, seen.as_ref(), &wanted, &self.view);
        let readings = rows.into_iter().zip(wanted).zip(logits);
        let mut readings = readings.map(|((row, positions), logits)| Reading {
            row,
            positions,
            logits,
            edited: false,
        });
        let of_each = counts.into_iter();
        Ok(of_each
            .map(|n| Ok(readings.by_ref().take(n).collect()))
            .collect())
    }

    fn begin<'s>(&'s self, asked: &Asked, more: usize) -> Result<Box<dyn Steps + 's>> {
        let image = asked
            .image
            .as_deref()
            .map(|key| self.see(key))
            .transpose()?;
        let picture = image.as_ref().map(|image| image.image_ref(0));
        let row = asked.prompt_row(self.batch.model, picture, more)?;
        let (model, view) = (self.batch.model, &self.view);
        Ok(Box::new(Continuation::of(
            model,
            vec![row],
            image.as_ref(),
            view,
        )))
    }
}

impl Questions {
    /// Those of record `at`, in their templates.
    fn of(batch: &RecordBatch, at: usize) -> Self {
        let record = &batch.records[at];
        let wording = batch.wording(at);
        let asked =
            |name: &str, prompt: &str, image: &Option<String>, choices: Vec<String>| Asked {
                name: format!("{}/{name}", record.id),
                prompt: prompt.to_owned(),
                image: image.clone(),
                choices,
                join: " ".to_owned(),
                joining: Joining::Common,
                ..Asked::default()
            };
        let context = |name: &'static str, prompt: &str, image: &Option<String>| {
            let answers = vec![record.y_more.clone(), record.y_less.clone()];
            (name, asked(name, prompt, image, answers))
        };
        let own = Some(context("prompt", &wording.prompt, &record.image));
        let rephrase = wording.rephrase.as_ref();
        let rephrase = rephrase.map(|text| context("rephrase", text, &record.image));
        let other = record.image_rephrase.as_ref();
        let other =
            other.map(|_| context("image_rephrase", &wording.prompt, &record.image_rephrase));
        let m = wording.m_locality.as_ref().zip(record.m_locality.as_ref());
        let t = wording.t_locality.as_ref();
        Self {
            contexts: [own, rephrase, other].into_iter().flatten().collect(),
            m_locality: m.map(|((question, answer), item)| {
                asked("m_locality", question, &item.image, vec![answer.clone()])
            }),
            t_locality: t.map(|(question, answer)| {
                asked("t_locality", question, &None, vec![answer.clone()])
            }),
        }
    }
}

/// The scores of record `at` as `respondent` answers, which stands over the never-edited model of
/// `base`. What it leaves as it is keeps the scores of that model.
pub(super) fn scores(base: &Recorded, respondent: &dyn Respondent) -> Result<RecordScores> {
    let batch = base.batch;
    let record = &batch.records[base.at];
    let named = |error: Error| match error {
        Error::Model(source) => in_record(record, source),
        other => other,
    };
    let Questions {
        contexts,
        m_locality,
        t_locality,
    } = &base.questions;
    let whole = |item: &Option<Asked>| item.clone().map(|asked| (asked, Wanted::Whole));
    let asked = contexts
        .iter()
        .map(|(_, asked)| (asked.clone(), Wanted::Answers));
    let asked: Vec<_> = asked.chain(whole(m_locality)).collect();
    let found = respondent.logits(&asked).map_err(named)?;
    let mut found = found.into_iter().map(|readings| readings.map_err(named));
    let mut scores = batch.before[base.at];
    for (name, _) in contexts {
        let readings = found.next().transpose()?.ok_or(Error::EmptyEdit)?;
        if let Some(context) = context(&readings)? {
            match *name {
                "rephrase" => scores.rephrase = Some(context),
                "image_rephrase" => scores.image_rephrase = Some(context),
                _ => scores.prompt = context,
            }
        }
    }
    let m = found.next().transpose()?;
    scores.m_locality = drift(m, || base.m_locality())?.or(scores.m_locality);
    let t: Vec<_> = whole(t_locality).into_iter().collect();
    let t = if t.is_empty() {
        None
    } else {
        let found = respondent.logits(&t).map_err(named)?;
        found
            .into_iter()
            .next()
            .map(|readings| readings.map_err(named))
            .transpose()?
    };
    scores.t_locality = drift(t, || base.t_locality())?.or(scores.t_locality);
    Ok(scores)
}

/// Both answers in one context; none where no edit had a part in either.
fn context(readings: &[Reading]) -> Result<Option<ContextScore>> {
    if readings.iter().all(|reading| !reading.edited) {
        return Ok(None);
    }
    let scores = likelihoods(readings)?;
    match &scores[..] {
        [more, less] => Ok(Some(ContextScore {
            y_more: more.score(),
            y_less: less.score(),
        })),
        _ => Err(Error::EmptyEdit),
    }
}

/// How far the reading of a locality item is from that of the never-edited model; none where no edit
/// had a part in it, or it was not asked.
fn drift(
    readings: Option<Vec<Reading>>,
    base: impl FnOnce() -> Option<Reading>,
) -> Result<Option<LocalityScore>> {
    let reading = readings.and_then(|readings| readings.into_iter().next());
    let Some(edited) = reading.filter(|reading| reading.edited) else {
        return Ok(None);
    };
    base().map(|base| compared(&base, edited)).transpose()
}
