//! The loop: gradients of a batch's pieces, their sum, one step.

use std::collections::BTreeSet;

use burn::tensor::Tensor;
use debias_core::Picture;

use super::course::{Course, Reduction};
use super::lesson::Lesson;
use super::loss::{Nats, slope};
use super::pieces::{budget, cut};
use super::pupil::{Pupil, Values};
use super::state::{State, Step, Validated};
use super::sums::Sums;
use crate::batch::{Batch, ImageFeatures, Row};
use crate::change::{Parameters, View};
use crate::engine::Pictures;
use crate::error::{Error, Result};
use crate::host;
use crate::model::Model;
use crate::parallel::in_order;
use crate::parameter::Stage;

/// Trains what a [`State`] holds.
pub struct Tuner<'a> {
    /// The model; never written.
    pub model: &'a Model,
    /// How long, how fast, in which order.
    pub course: &'a Course,
    /// What is learnt.
    pub lessons: &'a [Lesson],
    /// What is asked between updates and never learnt.
    pub validation: &'a [Lesson],
    /// Updates between two validations.
    pub validate_every: usize,
    /// Where pictures come from.
    pub pictures: &'a dyn Pictures,
    /// Pieces under way at once; the number changes no byte.
    pub threads: usize,
}

/// What a piece has given: gradients by name and the loss.
type Learnt = (Vec<(String, Vec<f32>)>, Nats);

impl Tuner<'_> {
    /// Trains until the course is at its end; `watch` sees the state after every update and may end the
    /// training before.
    ///
    /// # Errors
    /// A picture that cannot be read, a loss that is not finite, or what `watch` refuses.
    pub fn run<E: From<Error>>(
        &self,
        state: &mut State,
        mut watch: impl FnMut(&State) -> std::result::Result<bool, E>,
    ) -> std::result::Result<(), E> {
        let per_epoch = self.course.per_epoch(self.lessons.len());
        let mut order: Option<(usize, Vec<usize>)> = None;
        while state.update() < self.course.pace.updates {
            let (epoch, part) = (state.update() / per_epoch, state.update() % per_epoch);
            if order.as_ref().is_none_or(|(of, _)| *of != epoch) {
                order = Some((epoch, self.course.order(epoch, self.lessons.len())));
            }
            let items = order.as_ref().map_or(&[][..], |(_, items)| items);
            let batch: Vec<usize> = items
                .chunks(self.course.batch.max(1))
                .nth(part)
                .unwrap_or_default()
                .to_vec();
            self.update(state, &batch)?;
            let update = state.update();
            let due = update.is_multiple_of(self.validate_every.max(1));
            if !self.validation.is_empty() && (due || update == self.course.pace.updates) {
                let loss = self.loss(&state.pupil, self.validation)?;
                state.judge(Validated { update, loss });
            }
            if !watch(state)? {
                break;
            }
        }
        Ok(())
    }

    /// One update on these lessons.
    ///
    /// # Errors
    /// A picture that cannot be read, or a loss that is not finite.
    pub fn update(&self, state: &mut State, batch: &[usize]) -> Result<()> {
        let lessons: Vec<&Lesson> = batch.iter().map(|item| &self.lessons[*item]).collect();
        let unlearnt = self.course.unlearnt;
        let tokens: usize = lessons.iter().map(|lesson| lesson.tokens(unlearnt)).sum();
        let denominator = match self.course.reduction {
            Reduction::Tokens => tokens,
            Reduction::Items => lessons.len(),
        };
        let weight = 1.0 / denominator.max(1) as f32;
        let pieces = cut(&lessons, budget(state.pupil.size()));
        let (mut sums, mut nats) = (Sums::default(), Nats::default());
        // As many pieces at a time as there are threads: no more gradients are held than are made.
        for wave in pieces.chunks(self.threads.max(1)) {
            let learnt = in_order(wave.len(), self.threads, |i| {
                self.gradients(&state.pupil, wave[i], weight)
            })?;
            for (gradients, piece) in learnt {
                sums.add(gradients);
                nats.add(piece);
            }
        }
        let update = state.update();
        if !nats.sum.is_finite() {
            return Err(Error::NotFinite {
                what: format!("the training loss at update {}", update + 1),
            });
        }
        let norm = sums.norm();
        if let Some(clip) = self.course.clip {
            sums.scale((clip / (norm + 1e-6)).min(1.0) as f32);
        }
        let rate = self.course.pace.rate(update);
        state.descend(sums, rate);
        state.steps.push(Step {
            update: update + 1,
            loss: nats.sum / denominator.max(1) as f64,
            per_token: nats.sum / tokens.max(1) as f64,
            per_item: nats.sum / lessons.len().max(1) as f64,
            tokens,
            norm,
            rate,
        });
        Ok(())
    }

    /// The loss on lessons that are not learnt.
    ///
    /// # Errors
    /// A picture that cannot be read, or a loss that is not finite.
    pub fn loss(&self, pupil: &Pupil, lessons: &[Lesson]) -> Result<f64> {
        let lessons: Vec<&Lesson> = lessons.iter().collect();
        let pieces = cut(&lessons, budget(0));
        let found = in_order(pieces.len(), self.threads, |i| {
            let mut nats = Nats::default();
            for (rows, seen) in self.groups(pieces[i], &pupil.view(), false)? {
                let logits = self
                    .model
                    .answer_logits(Batch::over(rows.clone(), seen), &pupil.view());
                let [_, a, vocabulary] = logits.dims();
                let mut logits = host::values(logits);
                nats.add(slope(
                    &rows,
                    &mut logits,
                    [a, vocabulary],
                    self.course.unlearnt,
                    1.0,
                ));
            }
            Ok::<_, Error>(nats)
        })?;
        let mut nats = Nats::default();
        for piece in found {
            nats.add(piece);
        }
        let loss = match self.course.reduction {
            Reduction::Tokens => nats.sum / nats.tokens.max(1) as f64,
            Reduction::Items => nats.sum / lessons.len().max(1) as f64,
        };
        match loss.is_finite() {
            true => Ok(loss),
            false => Err(Error::NotFinite {
                what: "the validation loss".to_owned(),
            }),
        }
    }

    /// Gradients and loss of one piece of a batch.
    fn gradients(&self, pupil: &Pupil, lessons: &[&Lesson], weight: f32) -> Result<Learnt> {
        let leaves: Values = pupil
            .values
            .iter()
            .map(|(name, value)| (name.clone(), value.clone().autodiff().require_grad()))
            .collect();
        let view = pupil.seen(&leaves, true);
        let mut nats = Nats::default();
        let mut surrogate: Option<Tensor<1>> = None;
        for (rows, seen) in self.groups(lessons, &view, self.sees(pupil))? {
            let logits = self
                .model
                .answer_logits(Batch::over(rows.clone(), seen), &view);
            let shape @ [_, a, vocabulary] = logits.dims();
            let mut values = host::values(logits.clone().inner());
            nats.add(slope(
                &rows,
                &mut values,
                [a, vocabulary],
                self.course.unlearnt,
                weight,
            ));
            let slope: Tensor<3> = host::tensor(values, shape, self.model.device());
            let product = (logits * slope.autodiff()).sum();
            surrogate = Some(match surrogate {
                Some(sum) => sum + product,
                None => product,
            });
        }
        let Some(surrogate) = surrogate else {
            return Ok((Vec::new(), nats));
        };
        let mut gradients = surrogate.backward();
        drop(view);
        let gradients = leaves
            .into_iter()
            .filter_map(|(name, leaf)| {
                Some((name, host::values(leaf.grad_remove(&mut gradients)?)))
            })
            .collect();
        Ok((gradients, nats))
    }

    /// Rows with a picture and rows without, each kind with what the tower saw: `tracked` where the
    /// tower itself learns.
    fn groups(
        &self,
        lessons: &[&Lesson],
        view: &View,
        tracked: bool,
    ) -> Result<Vec<(Vec<Row>, Option<ImageFeatures>)>> {
        let (pictured, told): (Vec<&Lesson>, Vec<&Lesson>) = lessons
            .iter()
            .copied()
            .partition(|lesson| lesson.picture.is_some());
        let mut groups = Vec::new();
        if !told.is_empty() {
            groups.push((told.iter().map(|lesson| lesson.row.clone()).collect(), None));
        }
        if !pictured.is_empty() {
            let keys = pictured
                .iter()
                .filter_map(|lesson| lesson.picture.as_deref());
            let pictures: Vec<Picture> = keys
                .map(|key| self.pictures.picture(key).map_err(Error::from))
                .collect::<Result<_>>()?;
            let pictures: Vec<&Picture> = pictures.iter().collect();
            let plain = self.model.base();
            let seen = self
                .model
                .see(&pictures, if tracked { view } else { &plain })?;
            let rows = pictured.iter().enumerate().map(|(index, lesson)| {
                let mut row = lesson.row.clone();
                if let Some(span) = &mut row.image {
                    span.picture = index;
                }
                row
            });
            groups.push((rows.collect(), Some(seen)));
        }
        Ok(groups)
    }

    /// Whether the tower itself is trained.
    fn sees(&self, pupil: &Pupil) -> bool {
        let names: BTreeSet<&str> = pupil.names().collect();
        let mut sites = self.model.parameters().iter();
        sites.any(|site| site.stage == Stage::Vision && names.contains(site.name.as_str()))
    }
}
