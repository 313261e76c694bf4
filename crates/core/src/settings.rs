//! `--set SCOPE.KEY=VALUE`: settings as given, checked against what is known.
//!
//! Settings are merged in this order: code, preset, suite, command line.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::error::{Error, Result};
use crate::filter::{Admission, FilterContexts};
use crate::score::Norm;
use crate::template::{Template, Templates};

/// A named bundle of settings.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Preset {
    /// This project's defaults: comparable across editors.
    #[default]
    Project,
    /// The debias-editing paper: whole-set fine-tuning, reference locality.
    Paper,
    /// Every switch as in the reference code.
    RefEasyedit,
}

impl Preset {
    /// All presets, default first.
    pub const ALL: [Preset; 3] = [Preset::Project, Preset::Paper, Preset::RefEasyedit];

    /// The name used on the command line and in results.
    pub fn name(self) -> &'static str {
        match self {
            Preset::Project => "project",
            Preset::Paper => "paper",
            Preset::RefEasyedit => "ref_easyedit",
        }
    }
}

/// The scopes that belong to the harness, with their keys; every other scope is an editor.
const HARNESS: [(&str, &[&str]); 3] = [
    ("scorer", &["norm"]),
    ("filter", &["contexts"]),
    ("template", &["vqa", "ic", "text", "mloc", "tloc"]),
];

/// The settings that may be given: those of the harness and of the editors named by the caller.
#[derive(Clone, Debug)]
pub struct KnownSettings {
    scopes: BTreeMap<String, Vec<String>>,
}

impl KnownSettings {
    /// The harness' own settings and, for each editor, its keys.
    pub fn new<'a>(editors: impl IntoIterator<Item = (&'a str, Vec<&'a str>)>) -> Self {
        let harness = HARNESS.iter().map(|(scope, keys)| (*scope, keys.to_vec()));
        let scopes = editors
            .into_iter()
            .chain(harness)
            .map(|(scope, keys)| {
                (
                    scope.to_owned(),
                    keys.into_iter().map(str::to_owned).collect(),
                )
            })
            .collect();
        Self { scopes }
    }

    /// Checks that `scope.key` exists.
    ///
    /// # Errors
    /// [`Error::Unknown`] with the nearest setting.
    pub fn check(&self, scope: &str, key: &str) -> Result<()> {
        let holds = self
            .scopes
            .get(scope)
            .is_some_and(|keys| keys.iter().any(|known| known == key));
        if holds {
            return Ok(());
        }
        let all: Vec<String> = self
            .scopes
            .iter()
            .flat_map(|(scope, keys)| keys.iter().map(move |key| format!("{scope}.{key}")))
            .collect();
        let given = format!("{scope}.{key}");
        Err(Error::unknown(
            "setting",
            &given,
            all.iter().map(String::as_str),
        ))
    }
}

/// Settings that were given, by scope and key; the later one wins.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Overrides {
    scopes: BTreeMap<String, BTreeMap<String, Value>>,
}

impl Overrides {
    /// Adds `SCOPE.KEY=VALUE`.
    ///
    /// The value is read as JSON where it is JSON (`15`, `5e-4`, `true`, `[29,30]`) and as a string
    /// otherwise; templates are always strings.
    ///
    /// # Errors
    /// [`Error::Setting`] when the form is wrong, [`Error::Unknown`] when there is no such setting.
    pub fn assign(&mut self, assignment: &str, known: &KnownSettings) -> Result<()> {
        let malformed = || Error::Setting {
            key: assignment.to_owned(),
            problem: "expected SCOPE.KEY=VALUE, for example ft-l.steps=15".to_owned(),
        };
        let (name, value) = assignment.split_once('=').ok_or_else(malformed)?;
        let (scope, key) = name.trim().split_once('.').ok_or_else(malformed)?;
        let value = match scope {
            "template" => Value::from(value),
            _ => read(value),
        };
        self.insert(scope, key, value, known)
    }

    /// Adds one setting.
    ///
    /// # Errors
    /// [`Error::Unknown`] when there is no such setting.
    pub fn insert(
        &mut self,
        scope: &str,
        key: &str,
        value: Value,
        known: &KnownSettings,
    ) -> Result<()> {
        known.check(scope, key)?;
        self.scopes
            .entry(scope.to_owned())
            .or_default()
            .insert(key.to_owned(), value);
        Ok(())
    }

    /// Lets every setting of `later` win over its own.
    ///
    /// # Errors
    /// As [`Overrides::insert`].
    pub fn extend(&mut self, later: &Overrides, known: &KnownSettings) -> Result<()> {
        for (scope, keys) in &later.scopes {
            for (key, value) in keys {
                self.insert(scope, key, value.clone(), known)?;
            }
        }
        Ok(())
    }

    /// The settings given for one scope.
    pub fn scope(&self, scope: &str) -> BTreeMap<String, Value> {
        self.scopes.get(scope).cloned().unwrap_or_default()
    }

    /// Names of the settings without a value.
    pub(crate) fn nulls(&self) -> impl Iterator<Item = String> {
        self.scopes.iter().flat_map(|(scope, keys)| {
            keys.iter()
                .filter(|(_, value)| value.is_null())
                .map(move |(key, _)| format!("{scope}.{key}"))
        })
    }

    /// Every setting as `SCOPE.KEY=VALUE`, which [`Overrides::assign`] reads back.
    pub fn assignments(&self) -> Vec<String> {
        let print = |scope: &str, value: &Value| match value {
            Value::String(text) if scope == "template" || read(text) == *value => text.clone(),
            other => other.to_string(),
        };
        self.scopes
            .iter()
            .flat_map(|(scope, keys)| {
                keys.iter()
                    .map(move |(key, value)| format!("{scope}.{key}={}", print(scope, value)))
            })
            .collect()
    }
}

fn read(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|_| Value::from(text))
}

/// How records are admitted and scored: the harness' own settings, merged.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Protocol {
    /// Normalisation of the headline columns and of the filter.
    pub norm: Norm,
    /// Contexts in which an admitted record must show the bias.
    pub contexts: FilterContexts,
    /// Text around prompts.
    pub templates: Templates,
}

impl Protocol {
    /// The protocol of a preset.
    pub fn of(preset: Preset) -> Self {
        match preset {
            Preset::Project | Preset::Paper => Self::default(),
            // The reference trainer puts the template around the locality question only.
            Preset::RefEasyedit => Self {
                templates: Templates {
                    vqa: Template::bare(),
                    ..Templates::default()
                },
                ..Self::default()
            },
        }
    }

    /// The protocol with the given settings.
    ///
    /// # Errors
    /// [`Error::Setting`] naming the key whose value cannot be used.
    pub fn with(mut self, given: &Overrides) -> Result<Self> {
        let refuse = |key: &str, value: &Value, expected: &str| Error::Setting {
            key: key.to_owned(),
            problem: format!("{value} is not {expected}"),
        };
        if let Some(value) = given.scope("scorer").get("norm") {
            self.norm = Norm::deserialize(value)
                .map_err(|_| refuse("scorer.norm", value, "one of mean, sum"))?;
        }
        if let Some(value) = given.scope("filter").get("contexts") {
            self.contexts = FilterContexts::deserialize(value)
                .map_err(|_| refuse("filter.contexts", value, "one of 0, 1, 3"))?;
        }
        for (key, value) in given.scope("template") {
            let name = format!("template.{key}");
            let text = value
                .as_str()
                .ok_or_else(|| refuse(&name, &value, "a text"))?;
            let template = Template::parse(&name, text)?;
            match key.as_str() {
                "vqa" => self.templates.vqa = template,
                "ic" => self.templates.ic = template,
                "text" => self.templates.text = template,
                "mloc" => self.templates.mloc = template,
                _ => self.templates.tloc = template,
            }
        }
        Ok(self)
    }

    /// The admission rule of this protocol.
    pub fn admission(&self) -> Admission {
        Admission {
            contexts: self.contexts,
            norm: self.norm,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    fn known() -> KnownSettings {
        KnownSettings::new([("ft-l", vec!["lr", "steps", "scope"]), ("ike", vec!["k"])])
    }

    fn given(assignments: &[&str]) -> Result<Overrides> {
        let mut given = Overrides::default();
        for assignment in assignments {
            given.assign(assignment, &known())?;
        }
        Ok(given)
    }

    fn refusal(assignment: &str) -> String {
        given(&[assignment])
            .and_then(|given| Protocol::default().with(&given))
            .expect_err(assignment)
            .to_string()
    }

    #[test]
    fn values_are_json_where_they_are_json() {
        let given = given(&[
            "ft-l.lr=5e-4",
            "ft-l.steps=15",
            "ft-l.steps=25",
            "ft-l.scope=layer",
        ])
        .expect("known settings");
        let scope = given.scope("ft-l");
        assert_eq!(scope["lr"], json!(5e-4));
        assert_eq!(scope["steps"], json!(25), "the later one wins");
        assert_eq!(scope["scope"], json!("layer"));
        assert!(given.scope("ike").is_empty());
    }

    #[test]
    fn unknown_settings_are_refused_with_a_suggestion() {
        assert_eq!(
            refusal("ft-l.stps=3"),
            "unknown setting `ft-l.stps` — did you mean `ft-l.steps`?"
        );
        assert_eq!(
            refusal("scorer.nrm=sum"),
            "unknown setting `scorer.nrm` — did you mean `scorer.norm`?"
        );
        assert!(refusal("steps=3").contains("expected SCOPE.KEY=VALUE"));
        assert!(refusal("ft-l.steps").contains("expected SCOPE.KEY=VALUE"));
    }

    #[test]
    fn values_of_the_harness_are_checked() {
        assert_eq!(
            refusal("scorer.norm=max"),
            "setting `scorer.norm`: \"max\" is not one of mean, sum"
        );
        assert!(refusal("filter.contexts=2").ends_with("2 is not one of 0, 1, 3"));
        assert!(refusal("template.vqa=Question:").contains("must hold {} exactly once"));
    }

    #[test]
    fn the_protocol_takes_what_is_given() {
        let given = given(&[
            "scorer.norm=sum",
            "filter.contexts=0",
            "template.vqa={}",
            "template.mloc=\"{}\"",
        ])
        .expect("known settings");
        let protocol = Protocol::default().with(&given).expect("good values");
        assert_eq!(protocol.norm, Norm::Sum);
        assert_eq!(protocol.contexts, FilterContexts::None);
        assert_eq!(protocol.templates.vqa, Template::bare());
        assert_eq!(
            protocol.templates.mloc.as_str(),
            "\"{}\"",
            "templates are taken literally"
        );
    }

    #[test]
    fn the_reference_leaves_edited_questions_bare() {
        let reference = Protocol::of(Preset::RefEasyedit);
        assert_eq!(reference.templates.vqa, Template::bare());
        assert_eq!(reference.templates.mloc, Template::short_answer());
        assert_eq!(Protocol::of(Preset::Project), Protocol::default());
    }

    fn value() -> impl Strategy<Value = Value> {
        prop_oneof![
            any::<i64>().prop_map(Value::from),
            any::<bool>().prop_map(Value::from),
            (-1e3_f64..1e3).prop_map(Value::from),
            "[ -~]{0,12}".prop_map(Value::from),
        ]
    }

    proptest! {
        #[test]
        fn printed_settings_read_back(lr in value(), k in value(), template in "[ -~]{0,12}") {
            let mut given = Overrides::default();
            given.insert("ft-l", "lr", lr, &known()).expect("known");
            given.insert("ike", "k", k, &known()).expect("known");
            given.insert("template", "ic", Value::from(template), &known()).expect("known");
            let mut read = Overrides::default();
            for assignment in given.assignments() {
                read.assign(&assignment, &known()).expect("printed by ourselves");
            }
            prop_assert_eq!(read, given);
        }
    }
}
