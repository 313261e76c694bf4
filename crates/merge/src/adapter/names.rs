//! What the tensors of an adapter's file are, by their names.

/// A tensor of an adapter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Part {
    /// `A` of a linear layer or a convolution.
    A(String),
    /// `B` of a linear layer or a convolution.
    B(String),
    /// `A` of an embedding.
    EmbeddingA(String),
    /// `B` of an embedding.
    EmbeddingB(String),
    /// A tensor of the model itself that was trained whole, by its published name.
    Whole(String),
    /// What PEFT repeats from the base beside a module that was trained whole.
    Original,
}

/// Reads the name of a tensor; the error says what cannot be merged.
pub(super) fn parse(key: &str) -> Result<Part, String> {
    let name = key.strip_prefix("base_model.model.").unwrap_or(key);
    if name.contains("trainable_tokens_delta") {
        return Err(format!(
            "tensor `{key}` holds trained tokens, which are not merged; train the embedding by LoRA or whole"
        ));
    }
    let Some(at) = name.find(".lora_") else {
        return match name {
            _ if name.starts_with("lora_") => Err(unknown(key)),
            _ if name.contains(".original_module.") => Ok(Part::Original),
            _ => Ok(Part::Whole(published(name))),
        };
    };
    let module = &name[..at];
    if module.ends_with(".base_layer") {
        return Err(format!(
            "tensor `{key}` belongs to a parameter trained by `target_parameters`, which is not merged; train modules (`target_modules`)"
        ));
    }
    let module = module.to_owned();
    match name[at + 1..].split('.').collect::<Vec<_>>().as_slice() {
        ["lora_A", "weight"] | ["lora_A", "default", "weight"] => Ok(Part::A(module)),
        ["lora_B", "weight"] | ["lora_B", "default", "weight"] => Ok(Part::B(module)),
        ["lora_embedding_A"] | ["lora_embedding_A", "default"] => Ok(Part::EmbeddingA(module)),
        ["lora_embedding_B"] | ["lora_embedding_B", "default"] => Ok(Part::EmbeddingB(module)),
        ["lora_magnitude_vector", ..] => Err(format!(
            "tensor `{key}` belongs to DoRA, which is not merged; merge it into its base with PEFT and give that folder"
        )),
        _ => Err(unknown(key)),
    }
}

/// The published name of a tensor that was trained whole: without the wrappers of PEFT.
fn published(name: &str) -> String {
    name.replace(".base_layer.", ".")
        .replace(".modules_to_save.default.", ".")
        .replace(".modules_to_save.", ".")
}

fn unknown(key: &str) -> String {
    format!("tensor `{key}` is no part of a plain LoRA adapter; only lora_A and lora_B are merged")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_spellings_of_peft_are_read() {
        let module = || "model.layers.0.q".to_owned();
        for (key, part) in [
            (
                "base_model.model.model.layers.0.q.lora_A.weight",
                Part::A(module()),
            ),
            (
                "base_model.model.model.layers.0.q.lora_B.default.weight",
                Part::B(module()),
            ),
            (
                "base_model.model.model.layers.0.q.lora_embedding_A",
                Part::EmbeddingA(module()),
            ),
            (
                "base_model.model.model.layers.0.q.lora_embedding_B.default",
                Part::EmbeddingB(module()),
            ),
            (
                "base_model.model.lm_head.weight",
                Part::Whole("lm_head.weight".into()),
            ),
            (
                "base_model.model.lm_head.modules_to_save.default.weight",
                Part::Whole("lm_head.weight".into()),
            ),
            (
                "base_model.model.lm_head.modules_to_save.weight",
                Part::Whole("lm_head.weight".into()),
            ),
            (
                "base_model.model.q.base_layer.bias",
                Part::Whole("q.bias".into()),
            ),
            (
                "model.mm_projector.0.weight",
                Part::Whole("model.mm_projector.0.weight".into()),
            ),
        ] {
            assert_eq!(parse(key), Ok(part), "{key}");
        }
    }

    #[test]
    fn what_is_no_plain_lora_is_refused_by_name() {
        for (key, word) in [
            ("base_model.model.q.lora_magnitude_vector", "DoRA"),
            ("base_model.model.q.lora_B.bias", "lora_A and lora_B"),
            (
                "base_model.model.q.lora_A.second.weight",
                "lora_A and lora_B",
            ),
            (
                "base_model.model.experts.base_layer.lora_A.weight",
                "target_parameters",
            ),
            (
                "base_model.model.embed.token_adapter.trainable_tokens_delta",
                "trained tokens",
            ),
            ("lora_A.weight", "no part"),
        ] {
            let refused = parse(key).expect_err(key);
            assert!(refused.contains(word) && refused.contains(key), "{refused}");
        }
    }
}
