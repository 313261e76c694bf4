//! The card of a dataset: what it is, whose it is, and what it must not be used for.

use debias_core::Task;
use serde::Deserialize;

/// One file `datasets/<name>.toml`, embedded in the program.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Card {
    /// The permanent name, kebab-case.
    pub name: String,
    /// One line for the catalogue.
    pub title: String,
    /// Upstream revision, or the version of the generator.
    pub version: String,
    /// Licence, in words.
    pub licence: String,
    /// How to cite it.
    pub citation: String,
    /// Where it comes from: an address, or the module that generates it.
    pub source: String,
    /// How many records and pictures there are.
    pub size: String,
    /// How the splits are made.
    pub splits: String,
    /// Whom the pictures and texts concern, and what a result does not show.
    pub ethics: String,
    /// The tasks it has records for.
    pub tasks: Vec<Task>,
    /// How the user gets it.
    pub obtained: String,
    /// What stands in for the published locality data, if anything does.
    pub locality: String,
}

impl Card {
    /// Reads a card.
    ///
    /// # Errors
    /// The parser's words, with the line, when a field is missing, unknown or of the wrong type.
    pub fn parse(text: &str) -> std::result::Result<Self, toml::de::Error> {
        toml::from_str(text)
    }
}
