//! The network: transformed factors times a learned rate are the edit.

use burn::tensor::{Device, Tensor};
use debias_core::Preset;
use debias_model::Parameter;

use super::Own;
use crate::editor::{Lessons, Request};
use crate::error::Result;
use crate::hyper::{
    BlockPlan, Blocks, Config, Gathered, Generalise, HyperNetwork, Sides, Subject, open_clamp,
};
use crate::training::Values;

/// In front of the names of the rates.
const RATE: &str = "edit_lr.";

/// The networks of all matrix shapes, and a rate for every matrix.
pub(crate) struct Network {
    blocks: Blocks,
    descent: bool,
    edit_lr: f64,
    lr: f64,
    lr_lr: f64,
    device: Device,
}

impl Network {
    pub(super) fn of(own: &Own, sites: &[&Parameter], seed: u64, device: &Device) -> Self {
        let plan = BlockPlan {
            stream: "mend",
            rank: own.rank,
            norm: own.norm,
            bound: own.bound,
            epsilon: 1e-7,
            step: |outer, scale, shift| open_clamp(outer * scale + shift),
        };
        Self {
            blocks: Blocks::new(plan, sites, seed, device),
            descent: own.descent,
            edit_lr: own.edit_lr,
            lr: own.lr,
            lr_lr: match own.dead_edit_lr {
                true => own.lr,
                false => own.lr_lr,
            },
            device: device.clone(),
        }
    }

    /// The network before it has learned anything, without normalisation and with rates of 1: its
    /// answer is the gradient itself.
    pub(super) fn unlearned(&self) -> (Self, Values) {
        let plain = Self {
            blocks: self.blocks.unlearned(),
            descent: false,
            edit_lr: 1.0,
            device: self.device.clone(),
            ..*self
        };
        let values = plain.start();
        (plain, values)
    }
}

impl HyperNetwork for Network {
    type Settings = Own;
    type Objective = Generalise;
    type Condition = ();

    const GATE: &'static str = "edit_lr";
    const RANDOM: &'static str = "V at the start, and the order of the training records";

    fn preset(preset: Preset) -> Config<Own> {
        super::preset(preset)
    }

    fn new(own: &Own, subject: &Subject, seed: u64) -> Self {
        Self::of(own, &subject.sites, seed, subject.model.device())
    }

    fn objective(own: &Own, _: &Lessons) -> Generalise {
        own.objective
    }

    fn start(&self) -> Values {
        let rate = || Tensor::full([1, 1], self.edit_lr as f32, &self.device);
        let rates = self
            .blocks
            .sites()
            .map(|site| (format!("{RATE}{site}"), rate()));
        self.blocks.start().into_iter().chain(rates).collect()
    }

    fn rate(&self, parameter: &str) -> f64 {
        match parameter.starts_with(RATE) {
            true => self.lr_lr,
            false => self.lr,
        }
    }

    fn condition(&self, _: &Subject, _: &[&Request]) -> Result<()> {
        Ok(())
    }

    fn observe(&mut self, gathered: &Gathered) {
        self.blocks.observe(gathered);
    }

    fn statistics(&self) -> Values {
        self.blocks.statistics()
    }

    fn restore(&mut self, statistics: &Values) {
        self.blocks.restore(statistics);
    }

    fn propose(&self, values: &Values, gathered: &Gathered, _: &()) -> Sides {
        let transformed = self.blocks.transform(values, gathered).into_iter();
        let sides = transformed.map(|(site, factors, [x, delta])| {
            let rate = values[&format!("{RATE}{site}")].clone();
            let sign = if self.descent { -1.0 } else { 1.0 };
            let step = delta * rate.mul_scalar(sign);
            (site, factors.sides(x, step))
        });
        sides.collect()
    }

    fn probe(&self, gathered: &Gathered) -> Option<(Sides, usize)> {
        let (plain, values) = self.unlearned();
        Some((plain.propose(&values, gathered, &()), 0))
    }
}
