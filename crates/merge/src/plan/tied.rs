//! Token tables, heads, and which of them may be one tensor under several names.

use super::layers::is_sense;

/// Whether a tensor is the output head, which may be tied to the token table.
pub(crate) fn is_head(name: &str) -> bool {
    let module = name.rsplit('.').nth(1).unwrap_or_default();
    name.ends_with(".weight")
        && (matches!(
            module,
            "lm_head" | "embed_out" | "vocab_projector" | "generator_lm_head"
        ) || name.ends_with("language_model.output.weight")
            || name.ends_with("lm_head.decoder.weight")
            || name.ends_with("predictions.decoder.weight")
            || matches!(name, "output.weight" | "proj_out.weight"))
}

/// Whether a tensor is the token table.
pub(crate) fn is_token_table(name: &str) -> bool {
    let module = name.rsplit('.').nth(1).unwrap_or_default();
    let known = matches!(
        module,
        "embed_tokens" | "wte" | "word_embeddings" | "tok_embeddings" | "embed_in"
    );
    name.ends_with(".weight")
        && (known
            || matches!(
                name,
                "shared.weight" | "model.shared.weight" | "backbone.embeddings.weight"
            ))
        && !is_sense(name)
}

/// Whether a tensor is the bias of an output head.
pub(crate) fn is_head_bias(name: &str) -> bool {
    name.strip_suffix(".bias").is_some_and(|module| {
        is_head(&format!("{module}.weight")) || module.ends_with("predictions")
    })
}

/// Whether the rows of a tensor are tokens.
pub(crate) fn is_vocabulary(name: &str) -> bool {
    is_head(name) || is_token_table(name) || is_head_bias(name)
}

/// The tensor among `names` that stands for `name`, which a model lacks because it is tied there:
/// for a head or one of several token tables the token table; for a table the head, where there is
/// no table; for the bias of BERT's head its other name.
pub(crate) fn stand_in<'a>(
    name: &str,
    names: impl Iterator<Item = &'a str> + Clone,
) -> Option<&'a str> {
    if is_head(name) || is_token_table(name) {
        let tables = names.clone().filter(|other| is_token_table(other));
        // Of several, what the decoder reads is nearer to a head; `shared` is all of them.
        let table = tables.min_by_key(|table| match table {
            _ if table.contains("shared") => 0,
            _ if table.contains("encoder.") => 2,
            _ => 1,
        });
        return match table {
            Some(table) => Some(table),
            None if is_token_table(name) => names.clone().find(|other| is_head(other)),
            None => None,
        };
    }
    if !is_head_bias(name) {
        return None;
    }
    let other = match name.strip_suffix(".decoder.bias") {
        Some(module) => format!("{module}.bias"),
        None => format!("{}.decoder.bias", name.strip_suffix(".bias")?),
    };
    names.clone().find(|found| *found == other)
}

/// The name of a head in a model that calls its token table `table`.
pub(crate) fn head_beside(table: &str, head: &str) -> String {
    const PART: &str = "language_model.";
    match (table.starts_with(PART), head.strip_prefix(PART)) {
        (true, None) => format!("{PART}{head}"),
        (false, Some(bare)) => bare.to_owned(),
        _ => head.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found<'a>(name: &str, names: &[&'a str]) -> Option<&'a str> {
        stand_in(name, names.iter().copied())
    }

    #[test]
    fn every_familys_tied_tensors_are_known() {
        let llama = ["model.embed_tokens.weight", "model.norm.weight"];
        assert_eq!(found("lm_head.weight", &llama), Some(llama[0]));
        let t5 = ["shared.weight", "encoder.block.0.a.weight"];
        for name in [
            "lm_head.weight",
            "encoder.embed_tokens.weight",
            "decoder.embed_tokens.weight",
        ] {
            assert_eq!(found(name, &t5), Some("shared.weight"), "{name}");
        }
        let old = ["decoder.embed_tokens.weight", "encoder.embed_tokens.weight"];
        assert_eq!(found("shared.weight", &old), Some(old[0]));
        let whisper = ["model.decoder.embed_tokens.weight"];
        assert_eq!(found("proj_out.weight", &whisper), Some(whisper[0]));
        let bert = [
            "bert.embeddings.word_embeddings.weight",
            "cls.predictions.bias",
        ];
        assert_eq!(
            found("cls.predictions.decoder.weight", &bert),
            Some(bert[0])
        );
        assert_eq!(found("cls.predictions.decoder.bias", &bert), Some(bert[1]));
        let roberta = ["lm_head.decoder.bias"];
        assert_eq!(found("lm_head.bias", &roberta), Some(roberta[0]));
        // safetensors keeps one of several names, perhaps the head's.
        assert_eq!(
            found("model.embed_tokens.weight", &["lm_head.weight"]),
            Some("lm_head.weight")
        );
        assert_eq!(
            found(
                "model.layers.0.mlp.up_proj.bias",
                &["model.layers.0.mlp.up_proj.decoder.bias"]
            ),
            None
        );
        assert_eq!(found("vision_tower.proj_out.weight", &llama), None);
    }

    #[test]
    fn a_head_is_named_as_its_table_is() {
        let table = "language_model.model.embed_tokens.weight";
        assert_eq!(
            head_beside(table, "lm_head.weight"),
            "language_model.lm_head.weight"
        );
        let table = "model.language_model.embed_tokens.weight";
        assert_eq!(
            head_beside(table, "language_model.lm_head.weight"),
            "lm_head.weight"
        );
    }
}
