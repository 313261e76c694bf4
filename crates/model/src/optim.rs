//! Gradient descent on named parameters, one independent run per row group.
//!
//! The rules are PyTorch's (the reference implementations use its defaults), fused into one pass
//! over the values: as a composition of tensor operations a step reads and writes the parameters
//! fifteen times, which costs more than the gradient of a small edit. The arithmetic is that of
//! burn's own optimisers, operation by operation; a test compares the bits.

use std::collections::BTreeMap;

use burn::tensor::{Bool, Tensor};
use rayon::prelude::*;

use crate::host;

/// PyTorch's default epsilon, which the reference implementations leave untouched.
const EPSILON: f32 = 1e-8;
/// First-moment decay of Adam and AdamW.
const BETA1: f64 = 0.9;
/// Second-moment decay of Adam.
const BETA2: f64 = 0.999;
/// Values per piece of parallel work; every value is stepped on its own.
const PIECE: usize = 1 << 16;
/// Smoothing of RMSprop.
const ALPHA: f32 = 0.99;

/// An update rule with its constants.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Rule {
    /// AdamW (Loshchilov & Hutter 2019, algorithm 2): decoupled weight decay.
    AdamW {
        /// Decoupled weight decay.
        weight_decay: f32,
        /// Second-moment decay; 0.999 unless said otherwise.
        beta2: f64,
    },
    /// Adam (Kingma & Ba 2015, algorithm 1), betas 0.9 and 0.999.
    Adam,
    /// RMSprop, smoothing 0.99, no momentum, not centred.
    RmsProp,
    /// Plain gradient descent.
    Sgd,
}

impl Rule {
    /// By its name in settings.
    pub fn named(name: &str, weight_decay: f32) -> Option<Self> {
        match name {
            "adamw" => Some(Self::AdamW {
                weight_decay,
                beta2: BETA2,
            }),
            "adam" => Some(Self::Adam),
            "rmsprop" => Some(Self::RmsProp),
            "sgd" => Some(Self::Sgd),
            _ => None,
        }
    }
}

/// Running moments of one parameter.
struct State {
    steps: i32,
    first: Vec<f32>,
    second: Vec<f32>,
}

/// A rule and its state for every parameter it has stepped.
pub struct Descent {
    rule: Rule,
    /// Whether bias corrections are computed in f64.
    exact: bool,
    states: BTreeMap<String, State>,
}

impl Descent {
    /// Starts without state.
    pub fn new(rule: Rule) -> Self {
        Self {
            rule,
            exact: false,
            states: BTreeMap::new(),
        }
    }

    /// Starts without state, with bias corrections in f64 as PyTorch computes them. burn's are in f32,
    /// where `1 - 0.999^t` loses five of seven digits in the first steps.
    pub fn exact(rule: Rule) -> Self {
        Self {
            exact: true,
            ..Self::new(rule)
        }
    }

    /// Everything it remembers of parameter `name`: steps done, first and second moments.
    pub fn memory(&self, name: &str) -> Option<(i32, &[f32], &[f32])> {
        let state = self.states.get(name)?;
        Some((state.steps, &state.first, &state.second))
    }

    /// Goes on with parameter `name` from what [`Descent::memory`] gave.
    pub fn remember(&mut self, name: &str, steps: i32, first: Vec<f32>, second: Vec<f32>) {
        let state = State {
            steps,
            first,
            second,
        };
        self.states.insert(name.to_owned(), state);
    }

    /// One step of parameter `name`: `value` and `gradient` are `[g, rows, columns]`.
    pub fn step(
        &mut self,
        name: &str,
        lr: f64,
        value: Tensor<3>,
        gradient: Tensor<3>,
    ) -> Tensor<3> {
        let (shape, device) = (value.dims(), value.device());
        let mut value = host::values(value);
        self.update(name, lr, &mut value, &host::values(gradient));
        host::tensor(value, shape, &device)
    }

    /// [`Descent::step`] on values in place.
    pub fn update(&mut self, name: &str, lr: f64, value: &mut [f32], gradient: &[f32]) {
        let state = self.states.entry(name.to_owned()).or_insert_with(|| State {
            steps: 0,
            first: vec![0.0; value.len()],
            second: vec![0.0; value.len()],
        });
        state.steps += 1;
        let exact = self.exact;
        match self.rule {
            Rule::AdamW {
                weight_decay,
                beta2,
            } => {
                let betas = Betas::of(beta2, state.steps, exact);
                adam(state, lr, value, gradient, weight_decay, betas);
            }
            Rule::Adam => {
                let betas = Betas::of(BETA2, state.steps, exact);
                adam(state, lr, value, gradient, 0.0, betas);
            }
            Rule::RmsProp => rms_prop(state, lr, value, gradient),
            Rule::Sgd => {
                for (w, g) in value.iter_mut().zip(gradient) {
                    *w -= g * lr as f32;
                }
            }
        }
    }
}

/// Decays of both moments, and what corrects their beginning at zero.
#[derive(Clone, Copy)]
struct Betas {
    betas: [f32; 2],
    rest: [f32; 2],
    correct: [f32; 2],
}

impl Betas {
    /// At step `steps`, counted from 1.
    fn of(beta2: f64, steps: i32, exact: bool) -> Self {
        let wide = [BETA1, beta2];
        let betas = wide.map(|beta| beta as f32);
        let (rest, correct) = if exact {
            (
                wide.map(|beta| (1.0 - beta) as f32),
                wide.map(|beta| (1.0 - beta.powi(steps)) as f32),
            )
        } else {
            (
                betas.map(|beta| 1.0 - beta),
                betas.map(|beta| 1.0 - beta.powi(steps)),
            )
        };
        Self {
            betas,
            rest,
            correct,
        }
    }
}

/// `w ← (1 - lr λ) w - lr m̂ / (sqrt(v̂) + ε)`.
fn adam(
    state: &mut State,
    lr: f64,
    value: &mut [f32],
    gradient: &[f32],
    weight_decay: f32,
    betas: Betas,
) {
    let keep = (1.0 - lr * f64::from(weight_decay)) as f32;
    let lr = lr as f32;
    let Betas {
        betas: [beta1, beta2],
        rest: [rest1, rest2],
        correct: [correct1, correct2],
    } = betas;
    let moments = state
        .first
        .par_chunks_mut(PIECE)
        .zip(state.second.par_chunks_mut(PIECE));
    let values = value.par_chunks_mut(PIECE).zip(gradient.par_chunks(PIECE));
    values
        .zip(moments)
        .for_each(|((value, gradient), (first, second))| {
            let moments = first.iter_mut().zip(second);
            for ((w, g), (m, v)) in value.iter_mut().zip(gradient).zip(moments) {
                *m = *m * beta1 + g * rest1;
                *v = *v * beta2 + g * g * rest2;
                let update = (*m / correct1) / ((*v / correct2).sqrt() + EPSILON);
                *w = *w * keep - update * lr;
            }
        });
}

/// `w ← w - lr g / (sqrt(v) + ε)`.
fn rms_prop(state: &mut State, lr: f64, value: &mut [f32], gradient: &[f32]) {
    let (lr, rest) = (lr as f32, 1.0 - ALPHA);
    for ((w, g), v) in value.iter_mut().zip(gradient).zip(&mut state.second) {
        *v = *v * ALPHA + g * g * rest;
        *w -= g / (v.sqrt() + EPSILON) * lr;
    }
}

/// Scales each row group's gradients so that their joint norm is at most `limit`.
pub fn clip(gradients: &mut BTreeMap<String, Tensor<3>>, limit: f64) {
    let squares = gradients
        .values()
        .map(|g| g.clone().square().sum_dim(2).sum_dim(1));
    let Some(total) = squares.reduce(|a, b| a + b) else {
        return;
    };
    let factor = (total.sqrt().add_scalar(1e-6).recip() * limit).clamp_max(1.0);
    for gradient in gradients.values_mut() {
        *gradient = gradient.clone() * factor.clone();
    }
}

/// `new` for the groups where `active`, `old` elsewhere; all `[g, rows, columns]`, active `[g]`.
pub fn keep_stopped(old: Tensor<3>, new: Tensor<3>, active: &[bool]) -> Tensor<3> {
    if active.iter().all(|active| *active) {
        return new;
    }
    let [g, rows, columns] = old.dims();
    let device = old.device();
    let mask = Tensor::<1, Bool>::from_data(active, &device)
        .reshape([g, 1, 1])
        .expand([g, rows, columns]);
    old.mask_where(mask, new)
}

#[cfg(test)]
mod tests {
    use burn::optim::{AdamConfig, AdamWConfig, Optimizer, RmsPropConfig};
    use burn::tensor::Device;
    use debias_core::seed;
    use rand::Rng;

    use super::*;

    fn draws(what: &str) -> Tensor<3> {
        let mut stream = seed::stream(1, &["optim", what]);
        let values = (0..60).map(|_| stream.random_range(-1.0..1.0)).collect();
        host::tensor(values, [3, 4, 5], &Device::flex())
    }

    /// Steps both with the same gradients and compares the values after each.
    fn compare<O: Optimizer>(rule: Rule, reference: O, tolerance: f32) {
        let mut descent = Descent::new(rule);
        let (mut ours, mut theirs, mut state) = (draws("start"), draws("start"), None);
        for step in 0..20 {
            let gradient = draws(&step.to_string());
            ours = descent.step("w", 3e-3, ours, gradient.clone());
            (theirs, state) = reference.step(3e-3, theirs, gradient, state);
            let pairs = host::values(ours.clone())
                .into_iter()
                .zip(host::values(theirs.clone()));
            for (a, b) in pairs {
                assert!(
                    (a - b).abs() <= tolerance,
                    "{rule:?}, step {step}: {a} against {b}"
                );
            }
        }
    }

    #[test]
    fn adamw_has_the_bits_of_the_library() {
        let rule = Rule::AdamW {
            weight_decay: 0.01,
            beta2: 0.98,
        };
        let reference = AdamWConfig::new()
            .with_epsilon(EPSILON)
            .with_beta_2(0.98)
            .with_weight_decay(0.01);
        compare(rule, reference.build(), 0.0);
    }

    #[test]
    fn adam_and_rmsprop_agree_with_the_library() {
        compare(
            Rule::Adam,
            AdamConfig::new().with_epsilon(EPSILON).build(),
            1e-6,
        );
        let reference = RmsPropConfig::new()
            .with_epsilon(EPSILON)
            .with_momentum(0.0);
        compare(Rule::RmsProp, reference.build(), 1e-6);
    }

    #[test]
    fn exact_corrections_are_those_of_f64() {
        let [rough, exact] = [false, true].map(|exact| Betas::of(0.999, 3, exact).correct[1]);
        let expected = 1.0 - 0.999f64.powi(3);
        let off = |found: f32| (f64::from(found) / expected - 1.0).abs();
        assert!(
            off(exact) < 1e-7 && off(rough) > 1e-6,
            "{exact} and {rough}"
        );
    }

    #[test]
    fn a_first_adam_step_is_the_sign_of_the_gradient() {
        // m̂ / sqrt(v̂) = g / |g| at the first step, whatever the gradient's size.
        let device = Device::flex();
        let value = host::tensor(vec![1.0, 1.0], [1, 1, 2], &device);
        let gradient = host::tensor(vec![4.0, -0.25], [1, 1, 2], &device);
        let stepped = Descent::new(Rule::Adam).step("w", 0.5, value, gradient);
        let stepped = host::values(stepped);
        assert!((stepped[0] - 0.5).abs() < 1e-6 && (stepped[1] - 1.5).abs() < 1e-6);
    }

    #[test]
    fn clipping_is_per_group_and_only_shortens() {
        let device = Device::flex();
        let gradient = host::tensor(vec![3.0, 4.0, 0.3, 0.4], [2, 1, 2], &device);
        let mut gradients = BTreeMap::from([("w".to_owned(), gradient)]);
        clip(&mut gradients, 1.0);
        let clipped = host::values(gradients["w"].clone());
        for (found, expected) in clipped.iter().zip([0.6, 0.8, 0.3, 0.4]) {
            assert!((found - expected).abs() < 1e-5, "{clipped:?}");
        }
    }

    #[test]
    fn a_stopped_group_stays_where_it_is() {
        let device = Device::flex();
        let old = host::tensor(vec![1.0, 2.0], [2, 1, 1], &device);
        let new = host::tensor(vec![5.0, 6.0], [2, 1, 1], &device);
        let kept = host::values(keep_stopped(old, new, &[false, true]));
        assert_eq!(kept, [1.0, 6.0]);
    }
}
