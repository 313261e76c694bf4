//! Two small editors that are whole, from which the broken ones are made: one that learns, and
//! one that takes a single step along the gradient, in factors.

use std::collections::BTreeMap;
use std::sync::Arc;

use burn::tensor::Tensor;
use debias_core::Preset;
use debias_edit::{
    Card, Claims, Ctx, Edit, Editor, Footprint, GradientProbe, History, Learns, Lessons, Losses,
    Parts, Prepared, Request, Result, Settings, Touches, check_requests,
};
use debias_model::{Batch, Change, Delta, Model, Question, Recorder, View, answer_nll, host};
use serde_json::json;

/// A card that says next to nothing.
pub const fn card(id: &'static str, touches: Footprint) -> Card {
    Card {
        id,
        version: 1,
        title: "a toy",
        summary: "",
        paper: "",
        equation: "",
        touches,
        cost: "",
        failures: &[],
        settings: &[],
    }
}

/// How the step along the gradient is broken.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum Step {
    /// Not at all.
    #[default]
    Whole,
    /// The probe is one percent too large.
    Scaled,
    /// The rank it declares is one too small.
    LowRank,
    /// Factors of large numbers that cancel.
    Cancelling,
}

/// One step down the gradient of the last feed-forward block: `ΔW = -rate Σ_t δ_t x_tᵀ`.
pub struct OneStep(pub Step);

static ONE_STEP: Card = card(
    "one-step",
    Footprint::of(&[Touches::Weights], "the last feed-forward block"),
);

impl Editor for OneStep {
    fn card(&self) -> &'static Card {
        &ONE_STEP
    }

    fn defaults(&self, _: Preset) -> Settings {
        Settings::of(&json!({"rate": 0.05}))
    }

    fn identity(&self, settings: &Settings) -> Option<Settings> {
        Some(settings.clone().with("rate", 0.0))
    }

    fn check(&self, _: &Model, _: &Settings) -> Result<()> {
        Ok(())
    }

    fn prepare<'m>(
        &self,
        model: &'m Model,
        _: &Lessons,
        ctx: &Ctx,
    ) -> Result<Box<dyn Prepared + 'm>> {
        let rate = ctx.settings.get("rate").and_then(|rate| rate.as_f64());
        Ok(Box::new(Stepping {
            model,
            rate: rate.unwrap_or_default(),
            flaw: self.0,
        }))
    }
}

struct Stepping<'m> {
    model: &'m Model,
    rate: f64,
    flaw: Step,
}

impl Stepping<'_> {
    /// Inputs and output gradients of each edited layer, `[t, d_in]` and `[t, d_out]`.
    fn factors(&self, request: &Request) -> Result<BTreeMap<String, (Tensor<2>, Tensor<2>)>> {
        let outline = self.model.decoder().outline();
        let sites = outline.feed_forward_sites(outline.depth - 1);
        let recorder = Arc::new(Recorder::of_sites(sites.clone()));
        let question = Question::new(request.image_ref(), &request.prompt, &request.record.y_less);
        let rows = self.model.rows(&[question])?;
        let batch = Batch::over(rows.clone(), request.image.clone());
        let view = View::base().tracked().watched(recorder.clone());
        let loss = answer_nll(&rows, self.model.answer_logits(batch, &view)).sum();
        let gradients = loss.div_scalar(rows[0].answer().len() as f64).backward();
        let factors = sites.into_iter().map(|site| {
            let x = recorder.input_of(&site).expect("it was watched").inner();
            let delta = recorder.output_gradient(&site, &gradients);
            let delta = delta.expect("the loss depends on it");
            (site, (x.squeeze_dim(0), delta.squeeze_dim(0)))
        });
        Ok(factors.collect())
    }

    fn edit(&self, request: &Request) -> Result<Edit> {
        let mut weights = BTreeMap::new();
        for (site, (x, delta)) in self.factors(request)? {
            let b = delta.transpose().mul_scalar(-self.rate);
            let delta = match self.flaw {
                Step::Cancelling => cancelling(x, b),
                _ => Delta::LowRank { a: x, b },
            };
            weights.insert(site, delta);
        }
        Ok(Edit::Weights(Change { weights }))
    }
}

/// The same product, as the difference of two much larger ones.
fn cancelling(a: Tensor<2>, b: Tensor<2>) -> Delta {
    let large = b.ones_like().mul_scalar(1e2);
    Delta::LowRank {
        a: Tensor::cat(vec![a.clone(), a], 0),
        b: Tensor::cat(vec![b + large.clone(), large.neg()], 1),
    }
}

impl Prepared for Stepping<'_> {
    fn edit_each(&self, requests: &[Request], _: &Change) -> Result<Vec<Arc<Edit>>> {
        check_requests(self.model, requests)?;
        requests
            .iter()
            .map(|r| Ok(Arc::new(self.edit(r)?)))
            .collect()
    }

    fn gradient_probe(&self, request: &Request) -> Result<Option<GradientProbe>> {
        let scale = if self.flaw == Step::Scaled { 1.01 } else { 1.0 };
        let mut gradient = Change::default();
        let mut ranks = BTreeMap::new();
        for (site, (x, delta)) in self.factors(request)? {
            let tokens = x.dims()[0];
            let declared = tokens - usize::from(self.flaw == Step::LowRank);
            ranks.insert(site.clone(), declared);
            let product = delta.transpose().matmul(x).mul_scalar(scale);
            gradient.weights.insert(site, Delta::Dense(product));
        }
        Ok(Some(GradientProbe { gradient, ranks }))
    }
}

/// How the learning editor is broken.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum Learning {
    /// Not at all.
    #[default]
    Whole,
    /// What it hands to its store is rounded, what it uses is not.
    SavesRounded,
    /// The running mean is no part of the kept state.
    ForgetsStatistics,
    /// A kept state is not looked at.
    BeginsAgain,
    /// It does not listen when it is told to stop.
    GoesOn,
    /// It hands nothing to its store.
    KeepsNothing,
}

/// Learns how far to go along FT-L's edit: a number that follows a running mean over its lessons.
pub struct Learner(pub Learning);

static LEARNER: Card = card(
    "learner",
    Footprint::of(&[Touches::Weights], "those of ft-l"),
);
const STEPS: usize = 8;

impl Editor for Learner {
    fn card(&self) -> &'static Card {
        &LEARNER
    }

    fn defaults(&self, preset: Preset) -> Settings {
        super::fine_tuning().defaults(preset).with("lr", 0.01)
    }

    fn claims(&self, settings: &Settings) -> Result<Claims> {
        super::fine_tuning().claims(settings)
    }

    fn learns(&self, _: &Settings) -> Result<Learns> {
        Ok(Learns::Parts)
    }

    fn check(&self, model: &Model, settings: &Settings) -> Result<()> {
        super::fine_tuning().check(model, settings)
    }

    fn prepare<'m>(
        &self,
        model: &'m Model,
        lessons: &Lessons,
        ctx: &Ctx,
    ) -> Result<Box<dyn Prepared + 'm>> {
        let gain = match ctx.store.finished()? {
            Some(parts) => of_parts(&parts, "gain"),
            None => self.learn(model, lessons, ctx)?,
        };
        let inner = super::fine_tuning().prepare(model, lessons, ctx)?;
        Ok(Box::new(Gained { inner, gain }))
    }
}

impl Learner {
    fn learn(&self, model: &Model, lessons: &Lessons, ctx: &Ctx) -> Result<f32> {
        let flaw = self.0;
        let (mut gain, mut mean, mut from) = (0.5_f32, 0.0_f32, 0);
        let state = ctx.store.interrupted()?;
        if let Some(state) = state.filter(|_| flaw != Learning::BeginsAgain) {
            gain = of_parts(&state, "gain");
            if flaw != Learning::ForgetsStatistics {
                mean = of_parts(&state, "mean");
            }
            from = state.notes["step"].as_u64().unwrap_or_default() as usize;
        }
        let parts = |gain: f32, mean: f32, step: usize| Parts {
            tensors: [("gain", gain), ("mean", mean)]
                .into_iter()
                .map(|(name, value)| {
                    let tensor = host::tensor(vec![value], [1, 1], model.device());
                    (name.to_owned(), tensor)
                })
                .collect(),
            notes: json!({"step": step}),
        };
        let records = lessons.train.records();
        for step in from + 1..=STEPS {
            let record = &records[step % records.len()];
            mean += (record.y_less.len() as f32 - mean) / step as f32;
            gain += 0.013 * mean;
            if step % 2 == 0 && step < STEPS {
                let state = parts(gain, mean, step);
                ctx.store.keep(&state, &History::default())?;
            }
            let told = ctx.store.step(&Losses::default(), STEPS);
            if flaw != Learning::GoesOn {
                told?;
            }
        }
        let handed = match flaw {
            Learning::SavesRounded => (gain * 10.0).round() / 10.0,
            _ => gain,
        };
        if flaw != Learning::KeepsNothing {
            let parts = parts(handed, mean, STEPS);
            ctx.store.finish(&parts, &parts, &History::default())?;
        }
        Ok(gain)
    }
}

fn of_parts(parts: &Parts, name: &str) -> f32 {
    host::values(parts.tensors[name].clone())[0]
}

struct Gained<'m> {
    inner: Box<dyn Prepared + 'm>,
    gain: f32,
}

impl Prepared for Gained<'_> {
    fn edit_each(&self, requests: &[Request], start: &Change) -> Result<Vec<Arc<Edit>>> {
        let edits = self.inner.edit_each(requests, start)?;
        Ok(super::scaled(&edits, |_| self.gain))
    }
}
