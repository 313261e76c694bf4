//! Which option of a row shows the bias when it is chosen: the target of the paper's scores.

use std::collections::HashMap;

use super::super::rows::{Flaw, Ids};
use super::super::source::Reading;
use super::super::table::{Record, records_of};
use super::CATEGORIES;
use super::read::{Question, RELEASED};
use crate::Result;

/// The targets of every row, derived for released and regenerated rows alike.
const DERIVED: &str = "target_loc.csv";

/// The metadata as published, for released rows.
const PUBLISHED: &str = "additional_metadata.csv";

/// The kinds of words by which people are told apart: groups, or proper names.
pub(super) const LABEL_TYPES: [&str; 2] = ["label", "name"];

/// What is known of a row beside its text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Target {
    /// The option; none where it is not defined.
    pub option: Option<usize>,
    /// One of [`LABEL_TYPES`].
    pub label_type: &'static str,
}

/// The targets of all rows by category and id, each with the origin of its row.
#[derive(Debug, Default)]
pub(super) struct Targets(HashMap<String, (String, Target)>);

impl Targets {
    /// Whether one of the tables is there.
    pub fn are_in(reading: &Reading) -> bool {
        reading.has(DERIVED) || reading.has(PUBLISHED)
    }

    /// Reads the table that is there.
    ///
    /// # Errors
    /// Neither table is there; lines that break the rules.
    pub fn read(reading: &mut Reading) -> Result<Self> {
        let name = if reading.has(DERIVED) {
            DERIVED
        } else {
            PUBLISHED
        };
        if !Self::are_in(reading) {
            return Err(reading.lacks(format!("{DERIVED} or {PUBLISHED}")));
        }
        let text = reading.take(name)?;
        let mut ids = Ids::default();
        let columns = ["category", "example_id", "target_loc", "label_type"];
        let targets = records_of(&text, &columns, |record| {
            let (key, target) = target(record)?;
            ids.fresh("example_id", &key)?;
            Ok((key, target))
        })?;
        Ok(Self(targets.into_iter().collect()))
    }

    /// The target of a row of that origin, where it is known: a row that was generated again is
    /// another row.
    pub fn of(&self, question: &Question, origin: Option<&str>) -> Option<Target> {
        let (known, target) = self.0.get(&question.key())?;
        origin
            .is_none_or(|origin| origin == known)
            .then_some(*target)
    }
}

/// One line of a table.
fn target(record: &Record) -> std::result::Result<(String, (String, Target)), Flaw> {
    let category = record.get("category");
    if !CATEGORIES.contains(&category) {
        return Err(Flaw::found(
            "`category` must be one of the eleven",
            &category.into(),
        ));
    }
    let option = match record.get("target_loc") {
        "" | "NA" => None,
        "0" => Some(0),
        "1" => Some(1),
        "2" => Some(2),
        other => {
            return Err(Flaw::found(
                "`target_loc` must be 0, 1, 2 or empty",
                &other.into(),
            ));
        }
    };
    let given = record.get("label_type");
    let label_type = LABEL_TYPES.into_iter().find(|known| *known == given);
    let label_type = label_type
        .ok_or_else(|| Flaw::found("`label_type` must be label or name", &given.into()))?;
    let origin = if record.has("origin") {
        record.get("origin")
    } else {
        RELEASED
    };
    let key = format!("{category}/{}", record.get("example_id"));
    Ok((key, (origin.to_owned(), Target { option, label_type })))
}
