//! Whom the engine asks, and how.

use super::source::Pictures;
use crate::change::View;
use crate::error::Result;
use crate::model::Model;

/// What the engine makes of each item, in their order. The outer error is one that ends all: a lost
/// device, or no room for a single item.
pub type Each<T> = Result<Vec<Result<T>>>;

/// How much is computed at a time, where somebody asks for a number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Batching {
    /// Tokens of a batch, padding included.
    pub tokens: Option<usize>,
    /// Pictures whose features are held at once.
    pub pictures: Option<usize>,
    /// Whether every row is read from its beginning, as the judge of edits reads it, to the bit; else
    /// what rows have in common is read once.
    pub apart: bool,
}

/// Who is told how the work goes. The engine prints nothing.
pub trait Watch: Sync {
    /// The device is out of memory: so many `what` are tried at a time.
    fn halved(&self, what: &'static str, n: usize);

    /// A group of items that share their pictures is done.
    fn done(&self, _items: usize, _pictures: usize, _seconds: f64) {}
}

/// A model, what it is looked at through, and how it is asked.
pub struct Engine<'a> {
    /// The model.
    pub model: &'a Model,
    /// What it is seen through.
    pub view: View,
    /// Where pictures come from.
    pub pictures: &'a dyn Pictures,
    /// How much is computed at a time.
    pub batching: Batching,
    /// Who is told how it goes.
    pub watch: &'a dyn Watch,
}
