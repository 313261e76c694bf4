//! Gradient descent on named parameters, one independent run per row group.
//!
//! The update rules are burn's; this file keeps their state by parameter name and lets each row
//! group (one edit request) stop and be clipped on its own.

use std::collections::BTreeMap;

use burn::optim::{
    Adam, AdamConfig, AdamState, AdamW, AdamWConfig, AdamWState, Optimizer, RmsProp, RmsPropConfig,
    RmsPropState,
};
use burn::tensor::{Bool, Tensor};

/// PyTorch's default epsilon, which the reference implementations leave untouched.
const EPSILON: f32 = 1e-8;

/// An update rule with its constants.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Rule {
    /// AdamW (Loshchilov & Hutter 2019), betas 0.9 and 0.999.
    AdamW {
        /// Decoupled weight decay.
        weight_decay: f32,
        /// Second-moment decay; 0.999 unless said otherwise.
        beta2: f32,
    },
    /// Adam (Kingma & Ba 2015), betas 0.9 and 0.999.
    Adam,
    /// RMSprop, smoothing 0.99, no momentum.
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
                beta2: 0.999,
            }),
            "adam" => Some(Self::Adam),
            "rmsprop" => Some(Self::RmsProp),
            "sgd" => Some(Self::Sgd),
            _ => None,
        }
    }
}

enum Engine {
    AdamW(AdamW, BTreeMap<String, AdamWState<3>>),
    Adam(Adam, BTreeMap<String, AdamState<3>>),
    RmsProp(RmsProp, BTreeMap<String, RmsPropState<3>>),
    Sgd,
}

/// A rule and its state for every parameter it has stepped.
pub struct Descent {
    engine: Engine,
}

impl Descent {
    /// Starts without state.
    pub fn new(rule: Rule) -> Self {
        let engine = match rule {
            Rule::AdamW {
                weight_decay,
                beta2,
            } => Engine::AdamW(
                AdamWConfig::new()
                    .with_epsilon(EPSILON)
                    .with_beta_2(beta2)
                    .with_weight_decay(weight_decay)
                    .build(),
                BTreeMap::new(),
            ),
            Rule::Adam => Engine::Adam(
                AdamConfig::new().with_epsilon(EPSILON).build(),
                BTreeMap::new(),
            ),
            Rule::RmsProp => Engine::RmsProp(
                RmsPropConfig::new()
                    .with_epsilon(EPSILON)
                    .with_momentum(0.0)
                    .build(),
                BTreeMap::new(),
            ),
            Rule::Sgd => Engine::Sgd,
        };
        Self { engine }
    }

    /// One step of parameter `name`: `value` and `gradient` are `[g, rows, columns]`.
    pub fn step(
        &mut self,
        name: &str,
        lr: f64,
        value: Tensor<3>,
        gradient: Tensor<3>,
    ) -> Tensor<3> {
        match &mut self.engine {
            Engine::AdamW(rule, states) => advance(rule, states, name, lr, value, gradient),
            Engine::Adam(rule, states) => advance(rule, states, name, lr, value, gradient),
            Engine::RmsProp(rule, states) => advance(rule, states, name, lr, value, gradient),
            Engine::Sgd => value - gradient.mul_scalar(lr),
        }
    }
}

fn advance<O: Optimizer>(
    rule: &O,
    states: &mut BTreeMap<String, O::State<3>>,
    name: &str,
    lr: f64,
    value: Tensor<3>,
    gradient: Tensor<3>,
) -> Tensor<3> {
    let (value, state) = rule.step(lr, value, gradient, states.remove(name));
    if let Some(state) = state {
        states.insert(name.to_owned(), state);
    }
    value
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
