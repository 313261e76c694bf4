//! Merges of checkpoints: mergekit's recipes and methods, and the merges that debias.
//!
//! A [`Recipe`] is read, [`Planned`] against the headers of its inputs, and written: tensors stream
//! from the maps of the inputs through a [`Merger`] to their final place, in memory that does not
//! grow with the model. No tensor library is named here.

mod adapter;
mod card;
mod combine;
mod error;
mod library;
mod masks;
mod merger;
pub mod mergers;
mod plan;
mod random;
mod recipe;
mod run;
mod spelling;
mod stream;
mod target;
mod task_vectors;
mod vocabulary;

#[cfg(test)]
mod tests;

pub use adapter::{Adapter, Factors, Layout};
pub use card::{
    Base, Contract, Fallback, Kind, MergerCard, Parameter, ParameterScope, Value, Values,
};
pub use error::{Error, Result};
pub use library::{Folders, Library, Location};
pub use masks::Masks;
pub use merger::{AdapterMerger, AdapterModule, Facts, Merger};
pub use plan::{Options, Planned, Size};
pub use recipe::{ModelRef, Parameters, Part, Recipe, Setting, Slice, Source};
pub use run::{Outcome, Unwatched, Watch};
pub use stream::{Input, LowRank, Stored};
pub use target::{Run, Sink, Target};
pub use vocabulary::{TokenRowSource, TokenRule, TokenSource, TokenizerSetting};
