//! Whether adapters can be merged factor by factor.

use super::{Adapter, refused};
use crate::error::Result;

impl Adapter {
    /// Checks that this adapter and `other` change the same modules, all of one shape and rank.
    ///
    /// # Errors
    /// The first module that differs, with both adapters.
    pub(crate) fn check_alike(&self, other: &Self) -> Result<()> {
        let mut names = self.modules.keys().chain(other.modules.keys());
        names.try_for_each(|name| self.check_module(other, name, true))
    }

    /// Checks that a module has one shape in this adapter and `other` if both change it; with
    /// `wholly` also that both do, by the same rank.
    ///
    /// # Errors
    /// How it differs, with both adapters.
    pub(crate) fn check_module(&self, other: &Self, name: &str, wholly: bool) -> Result<()> {
        let differ = |mine: &str, theirs: &str, mend: &str| {
            let problem = format!(
                "module `{name}` has {theirs} here and {mine} in `{}`; merge adapters of {mend}",
                self.label
            );
            Err(refused(&other.label, problem))
        };
        let rank = |rank: usize| format!("rank {rank}");
        match (self.modules.get(name), other.modules.get(name)) {
            (Some(mine), Some(theirs)) if !mine.lies_as(theirs) => {
                differ(&mine.sides(), &theirs.sides(), "one base")
            }
            (Some(mine), Some(theirs)) if wholly && mine.rank != theirs.rank => {
                differ(&rank(mine.rank), &rank(theirs.rank), "one rank")
            }
            (Some(_), None) if wholly => differ("factors", "none", "the same target_modules"),
            (None, Some(_)) if wholly => differ("none", "factors", "the same target_modules"),
            _ => Ok(()),
        }
    }
}
