//! Parameters of one tensor, looked up from the narrowest scope to the widest.

use crate::card::{Fallback, MergerCard, Parameter, ParameterScope, Value, Values};
use crate::error::{Error, Result};
use crate::recipe::{Parameters, Part, Recipe, Slice};

/// The scopes of one tensor.
#[derive(Clone, Copy)]
pub(crate) struct Scopes<'a> {
    pub recipe: &'a Recipe,
    pub part: &'a Part,
    pub slice: &'a Slice,
    /// Depth in the stack: 0 the first layer, 1 the last; 0 outside stacks.
    pub t: f64,
}

impl Scopes<'_> {
    fn card(&self) -> &MergerCard {
        self.recipe.merger.card()
    }

    /// Shared parameters of the output tensor `name`.
    pub(crate) fn shared(&self, name: &str) -> Result<Values> {
        self.values(name, None, |scope| scope == ParameterScope::Shared)
    }

    /// Parameters of one input, whose tensor is `name`; `source` is `None` for a base that the slice
    /// does not list.
    pub(crate) fn input(&self, name: &str, source: Option<usize>, is_base: bool) -> Result<Values> {
        self.values(name, Some(source), |scope| match scope {
            ParameterScope::Shared => false,
            ParameterScope::Input => true,
            ParameterScope::Other => !is_base,
        })
    }

    fn values(
        &self,
        name: &str,
        source: Option<Option<usize>>,
        wanted: impl Fn(ParameterScope) -> bool,
    ) -> Result<Values> {
        let mut values = Values::default();
        let own = source
            .flatten()
            .map(|at| &self.slice.sources[at].parameters);
        for parameter in self.card().parameters.iter().filter(|p| wanted(p.scope)) {
            let value = match self.given(parameter, own, name)? {
                Some(value) => Some(value),
                None => self.fallback(parameter, source, name)?,
            };
            if let Some(value) = value {
                values.insert(parameter.name, value);
            }
        }
        Ok(values)
    }

    fn given(
        &self,
        parameter: &Parameter,
        own: Option<&Parameters>,
        name: &str,
    ) -> Result<Option<Value>> {
        let scopes = [
            own,
            Some(&self.slice.parameters),
            Some(&self.part.parameters),
            Some(&self.recipe.parameters),
        ];
        for setting in scopes
            .into_iter()
            .flatten()
            .filter_map(|s| s.get(parameter.name))
        {
            let value = setting
                .value(name, self.t, parameter.kind)
                .map_err(|problem| Error::Range {
                    tensor: name.to_owned(),
                    parameter: parameter.name,
                    problem,
                })?;
            if value.is_some() {
                return Ok(value);
            }
        }
        Ok(None)
    }

    fn fallback(
        &self,
        parameter: &Parameter,
        source: Option<Option<usize>>,
        name: &str,
    ) -> Result<Option<Value>> {
        Ok(match parameter.default {
            Fallback::Absent => None,
            Fallback::Number(number) => Some(Value::Number(number)),
            Fallback::Flag(flag) => Some(Value::Flag(flag)),
            Fallback::Word(word) => Some(Value::Word(word)),
            Fallback::Required => return Err(self.missing(parameter, source, name)),
        })
    }

    fn missing(&self, parameter: &Parameter, source: Option<Option<usize>>, name: &str) -> Error {
        let (method, key) = (self.card().id, parameter.name);
        let base = self.recipe.base.as_ref();
        let problem = match source {
            None => {
                let under_model = |s: &crate::recipe::Source| s.parameters.get(key).is_some();
                if self.slice.sources.iter().any(under_model) {
                    format!(
                        "{method} takes one `{key}` for all models: move it to the top-level parameters"
                    )
                } else {
                    format!("{method} needs it: give `{key}` in the top-level parameters")
                }
            }
            Some(Some(at)) => {
                let model = &self.slice.sources[at].model;
                format!(
                    "missing for model `{model}`: give `{key}` under its parameters, or once in the top-level parameters"
                )
            }
            Some(None) => {
                let model = base.map(ToString::to_string).unwrap_or_default();
                format!(
                    "missing for the base_model `{model}`, which {method} counts as an input: list it under models with a `{key}`, or leave base_model out"
                )
            }
        };
        Error::Range {
            tensor: name.to_owned(),
            parameter: parameter.name,
            problem,
        }
    }
}
