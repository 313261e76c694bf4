//! `parameters` of one scope: known ones of the right kind, by name.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::fields::refuse;
use super::setting::Setting;
use crate::card::{Kind, MergerCard, ParameterScope};
use crate::error::Result;
use crate::mergers;

/// Settings by parameter.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Parameters(BTreeMap<String, Setting>);

impl Parameters {
    pub(crate) fn get(&self, name: &str) -> Option<&Setting> {
        self.0.get(name)
    }

    /// Reads a mapping. What another method knows is reported and ignored, as mergekit ignores it;
    /// what none knows is refused.
    pub(crate) fn parse(
        origin: &str,
        path: &str,
        map: Map<String, Value>,
        card: &MergerCard,
        of_model: bool,
        warnings: &mut Vec<String>,
    ) -> Result<Self> {
        let mut settings = BTreeMap::new();
        for (name, value) in map {
            let at = format!("{path}.{name}");
            let setting = Setting::parse(value).map_err(|problem| refuse(origin, &at, problem))?;
            let Some(parameter) = card.parameters.iter().find(|p| p.name == name) else {
                ignored(origin, &at, &name, card, warnings)?;
                continue;
            };
            setting
                .check(parameter.kind)
                .map_err(|problem| refuse(origin, &at, problem))?;
            if of_model && parameter.scope == ParameterScope::Shared {
                warnings.push(format!(
                    "`{at}` has no effect: {} takes one `{name}` for all models, in the top-level parameters",
                    card.id
                ));
            }
            settings.insert(name, setting);
        }
        Ok(Self(settings))
    }
}

/// Says that a parameter of other methods has no effect.
fn ignored(
    origin: &str,
    at: &str,
    name: &str,
    card: &MergerCard,
    warnings: &mut Vec<String>,
) -> Result<()> {
    let own = card.parameters.iter().map(|p| p.name);
    match elsewhere(name) {
        Some(_) => {
            warnings.push(format!(
                "`{at}` has no effect: {} has no such parameter",
                card.id
            ));
            Ok(())
        }
        None => {
            let hint = debias_core::nearest(name, own)
                .map(|nearest| format!(" — did you mean `{nearest}`?"));
            let problem = format!(
                "unknown parameter of {}{}",
                card.id,
                hint.unwrap_or_default()
            );
            Err(refuse(origin, at, problem))
        }
    }
}

/// The kind of a parameter of any method.
fn elsewhere(name: &str) -> Option<Kind> {
    let mut all = mergers::ALL.iter().flat_map(|m| m.card().parameters);
    all.find(|p| p.name == name).map(|p| p.kind)
}

/// Where a parameter belongs that stands where keys stand.
pub(crate) fn misplaced(key: &str, parent: &str) -> Option<String> {
    elsewhere(key).map(|_| format!("`{key}` belongs under `{parent}`"))
}
