//! The same tensor under several names: programs wrap a model's modules in others, and published
//! files have them with and without (`transformer.h.0` is `h.0` in GPT-2's file,
//! `model.language_model` is `language_model.model` in LLaVA's, `bert.` comes and goes).

use std::collections::{BTreeMap, BTreeSet};

/// Parts of names that only wrap the model.
const WRAPPERS: [&str; 4] = ["model", "base_model", "transformer", "language_model"];

/// What transformers puts in front of a whole encoder.
const PREFIXES: [&str; 9] = [
    "bert",
    "roberta",
    "distilbert",
    "electra",
    "albert",
    "deberta",
    "gpt_neox",
    "backbone",
    "mpnet",
];

/// A name without what only wraps the model, and as it is spelt today.
pub(crate) fn unwrapped(name: &str) -> String {
    let mut parts: Vec<&str> = name
        .split('.')
        .filter(|part| !WRAPPERS.contains(part))
        .collect();
    if parts.len() > 1 && PREFIXES.contains(&parts[0]) {
        parts.remove(0);
    }
    // BERT's own release has the names of TensorFlow.
    if let [.., norm, last] = parts.as_mut_slice()
        && norm.ends_with("LayerNorm")
    {
        *last = match *last {
            "gamma" => "weight",
            "beta" => "bias",
            other => other,
        };
    }
    parts.join(".")
}

/// Own names by those of another model: equal names, and those that differ in wrappers alone and
/// can be no other tensor. A name that the other lacks stays.
pub(crate) fn respelt<'a>(
    own: impl Iterator<Item = &'a str>,
    other: &BTreeSet<&'a str>,
) -> BTreeMap<String, &'a str> {
    let mut strangers: BTreeMap<String, Vec<&str>> = BTreeMap::new();
    let mut names = BTreeMap::new();
    for name in own {
        if other.contains(name) {
            names.insert(name.to_owned(), name);
        } else {
            strangers.entry(unwrapped(name)).or_default().push(name);
        }
    }
    if strangers.is_empty() {
        return names;
    }
    let mut wanted: BTreeMap<String, Vec<&str>> = BTreeMap::new();
    for name in other.iter().filter(|name| !names.contains_key(**name)) {
        wanted.entry(unwrapped(name)).or_default().push(name);
    }
    for (bare, found) in strangers {
        match (found.as_slice(), wanted.get(&bare).map(Vec::as_slice)) {
            ([one], Some([there])) => drop(names.insert((*there).to_owned(), *one)),
            _ => names.extend(found.into_iter().map(|name| (name.to_owned(), name))),
        }
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wrappers_are_no_part_of_a_name_that_counts() {
        for (one, other) in [
            (
                "transformer.h.0.attn.c_attn.weight",
                "h.0.attn.c_attn.weight",
            ),
            ("bert.encoder.layer.0.a.weight", "encoder.layer.0.a.weight"),
            ("model.language_model.layers.0.a", "model.layers.0.a"),
            (
                "language_model.model.layers.0.a",
                "model.language_model.layers.0.a",
            ),
            ("language_model.lm_head.weight", "lm_head.weight"),
            ("visual.blocks.0.a", "model.visual.blocks.0.a"),
            (
                "bert.embeddings.LayerNorm.gamma",
                "embeddings.LayerNorm.weight",
            ),
        ] {
            assert_eq!(unwrapped(one), unwrapped(other), "{one}");
        }
        assert_ne!(
            unwrapped("visual.transformer.h.0.a"),
            unwrapped("transformer.h.0.a")
        );
        assert_eq!(unwrapped("bert"), "bert");
    }

    #[test]
    fn only_what_can_be_no_other_tensor_is_matched() {
        let other = BTreeSet::from(["h.0.a", "model.x", "transformer.x", "same"]);
        let own = ["transformer.h.0.a", "x", "same", "alone"];
        let names = respelt(own.into_iter(), &other);
        let names: Vec<_> = names.iter().map(|(a, b)| (a.as_str(), *b)).collect();
        let want = [
            ("alone", "alone"),
            ("h.0.a", "transformer.h.0.a"),
            ("same", "same"),
            ("x", "x"),
        ];
        assert_eq!(names, want);
    }
}
