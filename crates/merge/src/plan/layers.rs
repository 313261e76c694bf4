//! Tensor names read as architecture: stacks of layers, and what stands before and behind them. No
//! table of model types: names say it.

use std::collections::BTreeMap;

use super::tied::{is_head, is_head_bias};

/// What a list of layers is called, in front of the layer's number.
const STACKS: [&str; 10] = [
    "layers",
    "layer",
    "h",
    "blocks",
    "block",
    "resblocks",
    "encoder_layers",
    "decoder_layers",
    "transformer_layers",
    "gpt_layers",
];

/// A name inside a stack: `model.layers`, 3, `mlp.up_proj.weight`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct InLayer<'a> {
    pub stack: &'a str,
    pub layer: usize,
    pub rest: &'a str,
}

/// Reads a name as one inside a stack, by its first number.
pub(crate) fn in_layer(name: &str) -> Option<InLayer<'_>> {
    let mut start = 0;
    for part in name.split('.') {
        let digits = !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
        if digits && start > 0 {
            let stack = &name[..start - 1];
            let last = stack.rsplit('.').next().unwrap_or(stack);
            let rest = name.get(start + part.len() + 1..)?;
            let layer = part.parse().ok()?;
            return STACKS
                .contains(&last)
                .then_some(InLayer { stack, layer, rest });
        }
        start += part.len() + 1;
    }
    None
}

/// The stacks among `names` with their numbers of layers.
pub(crate) fn stacks<'a>(names: impl Iterator<Item = &'a str>) -> BTreeMap<&'a str, usize> {
    let mut stacks = BTreeMap::new();
    for found in names.filter_map(in_layer) {
        let layers = stacks.entry(found.stack).or_insert(0);
        *layers = (*layers).max(found.layer + 1);
    }
    stacks
}

/// Parts of names that are not of the language model.
const SENSES: [&str; 8] = [
    "vision",
    "visual",
    "image",
    "qformer",
    "q_former",
    "audio",
    "speech",
    "resampler",
];

/// Whether a name belongs to a tower or bridge.
pub(crate) fn is_sense(name: &str) -> bool {
    let name = name.to_lowercase();
    SENSES.iter().any(|sense| name.contains(sense))
}

/// The language model's stack, of which slices are taken.
pub(crate) fn language_stack<'a>(stacks: &BTreeMap<&'a str, usize>) -> Option<&'a str> {
    let mut language = stacks.keys().filter(|stack| !is_sense(stack));
    match (language.next(), language.next()) {
        (Some(one), None) => Some(one),
        _ => None,
    }
}

/// Whether a tensor outside the layers stands behind them: the last norm and the head.
pub(crate) fn is_behind(name: &str) -> bool {
    let module = name.rsplit('.').nth(1).unwrap_or(name);
    !name.contains("embed")
        && (is_head(name)
            || is_head_bias(name)
            || module.starts_with("ln_f")
            || module.contains("norm")
            || module == "score")
}

/// Whether a tensor is computed from the configuration and only stored by old programs.
pub(crate) fn is_derived(name: &str) -> bool {
    let rotary = |name: &str| name.contains("rotary_emb.") || name.contains("rotary_pos_emb.");
    let ends = ["inv_freq", "cos_cached", "sin_cached"];
    name.ends_with("masked_bias") || (rotary(name) && ends.iter().any(|end| name.ends_with(end)))
}

/// Orders names as people count: layer 2 before layer 10.
pub(crate) fn natural(name: &str) -> Vec<(String, usize)> {
    name.split('.')
        .map(|part| match part.parse() {
            Ok(number) => (String::new(), number),
            Err(_) => (part.to_owned(), 0),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layers_are_read_from_the_names_of_every_family() {
        for (name, stack, layer) in [
            ("model.layers.3.mlp.up_proj.weight", "model.layers", 3),
            ("h.11.attn.c_attn.weight", "h", 11),
            (
                "vision_model.encoder.layers.0.layer_norm1.bias",
                "vision_model.encoder.layers",
                0,
            ),
            (
                "qformer.encoder.layer.2.attention.self.query.weight",
                "qformer.encoder.layer",
                2,
            ),
            ("model.layers.1.experts.7.w1.weight", "model.layers", 1),
        ] {
            let found = in_layer(name).expect(name);
            assert_eq!((found.stack, found.layer), (stack, layer));
        }
        for name in [
            "mlp1.0.weight",
            "model.embed_tokens.weight",
            "query_tokens",
            "0.weight",
        ] {
            assert_eq!(in_layer(name), None, "{name}");
        }
    }

    #[test]
    fn what_stands_behind_the_layers_is_known() {
        for name in [
            "lm_head.weight",
            "model.norm.weight",
            "model.decoder.final_layer_norm.bias",
            "transformer.ln_f.weight",
            "lm_head.bias",
        ] {
            assert!(is_behind(name), "{name}");
        }
        for name in [
            "model.embed_tokens.weight",
            "embeddings.LayerNorm.weight",
            "transformer.wpe.weight",
        ] {
            assert!(!is_behind(name), "{name}");
        }
        let names = ["vision_model.layers.0.a", "language_model.model.layers.1.a"];
        assert_eq!(
            language_stack(&stacks(names.into_iter())),
            Some("language_model.model.layers")
        );
    }
}
