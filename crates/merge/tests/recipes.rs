//! Recipes as people write them: what mergekit ignores is named and changes nothing else.

mod world;

use debias_merge::{Error, Recipe};
use debias_weights::Checkpoint;
use proptest::prelude::*;
use world::{World, values_of};

const NORM: &str = "model.norm.weight";

fn read(yaml: &str) -> Result<Recipe, Error> {
    Recipe::parse(yaml, "r.yaml", &|name| ["a", "b", "base"].contains(&name))
}

fn same(one: &Checkpoint, other: &Checkpoint) -> bool {
    let names = || one.names().collect::<Vec<_>>();
    names() == other.names().collect::<Vec<_>>()
        && names()
            .iter()
            .all(|name| values_of(one, name) == values_of(other, name))
}

#[test]
fn keys_without_effect_change_nothing_and_are_named() {
    let world = World::new();
    let linear = "merge_method: linear\nmodels:\n- model: a\n  parameters: {weight: 0.5}\n- model: b\n  parameters: {weight: 0.25}\n";
    let sliced = "merge_method: linear\nslices:\n- sources:\n  - {model: a, layer_range: [0, 2]}\n  - {model: b, layer_range: [0, 2]}\nparameters: {weight: 0.5}\n";
    let plain = world.merge(linear, |_| ()).expect("merged");
    let cut = world.merge(sliced, |_| ()).expect("merged");
    for (given, words) in [
        (format!("name: mine\n{linear}"), "`name` has no effect"),
        (format!("dype: float16\n{linear}"), "did you mean `dtype`?"),
        (format!("density: 0.1\n{linear}"), "`density` IS IGNORED"),
        (
            format!("weight: 0.1\n{linear}"),
            "`weight` belongs under `parameters`",
        ),
        (
            format!("parameters: {{embed_slerp: true}}\n{linear}"),
            "`parameters.embed_slerp` has no effect",
        ),
        (
            format!("parameters: {{t: 0.5}}\n{linear}"),
            "linear has no such parameter",
        ),
        (
            linear.replace("- model: a\n", "- model: a\n  revision: v1\n"),
            "`models[0].revision` has no effect",
        ),
        (
            linear.replace("- model: a\n", "- model: a\n  layer_range: [0, 1]\n"),
            "belongs under `slices`",
        ),
        (
            linear.replace(
                "model: a\n",
                "model: {model: {path: a, revision: v1}, override_architecture: X}\n",
            ),
            "`v1` has no effect",
        ),
        (
            linear.replace("model: a\n", "model: a@v1\n"),
            "`v1` has no effect",
        ),
        (
            linear.replace("{weight: 0.5}", "{weight: {value: 0.5, note: x}}"),
            "`note` beside `filter` and `value`",
        ),
        (
            format!("models: [{{model: b}}]\n{linear}"),
            "`models` stands more than once",
        ),
        (
            format!(
                "const_tag: &X a\n{}",
                linear.replace("model: a", "model: *X")
            ),
            "`const_tag` has no effect",
        ),
    ] {
        let recipe = read(&given).expect(&given);
        assert!(
            recipe.warnings.iter().any(|w| w.contains(words)),
            "{given}: {:?}",
            recipe.warnings
        );
        let refused = recipe.strictly().err().expect("strict").to_string();
        assert!(
            refused.contains(words) && !refused.contains('\n'),
            "{refused}"
        );
        assert!(
            same(&world.merge(&given, |_| ()).expect(&given), &plain),
            "{given}"
        );
    }
    let method = sliced.replace("parameters:", "  merge_method: slerp\nparameters:");
    assert!(read(&method).expect("a recipe").warnings[0].contains("slices[0].merge_method"));
    assert!(same(&world.merge(&method, |_| ()).expect("merged"), &cut));
    assert!(read(linear).expect("a recipe").strictly().is_ok());
}

#[test]
fn anchors_and_merge_keys_are_laid_open() {
    let world = World::new();
    let plain = "merge_method: linear\nmodels:\n- model: a\n  parameters: {weight: 0.5}\n- model: b\n  parameters: {weight: 2}\n";
    let given = "x: &A a\nx: &B b\ncommon: &common {weight: 0.5}\nmerge_method: linear\nmodels:\n- model: *A\n  parameters: *common\n- model: *B\n  parameters: {<<: *common, weight: 2}\n";
    let [plain, given] = [plain, given].map(|yaml| world.merge(yaml, |_| ()).expect("merged"));
    assert!(same(&plain, &given));
}

#[test]
fn an_overridden_architecture_is_the_outputs() {
    let world = World::new();
    let yaml = "merge_method: passthrough\nmodels:\n- model: {model: a, override_architecture: OtherForCausalLM}\n";
    let config: serde_json::Value = world
        .merge(yaml, |_| ())
        .expect("merged")
        .json("config.json")
        .expect("there");
    assert_eq!(
        config["architectures"],
        serde_json::json!(["OtherForCausalLM"])
    );
}

#[test]
fn a_density_of_one_and_above_keeps_all_and_of_zero_and_below_nothing() {
    let world = World::new();
    for method in [
        "ties",
        "dare_linear",
        "dare_ties",
        "della",
        "della_linear",
        "breadcrumbs",
        "breadcrumbs_ties",
    ] {
        let merged = |density: &str| {
            let yaml = format!(
                "merge_method: {method}\nbase_model: base\nmodels:\n- model: a\n  parameters: {{weight: 1, density: {density}, epsilon: 0.01}}\n"
            );
            world.merge(&yaml, |_| ()).expect(&yaml)
        };
        let (all, base) = (merged("1"), world.model("base"));
        for (density, want) in [("1.2", &all), ("0", &base), ("-0.5", &base)] {
            assert!(same(&merged(density), want), "{method} {density}");
        }
        // The norm is in front of the layers, where a gradient has its first value.
        let gradient = merged("[0, 1]");
        assert_eq!(
            values_of(&gradient, NORM),
            values_of(&base, NORM),
            "{method}"
        );
        let last = "model.layers.1.mlp.up_proj.weight";
        assert_eq!(
            values_of(&gradient, last),
            values_of(&all, last),
            "{method}"
        );
    }
}

#[test]
fn a_base_that_is_no_source_of_a_slice_is_refused() {
    let world = World::new();
    for method in ["nuslerp", "multislerp"] {
        let yaml = format!(
            "merge_method: {method}\nbase_model: base\nparameters: {{weight: 0.5}}\nslices:\n- sources:\n  - {{model: a, layer_range: [0, 2]}}\n  - {{model: b, layer_range: [0, 2]}}\n"
        );
        let error = world
            .merge(&yaml, |_| ())
            .expect_err("no origin")
            .to_string();
        assert!(
            error.contains("slices[0].sources") && error.contains("base"),
            "{error}"
        );
        let listed = format!("{yaml}  - {{model: base, layer_range: [0, 2]}}\n");
        let whole = format!(
            "merge_method: {method}\nbase_model: base\nparameters: {{weight: 0.5}}\nmodels: [{{model: a}}, {{model: b}}]\n"
        );
        let [listed, whole] =
            [listed, whole].map(|yaml| world.merge(&yaml, |_| ()).expect("merged"));
        assert!(same(&listed, &whole), "{method}");
    }
}

/// Pieces that recipes are made of, and pieces that they are not.
const PIECES: [&str; 26] = [
    "merge_method: ties\n",
    "base_model: base\n",
    "models:\n",
    "- model: a\n",
    "  ",
    "slices:\n",
    "- sources:\n",
    "  layer_range: [0, 2]\n",
    "parameters: ",
    "{weight: 1}\n",
    "weight: [0, 1]\n",
    "{<<: *x}",
    "&x ",
    "*x",
    "- {filter: mlp, value: 0.5}\n",
    "tokenizer: {source: union}\n",
    "---\n",
    "modules:\n",
    "text: ",
    "[",
    "]",
    ": ",
    "a+b@c",
    "\u{feff}",
    "!!float ",
    "\n",
];

proptest! {
    #[test]
    fn whatever_is_written_the_reader_answers(
        pieces in prop::collection::vec(prop::sample::select(&PIECES[..]), 0..24),
        text in ".{0,40}",
    ) {
        for yaml in [pieces.concat(), format!("{}{text}", pieces.concat())] {
            if let Err(error) = read(&yaml) {
                let error = error.to_string();
                prop_assert!(!error.contains('\n') && error.starts_with("r.yaml"), "{error}");
            }
        }
    }
}
