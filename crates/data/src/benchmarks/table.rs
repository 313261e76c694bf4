//! Comma-separated tables with a line of names.

use std::collections::HashMap;

use super::rows::{Flaw, Flaws};
use super::source::Text;
use crate::{Error, Result};

/// One line of a table.
pub(crate) struct Record<'t> {
    places: &'t HashMap<String, usize>,
    fields: &'t csv::StringRecord,
}

impl Record<'_> {
    /// The field of a column, trimmed; empty where the table has no such column.
    pub fn get(&self, name: &str) -> &str {
        let place = self.places.get(name);
        place
            .and_then(|place| self.fields.get(*place))
            .unwrap_or_default()
            .trim()
    }

    /// Whether the table has the column.
    pub fn has(&self, name: &str) -> bool {
        self.places.contains_key(name)
    }
}

/// Reads every line of a table that has the columns `needed`.
///
/// # Errors
/// A column that is missing; [`Error::Rows`].
pub(crate) fn records_of<T>(
    text: &Text,
    needed: &[&str],
    mut read: impl FnMut(&Record) -> std::result::Result<T, Flaw>,
) -> Result<Vec<T>> {
    let mut flaws = Flaws::new(&text.path);
    let mut table = csv::Reader::from_reader(text.text.as_bytes());
    let headers = table
        .headers()
        .map_err(|error| Error::format(&text.path, error.to_string()))?;
    let names = headers.iter().map(|name| name.trim().to_owned());
    let places: HashMap<String, usize> = names.zip(0..).collect();
    for name in needed.iter().filter(|name| !places.contains_key(**name)) {
        flaws.add(1, Flaw::new(format!("the column `{name}` is missing")));
    }
    let mut rows = Vec::new();
    if flaws.is_empty() {
        for record in table.records() {
            let position = match &record {
                Ok(record) => record.position(),
                Err(error) => error.position(),
            };
            let line = position.map_or(0, |at| at.line() as usize);
            let row = match &record {
                Ok(fields) => read(&Record {
                    places: &places,
                    fields,
                }),
                Err(_) => Err(Flaw::new("must have as many fields as the first line")),
            };
            rows.extend(flaws.sift(line, row));
        }
    }
    flaws.finish()?;
    Ok(rows)
}
