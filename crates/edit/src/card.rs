//! What an editor says about itself: the manual is generated from these.

use std::fmt;

use serde::{Serialize, Serializer};

use crate::edit::Touches;

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
    /// What its edits act on.
    pub touches: Footprint,
    /// What an edit costs.
    pub cost: &'static str,
    /// Where it is known to fail.
    pub failures: &'static [&'static str],
    /// Settings with their meaning; defaults come from [`crate::Editor::defaults`].
    pub settings: &'static [Setting],
}

/// What an editor's edits act on, printed as `weights: the head`.
#[derive(Clone, Copy, Debug)]
pub struct Footprint {
    /// The kinds; several where an edit shows which.
    pub kinds: &'static [Touches],
    /// Which part of them, in words; may be empty.
    pub part: &'static str,
}

impl Footprint {
    /// `part` of `kinds`.
    pub const fn of(kinds: &'static [Touches], part: &'static str) -> Self {
        Self { kinds, part }
    }

    /// The kinds in words.
    pub fn kinds(&self) -> String {
        let words: Vec<&str> = self.kinds.iter().map(|kind| kind.word()).collect();
        words.join(", or ")
    }
}

impl fmt::Display for Footprint {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(&self.kinds())?;
        if !self.part.is_empty() {
            write!(f, ": {}", self.part)?;
        }
        Ok(())
    }
}

impl Serialize for Footprint {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// The name of a setting, and what it means.
pub type Setting = (&'static str, &'static str);

/// How many settings `parts` hold together.
pub(crate) const fn count(parts: &[&[Setting]]) -> usize {
    let (mut part, mut total) = (0, 0);
    while part < parts.len() {
        total += parts[part].len();
        part += 1;
    }
    total
}

/// The settings of all `parts`, one part behind the other; `N` is their [`count`].
pub(crate) const fn concatenated<const N: usize>(parts: &[&[Setting]]) -> [Setting; N] {
    let mut all = [("", ""); N];
    let (mut part, mut next) = (0, 0);
    while part < parts.len() {
        let mut at = 0;
        while at < parts[part].len() {
            all[next] = parts[part][at];
            next += 1;
            at += 1;
        }
        part += 1;
    }
    all
}

/// The settings of a card whose configuration is made of parts: each part keeps its own list beside
/// its fields.
macro_rules! settings {
    ($($part:expr),+ $(,)?) => {{
        const PARTS: &[&[$crate::card::Setting]] = &[$($part),+];
        const ALL: [$crate::card::Setting; $crate::card::count(PARTS)] =
            $crate::card::concatenated(PARTS);
        &ALL
    }};
}
pub(crate) use settings;
