//! Merges of adapters: among themselves to an adapter, and onto a base.

mod files;
#[path = "../support/mod.rs"]
mod support;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use debias_merge::{Adapter, Error, Folders, Options, Outcome, Planned, Recipe, Unwatched};
use debias_weights::{Checkpoint, Tensor, write_folder};
use serde_json::{Value, json};

/// Sides of the weights of the base.
const WEIGHTS: [(&str, [usize; 2]); 3] = [
    ("layers.0.q.weight", [6, 6]),
    ("layers.0.up.weight", [8, 6]),
    ("layers.1.q.weight", [6, 6]),
];

/// Numbers between -1 and 1 that look random.
fn numbers(shape: &[usize], seed: u32) -> Tensor {
    let mut state = seed.wrapping_mul(2_654_435_769).wrapping_add(1);
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) as f32 / (1 << 23) as f32 - 1.0
    };
    let values = (0..shape.iter().product::<usize>())
        .map(|_| next())
        .collect();
    let shape = shape.to_vec();
    Tensor { shape, values }
}

/// A folder with `base`, and adapters `a` and `b` of rank 4 and `c` of other ranks and fewer modules.
fn store() -> tempfile::TempDir {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let mut base = BTreeMap::from([("norm.weight".to_owned(), numbers(&[6], 90))]);
    for (at, (name, shape)) in WEIGHTS.iter().enumerate() {
        base.insert((*name).to_owned(), numbers(shape, 100 + at as u32));
    }
    let config = ("config.json".to_owned(), b"{}".to_vec());
    write_folder(&dir.path().join("base"), &[config], &base, false).expect("is writable");
    let plain =
        json!({"peft_type": "LORA", "r": 4, "lora_alpha": 8, "target_modules": ["q", "up"]});
    let loud = json!({"peft_type": "LORA", "r": 4, "lora_alpha": 2, "target_modules": ["up", "q"]});
    let other = json!({"peft_type": "LORA", "r": 2, "lora_alpha": 3, "rank_pattern": {"1.q": 3}, "target_modules": ["q"]});
    let rank = |name: &str| if name.contains("1.q") { 3 } else { 2 };
    adapter(dir.path(), "a", &plain, 1, |_| Some(4));
    adapter(dir.path(), "b", &loud, 2, |_| Some(4));
    adapter(dir.path(), "c", &other, 3, |name| {
        (!name.contains("up")).then(|| rank(name))
    });
    dir
}

fn adapter(
    parent: &Path,
    label: &str,
    config: &Value,
    seed: u32,
    rank: impl Fn(&str) -> Option<usize>,
) {
    let mut tensors = BTreeMap::new();
    for (at, (name, [outputs, inputs])) in WEIGHTS.iter().enumerate() {
        let module = name.strip_suffix(".weight").expect("is a weight");
        let Some(rank) = rank(module) else { continue };
        let seed = 10 * seed + at as u32;
        let key = |factor: &str| format!("base_model.model.{module}.lora_{factor}.weight");
        tensors.insert(key("A"), numbers(&[rank, *inputs], seed));
        tensors.insert(key("B"), numbers(&[*outputs, rank], seed + 500));
    }
    support::adapter(&parent.join(label), config, &tensors);
}

/// Merges as `recipe` says, in `dir`, to `dir/out`.
fn merge(dir: &Path, recipe: &str, out: &str) -> Result<Outcome, Error> {
    let library = Folders::below([dir.to_owned()]);
    let recipe = Recipe::parse(recipe, "recipe", &|name| library.has(name))?;
    let planned = Planned::new(recipe, &library, Options::default())?;
    planned.write(&dir.join(out), true, &Unwatched)
}

fn list(models: &[(&str, f64)]) -> String {
    let entry = |(model, weight): &(&str, f64)| {
        format!("  - model: {model}\n    parameters: {{weight: {weight}}}\n")
    };
    models.iter().map(entry).collect()
}

/// The change that an adapter makes, whole; zeros where it makes none.
fn change(dir: &Path, label: &str, name: &str, shape: [usize; 2]) -> Vec<f64> {
    let adapter = Adapter::open(&dir.join(label), label).expect("a sound adapter");
    let mut sum = vec![0.0; shape[0] * shape[1]];
    if let Some(change) = adapter.change(name, &shape).expect("fits") {
        for (at, sum) in sum.iter_mut().enumerate() {
            let (row, column) = (at / change.columns, at % change.columns);
            let product = |r| {
                let (b, a) = (
                    change.b[row * change.rank + r],
                    change.a[r * change.columns + column],
                );
                f64::from(b) * f64::from(a)
            };
            *sum = (0..change.rank).map(product).sum();
        }
    }
    sum
}

fn weights(dir: &Path, folder: &str, name: &str) -> Vec<f64> {
    let checkpoint = Checkpoint::open(&dir.join(folder)).expect("a model");
    let shape = checkpoint.info(name).expect("is there").shape.clone();
    let values = checkpoint.f32(name, &shape).expect("finite");
    values.into_iter().map(f64::from).collect()
}

fn factor(dir: &Path, label: &str, key: &str) -> Vec<f64> {
    let file = dir.join(label).join("adapter_model.safetensors");
    let file = Checkpoint::open_file(&file).expect("an adapter's file");
    let shape = file.info(key).expect("is there").shape.clone();
    let values = file.f32(key, &shape).expect("finite");
    values.into_iter().map(f64::from).collect()
}

fn config(dir: &Path, label: &str) -> Value {
    let text = fs::read(dir.join(label).join("adapter_config.json")).expect("was written");
    serde_json::from_slice(&text).expect("JSON")
}

fn near(got: &[f64], want: &[f64], what: &str) {
    assert_eq!(got.len(), want.len(), "{what}");
    for (got, want) in got.iter().zip(want) {
        assert!(
            (got - want).abs() <= 2e-6 + 2e-6 * want.abs(),
            "{what}: {got} for {want}"
        );
    }
}

fn sum(parts: &[(f64, Vec<f64>)]) -> Vec<f64> {
    let mut sum = vec![0.0; parts[0].1.len()];
    for (weight, part) in parts {
        sum.iter_mut()
            .zip(part)
            .for_each(|(sum, x)| *sum += weight * x);
    }
    sum
}

#[test]
fn linear_among_adapters_is_the_exact_sum_of_their_products() {
    let dir = store();
    let dir = dir.path();
    let models = list(&[("a", 1.0), ("b", -0.5), ("c", 2.0)]);
    for (normalize, total) in [(true, 2.5), (false, 1.0)] {
        let recipe = format!(
            "merge_method: linear\nmodels:\n{models}parameters: {{normalize: {normalize}}}\n"
        );
        merge(dir, &recipe, "out").expect("merges");
        for (name, shape) in WEIGHTS {
            let each = |label, weight: f64| (weight / total, change(dir, label, name, shape));
            let want = sum(&[each("a", 1.0), each("b", -0.5), each("c", 2.0)]);
            near(&change(dir, "out", name, shape), &want, name);
        }
    }
    // 4 + 4 + 2 for the first q, + 3 for the second, and 4 + 4 for up, which c has not.
    let config = config(dir, "out");
    let ranks: Vec<_> = WEIGHTS
        .iter()
        .map(|(name, shape)| {
            let adapter = Adapter::open(&dir.join("out"), "out").expect("sound");
            adapter
                .change(name, shape)
                .expect("fits")
                .expect("changes it")
                .rank
        })
        .collect();
    assert_eq!(ranks, [10, 8, 11]);
    assert_eq!(config["peft_type"], "LORA");
    assert_eq!(config["use_rslora"], false);
    let targets = json!(["layers.0.q", "layers.0.up", "layers.1.q"]);
    assert_eq!(
        config["target_modules"], targets,
        "the adapters have different targets"
    );
    assert!(!dir.join("out/config.json").exists() && !dir.join("out/model.safetensors").exists());
    assert!(dir.join("out/merge.json").exists());
}

#[test]
fn equal_adapters_keep_their_configuration_and_stack_their_ranks() {
    let dir = store();
    let dir = dir.path();
    fs::create_dir(dir.join("again")).expect("is writable");
    for file in ["adapter_config.json", "adapter_model.safetensors"] {
        fs::copy(dir.join("a").join(file), dir.join("again").join(file)).expect("is writable");
    }
    let models = list(&[("a", 0.5), ("again", 0.5)]);
    merge(
        dir,
        &format!("merge_method: linear\nmodels:\n{models}"),
        "out",
    )
    .expect("merges");
    let config = config(dir, "out");
    assert_eq!(
        (&config["r"], &config["lora_alpha"]),
        (&json!(8), &json!(16))
    );
    assert_eq!(
        (&config["rank_pattern"], &config["alpha_pattern"]),
        (&json!({}), &json!({}))
    );
    assert_eq!(config["target_modules"], json!(["q", "up"]));
    for (name, shape) in WEIGHTS {
        near(
            &change(dir, "out", name, shape),
            &change(dir, "a", name, shape),
            name,
        );
    }
}

#[test]
fn factors_apart_keep_the_rank() {
    let dir = store();
    let dir = dir.path();
    let models = list(&[("a", 3.0), ("b", 1.0)]);
    let separate =
        format!("merge_method: linear\nmodels:\n{models}parameters: {{lora_factors: separate}}\n");
    let task = format!(
        "merge_method: task_arithmetic\nmodels:\n{}",
        list(&[("a", 0.75), ("b", 0.25)])
    );
    for recipe in [separate, task] {
        merge(dir, &recipe, "out").expect("merges");
        let key = |of: &str| format!("base_model.model.layers.0.up.lora_{of}.weight");
        let both = |of: &str, of_b: f64| {
            let key = key(of);
            sum(&[
                (0.75, factor(dir, "a", &key)),
                (0.25 * of_b, factor(dir, "b", &key)),
            ])
        };
        near(&factor(dir, "out", &key("A")), &both("A", 1.0), "A");
        // The scale of a is 2, that of b 1/2.
        near(&factor(dir, "out", &key("B")), &both("B", 0.25), "B");
        let config = config(dir, "out");
        assert_eq!(
            (&config["r"], &config["lora_alpha"]),
            (&json!(4), &json!(8))
        );
    }
}

#[test]
fn a_weight_that_turns_both_factors_is_told() {
    let dir = store();
    let library = Folders::below([dir.path().to_owned()]);
    let notes = |method: &str, models: &[(&str, f64)]| -> Vec<String> {
        let recipe = format!("merge_method: {method}\nmodels:\n{}", list(models));
        let recipe = Recipe::parse(&recipe, "recipe", &|name| library.has(name)).expect("a recipe");
        let planned = Planned::new(recipe, &library, Options::default()).expect("fits");
        planned.notes().map(str::to_owned).collect()
    };
    assert_eq!(notes("linear", &[("a", 2.0), ("b", -1.0)]), [""; 0]);
    assert_eq!(notes("ties", &[("a", 2.0), ("b", 1.0)]).len(), 1);
    let told = notes("task_arithmetic", &[("a", 2.0), ("b", -1.0)]);
    assert!(told[1].contains("keeps its sign"), "{told:?}");
}

#[test]
fn adapters_on_a_base_are_merged_as_models() {
    let dir = store();
    let dir = dir.path();
    let alone = list(&[("a", 1.0), ("c", 3.0)]);
    let whole = list(&[("base+a", 1.0), ("base+c", 3.0)]);
    let linear = format!("merge_method: linear\nbase_model: base\nmodels:\n{alone}");
    let plain = format!("merge_method: linear\nmodels:\n{whole}");
    merge(dir, &linear, "linear").expect("merges");
    merge(dir, &plain, "plain").expect("merges");
    let ties = |models: &str| {
        format!(
            "merge_method: ties\nbase_model: base\nmodels:\n{models}parameters: {{density: 0.4}}\n"
        )
    };
    merge(dir, &ties(&alone), "ties").expect("merges");
    merge(dir, &ties(&whole), "ties_whole").expect("merges");
    for (name, shape) in WEIGHTS {
        let want = sum(&[
            (1.0, weights(dir, "base", name)),
            (0.25, change(dir, "a", name, shape)),
            (0.75, change(dir, "c", name, shape)),
        ]);
        near(&weights(dir, "linear", name), &want, name);
        assert_eq!(weights(dir, "linear", name), weights(dir, "plain", name));
        assert_eq!(weights(dir, "ties", name), weights(dir, "ties_whole", name));
        assert_ne!(weights(dir, "ties", name), weights(dir, "base", name));
    }
    assert_eq!(
        weights(dir, "linear", "norm.weight"),
        weights(dir, "base", "norm.weight")
    );
}

#[test]
fn robust_merge_gives_the_same_as_an_adapter_and_on_the_base() {
    let dir = store();
    let dir = dir.path();
    for variant in ["released", "paper"] {
        let parameters = format!("parameters: {{variant: {variant}, keep_ratio: 0.4}}\n");
        let models = "models:\n  - model: a\n  - model: b\n";
        let recipe = format!("merge_method: robust_merge\n{models}{parameters}");
        merge(dir, &recipe, "adapter").expect("merges");
        merge(dir, &format!("{recipe}base_model: base\n"), "onto").expect("merges");
        let spelled = models.replace("a\n", "base+a\n").replace("b\n", "base+b\n");
        merge(
            dir,
            &format!("merge_method: robust_merge\n{spelled}{parameters}"),
            "spelled",
        )
        .expect("merges");
        let rank = config(dir, "adapter")["r"].as_u64();
        assert_eq!(rank, Some(if variant == "paper" { 8 } else { 4 }));
        for (name, shape) in WEIGHTS {
            let want = sum(&[
                (1.0, weights(dir, "base", name)),
                (1.0, change(dir, "adapter", name, shape)),
            ]);
            near(&weights(dir, "onto", name), &want, name);
            assert_eq!(weights(dir, "onto", name), weights(dir, "spelled", name));
        }
        assert_eq!(
            weights(dir, "onto", "norm.weight"),
            weights(dir, "base", "norm.weight")
        );
    }
}

#[test]
fn rows_that_are_pruned_to_nothing_are_told() {
    let dir = store();
    let recipe = "merge_method: robust_merge\nmodels:\n  - model: a\n  - model: b\nparameters: {keep_ratio: 0.05}\n";
    for recipe in [recipe.to_owned(), format!("{recipe}base_model: base\n")] {
        let said = merge(dir.path(), &recipe, "out").expect("merges").remarks;
        assert_eq!(said.len(), 3, "{said:?}");
        assert!(
            said.iter().all(|line| line.contains("pruned to nothing")),
            "{said:?}"
        );
    }
}
