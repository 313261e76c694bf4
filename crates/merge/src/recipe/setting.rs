//! Values of parameters as recipes write them: scalars, gradients over layers, and filters by name.

use serde_json::Value as Yaml;

use crate::card::{Kind, Value};

/// A parameter's setting in one scope of a recipe.
#[derive(Clone, Debug, PartialEq)]
pub enum Setting {
    /// One value.
    Scalar(Yaml),
    /// Values along the layers, interpolated linearly.
    Gradient(Vec<Yaml>),
    /// The first whose filter is in the tensor's name; no filter, or `*`, is in every name.
    Filtered(Vec<(Option<String>, Setting)>),
}

impl Setting {
    /// Reads a setting; the error says what is wrong, after the path of the part. Keys that mean
    /// nothing go into `besides`.
    pub(crate) fn parse(value: Yaml, besides: &mut Vec<String>) -> Result<Self, String> {
        match value {
            Yaml::Bool(_) | Yaml::Number(_) | Yaml::String(_) => Ok(Self::Scalar(value)),
            Yaml::Object(_) => Ok(Self::Filtered(vec![condition(value, besides)?])),
            Yaml::Array(list) if list.iter().all(scalar) => Ok(Self::Gradient(list)),
            Yaml::Array(list) => {
                let list = list.into_iter();
                let conditions: Result<Vec<_>, _> =
                    list.map(|value| condition(value, besides)).collect();
                conditions.map(Self::Filtered)
            }
            Yaml::Null => Err("has no value".to_owned()),
        }
    }

    /// The value for the tensor `name` at depth `t` (0 the first layer, 1 the last); `None` where no
    /// filter matches.
    pub(crate) fn value(&self, name: &str, t: f64, kind: Kind) -> Result<Option<Value>, String> {
        match self {
            Self::Scalar(value) => typed(value, kind).map(Some),
            Self::Gradient(values) => gradient(values, t, kind),
            Self::Filtered(conditions) => {
                let hit = conditions.iter().find(|(filter, _)| {
                    filter
                        .as_deref()
                        .is_none_or(|filter| filter == "*" || name.contains(filter))
                });
                match hit {
                    Some((_, setting)) => setting.value(name, t, kind),
                    None => Ok(None),
                }
            }
        }
    }

    /// Refuses values of the wrong kind wherever they stand.
    pub(crate) fn check(&self, kind: Kind) -> Result<(), String> {
        match self {
            Self::Scalar(value) => typed(value, kind).map(drop),
            Self::Gradient(values) => values.iter().try_for_each(|v| typed(v, kind).map(drop)),
            Self::Filtered(conditions) => conditions.iter().try_for_each(|(_, s)| s.check(kind)),
        }
    }
}

fn scalar(value: &Yaml) -> bool {
    matches!(value, Yaml::Bool(_) | Yaml::Number(_) | Yaml::String(_))
}

/// `{filter, value}`.
fn condition(value: Yaml, besides: &mut Vec<String>) -> Result<(Option<String>, Setting), String> {
    let Yaml::Object(mut map) = value else {
        return Err(
            "a list holds either plain values or mappings with `filter` and `value`".to_owned(),
        );
    };
    let filter = match map.remove("filter") {
        None | Some(Yaml::Null) => None,
        Some(Yaml::String(filter)) => Some(filter),
        Some(other) => Some(other.to_string()),
    };
    let Some(value) = map.remove("value") else {
        return Err("a mapping with `filter` lacks its `value`".to_owned());
    };
    besides.extend(map.into_iter().map(|(key, _)| key));
    match Setting::parse(value, besides)? {
        Setting::Filtered(_) => {
            Err("a filter's value is a number or a gradient, no other filter".to_owned())
        }
        setting => Ok((filter, setting)),
    }
}

/// A scalar as a value of its kind; mergekit's own conversions are accepted.
fn typed(value: &Yaml, kind: Kind) -> Result<Value, String> {
    match kind {
        Kind::Number => number(value).map(Value::Number),
        Kind::Ratio => {
            let share = number(value)?;
            match share > 0.0 && share <= 1.0 {
                true => Ok(Value::Number(share)),
                false => Err(format!("{share} is outside (0, 1]")),
            }
        }
        Kind::Whole => {
            let whole = number(value)?;
            match whole >= 0.0 && whole.fract() == 0.0 && whole <= 1e9 {
                true => Ok(Value::Number(whole)),
                false => Err(format!("{whole} is no whole number of at least 0")),
            }
        }
        Kind::Flag => flag(value).map(Value::Flag),
        Kind::Word(words) => {
            let found = value.as_str().unwrap_or_default();
            let word = words.iter().find(|word| **word == found);
            let refused = || format!("{value} is not one of {}", words.join(", "));
            word.map(|word| Value::Word(word)).ok_or_else(refused)
        }
    }
}

fn number(value: &Yaml) -> Result<f64, String> {
    let number = match value {
        Yaml::Number(number) => number.as_f64(),
        Yaml::Bool(flag) => Some(f64::from(*flag)),
        // YAML 1.1 reads `1e-5` as a text.
        Yaml::String(text) => text.trim().parse().ok(),
        _ => None,
    };
    number
        .filter(|number| number.is_finite())
        .ok_or_else(|| format!("{value} is no number"))
}

fn flag(value: &Yaml) -> Result<bool, String> {
    let word = match value {
        Yaml::Bool(flag) => return Ok(*flag),
        Yaml::Number(number) => number.to_string(),
        Yaml::String(text) => text.to_lowercase(),
        _ => String::new(),
    };
    match word.as_str() {
        "true" | "yes" | "on" | "1" | "1.0" | "y" | "t" => Ok(true),
        "false" | "no" | "off" | "0" | "0.0" | "n" | "f" => Ok(false),
        _ => Err(format!("{value} is neither true nor false")),
    }
}

/// Piecewise linear between numbers; flags and words are picked.
fn gradient(values: &[Yaml], t: f64, kind: Kind) -> Result<Option<Value>, String> {
    let Some(last) = values.len().checked_sub(1) else {
        return Ok(None);
    };
    let scaled = t.clamp(0.0, 1.0) * last as f64;
    let at = scaled as usize;
    if matches!(kind, Kind::Flag | Kind::Word(_)) {
        return typed(&values[at], kind).map(Some);
    }
    let share = scaled - at as f64;
    let ends = [at, (at + 1).min(last)].map(|i| number(&values[i]));
    let [first, second] = ends;
    let value = (1.0 - share) * first? + share * second?;
    let whole = serde_json::Number::from_f64(value).ok_or("a gradient that overflows")?;
    typed(&Yaml::Number(whole), kind).map(Some)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn at(setting: Yaml, name: &str, t: f64) -> Option<Value> {
        let setting = Setting::parse(setting, &mut Vec::new()).expect("a setting");
        setting.value(name, t, Kind::Number).expect("a value")
    }

    #[test]
    fn gradients_interpolate_and_filters_fall_through() {
        let number = |x| Some(Value::Number(x));
        assert_eq!(at(json!([0, 0.5, 1]), "a", 0.25), number(0.25));
        assert_eq!(at(json!([0, 1]), "a", 1.0), number(1.0));
        assert_eq!(at(json!([3]), "a", 0.7), number(3.0));
        assert_eq!(at(json!([]), "a", 0.7), None);
        let filtered =
            json!([{"filter": "mlp", "value": [0, 2]}, {"filter": "attn", "value": "1e-5"}]);
        assert_eq!(at(filtered.clone(), "layers.1.mlp.up", 0.5), number(1.0));
        assert_eq!(at(filtered.clone(), "layers.1.attn.q", 0.5), number(1e-5));
        assert_eq!(at(filtered, "norm", 0.5), None);
        assert_eq!(at(json!({"value": 2}), "norm", 0.5), number(2.0));
        assert_eq!(
            at(json!([{"filter": "*", "value": 4}]), "norm", 0.5),
            number(4.0)
        );
    }

    #[test]
    fn kinds_take_what_mergekit_takes() {
        let typed = |value, kind| typed(&value, kind);
        assert_eq!(typed(json!("yes"), Kind::Flag), Ok(Value::Flag(true)));
        assert_eq!(typed(json!(0), Kind::Flag), Ok(Value::Flag(false)));
        assert_eq!(typed(json!(true), Kind::Number), Ok(Value::Number(1.0)));
        assert_eq!(typed(json!(20.0), Kind::Whole), Ok(Value::Number(20.0)));
        assert!(typed(json!(2.5), Kind::Whole).is_err());
        assert!(typed(json!("many"), Kind::Number).is_err());
        for outside in [0.0, -0.1, 1.01] {
            assert!(typed(json!(outside), Kind::Ratio).is_err());
        }
        assert!(typed(json!(1), Kind::Ratio).is_ok());
        assert!(typed(json!("L1"), Kind::Word(&["l1"])).is_err());
    }
}
