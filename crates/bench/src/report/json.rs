//! The report as one JSON object.

use super::{Exporter, Report};

/// The object of the command-line contract, and nothing else.
#[derive(Clone, Copy, Debug)]
pub struct Json;

impl Exporter for Json {
    fn export(&self, report: &Report) -> String {
        serde_json::to_string_pretty(&report.run)
            .expect("the object holds strings, finite numbers and string-keyed maps")
    }
}
