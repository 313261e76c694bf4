//! What one model of an architecture may have and another lack: buffers that the configuration
//! determines, and heads and prediction modules that programs drop when they save.

use debias_weights::TensorInfo;
use serde_json::Value;

use super::config::{LAYERS, text_part};
use super::layers::{in_layer, is_sense};

/// Modules that models are trained with and saved without.
const MODULES: [&str; 21] = [
    "mtp",
    "mtp_layers",
    "mtp_block",
    "nextn",
    "v_head",
    "value_head",
    "reward_head",
    "regression_head",
    "score",
    "classifier",
    "classification_head",
    "qa_outputs",
    "pooler",
    "cls",
    "medusa_head",
    "medusa_heads",
    "vocab_transform",
    "vocab_projector",
    "vocab_layer_norm",
    "generator_predictions",
    "discriminator_predictions",
];

/// Whether a tensor of this name and shape is computed from the configuration: masks, positions.
pub(super) fn is_buffer(name: &str, info: &TensorInfo) -> bool {
    let mut parts = name.rsplit('.');
    let (last, module) = (
        parts.next().unwrap_or_default(),
        parts.next().unwrap_or_default(),
    );
    match last {
        "position_ids" | "token_type_ids" | "relative_position_index" | "causal_mask" => true,
        // Both are sinusoids where the name is a plural.
        "weights" => module == "embed_positions",
        "bias" | "mask" => {
            matches!(module, "attn" | "attention" | "self_attn")
                && matches!(info.shape[..], [1, 1, rows, columns] if rows == columns)
        }
        _ => false,
    }
}

/// Whether a tensor belongs to a module that models are saved without.
pub(super) fn is_module(name: &str) -> bool {
    let front = name.split('.').take(3);
    let in_stack = in_layer(name).is_some_and(|inside| !inside.stack.contains("mtp"));
    !is_sense(name) && !in_stack && front.into_iter().any(|part| MODULES.contains(&part))
}

/// Whether a model of this configuration has a language model's head at all.
fn has_head(config: &Value) -> bool {
    let Some(architectures) = config.get("architectures").and_then(Value::as_array) else {
        return true;
    };
    let heads = ["LM", "Generation", "PreTraining"];
    let mut named = architectures.iter().filter_map(Value::as_str);
    architectures.is_empty() || named.any(|name| heads.iter().any(|head| name.contains(head)))
}

/// Whether a layer lies behind those that the configuration counts: the modules of DeepSeek's and
/// GLM's that predict several tokens.
fn is_behind_last(name: &str, config: &Value) -> bool {
    let Some(inside) = in_layer(name).filter(|inside| !is_sense(inside.stack)) else {
        return false;
    };
    let part = text_part(config);
    let predicts = part.get("num_nextn_predict_layers").and_then(Value::as_u64);
    let counted = LAYERS.iter().find_map(|key| part.get(*key)?.as_u64());
    predicts.is_some_and(|layers| layers > 0)
        && counted.is_some_and(|layers| inside.layer as u64 >= layers)
}

/// Whether models that `lack` a tensor may do so, given one that has it.
pub(super) fn may_be_lacking(name: &str, info: &TensorInfo, has: &Value, lack: &[&Value]) -> bool {
    let head = name.split('.').any(|part| part == "lm_head");
    is_buffer(name, info)
        || is_module(name)
        || is_behind_last(name, has)
        || (head && lack.iter().all(|config| !has_head(config)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use debias_weights::Dtype;
    use serde_json::json;

    fn lacking(name: &str, shape: &[usize], has: Value, lacks: Value) -> bool {
        let info = TensorInfo {
            dtype: Dtype::F32,
            shape: shape.to_vec(),
        };
        may_be_lacking(name, &info, &has, &[&lacks])
    }

    #[test]
    fn buffers_and_dropped_modules_may_be_lacking_and_nothing_else() {
        let none = || json!({});
        for (name, shape) in [
            ("transformer.h.0.attn.bias", &[1, 1, 4, 4][..]),
            ("gpt_neox.layers.0.attention.bias", &[1, 1, 4, 4]),
            ("embeddings.position_ids", &[1, 6]),
            ("vision_model.embeddings.position_ids", &[1, 6]),
            ("v_head.summary.weight", &[1, 8]),
            ("mtp.layers.0.self_attn.q_proj.weight", &[8, 8]),
            ("model.mtp.norm.weight", &[8]),
            ("bert.pooler.dense.weight", &[8, 8]),
            ("score.weight", &[2, 8]),
        ] {
            assert!(lacking(name, shape, none(), none()), "{name}");
        }
        for (name, shape) in [
            ("transformer.h.0.attn.bias", &[24][..]),
            ("model.layers.0.self_attn.q_proj.bias", &[8]),
            ("model.layers.1.mlp.up_proj.weight", &[8, 8]),
            ("model.layers.0.mlp.classifier.weight", &[8, 8]),
            ("model.norm.weight", &[8]),
            ("lm_head.weight", &[16, 8]),
            ("vision_tower.pooler.dense.weight", &[8, 8]),
        ] {
            assert!(!lacking(name, shape, none(), none()), "{name}");
        }
    }

    #[test]
    fn the_configuration_tells_of_heads_and_of_layers_that_predict() {
        let deepseek = || json!({"num_hidden_layers": 2, "num_nextn_predict_layers": 1});
        let plain = || json!({"num_hidden_layers": 2});
        let layer = "model.layers.2.mlp.up_proj.weight";
        assert!(lacking(layer, &[8, 8], deepseek(), plain()));
        assert!(!lacking(layer, &[8, 8], plain(), plain()));
        assert!(!lacking(
            "model.layers.1.mlp.up_proj.weight",
            &[8, 8],
            deepseek(),
            plain()
        ));
        let bare = || json!({"architectures": ["RobertaModel"]});
        let whole = || json!({"architectures": ["RobertaForMaskedLM"]});
        assert!(lacking("lm_head.dense.weight", &[8, 8], whole(), bare()));
        assert!(!lacking("lm_head.dense.weight", &[8, 8], whole(), whole()));
    }
}
