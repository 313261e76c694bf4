//! What the cells of one model, part and seed have in common.

use std::sync::OnceLock;

use debias_core::{FilterCounts, ItemLine, Record, Templates};
use debias_model::{Model, Workers};

use crate::planner::{Planned, PlannedData, PlannedModel};
use crate::terminal::interrupt::Interrupt;
use crate::terminal::progress::Progress;

/// What all cells of a group share.
pub(super) struct CellGroup<'a> {
    pub(super) planned: &'a Planned,
    pub(super) data: &'a PlannedData,
    pub(super) model: &'a Model,
    pub(super) of_model: &'a PlannedModel,
    /// Threads of work that needs no device.
    pub(super) threads: usize,
    /// Who computes with the model.
    pub(super) workers: Workers,
    /// Bytes that the chunks of admitted records keep on the device.
    pub(super) kept: u64,
    pub(super) interrupt: &'a Interrupt,
    pub(super) progress: &'a Progress,
    pub(super) templates: &'a Templates,
    /// Whether stored answers are asked for again.
    pub(super) fresh: bool,
    pub(super) filter: FilterCounts,
    /// Records that the model cannot read: listed in every cell, never averaged.
    pub(super) refused: Vec<ItemLine>,
    /// Training and validation records, once an editor asked for them.
    pub(super) admitted: OnceLock<Admitted>,
}

/// What all editors of a group learn from: records that the filter admits, oriented.
#[derive(Clone, Debug, Default)]
pub(super) struct Admitted {
    pub(super) train: Vec<Record>,
    pub(super) val: Vec<Record>,
}
