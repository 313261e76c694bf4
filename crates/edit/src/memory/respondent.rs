//! A model over which a memory lies: which entry is about which question, and what is said then.

use std::any::Any;
use std::collections::HashMap;
use std::sync::Arc;

use burn::tensor::Tensor;
use debias_model::engine::{Asked, Reading, Wanted};
use debias_model::{AnswerLikelihood, Batch, Continuation, ImageFeatures, Model, Row, Steps, host};

use super::gate::Gate;
use super::mix::{Mix, Spot, mixed_at};
use super::rank::Rank;
use super::{Entry, Memory, SeracParts};
use crate::edit::{Touches, Wrap};
use crate::embedding::cosine;
use crate::error::{Error, Result};
use crate::respondent::{Each, Respondent, likelihoods};

/// Rows that the counterfactual model reads together, at most.
const ROWS: usize = 16;

/// `inner` with a memory over it. What no entry is about keeps the bits of `inner`.
pub struct InMemory<'a> {
    memory: &'a Memory,
    inner: &'a dyn Respondent,
    /// Trained parts without repetition, and which of them are each entry's.
    parts: Vec<&'a SeracParts>,
    parts_of: Vec<usize>,
}

impl Wrap for Memory {
    fn touches(&self) -> Touches {
        Touches::Output
    }

    /// Of the entries.
    fn bytes(&self) -> usize {
        let of = |entry: &Entry| {
            let kept = &entry.kept;
            let values = kept.key.len() + kept.picture.as_ref().map_or(0, Vec::len);
            kept.text.text().len() + kept.about.len() + values * size_of::<f32>()
        };
        self.entries.iter().map(of).sum()
    }

    fn joined(&self, more: &dyn Wrap) -> Option<Arc<dyn Wrap>> {
        let more: &Self = (more as &dyn Any).downcast_ref()?;
        Some(Arc::new(self.clone().with(more)))
    }

    fn over<'a>(&'a self, inner: &'a dyn Respondent) -> Box<dyn Respondent + 'a> {
        let mut parts: Vec<&Arc<SeracParts>> = Vec::new();
        let parts_of = self.entries.iter().map(|entry| {
            let known = parts
                .iter()
                .position(|known| Arc::ptr_eq(known, &entry.parts));
            known.unwrap_or_else(|| {
                parts.push(&entry.parts);
                parts.len() - 1
            })
        });
        let parts_of = parts_of.collect();
        Box::new(InMemory {
            memory: self,
            inner,
            parts: parts.into_iter().map(Arc::as_ref).collect(),
            parts_of,
        })
    }
}

/// The entry that is about a question, and how surely.
#[derive(Clone, Copy)]
struct Verdict<'m> {
    entry: &'m Entry,
    /// Which trained parts are the entry's.
    parts: usize,
    s: f64,
}

/// What the parts' encoders and gates made of the texts and pictures of one call.
#[derive(Default)]
struct Seen {
    pictures: HashMap<(usize, String), Vec<f32>>,
    keys: HashMap<(usize, String), Vec<f32>>,
}

/// A question, and what is said to it where an entry is about it.
struct Mixing {
    asked: (Asked, Wanted),
    image: Option<ImageFeatures>,
    /// Of each choice, what the counterfactual model reads; none where no entry is about it.
    spoken: Vec<Option<Spoken>>,
}

/// A choice behind the remembered request.
struct Spoken {
    /// Which trained parts are the entry's.
    parts: usize,
    s: f64,
    row: Row,
}

impl Mixing {
    /// Whether an entry is about it.
    fn is_in_scope(&self) -> bool {
        self.spoken.iter().any(Option::is_some)
    }

    /// Whether all positions are wanted rather than those of answers.
    fn is_whole(&self) -> bool {
        self.asked.1 != Wanted::Answers || self.asked.0.choices.is_empty()
    }
}

impl<'a> InMemory<'a> {
    /// The entry that is about the question; none when it is out of every scope.
    ///
    /// Of several entries whose scope it is in, the one with the likest picture is taken, else the
    /// nearest by text; equals are told apart by their content, never by the order of the entries.
    fn verdict(&self, asked: &Asked, answer: &str, seen: &mut Seen) -> Result<Option<Verdict<'a>>> {
        let mut best: Option<(Rank, Verdict<'a>)> = None;
        for (entry, parts) in self.memory.entries.iter().zip(&self.parts_of) {
            let Some(rank) = self.rank((entry, *parts), asked, answer, seen)? else {
                continue;
            };
            if best.as_ref().is_none_or(|(other, _)| rank.beats(other)) {
                let verdict = Verdict {
                    entry,
                    parts: *parts,
                    s: rank.s,
                };
                best = Some((rank, verdict));
            }
        }
        let verdict = best.map(|(_, verdict)| verdict);
        Ok(verdict.filter(|verdict| self.parts[verdict.parts].mix.matters(verdict.s)))
    }

    /// How well `entry` fits the question; none when its picture shows something else.
    fn rank(
        &self,
        (entry, at): (&Entry, usize),
        asked: &Asked,
        answer: &str,
        seen: &mut Seen,
    ) -> Result<Option<Rank>> {
        let parts = self.parts[at];
        let likeness = match (&parts.gate, &entry.kept.picture, &asked.image) {
            (Some(gate), Some(own), Some(other)) => {
                let other = self.picture(gate, (at, other), seen)?;
                let likeness = cosine(own, &other);
                if !gate.lets_through(likeness) {
                    return Ok(None);
                }
                likeness
            }
            _ => 0.0,
        };
        let test = parts.scope_text.of(&asked.prompt, answer);
        let place = (at, test);
        let key = match seen.keys.get(&place) {
            Some(known) => known.clone(),
            None => parts.scope.key(&place.1)?,
        };
        let kept = &entry.kept;
        let s = parts
            .scope
            .similarity((&kept.about, &kept.key), (&place.1, &key))?;
        seen.keys.insert(place, key);
        if !s.is_finite() {
            return Err(Error::Model(debias_model::Error::NotFinite {
                what: "the distance of a question from a remembered request".into(),
            }));
        }
        Ok(Some(Rank {
            s,
            likeness,
            text: kept.text.text().to_owned(),
        }))
    }

    fn picture(&self, gate: &Gate, (at, key): (usize, &str), seen: &mut Seen) -> Result<Vec<f32>> {
        let place = (at, key.to_owned());
        if let Some(known) = seen.pictures.get(&place) {
            return Ok(known.clone());
        }
        let found = gate.picture(self.model(), &self.inner.see(key)?)?;
        seen.pictures.insert(place, found.clone());
        Ok(found)
    }

    /// What is to be mixed into the answer to a question.
    fn prepared(&self, asked: &(Asked, Wanted), seen: &mut Seen) -> Result<Mixing> {
        let question = &asked.0;
        let answers = if question.choices.is_empty() {
            vec![""]
        } else {
            question.choices.iter().map(String::as_str).collect()
        };
        let verdicts = answers
            .iter()
            .map(|answer| self.verdict(question, answer, seen));
        let verdicts: Vec<Option<Verdict>> = verdicts.collect::<Result<_>>()?;
        let image = question.image.as_deref().map(|key| self.inner.see(key));
        let image = image.transpose()?;
        let picture = image.as_ref().map(|image| image.image_ref(0));
        let spoken = verdicts.into_iter().enumerate().map(|(choice, verdict)| {
            let Some(Verdict { entry, parts, s }) = verdict else {
                return Ok(None);
            };
            let mut rows = entry.kept.text.rows(self.model(), picture, question, 0)?;
            let row = rows.swap_remove(choice);
            Ok::<_, Error>(Some(Spoken { parts, s, row }))
        });
        Ok(Mixing {
            asked: asked.clone(),
            spoken: spoken.collect::<Result<_>>()?,
            image,
        })
    }

    /// The readings of questions that are mixed together: of answer positions, all with a picture or
    /// none, or of one question alone.
    fn mixed(&self, questions: &[&Mixing]) -> Each<Vec<Reading>> {
        let asked: Vec<(Asked, Wanted)> = questions.iter().map(|q| q.asked.clone()).collect();
        let mut found = self.inner.logits(&asked)?;
        let whole = questions.iter().any(|question| question.is_whole());
        let mut keys: Vec<&str> = Vec::new();
        let (mut images, mut places) = (Vec::new(), Vec::new());
        for question in questions {
            let (Some(key), Some(image)) = (&question.asked.0.image, &question.image) else {
                places.push(None);
                continue;
            };
            let known = keys.iter().position(|known| known == key);
            places.push(Some(known.unwrap_or_else(|| {
                keys.push(key);
                images.push(image.clone());
                images.len() - 1
            })));
        }
        let images = ImageFeatures::join(images);
        for (at, parts) in self.parts.iter().enumerate() {
            let mut layers = Vec::new();
            for (place, question) in questions.iter().enumerate() {
                let Ok(readings) = &found[place] else {
                    continue;
                };
                let spoken = question.spoken.iter().zip(readings).enumerate();
                layers.extend(spoken.filter_map(|(choice, (spoken, reading))| {
                    let Spoken { s, row, .. } = spoken.as_ref().filter(|s| s.parts == at)?;
                    let mut row = row.clone();
                    if let (Some(span), Some(picture)) = (&mut row.image, places[place]) {
                        span.picture = picture;
                    }
                    // Answers end a row; both rows then count the same answer positions.
                    row.answer_start = row.ids.len() - reading.row.answer().len();
                    let to = (place, choice);
                    Some(Layer { to, s: *s, row })
                }));
            }
            if !layers.is_empty() {
                self.lay(&mut found, parts, &layers, (images.as_ref(), whole));
            }
        }
        Ok(found)
    }

    /// Mixes what the counterfactual model of `parts` says into the readings of `layers`.
    fn lay(
        &self,
        found: &mut [Result<Vec<Reading>>],
        parts: &SeracParts,
        layers: &[Layer],
        (images, whole): (Option<&ImageFeatures>, bool),
    ) {
        let rows: Vec<Row> = layers.iter().map(|layer| layer.row.clone()).collect();
        let batch = Batch::over(rows, images.cloned());
        let other = if whole {
            self.model().logits(batch, &parts.counterfactual)
        } else {
            self.model().answer_logits(batch, &parts.counterfactual)
        };
        let s = column(layers.iter().map(|layer| layer.s), self.model());
        for (i, layer) in layers.iter().enumerate() {
            let (question, choice) = layer.to;
            let Ok(readings) = &mut found[question] else {
                continue;
            };
            let reading = &mut readings[choice];
            let first = if whole {
                0
            } else {
                layer.row.answer_positions().start
            };
            let (shared, other_shared) = parts.align.of(&reading.row, &layer.row);
            let pairs = shared.zip(other_shared);
            let here = pairs.filter(|(base, _)| reading.positions.contains(base));
            let spots: Vec<Spot> = here
                .map(|(base, other)| Spot {
                    base: base - reading.positions.start,
                    other: other - first,
                    s: i,
                })
                .collect();
            let base = reading.logits.clone();
            let other = other.clone().narrow(0, i, 1).squeeze_dim::<2>(0);
            reading.logits = mixed_at(base, other, &s, &spots, parts.mix);
            reading.edited = true;
        }
    }
}

/// Questions that are mixed together: those of answer positions with a picture and those without,
/// a few rows at a time, and every other one alone.
fn together(questions: &[Mixing]) -> Vec<Vec<usize>> {
    let mut groups: Vec<Vec<usize>> = Vec::new();
    // The open group of questions without and with a picture, and its number of rows.
    let mut open: [Option<(usize, usize)>; 2] = [None, None];
    for (at, question) in questions.iter().enumerate() {
        if question.is_whole() {
            groups.push(vec![at]);
            continue;
        }
        let rows = question.spoken.len();
        let kind = &mut open[usize::from(question.image.is_some())];
        match kind {
            Some((group, n)) if *n + rows <= ROWS => {
                groups[*group].push(at);
                *n += rows;
            }
            _ => {
                *kind = Some((groups.len(), rows));
                groups.push(vec![at]);
            }
        }
    }
    groups
}

/// What the counterfactual model reads, the question and the choice whose reading it is mixed into,
/// and how much of it counts.
struct Layer {
    to: (usize, usize),
    s: f64,
    row: Row,
}

impl Respondent for InMemory<'_> {
    fn model(&self) -> &Model {
        self.inner.model()
    }

    fn see(&self, key: &str) -> Result<ImageFeatures> {
        self.inner.see(key)
    }

    fn choices(&self, asked: &[Asked]) -> Each<Vec<Option<AnswerLikelihood>>> {
        let positions = |asked: &Asked| (asked.clone(), Wanted::Answers);
        let positions: Vec<(Asked, Wanted)> = asked.iter().map(positions).collect();
        self.answered(
            &positions,
            |asked| {
                let asked: Vec<Asked> = asked.into_iter().map(|(asked, _)| asked).collect();
                self.inner.choices(&asked)
            },
            |readings| Ok(likelihoods(&readings)?.into_iter().map(Some).collect()),
        )
    }

    fn logits(&self, asked: &[(Asked, Wanted)]) -> Each<Vec<Reading>> {
        self.answered(asked, |asked| self.inner.logits(&asked), Ok)
    }

    fn begin<'s>(&'s self, asked: &Asked, more: usize) -> Result<Box<dyn Steps + 's>> {
        let base = self.inner.begin(asked, more)?;
        let Some(Verdict { entry, parts, s }) = self.verdict(asked, "", &mut Seen::default())?
        else {
            return Ok(base);
        };
        let parts = self.parts[parts];
        let image = asked
            .image
            .as_deref()
            .map(|key| self.inner.see(key))
            .transpose()?;
        let picture = image.as_ref().map(|image| image.image_ref(0));
        let prompt = Asked {
            choices: Vec::new(),
            ..asked.clone()
        };
        let rows = entry.kept.text.rows(self.model(), picture, &prompt, more)?;
        let view = &parts.counterfactual;
        let other = Continuation::of(self.model(), rows, image.as_ref(), view);
        Ok(Box::new(MixedSteps {
            base,
            other,
            s: column([s], self.model()),
            mix: parts.mix,
        }))
    }
}

impl<'a> InMemory<'a> {
    /// What `elsewhere` answers to groups of questions that no entry is about, and what `of` makes of
    /// the readings of the others.
    fn answered<T>(
        &self,
        asked: &[(Asked, Wanted)],
        elsewhere: impl FnOnce(Vec<(Asked, Wanted)>) -> Each<T>,
        of: impl Fn(Vec<Reading>) -> Result<T>,
    ) -> Each<T> {
        let mut seen = Seen::default();
        let mut found: Vec<Option<Result<T>>> = asked.iter().map(|_| None).collect();
        let (mut places, mut mixing) = (Vec::new(), Vec::new());
        for (at, question) in asked.iter().enumerate() {
            match self.prepared(question, &mut seen) {
                Ok(prepared) => {
                    places.push(at);
                    mixing.push(prepared);
                }
                Err(error) => found[at] = Some(Err(error)),
            }
        }
        let (inside, outside): (Vec<_>, Vec<_>) = together(&mixing)
            .into_iter()
            .partition(|group| group.iter().any(|at| mixing[*at].is_in_scope()));
        let outside = outside.concat();
        if !outside.is_empty() {
            let questions = outside.iter().map(|at| mixing[*at].asked.clone()).collect();
            for (at, answer) in outside.into_iter().zip(elsewhere(questions)?) {
                found[places[at]] = Some(answer);
            }
        }
        for group in inside {
            let questions: Vec<&Mixing> = group.iter().map(|at| &mixing[*at]).collect();
            for (at, readings) in group.iter().zip(self.mixed(&questions)?) {
                found[places[*at]] = Some(readings.and_then(&of));
            }
        }
        Ok(found.into_iter().flatten().collect())
    }
}

/// A prompt that the base model and the counterfactual continue together.
struct MixedSteps<'s> {
    base: Box<dyn Steps + 's>,
    other: Continuation<'s>,
    /// `[1, 1]`.
    s: Tensor<2>,
    mix: Mix,
}

impl Steps for MixedSteps<'_> {
    fn next(&self) -> Tensor<2> {
        self.mix
            .of(self.base.next(), self.other.next(), self.s.clone())
    }

    fn add(&mut self, going: &[usize], ids: &[u32]) {
        self.base.add(going, ids);
        self.other.add(going, ids);
    }
}

/// Similarities as a column.
fn column(s: impl IntoIterator<Item = f64>, model: &Model) -> Tensor<2> {
    let s: Vec<f32> = s.into_iter().map(|s| s as f32).collect();
    let n = s.len();
    host::tensor(s, [n, 1], model.device())
}
