//! What an editor says about itself: the manual is generated from these.

use serde::Serialize;

/// An editor's card, printed by `bench show NAME`.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Card {
    /// Permanent kebab-case name.
    pub id: &'static str,
    /// Raised whenever results change.
    pub version: u32,
    /// One line for the catalogue.
    pub title: &'static str,
    /// The idea, in a few sentences.
    pub summary: &'static str,
    /// Where it was published.
    pub paper: &'static str,
    /// The update it makes.
    pub equation: &'static str,
    /// What it changes: nothing, weights, input or output.
    pub touches: &'static str,
    /// What an edit costs.
    pub cost: &'static str,
    /// Where it is known to fail.
    pub failures: &'static [&'static str],
    /// Settings with their meaning; defaults come from [`crate::Editor::defaults`].
    pub settings: &'static [(&'static str, &'static str)],
}
