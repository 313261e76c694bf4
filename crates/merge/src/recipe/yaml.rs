//! YAML as one value, read as mergekit reads it: of a key that is repeated the last value counts,
//! anchors and `<<` are laid open.

use std::cell::RefCell;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};
use serde_saphyr::options::DuplicateKeyPolicy;
use serde_saphyr::{Error as YamlError, UserMessageFormatter};

use crate::error::{Error, Result};

/// The value, and the paths of keys that stand more than once.
pub(super) fn parse(text: &str, origin: &str) -> Result<(Value, Vec<String>)> {
    let repeated = RefCell::new(Vec::new());
    let options = serde_saphyr::options! {
        duplicate_keys: DuplicateKeyPolicy::PassThrough,
        with_snippet: false,
    };
    let root = Node {
        path: String::new(),
        repeated: &repeated,
    };
    let read = |yaml: serde_saphyr::Deserializer<'_, '_>| root.deserialize(yaml);
    match serde_saphyr::with_deserializer_from_str_with_options(text, options, read) {
        Ok(value) => Ok((value, repeated.into_inner())),
        Err(problem) => Err(Error::Yaml {
            origin: origin.to_owned(),
            problem: explain(&problem),
        }),
    }
}

/// In words for whoever wrote the recipe, on one line.
fn explain(problem: &YamlError) -> String {
    match problem.without_snippet() {
        YamlError::MultipleDocuments { location, .. } => {
            return format!(
                "line {} begins a second document (`---`); a recipe is one document: give each merge a file of its own",
                location.line()
            );
        }
        YamlError::AliasError { error, .. } => return explain(error),
        YamlError::Budget { location, .. } => {
            return format!(
                "line {}: its lists, mappings and aliases open up to more than a recipe can hold",
                location.line()
            );
        }
        _ => {}
    }
    let text = problem.render_with_formatter(&UserMessageFormatter);
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    let line = lines.collect::<Vec<_>>().join(" ");
    line.strip_prefix("error: ").unwrap_or(&line).to_owned()
}

/// One node, at its path.
struct Node<'r> {
    path: String,
    repeated: &'r RefCell<Vec<String>>,
}

impl Node<'_> {
    fn child(&self, path: String) -> Self {
        Self {
            path,
            repeated: self.repeated,
        }
    }
}

impl<'de> DeserializeSeed<'de> for Node<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, yaml: D) -> std::result::Result<Value, D::Error> {
        yaml.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Node<'_> {
    type Value = Value;

    fn expecting(&self, out: &mut fmt::Formatter) -> fmt::Result {
        out.write_str("a mapping, a list or a plain value")
    }

    fn visit_bool<E>(self, flag: bool) -> std::result::Result<Value, E> {
        Ok(flag.into())
    }

    fn visit_i64<E>(self, number: i64) -> std::result::Result<Value, E> {
        Ok(number.into())
    }

    fn visit_u64<E>(self, number: u64) -> std::result::Result<Value, E> {
        Ok(number.into())
    }

    fn visit_f64<E>(self, number: f64) -> std::result::Result<Value, E> {
        Ok(Number::from_f64(number).map_or(Value::Null, Value::Number))
    }

    fn visit_str<E>(self, text: &str) -> std::result::Result<Value, E> {
        Ok(text.into())
    }

    fn visit_unit<E>(self) -> std::result::Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_none<E>(self) -> std::result::Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_some<D: Deserializer<'de>>(self, yaml: D) -> std::result::Result<Value, D::Error> {
        yaml.deserialize_any(self)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> std::result::Result<Value, A::Error> {
        let mut values = Vec::new();
        while let Some(value) =
            list.next_element_seed(self.child(format!("{}[{}]", self.path, values.len())))?
        {
            values.push(value);
        }
        Ok(Value::Array(values))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> std::result::Result<Value, A::Error> {
        let mut values = Map::new();
        while let Some(key) = map.next_key::<String>()? {
            let path = if self.path.is_empty() {
                key.clone()
            } else {
                format!("{}.{key}", self.path)
            };
            let value = map.next_value_seed(self.child(path.clone()))?;
            if values.insert(key, value).is_some() && !self.repeated.borrow().contains(&path) {
                self.repeated.borrow_mut().push(path);
            }
        }
        Ok(Value::Object(values))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn of_repeated_keys_the_last_counts_and_anchors_are_laid_open() {
        let text = "
const_tag: &A first
const_tag: &B second
common: &common {weight: 0.5, density: 1}
models:
- {model: *A, parameters: {<<: *common, density: 0.2}}
- {model: *B, model: b, parameters: *common}
models: [*A]
list: [{<<: *common}, {<<: [*common, {weight: 2}]}]
";
        let (value, repeated) = parse(text, "r").expect("YAML");
        assert_eq!(value["const_tag"], "second");
        assert_eq!(value["models"], json!(["first"]));
        assert_eq!(value["list"][0], json!({"weight": 0.5, "density": 1}));
        assert_eq!(repeated, ["const_tag", "models[1].model", "models"]);
    }

    #[test]
    fn what_is_wrong_is_said_to_the_author_of_the_recipe() {
        let each = |of: &str| format!("[{}]", [of; 10].join(", "));
        let first = format!("a0: &a0 {}\n", each("x"));
        let more = (1..8).map(|i| format!("a{i}: &a{i} {}\n", each(&format!("*a{}", i - 1))));
        let bomb = first + &more.collect::<String>();
        for (text, words) in [
            ("a: 1\n---\nb: 2\n", "line 3 begins a second document"),
            ("a: 1\n---\n", "second document"),
            ("a: [\n", "line 1"),
            ("a: *nowhere\n", "line 1"),
            ("a: {<<: 3}\n", "merge"),
            ("{1: 2, [a]: 3}", "line 1"),
            (bomb.as_str(), "more than a recipe can hold"),
        ] {
            let error = parse(text, "r.yaml").expect_err(text).to_string();
            assert!(error.contains(words), "{text}: {error}");
            for word in ["Policy", "from_str", "Options", "<input>", "{", "\n"] {
                assert!(!error.contains(word), "{text}: {error}");
            }
        }
        assert!(parse("---\na: 1\n...\n", "r").is_ok());
        assert_eq!(parse("", "r").expect("nothing").0, Value::Null);
    }
}
