//! Fuzz target of the reader of merge recipes: whatever stands in a file, one line says what is wrong.

#![no_main]

mod seeds;

use debias_merge::Recipe;
use libfuzzer_sys::fuzz_target;

fuzz_target!(
    init: seeds::plant(&recipes()),
    |bytes: &[u8]| {
        let Ok(text) = std::str::from_utf8(bytes) else {
            return;
        };
        let said = match Recipe::parse(text, "fuzz", &|_| true) {
            Ok(recipe) => recipe.warnings,
            Err(error) => vec![error.to_string()],
        };
        for line in said {
            assert!(!line.contains('\n'), "{line}");
            // What a parser advises programmers is no help to those who write recipes.
            assert!(!line.contains("DuplicateKeyPolicy"), "{line}");
        }
    }
);

fn recipes() -> Vec<Vec<u8>> {
    let whole = "merge_method: ties\nbase_model: base\nparameters: {density: 0.5, normalize: true}\n\
                 models:\n- model: a\n  parameters: {weight: [0, 0.5, 1]}\n\
                 - model: {model: b, revision: main}\n  parameters:\n    weight:\n    - {filter: mlp, value: 0.3}\n    - value: 1\n\
                 dtype: bfloat16\ntokenizer: {source: union, tokens: {a: {source: b}}}\n";
    let slices = "const: &x 0.5\nslices:\n- sources:\n  - {model: a, layer_range: [0, 4], parameters: {t: *x}}\n\
                  \x20 - {model: b, layer_range: [0, 4]}\nmerge_method: slerp\nbase_model: a\nname: n\n";
    let twice = "merge_method: linear\ndtype: float32\ndtype: float16\nmodels: [{model: a+lora, weight: 1}]\n---\nx: 1\n";
    let merged = "a: &a {weight: 1}\nmerge_method: linear\nmodels:\n- model: a\n  parameters:\n    <<: *a\n    wieght: 2\n";
    let recipes = [whole, slices, twice, merged];
    recipes
        .iter()
        .map(|text| text.as_bytes().to_vec())
        .collect()
}
