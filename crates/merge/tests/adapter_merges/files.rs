//! What the files of an adapter may hold beside factors, and what is refused.

use super::*;

#[test]
fn what_does_not_fit_is_refused_before_anything_is_written() {
    let dir = store();
    let dir = dir.path();
    let models = |labels: &[&str]| -> String {
        labels
            .iter()
            .map(|label| format!("  - model: {label}\n    parameters: {{weight: 1}}\n"))
            .collect()
    };
    let cases = [
        (
            "linear",
            models(&["a", "b"]),
            "base_model: base\nparameters: {lora_factors: separate}\n",
            "`parameters.lora_factors`: is for adapters",
        ),
        (
            "ties",
            models(&["a", "c"]),
            "",
            "module `layers.0.q` has rank 2 here and rank 4 in `a`",
        ),
        (
            "robust_merge",
            "  - model: a\n  - model: c\n".into(),
            "",
            "has rank 2 here and rank 4 in `a`",
        ),
        (
            "robust_merge",
            "  - model: a\n  - model: c\n".into(),
            "base_model: base\n",
            "has rank 2 here and rank 4 in `base+a`",
        ),
        (
            "robust_merge",
            "  - model: base\n  - model: a\n".into(),
            "",
            "is a LoRA adapter; write base+adapter",
        ),
        (
            "robust_merge",
            "  - model: other\n".into(),
            "base_model: base\n",
            "is no LoRA adapter, and robust_merge merges nothing else",
        ),
        (
            "slerp",
            models(&["a", "b"]).replace("weight", "t"),
            "",
            "`base_model`: is missing: slerp needs it",
        ),
        (
            "linear",
            models(&["a", "b"]),
            "only: [layers.0]\n",
            "`only`: would leave out `layers.1.q`",
        ),
        (
            "linear",
            models(&["a", "base"]),
            "",
            "is a LoRA adapter; write base+adapter",
        ),
        (
            "robust_merge",
            "  - model: a\n".into(),
            "base_model: base\nparameters: {keep_ratio: 0}\n",
            "keep_ratio",
        ),
    ];
    let other = Tensor {
        shape: vec![6],
        values: vec![1.0; 6],
    };
    let config_file = ("config.json".to_owned(), b"{}".to_vec());
    let other = BTreeMap::from([("norm.weight".to_owned(), other)]);
    write_folder(&dir.join("other"), &[config_file], &other, false).expect("is writable");
    for (method, models, rest, want) in cases {
        let recipe = format!("merge_method: {method}\nmodels:\n{models}{rest}");
        let error = merge(dir, &recipe, "out").expect_err(want).to_string();
        assert!(error.contains(want), "{error}");
        assert!(!dir.join("out").exists());
    }
}

#[test]
fn tensors_trained_whole_are_averaged_or_need_a_base() {
    let dir = store();
    let dir = dir.path();
    for (label, value) in [("one", 1.0), ("five", 5.0)] {
        let mut tensors = BTreeMap::new();
        for (factor, shape) in [("A", [2, 6]), ("B", [6, 2])] {
            let key = format!("base_model.model.layers.0.q.lora_{factor}.weight");
            tensors.insert(key, numbers(&shape, 7));
        }
        let norm = Tensor {
            shape: vec![6],
            values: vec![value; 6],
        };
        tensors.insert("base_model.model.norm.weight".to_owned(), norm);
        let config = json!({"peft_type": "LORA", "r": 2, "lora_alpha": 2, "target_modules": ["q"], "modules_to_save": ["norm"]});
        support::adapter(&dir.join(label), &config, &tensors);
    }
    let norm = |label: &str| factor(dir, label, "base_model.model.norm.weight");
    let models = list(&[("one", 3.0), ("five", 1.0)]);
    merge(
        dir,
        &format!("merge_method: linear\nmodels:\n{models}"),
        "out",
    )
    .expect("merges");
    assert_eq!(norm("out"), [2.0; 6]);
    let robust = "merge_method: robust_merge\nmodels:\n  - model: one\n  - model: five\n";
    merge(dir, robust, "out").expect("merges");
    assert_eq!(norm("out"), [3.0; 6]);
    merge(dir, &format!("{robust}base_model: base\n"), "onto").expect("merges");
    near(&weights(dir, "onto", "norm.weight"), &[3.0; 6], "norm");
    let ties = format!("merge_method: ties\nmodels:\n{models}");
    let error = merge(dir, &ties, "refused")
        .expect_err("no task vector")
        .to_string();
    assert!(
        error.contains("`norm.weight`") && error.contains("base_model"),
        "{error}"
    );
    merge(dir, &format!("{ties}base_model: base\n"), "onto").expect("merges");
}

#[test]
fn a_copy_of_the_base_beside_factors_is_kept_and_must_be_one() {
    let dir = store();
    let dir = dir.path();
    let copy = "base_model.model.layers.0.q.base_layer.weight";
    for (label, saved) in [("without", None), ("with", Some(1.0)), ("other", Some(2.0))] {
        let mut tensors = BTreeMap::new();
        for (factor, shape) in [("A", [2, 6]), ("B", [6, 2])] {
            let key = format!("base_model.model.layers.0.q.lora_{factor}.weight");
            tensors.insert(key, numbers(&shape, 7));
        }
        if let Some(value) = saved {
            let (shape, values) = (vec![6, 6], vec![value; 36]);
            tensors.insert(copy.to_owned(), Tensor { shape, values });
        }
        let config = json!({"peft_type": "LORA", "r": 2, "lora_alpha": 2, "target_modules": ["q"]});
        support::adapter(&dir.join(label), &config, &tensors);
    }
    for method in ["linear", "task_arithmetic"] {
        let models = list(&[("without", 1.0), ("with", 3.0)]);
        let recipe = format!("merge_method: {method}\nmodels:\n{models}");
        merge(dir, &recipe, "out").expect("merges");
        assert_eq!(factor(dir, "out", copy), [1.0; 36]);
    }
    let models = list(&[("with", 1.0), ("other", 3.0)]);
    let recipe = format!("merge_method: linear\nmodels:\n{models}");
    let error = merge(dir, &recipe, "refused").expect_err("two bases");
    assert!(
        error.to_string().contains("merge adapters of one base"),
        "{error}"
    );
}

#[test]
fn modules_are_found_under_the_wrappers_of_the_file() {
    let dir = store();
    let dir = dir.path();
    let adapter = |label: &str, module: &str| {
        let mut tensors = BTreeMap::new();
        for (factor, shape) in [("A", [2, 6]), ("B", [6, 2])] {
            let key = format!("base_model.model.{module}.lora_{factor}.weight");
            tensors.insert(key, numbers(&shape, 7));
        }
        let config = json!({"peft_type": "LORA", "r": 2, "lora_alpha": 2, "target_modules": ["q"]});
        support::adapter(&dir.join(label), &config, &tensors);
    };
    adapter("bare", "layers.0.q");
    adapter("wrapped", "transformer.layers.0.q");
    adapter("elsewhere", "layers.7.q");
    let recipe =
        |label: &str| format!("merge_method: passthrough\nmodels:\n  - model: base+{label}\n");
    merge(dir, &recipe("bare"), "one").expect("merges");
    merge(dir, &recipe("wrapped"), "two").expect("merges");
    for (name, _) in WEIGHTS {
        assert_eq!(weights(dir, "one", name), weights(dir, "two", name));
        assert_eq!(
            weights(dir, "one", name) == weights(dir, "base", name),
            name != "layers.0.q.weight"
        );
    }
    let error = merge(dir, &recipe("elsewhere"), "three")
        .expect_err("no such layer")
        .to_string();
    assert!(
        error.contains("`layers.7.q.weight`, which `base` lacks"),
        "{error}"
    );
}
