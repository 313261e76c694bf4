//! What SERAC learns: when a remembered request is meant, and what follows from it.
//!
//! Both objectives of `spec/editors.md` 3.3. The counterfactual model differs from the never-edited
//! one in its last layer only, so everything below is computed once per lesson.

use std::ops::Range;

use burn::tensor::Tensor;
use debias_model::{Model, Parameters, Row, Side, View, answer_nll, divergence_per_row, host};

use super::config::{Config, Training};
use super::distances::{best_gain, calibrated, repulsion};
use super::lesson::{Base, Item, Layout, Material, TrainingBatch, Words};
use super::scopes::Scopes;
use crate::editor::{Example, Examples};
use crate::error::Result;
use crate::hyper::beside;
use crate::memory::gate::Gate;
use crate::memory::mix::{Mix, Spot, mixed_at};
use crate::memory::scope::Reader;
use crate::training::{Objective, Trainable, Values};

/// In front of the names of the counterfactual model's own parameters.
const PREFIX: &str = "counterfactual.";
/// Under this name the gain stands among the statistics.
const GAIN: &str = "scope.gain";
/// Validation records that decide the gain, and how many are held against each other.
const CALIBRATION: usize = 512;
const CALIBRATION_PART: usize = 16;
/// The trained parts on their way.
pub(super) struct Student<'m> {
    pub model: &'m Model,
    pub config: Config,
    pub reader: Reader,
    pub scopes: Scopes,
    /// Decided after training.
    pub settled: Settled,
    pub seed: u64,
}

/// What is decided on validation records once the parameters are trained.
pub(super) struct Settled {
    pub gate: Option<Gate>,
    /// Factor of all squared distances.
    pub gain: f64,
}

impl Student<'_> {
    /// Parameters of the last decoder layer.
    fn sites(&self) -> impl Iterator<Item = &str> {
        let outline = self.model.decoder().outline();
        let prefix = outline.layer_prefix(outline.depth.saturating_sub(1));
        let sites = self.model.parameters().iter();
        sites
            .filter(move |site| site.side == Side::Language && site.name.starts_with(&prefix))
            .map(|site| site.name.as_str())
    }

    /// What lessons are made with.
    fn material(&self) -> Material<'_> {
        Material {
            model: self.model,
            config: &self.config,
            reader: &self.reader,
            scopes: &self.scopes,
        }
    }

    /// The gain by which the classifier's loss on validation records is least: there rephrases are
    /// further away than those it was trained on.
    fn calibrated(&self, values: &Values, val: &dyn Examples) -> Result<f64> {
        let records = val.records();
        let material = self.material();
        let (mut inside, mut outside) = (Vec::new(), Vec::new());
        let wanted: Vec<usize> = (0..records.len().min(CALIBRATION)).collect();
        for part in wanted.chunks(CALIBRATION_PART) {
            let words = part.iter().map(|at| Words {
                record: &records[*at],
                wording: val.wording(*at),
            });
            let words: Vec<Words> = words.collect();
            let (pairs, layout) = material.pairs(&words)?;
            let distances = host::values(self.reader.distances(&pairs, values)?);
            let of = |range: &Range<usize>| distances[range.clone()].iter().map(|d| f64::from(*d));
            inside.extend(of(&layout.rephrase).map(|d| d * self.config.scale));
            outside.extend(of(&layout.outside).map(|d| d * self.config.scale));
        }
        // As it will be stored.
        Ok(f64::from(best_gain(&inside, &outside) as f32))
    }

    /// Token mean of the target's loss where the counterfactual model alone answers.
    fn told(&self, item: &Item, view: &View) -> Tensor<1> {
        let logits = self.model.answer_logits(item.batch.clone(), view);
        token_mean(&item.rows, logits)
    }

    /// The same where it is mixed with the base model by `s` `[n, 1]`.
    fn mixed(&self, item: &Item, base: &Base, s: &Tensor<2>, view: &View) -> Tensor<1> {
        let other = self.model.answer_logits(item.batch.clone(), view);
        let logits = self.model.answer_logits(base.batch.clone(), &View::base());
        let [n, a, vocabulary] = logits.dims();
        let width = other.dims()[1];
        let mut spots = Vec::new();
        for (at, (row, other)) in base.rows.iter().zip(&item.rows).enumerate() {
            let (shared, _) = self.config.align.of(row, other);
            let answers = row.answer_positions().enumerate();
            spots.extend(
                answers
                    .filter(|(_, p)| shared.contains(p))
                    .map(|(i, _)| Spot {
                        base: at * a + i,
                        other: at * width + i,
                        s: at,
                    }),
            );
        }
        let logits = beside(&logits.reshape([n * a, vocabulary]), &other);
        let other = other.reshape([n * width, vocabulary]);
        let mixed = mixed_at(logits, other, s, &spots, Mix::Soft);
        token_mean(&base.rows, mixed.reshape([n, a, vocabulary]))
    }

    /// Mean over records of the position-mean KL(base ‖ mixed).
    fn drift(&self, item: &Item, base: &Base, s: &Tensor<2>, view: &View) -> Tensor<1> {
        let other = self.model.logits(item.batch.clone(), view);
        let logits = self.model.logits(base.batch.clone(), &View::base());
        let [n, t, vocabulary] = logits.dims();
        let width = other.dims()[1];
        let mut spots = Vec::new();
        for (at, (row, longer)) in base.rows.iter().zip(&item.rows).enumerate() {
            let (shared, others) = self.config.align.of(row, longer);
            spots.extend(shared.zip(others).map(|(p, q)| Spot {
                base: at * t + p,
                other: at * width + q,
                s: at,
            }));
        }
        let flat = beside(&logits.clone().reshape([n * t, vocabulary]), &other);
        let other = other.reshape([n * width, vocabulary]);
        let mixed = mixed_at(flat, other, s, &spots, Mix::Soft);
        divergence_per_row(&base.rows, logits, mixed.reshape([n, t, vocabulary])).mean()
    }

    /// Both parts apart (the original SERAC): the counterfactual model is shown the right request,
    /// the classifier tells pairs apart.
    fn supervised(&self, lesson: &TrainingBatch, distances: Tensor<1>, view: &View) -> Objective {
        let rephrase = self.told(&lesson.rephrase, view);
        let image = lesson.image.as_ref().map(|image| self.told(image, view));
        let Layout {
            rephrase: inside,
            image: inside_too,
            outside,
            ..
        } = &lesson.layout;
        let inside = part(&distances, &(inside.start..inside_too.end)).mean();
        let outside = repulsion(part(&distances, outside), self.config.hard);
        self.objective(rephrase, image, (inside + outside.clone(), outside))
    }

    /// Soft mixing end to end (the multimodal reference).
    fn unsupervised(&self, lesson: &TrainingBatch, distances: Tensor<1>, view: &View) -> Objective {
        let s = |of: &Range<usize>| {
            let s = part(&distances, of).neg().exp();
            s.unsqueeze_dim::<2>(1)
        };
        let layout = &lesson.layout;
        let edit = |item: &Item, of: &Range<usize>| match &item.base {
            Some(base) => self.mixed(item, base, &s(of), view),
            None => self.told(item, view),
        };
        let rephrase = edit(&lesson.rephrase, &layout.rephrase);
        let image = lesson
            .image
            .as_ref()
            .map(|image| edit(image, &layout.image));
        let items = [
            (&lesson.text_item, &layout.text_item),
            (&lesson.image_item, &layout.image_item),
        ];
        let mut drift = rephrase.clone().mul_scalar(0.0);
        for (item, of) in items {
            if let Some((item, base)) = item.as_ref().and_then(|i| Some((i, i.base.as_ref()?))) {
                drift = drift + self.drift(item, base, &s(of), view);
            }
        }
        self.objective(rephrase, image, (drift.clone(), drift))
    }

    fn objective(
        &self,
        rephrase: Tensor<1>,
        image: Option<Tensor<1>>,
        (rest, locality): (Tensor<1>, Tensor<1>),
    ) -> Objective {
        let Config {
            cedit, iedit, cloc, ..
        } = self.config;
        // Text alone has no other picture: what is asked counts in full.
        let (told, edit) = match image {
            Some(image) => (
                rephrase.clone().mul_scalar(cedit) + image.clone().mul_scalar(iedit),
                (rephrase + image).div_scalar(2.0),
            ),
            None => (rephrase.clone().mul_scalar(cedit), rephrase),
        };
        Objective {
            total: told + rest.mul_scalar(cloc),
            edit,
            locality,
        }
    }
}

/// The counterfactual model under `values`.
pub(super) fn counterfactual(values: &Values) -> View {
    let own = values.iter().filter_map(|(name, value)| {
        let site = name.strip_prefix(PREFIX)?;
        Some((site.to_owned(), value.clone().unsqueeze::<3>()))
    });
    View::replacing(own, values.values().any(Tensor::is_autodiff))
}

fn part(distances: &Tensor<1>, of: &Range<usize>) -> Tensor<1> {
    distances.clone().narrow(0, of.start, of.len())
}

fn token_mean(rows: &[Row], logits: Tensor<3>) -> Tensor<1> {
    let tokens: usize = rows.iter().map(|row| row.answer().len()).sum();
    answer_nll(rows, logits)
        .sum()
        .div_scalar(tokens.max(1) as f64)
}

impl Trainable for Student<'_> {
    type TrainingBatch = TrainingBatch;

    fn start(&self) -> Values {
        let mut values = self.reader.start(self.model);
        let own = self.sites();
        values.extend(
            own.filter_map(|name| Some((format!("{PREFIX}{name}"), self.model.value(name)?))),
        );
        values
    }

    fn rate(&self, parameter: &str) -> f64 {
        match parameter.starts_with(PREFIX) {
            true => self.config.lr,
            false => self.config.scope_lr.unwrap_or(self.config.lr),
        }
    }

    fn lesson(&self, examples: &[Example]) -> Result<TrainingBatch> {
        self.material().batch(examples)
    }

    fn bytes(&self, lesson: &TrainingBatch) -> usize {
        lesson.bytes()
    }

    fn statistics(&self) -> Values {
        let gate = self.settled.gate.as_ref();
        let mut stored = gate.map_or_else(Values::new, |gate| gate.stored(self.model));
        let gain = vec![self.settled.gain as f32];
        stored.insert(
            GAIN.to_owned(),
            host::tensor(gain, [1, 1], self.model.device()),
        );
        stored
    }

    fn restore(&mut self, statistics: &Values) {
        let gain = statistics.get(GAIN).map(|gain| host::values(gain.clone()));
        self.settled = Settled {
            gate: Gate::restored(statistics),
            gain: gain.map_or(1.0, |gain| gain.iter().map(|g| f64::from(*g)).sum()),
        };
    }

    fn settle(&mut self, values: &Values, val: &dyn Examples) -> Result<()> {
        if self.config.image_gate {
            self.settled.gate = Some(Gate::tuned(self.model, val, self.seed)?);
        }
        if self.config.calibrate {
            self.settled.gain = self.calibrated(values, val)?;
        }
        Ok(())
    }

    fn losses(&self, lesson: &TrainingBatch, values: &Values) -> Result<Objective> {
        let view = counterfactual(values);
        let distances = self.reader.distances(&lesson.pairs, values)?;
        let distances = distances.mul_scalar(self.config.scale);
        // What is validated are distances as they will be calibrated, or the best state would be
        // the one that needs no calibration.
        let distances = match self.config.calibrate && !distances.is_autodiff() {
            true => calibrated(distances, &lesson.layout.rephrase, &lesson.layout.outside),
            false => distances,
        };
        Ok(match self.config.training {
            Training::Supervised => self.supervised(lesson, distances, &view),
            Training::Unsupervised => self.unsupervised(lesson, distances, &view),
        })
    }
}
