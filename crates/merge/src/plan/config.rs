//! `config.json` of the output: the donor's, with what the merge has changed.

use debias_weights::Dtype;
use serde_json::{Map, Value};

/// What the merge has changed about its donor's configuration.
#[derive(Debug, Default)]
pub(crate) struct Changes {
    /// Number format of all floats, where they have one.
    pub dtype: Option<Dtype>,
    /// The donor's layers, and those of them that the output's layers come from.
    pub layers: Option<(usize, Vec<usize>)>,
    /// Rows of the token table.
    pub vocabulary: Option<usize>,
    /// Whether the output has a head that is not its token table.
    pub untied: bool,
    /// What the recipe calls the architecture.
    pub architecture: Option<String>,
}

/// Keys under which configurations of several parts keep the language model's.
pub(super) const TEXT: [&str; 4] = [
    "text_config",
    "llm_config",
    "language_config",
    "language_model",
];

/// Keys for the number of layers.
pub(super) const LAYERS: [&str; 4] = ["num_hidden_layers", "n_layer", "num_layers", "n_layers"];

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
    let model_type = config_type(part);
    if let (Some((before, layers)), Value::Object(part)) = (&changes.layers, part) {
        set_layers(part, &model_type, *before, layers);
    }
    if let (true, Value::Object(top)) = (changes.untied, &mut config) {
        top.insert(TIED.to_owned(), false.into());
        if let Some(Value::Object(part)) = text.and_then(|key| top.get_mut(*key)) {
            part.insert(TIED.to_owned(), false.into());
        }
    }
    if let (Some(name), Value::Object(top)) = (&changes.architecture, &mut config) {
        top.insert("architectures".to_owned(), vec![name.as_str()].into());
    }
    if let Some(rows) = changes.vocabulary {
        set_rows(&mut config, text.copied(), rows);
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

/// The language model's part of a configuration, or all of it.
pub(super) fn text_part(config: &Value) -> &Value {
    let mut parts = TEXT.iter().filter_map(|key| config.get(*key));
    parts.find(|part| part.is_object()).unwrap_or(config)
}

/// The key that says whether the head is the token table.
const TIED: &str = "tie_word_embeddings";

/// Whether a configuration says that the head is the token table, or that it is not; nothing where
/// it leaves that to the architecture.
pub(super) fn ties(config: &Value) -> Option<bool> {
    let said = |part: &Value| part.get(TIED).and_then(Value::as_bool);
    match [said(text_part(config)), said(config)] {
        [None, None] => None,
        said => Some(said.contains(&Some(true))),
    }
}

fn config_type(part: &Value) -> String {
    let found = part.get("model_type").and_then(Value::as_str);
    found.unwrap_or_default().to_owned()
}

/// What configurations of this type call their number of layers.
fn layers_key(model_type: &str) -> &'static str {
    match model_type {
        "gpt2" | "gptj" | "gpt_bigcode" | "codegen" | "bloom" | "openai-gpt" => "n_layer",
        "gpt_neo" | "t5" | "mt5" | "chatglm" => "num_layers",
        "mpt" | "distilbert" => "n_layers",
        _ => LAYERS[0],
    }
}

/// Lists with one entry per layer.
const BY_LAYER: [&str; 3] = ["layer_types", "attention_layers", "layers_block_type"];

/// Sets the number of layers, also where the configuration leaves it to its type's default, and
/// lets lists with one entry per layer follow their layers.
fn set_layers(part: &mut Map<String, Value>, model_type: &str, before: usize, layers: &[usize]) {
    let known = LAYERS.iter().find(|key| part.contains_key(**key));
    let key = known.copied().unwrap_or_else(|| layers_key(model_type));
    part.insert(key.to_owned(), layers.len().into());
    for key in BY_LAYER {
        if let Some(Value::Array(entries)) = part.get_mut(key)
            && entries.len() == before
        {
            let picked = layers
                .iter()
                .filter_map(|layer| entries.get(*layer).cloned());
            *entries = picked.collect();
        }
    }
    // GPT-Neo's kinds of attention: [[[kind, …], repeats], …].
    if let Some(Value::Array(groups)) = part.get_mut("attention_types") {
        let kinds = groups.iter().flat_map(|group| {
            let kinds = group[0].as_array().cloned().unwrap_or_default();
            let times = group[1].as_u64().unwrap_or(0).min(before as u64) as usize;
            std::iter::repeat_n(kinds, times).flatten()
        });
        let kinds: Vec<Value> = kinds.take(before + 1).collect();
        if kinds.len() == before {
            let picked = layers.iter().filter_map(|layer| kinds.get(*layer));
            *groups = picked.map(|kind| serde_json::json!([[kind], 1])).collect();
        }
    }
}

/// Sets the number of tokens wherever it stands, or where it belongs.
fn set_rows(config: &mut Value, text: Option<&str>, rows: usize) {
    const ROWS: &str = "vocab_size";
    let mut named = false;
    for place in [None, text] {
        let part = match place {
            None if text.is_some() && config.get(ROWS).is_none() => continue,
            None => &mut *config,
            Some(key) => &mut config[key],
        };
        if let Value::Object(part) = part
            && (part.contains_key(ROWS) || !named)
        {
            part.insert(ROWS.to_owned(), rows.into());
            named = true;
        }
    }
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
            layers: Some((4, vec![3, 0])),
            vocabulary: Some(10),
            untied: true,
            architecture: Some("LlamaForCausalLM".to_owned()),
        };
        let want = json!({
            "torch_dtype": "bfloat16",
            "text_config": {"num_hidden_layers": 2, "vocab_size": 10, "layer_types": ["d", "a"], "tie_word_embeddings": false},
            "vision_config": {"num_hidden_layers": 7, "dtype": "bfloat16"},
            "tie_word_embeddings": false,
            "architectures": ["LlamaForCausalLM"],
        });
        assert_eq!(edited(&config, &changes), want);
        assert_eq!(edited(&config, &Changes::default()), config);
    }

    #[test]
    fn a_configuration_without_a_number_of_layers_gets_one() {
        let changes = Changes {
            layers: Some((4, vec![0, 1, 1])),
            ..Changes::default()
        };
        for (config, key) in [
            (json!({"model_type": "llama"}), "num_hidden_layers"),
            (json!({"model_type": "gpt2"}), "n_layer"),
            (
                json!({"text_config": {"model_type": "gpt_neo"}}),
                "num_layers",
            ),
        ] {
            let after = edited(&config, &changes);
            assert_eq!(text_part(&after)[key], 3, "{config}");
        }
        let neo = json!({"model_type": "gpt_neo", "num_layers": 4, "attention_types": [[["global", "local"], 2]]});
        let after = edited(&neo, &changes);
        assert_eq!(after["num_layers"], 3);
        assert_eq!(
            after["attention_types"],
            json!([[["global"], 1], [["local"], 1], [["local"], 1]])
        );
    }

    #[test]
    fn a_number_of_tokens_is_set_wherever_it_stands_or_where_it_belongs() {
        let changes = Changes {
            vocabulary: Some(8),
            ..Changes::default()
        };
        for (before, after) in [
            (json!({}), json!({"vocab_size": 8})),
            (
                json!({"vocab_size": 6, "text_config": {}}),
                json!({"vocab_size": 8, "text_config": {}}),
            ),
            (
                json!({"text_config": {}}),
                json!({"text_config": {"vocab_size": 8}}),
            ),
            (
                json!({"vocab_size": 6, "text_config": {"vocab_size": 6}}),
                json!({"vocab_size": 8, "text_config": {"vocab_size": 8}}),
            ),
        ] {
            assert_eq!(edited(&before, &changes), after);
        }
    }

    #[test]
    fn a_tie_may_be_said_in_either_part() {
        assert_eq!(ties(&json!({})), None);
        assert_eq!(ties(&json!({"tie_word_embeddings": false})), Some(false));
        let both =
            json!({"tie_word_embeddings": false, "text_config": {"tie_word_embeddings": true}});
        assert_eq!(ties(&both), Some(true));
    }
}
