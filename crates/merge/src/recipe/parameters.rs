//! `parameters` of one scope: known ones of the right kind, by name.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::fields::Reading;
use super::setting::Setting;
use crate::card::{MergerCard, ParameterScope};
use crate::error::Result;
use crate::mergers;

/// Settings by parameter.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Parameters(BTreeMap<String, Setting>);

impl Parameters {
    pub(crate) fn get(&self, name: &str) -> Option<&Setting> {
        self.0.get(name)
    }

    /// Reads a mapping. What the method does not know is reported and ignored, as mergekit ignores
    /// it.
    pub(crate) fn parse(
        reading: &Reading,
        path: &str,
        map: Map<String, Value>,
        card: &MergerCard,
        of_model: bool,
    ) -> Result<Self> {
        let mut settings = BTreeMap::new();
        for (name, value) in map {
            let at = format!("{path}.{name}");
            let Some(parameter) = card.parameters.iter().find(|p| p.name == name) else {
                reading.warn(unknown(&at, &name, card));
                continue;
            };
            let mut besides = Vec::new();
            let setting = Setting::parse(value, &mut besides)
                .map_err(|problem| reading.refuse(&at, problem))?;
            for key in besides {
                reading.warn(format!(
                    "`{at}`: `{key}` beside `filter` and `value` has no effect"
                ));
            }
            setting
                .check(parameter.kind)
                .map_err(|problem| reading.refuse(&at, problem))?;
            if of_model && parameter.scope == ParameterScope::Shared {
                reading.warn(format!(
                    "`{at}` has no effect: {} takes one `{name}` for all models, in the top-level parameters",
                    card.id
                ));
            }
            settings.insert(name, setting);
        }
        Ok(Self(settings))
    }
}

/// Says that a parameter has no effect.
fn unknown(at: &str, name: &str, card: &MergerCard) -> String {
    let own = card.parameters.iter().map(|p| p.name);
    let method = card.id;
    match debias_core::nearest(name, own).filter(|_| !is_parameter(name)) {
        Some(nearest) => format!(
            "`{at}` has no effect: {method} has no such parameter; did you mean `{nearest}`?"
        ),
        None => format!("`{at}` has no effect: {method} has no such parameter"),
    }
}

/// Whether any method has a parameter of that name.
fn is_parameter(name: &str) -> bool {
    let mut all = mergers::ALL.iter().flat_map(|m| m.card().parameters);
    all.any(|p| p.name == name)
}

/// Where a parameter belongs that stands where keys stand.
pub(crate) fn misplaced(key: &str, parent: &str) -> Option<String> {
    is_parameter(key).then(|| format!("`{key}` belongs under `{parent}`"))
}
