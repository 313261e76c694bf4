//! Canonical JSON: one text per value, so that a hash of it is an identity.

use serde_json::Value;
use sha2::{Digest, Sha256};

/// Writes `value` without blanks and with the keys of every object sorted by their bytes.
///
/// Numbers and strings are written as `serde_json` writes them; that form is frozen by the tests
/// of [`crate::CellKey`].
pub fn canonical_json(value: &Value) -> String {
    let mut text = String::new();
    write(value, &mut text);
    text
}

/// Lower-case hexadecimal SHA-256 of `bytes`.
pub fn sha256_hex(bytes: &[u8]) -> String {
    hex::encode(Sha256::digest(bytes))
}

fn write(value: &Value, text: &mut String) {
    match value {
        Value::Object(map) => {
            let mut entries: Vec<_> = map.iter().collect();
            entries.sort_by(|a, b| a.0.cmp(b.0));
            text.push('{');
            for (at, (key, inner)) in entries.into_iter().enumerate() {
                if at > 0 {
                    text.push(',');
                }
                text.push_str(&Value::from(key.as_str()).to_string());
                text.push(':');
                write(inner, text);
            }
            text.push('}');
        }
        Value::Array(items) => {
            text.push('[');
            for (at, inner) in items.iter().enumerate() {
                if at > 0 {
                    text.push(',');
                }
                write(inner, text);
            }
            text.push(']');
        }
        scalar => text.push_str(&scalar.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn keys_are_sorted_at_every_depth_and_blanks_are_gone() {
        let value: Value =
            serde_json::from_str(r#"{ "b": [ {"z": 1, "a": 0.5} ], "a": "é\n" }"#).expect("json");
        assert_eq!(
            canonical_json(&value),
            r#"{"a":"é\n","b":[{"a":0.5,"z":1}]}"#
        );
    }

    fn json() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<f64>()
                .prop_filter("finite", |x| x.is_finite())
                .prop_map(Value::from),
            ".{0,8}".prop_map(Value::from),
        ];
        leaf.prop_recursive(3, 24, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                prop::collection::btree_map(".{0,4}", inner, 0..4)
                    .prop_map(|map| map.into_iter().collect::<Value>()),
            ]
        })
    }

    proptest! {
        #[test]
        fn reading_what_was_written_gives_the_same_value(value in json()) {
            let text = canonical_json(&value);
            let read: Value = serde_json::from_str(&text).expect("canonical JSON is JSON");
            prop_assert_eq!(&read, &value);
            prop_assert_eq!(canonical_json(&read), text);
        }
    }
}
