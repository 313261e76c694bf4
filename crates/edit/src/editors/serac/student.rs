//! What SERAC learns: when a remembered request is meant, and what follows from it.
//!
//! Both objectives of `spec/editors.md` 3.3. The counterfactual model differs from the never-edited
//! one in its last layer only, so everything below is computed once per lesson.

use std::ops::Range;

use burn::tensor::Tensor;
use debias_core::Record;
use debias_model::{
    Batch, ImageFeatures, Model, Parameters, Question, Row, Side, Stage, View, answer_nll,
    divergence_per_row, engine, host,
};

use super::distances::{best_gain, calibrated, repulsion};
use super::scopes::Scopes;
use super::{Config, Training};
use crate::editor::{Example, Examples, Posed, Wording};
use crate::error::{Error, Result};
use crate::hyper::beside;
use crate::memory::ask::Remembered;
use crate::memory::gate::Gate;
use crate::memory::mix::{Mix, Spot, mixed_at};
use crate::memory::scope::{Pairs, Reader};
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

/// Some records, prepared.
pub(super) struct TrainingBatch {
    rephrase: Item,
    image: Option<Item>,
    text_item: Option<Item>,
    image_item: Option<Item>,
    pairs: Pairs,
    layout: Layout,
}

/// Which of the pairs are what.
struct Layout {
    rephrase: Range<usize>,
    image: Range<usize>,
    text_item: Range<usize>,
    image_item: Range<usize>,
    /// Everything out of scope: the two before, and the prompts of other records.
    outside: Range<usize>,
}

/// Questions behind remembered requests, in front of the last layer.
struct Item {
    /// As the counterfactual model reads them.
    rows: Vec<Row>,
    batch: Batch,
    /// As the base model reads and answers them; not needed where the two are trained apart.
    base: Option<Base>,
}

struct Base {
    rows: Vec<Row>,
    batch: Batch,
}

/// A record with its prompts in their templates.
struct Words<'r> {
    record: &'r Record,
    wording: Wording,
}

impl<'r> Words<'r> {
    fn in_example(example: &'r Example) -> Self {
        let texts = |item: &Option<Posed>| {
            let item = item.as_ref()?;
            Some((item.prompt.clone(), item.answer.clone()))
        };
        Self {
            record: &example.request.record,
            wording: Wording {
                prompt: example.request.prompt.clone(),
                rephrase: example.rephrase.clone(),
                t_locality: texts(&example.t_locality),
                m_locality: texts(&example.m_locality),
            },
        }
    }
}

impl Words<'_> {
    /// The prompt in other words, or as it is where there are none.
    fn reworded(&self) -> &str {
        self.wording
            .rephrase
            .as_ref()
            .unwrap_or(&self.wording.prompt)
    }
}

/// A question with its answer and picture.
struct Asked<'e> {
    image: Option<&'e ImageFeatures>,
    prompt: &'e str,
    answer: &'e str,
}

impl<'e> Asked<'e> {
    /// The question as the engine is asked it.
    fn question(&self) -> engine::Asked {
        engine::Asked {
            prompt: self.prompt.to_owned(),
            choices: vec![self.answer.to_owned()],
            join: " ".to_owned(),
            ..engine::Asked::default()
        }
    }

    fn of(posed: &'e Posed) -> Option<Self> {
        Some(Self {
            image: posed.image.as_ref(),
            prompt: &posed.prompt,
            answer: &posed.answer,
        })
    }
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

    fn last(&self) -> Stage {
        Stage::Attention(self.model.decoder().outline().depth.saturating_sub(1))
    }

    /// One question per example, behind its own request; none where an example has no such question.
    fn item<'e>(
        &self,
        examples: &'e [Example],
        with_base: bool,
        ask: impl Fn(&'e Example) -> Option<Asked<'e>>,
    ) -> Result<Option<Item>> {
        let Some(asked) = examples.iter().map(ask).collect::<Option<Vec<Asked>>>() else {
            return Ok(None);
        };
        let seen = ImageFeatures::join(asked.iter().filter_map(|asked| asked.image.cloned()));
        let (mut rows, mut base_rows) = (Vec::new(), Vec::new());
        for (at, (example, asked)) in examples.iter().zip(&asked).enumerate() {
            let record = &example.request.record;
            let refused = |source| Error::Record {
                id: record.id.clone(),
                source,
            };
            let sighting = asked
                .image
                .and(seen.as_ref())
                .map(|seen| seen.image_ref(at));
            let question = Question::new(sighting, asked.prompt, asked.answer);
            let base = self.model.rows(&[question]).map_err(refused)?;
            let remembered = Remembered::new(&example.request.prompt, &record.y_less);
            let own = remembered
                .rows(self.model, sighting, &asked.question(), 0)
                .map_err(refused)?;
            for mut row in own {
                row.answer_start = row.ids.len() - base[0].answer().len();
                rows.push(row);
            }
            base_rows.extend(base);
        }
        let batch = |rows: Vec<Row>, to| {
            let batch = Batch::over(rows, seen.clone());
            self.model.run(batch, to, &self.model.base())
        };
        Ok(Some(Item {
            batch: batch(rows.clone(), self.last()),
            rows,
            base: with_base.then(|| Base {
                batch: batch(base_rows.clone(), Stage::Head),
                rows: base_rows,
            }),
        }))
    }

    /// The gain by which the classifier's loss on validation records is least: there rephrases are
    /// further away than those it was trained on.
    fn calibrated(&self, values: &Values, val: &dyn Examples) -> Result<f64> {
        let records = val.records();
        let (mut inside, mut outside) = (Vec::new(), Vec::new());
        let wanted: Vec<usize> = (0..records.len().min(CALIBRATION)).collect();
        for part in wanted.chunks(CALIBRATION_PART) {
            let words = part.iter().map(|at| Words {
                record: &records[*at],
                wording: val.wording(*at),
            });
            let words: Vec<Words> = words.collect();
            let (pairs, layout) = self.pairs(&words)?;
            let distances = host::values(self.reader.distances(&pairs, values)?);
            let of = |range: &Range<usize>| distances[range.clone()].iter().map(|d| f64::from(*d));
            inside.extend(of(&layout.rephrase).map(|d| d * self.config.scale));
            outside.extend(of(&layout.outside).map(|d| d * self.config.scale));
        }
        // As it will be stored.
        Ok(f64::from(best_gain(&inside, &outside) as f32))
    }

    /// All pairs of a lesson: what a request is about, and what it is not.
    fn pairs(&self, examples: &[Words]) -> Result<(Pairs, Layout)> {
        let kind = self.config.scope_text;
        let target = |example: &Words| example.record.y_less.clone();
        let abouts: Vec<String> = examples
            .iter()
            .map(|example| kind.of(&example.wording.prompt, &target(example)))
            .collect();
        let mut pairs: Vec<(usize, String)> = Vec::new();
        let mut add = |texts: Vec<(usize, String)>| {
            let from = pairs.len();
            pairs.extend(texts);
            from..pairs.len()
        };
        let each = |text: &dyn Fn(&Words) -> String| {
            let texts = examples.iter().map(text);
            texts.enumerate().collect::<Vec<_>>()
        };
        let item = |of: fn(&Wording) -> &Option<(String, String)>| {
            let items = examples.iter().enumerate();
            let texts = items.filter_map(|(at, example)| {
                let (question, answer) = of(&example.wording).as_ref()?;
                Some((at, kind.of(question, answer)))
            });
            texts.collect::<Vec<_>>()
        };
        let rephrase = add(each(&|e| kind.of(e.reworded(), &target(e))));
        let image = add(each(&|e| kind.of(&e.wording.prompt, &target(e))));
        let text_item = add(item(|wording| &wording.t_locality));
        let image_item = match self.config.mloc {
            true => add(item(|wording| &wording.m_locality)),
            false => add(Vec::new()),
        };
        let mut others = Vec::new();
        if self.config.training == Training::Supervised {
            for (i, one) in examples.iter().enumerate() {
                for other in examples {
                    if self.scopes.apart(one.record, other.record) {
                        others.push((i, kind.of(&other.wording.prompt, &target(other))));
                        others.push((i, kind.of(other.reworded(), &target(other))));
                    }
                }
            }
        }
        let others = add(others);
        let texts: Vec<(&str, &str)> = pairs
            .iter()
            .map(|(about, test)| (abouts[*about].as_str(), test.as_str()))
            .collect();
        let layout = Layout {
            rephrase,
            image,
            outside: text_item.start..others.end,
            text_item,
            image_item,
        };
        Ok((self.reader.pairs(&texts)?, layout))
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
        let whole = self.config.training == Training::Unsupervised;
        let rephrase = self.item(examples, whole, |e| {
            Some(Asked {
                image: e.request.image.as_ref(),
                prompt: e.rephrase.as_ref().unwrap_or(&e.request.prompt),
                answer: &e.request.record.y_less,
            })
        })?;
        let image = self.item(examples, whole, |e| {
            Some(Asked {
                image: Some(e.image_rephrase.as_ref()?),
                prompt: &e.request.prompt,
                answer: &e.request.record.y_less,
            })
        })?;
        let text_item = match whole {
            true => self.item(examples, true, |e| Asked::of(e.t_locality.as_ref()?))?,
            false => None,
        };
        let image_item = match whole && self.config.mloc {
            true => self.item(examples, true, |e| Asked::of(e.m_locality.as_ref()?))?,
            false => None,
        };
        let words: Vec<Words> = examples.iter().map(Words::in_example).collect();
        let (pairs, layout) = self.pairs(&words)?;
        Ok(TrainingBatch {
            rephrase: rephrase.ok_or(Error::EmptyEdit)?,
            image,
            text_item,
            image_item,
            pairs,
            layout,
        })
    }

    fn bytes(&self, lesson: &TrainingBatch) -> usize {
        let others = [&lesson.image, &lesson.text_item, &lesson.image_item];
        let items = std::iter::once(&lesson.rephrase).chain(others.into_iter().flatten());
        items
            .map(|item| {
                let base = item.base.as_ref().map_or(0, |base| base.batch.bytes());
                item.batch.bytes() + base
            })
            .sum()
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
