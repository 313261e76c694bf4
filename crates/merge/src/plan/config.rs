//! The small files of the output: the donor's, with what the merge has changed.

use debias_weights::{Checkpoint, Dtype};
use serde_json::{Map, Value};

use crate::error::Result;

/// Files besides weights, configuration and tokenizer that a model needs to be run.
const OTHERS: [&str; 5] = [
    "generation_config.json",
    "preprocessor_config.json",
    "processor_config.json",
    "video_preprocessor_config.json",
    "minigpt4.json",
];

/// What the merge has changed about its donor's configuration.
#[derive(Debug, Default)]
pub(crate) struct Changes {
    /// Number format of all floats, where they have one.
    pub dtype: Option<Dtype>,
    /// The layers of the donor that the output's layers come from.
    pub layers: Option<Vec<usize>>,
    /// Rows of the token table.
    pub vocabulary: Option<usize>,
}

/// Keys under which configurations of several parts keep the language model's.
const TEXT: [&str; 4] = [
    "text_config",
    "llm_config",
    "language_config",
    "language_model",
];

/// Keys for the number of layers.
const LAYERS: [&str; 4] = ["num_hidden_layers", "n_layer", "num_layers", "n_layers"];

/// `config.json` of the output.
pub(crate) fn edited(config: &Value, changes: &Changes) -> Value {
    let mut config = config.clone();
    if let (Some(dtype), Value::Object(top)) = (changes.dtype, &mut config) {
        set_dtype(top, dtype, true);
    }
    let text = TEXT
        .iter()
        .find(|key| config.get(**key).is_some_and(Value::is_object));
    let part = match text {
        Some(key) => &mut config[*key],
        None => &mut config,
    };
    if let (Some(layers), Value::Object(part)) = (&changes.layers, part) {
        set_layers(part, layers);
    }
    if let Some(rows) = changes.vocabulary {
        set_rows(&mut config, rows);
        if let Some(key) = text {
            set_rows(&mut config[*key], rows);
        }
    }
    config
}

fn dtype_name(dtype: Dtype) -> &'static str {
    match dtype {
        Dtype::BF16 => "bfloat16",
        Dtype::F16 => "float16",
        _ => "float32",
    }
}

/// Wherever the configuration names a number format, it is the output's.
fn set_dtype(map: &mut Map<String, Value>, dtype: Dtype, top: bool) {
    let mut named = false;
    for (key, value) in map.iter_mut() {
        match value {
            Value::String(name) if key == "torch_dtype" || key == "dtype" => {
                *name = dtype_name(dtype).to_owned();
                named = true;
            }
            Value::Object(inner) => set_dtype(inner, dtype, false),
            _ => {}
        }
    }
    if top && !named {
        map.insert("torch_dtype".to_owned(), dtype_name(dtype).into());
    }
}

fn set_layers(part: &mut Map<String, Value>, layers: &[usize]) {
    let Some(key) = LAYERS.iter().find(|key| part.contains_key(**key)) else {
        return;
    };
    let before = part[*key].as_u64();
    part.insert((*key).to_owned(), layers.len().into());
    // Lists with one entry per layer follow their layers.
    if let Some(Value::Array(types)) = part.get_mut("layer_types")
        && before == Some(types.len() as u64)
    {
        let picked = layers.iter().filter_map(|layer| types.get(*layer).cloned());
        *types = picked.collect();
    }
}

fn set_rows(config: &mut Value, rows: usize) {
    if let Some(size) = config.get_mut("vocab_size") {
        *size = rows.into();
    }
}

/// The donor's other files, as they are.
pub(crate) fn copied(donor: &Checkpoint) -> Result<Vec<(String, Vec<u8>)>> {
    let mut files = Vec::new();
    for name in OTHERS {
        if let Some(bytes) = donor.bytes_if_present(name)? {
            files.push((name.to_owned(), bytes.into_owned()));
        }
    }
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn only_what_changed_is_edited_and_in_the_right_part() {
        let config = json!({
            "torch_dtype": "float32",
            "text_config": {"num_hidden_layers": 4, "vocab_size": 9, "layer_types": ["a", "b", "c", "d"]},
            "vision_config": {"num_hidden_layers": 7, "dtype": "float32"},
        });
        let changes = Changes {
            dtype: Some(Dtype::BF16),
            layers: Some(vec![3, 0]),
            vocabulary: Some(10),
        };
        let want = json!({
            "torch_dtype": "bfloat16",
            "text_config": {"num_hidden_layers": 2, "vocab_size": 10, "layer_types": ["d", "a"]},
            "vision_config": {"num_hidden_layers": 7, "dtype": "bfloat16"},
        });
        assert_eq!(edited(&config, &changes), want);
        assert_eq!(edited(&config, &Changes::default()), config);
    }
}
