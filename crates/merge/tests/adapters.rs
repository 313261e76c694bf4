//! Adapters against PEFT and against the merge that mergekit made of one.

mod support;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use debias_merge::Adapter;
use debias_weights::{Checkpoint, Tensor};
use serde::Deserialize;
use serde_json::{Map, Value, json};

#[derive(Deserialize)]
struct Golden {
    cases: BTreeMap<String, Case>,
}

#[derive(Deserialize)]
struct Case {
    config: Map<String, Value>,
    adapter: BTreeMap<String, Numbers>,
    base: BTreeMap<String, Numbers>,
    merged: BTreeMap<String, Numbers>,
}

#[derive(Clone, Deserialize)]
struct Numbers {
    shape: Vec<usize>,
    values: Vec<f32>,
}

fn golden() -> BTreeMap<String, Case> {
    let text = include_str!("golden/peft_adapters.json");
    let golden: Golden = serde_json::from_str(text).expect("made by peft_adapters.py");
    golden.cases
}

/// An adapter's folder inside `parent`.
fn adapter(
    parent: &Path,
    config: &Map<String, Value>,
    tensors: &BTreeMap<String, Numbers>,
) -> PathBuf {
    let tensor = |(name, Numbers { shape, values }): (&String, &Numbers)| {
        let (shape, values) = (shape.clone(), values.clone());
        (name.clone(), Tensor { shape, values })
    };
    let config = Value::Object(config.clone());
    let tensors = tensors.iter().map(tensor).collect();
    support::adapter(&parent.join("adapter"), &config, &tensors)
}

/// `weights` with the adapter's change of the tensor `name`.
fn adapted(adapter: &Adapter, name: &str, base: &Numbers) -> Vec<f32> {
    let (mut weights, shape) = match adapter.replaced(name).expect("floats") {
        Some((stored, shape)) => (stored.all(), shape.to_vec()),
        None => (base.values.clone(), base.shape.clone()),
    };
    if let Some(change) = adapter.change(name, &shape).expect("fits") {
        for (at, weight) in weights.iter_mut().enumerate() {
            let (row, column) = (at / change.columns, at % change.columns);
            for r in 0..change.rank {
                *weight += change.b[row * change.rank + r] * change.a[r * change.columns + column];
            }
        }
    }
    weights
}

fn assert_near(got: &[f32], want: &[f32], name: &str) {
    assert_eq!(got.len(), want.len(), "{name}");
    for (got, want) in got.iter().zip(want) {
        assert!(
            (got - want).abs() <= 5e-7 + 1e-6 * want.abs(),
            "{name}: {got} for {want}"
        );
    }
}

#[test]
fn every_case_of_peft_is_merged_as_peft_merges_it() {
    let cases = golden();
    assert_eq!(cases.len(), 6);
    for (label, case) in cases {
        let parent = tempfile::tempdir().expect("a temporary folder");
        let dir = adapter(parent.path(), &case.config, &case.adapter);
        assert!(Adapter::is_at(&dir) && !Adapter::is_at(parent.path()));
        let adapter = Adapter::open(&dir, &label).expect("plain");
        let mut moved = 0;
        for (name, base) in &case.base {
            let got = adapted(&adapter, name, base);
            assert_near(&got, &case.merged[name].values, &format!("{label}: {name}"));
            moved += usize::from(got != base.values);
        }
        let known = adapter.modules().count() + adapter.wholes().count();
        assert_eq!(
            moved, known,
            "{label}: every part of it moves a tensor of the base"
        );
    }
}

#[test]
fn the_adapter_that_mergekit_merged_gives_its_numbers() {
    let Some(dir) = fixtures() else { return };
    let dir = dir.join("merge");
    let base = Checkpoint::open(&dir.join("inputs/base")).expect("a model");
    let other = Checkpoint::open(&dir.join("inputs/ft_a")).expect("a model");
    let want = Checkpoint::open(&dir.join("expected/lora_ref")).expect("a model");
    let adapter = Adapter::open(&dir.join("inputs/lora"), "lora").expect("plain");
    assert_eq!(adapter.modules().count(), 6);
    for name in [
        "model.layers.1.self_attn.q_proj.weight",
        "model.layers.1.mlp.down_proj.weight",
    ] {
        let shape = base.info(name).expect("is there").shape.clone();
        let base = Numbers {
            values: base.f32(name, &shape).expect("finite"),
            shape: shape.clone(),
        };
        let half = |(a, b): (&f32, &f32)| 0.5 * a + 0.5 * b;
        let other = other.f32(name, &shape).expect("finite");
        let got: Vec<f32> = adapted(&adapter, name, &base)
            .iter()
            .zip(&other)
            .map(half)
            .collect();
        assert_near(&got, &want.f32(name, &shape).expect("finite"), name);
    }
    let norm = adapter
        .change("model.norm.weight", &[64])
        .expect("no such module");
    assert!(
        norm.is_none()
            && adapter
                .replaced("model.norm.weight")
                .expect("none")
                .is_none()
    );
}

#[test]
fn what_is_no_sound_adapter_is_refused_in_a_line() {
    let case = golden().remove("patterns").expect("a case");
    let a = "base_model.model.layers.0.q_proj.lora_A.weight";
    let b = "base_model.model.layers.0.q_proj.lora_B.weight";
    type Change = fn(&mut Map<String, Value>, &mut BTreeMap<String, Numbers>);
    let cases: [(&str, Change); 6] = [
        ("`layers.0.q_proj` has no lora_B", |_, tensors| {
            tensors.remove("base_model.model.layers.0.q_proj.lora_B.weight");
        }),
        ("lora_A has shape [3, 3] and lora_B [3, 3]", |config, _| {
            config.insert("rank_pattern".into(), json!({"q_proj": 4}));
        }),
        ("lora_A has shape [3, 3] and lora_B [9]", |_, tensors| {
            let b = tensors.get_mut("base_model.model.layers.0.q_proj.lora_B.weight");
            b.expect("is there").shape = vec![9];
        }),
        ("peft_type `IA3` is not merged", |config, _| {
            config.insert("peft_type".into(), json!("IA3"));
        }),
        ("DoRA", |_, tensors| {
            let norm = Numbers {
                shape: vec![1],
                values: vec![1.0],
            };
            tensors.insert("base_model.model.q.lora_magnitude_vector".into(), norm);
        }),
        ("holds no tensors", |_, tensors| tensors.clear()),
    ];
    for (want, change) in cases {
        let (mut config, mut tensors) = (case.config.clone(), case.adapter.clone());
        assert!(tensors.contains_key(a) && tensors.contains_key(b));
        change(&mut config, &mut tensors);
        let parent = tempfile::tempdir().expect("a temporary folder");
        let dir = adapter(parent.path(), &config, &tensors);
        let error = Adapter::open(&dir, "mine").expect_err(want).to_string();
        assert!(
            error.starts_with("model `mine`: ") && error.contains(want),
            "{error}"
        );
        assert!(!error.contains('\n'), "{error}");
    }
}

#[test]
fn a_change_that_does_not_fit_names_the_module_and_the_shapes() {
    let case = golden().remove("patterns").expect("a case");
    let parent = tempfile::tempdir().expect("a temporary folder");
    let dir = adapter(parent.path(), &case.config, &case.adapter);
    let adapter = Adapter::open(&dir, "mine").expect("plain");
    let error = adapter
        .change("layers.0.up_proj.weight", &[6, 3])
        .expect_err("is [5, 3]");
    let error = error.to_string();
    assert!(
        error.contains("`layers.0.up_proj`, 5 outputs by 3 inputs") && error.contains("[6, 3]"),
        "{error}"
    );
}

#[test]
fn nan_is_refused_until_it_is_allowed() {
    let case = golden().remove("transposed").expect("a case");
    let parent = tempfile::tempdir().expect("a temporary folder");
    let dir = adapter(parent.path(), &case.config, &case.adapter);
    let file = dir.join("adapter_model.safetensors");
    let mut bytes = fs::read(&file).expect("was written");
    let last = bytes.len() - 4;
    bytes[last..].copy_from_slice(&f32::NAN.to_le_bytes());
    fs::write(&file, bytes).expect("is writable");
    let read = |adapter: Adapter| adapter.change("c_proj.weight", &[3, 3]);
    let error = read(Adapter::open(&dir, "mine").expect("plain")).expect_err("a NaN");
    assert!(
        error
            .to_string()
            .contains("`base_model.model.c_proj.lora_B.weight` holds NaN"),
        "{error}"
    );
    let allowed = Adapter::open(&dir, "mine")
        .expect("plain")
        .allow_nonfinite(true);
    assert!(read(allowed).is_ok());
}

/// The fixtures' folder; `None`, said on stderr, where there is none and CI does not ask for it.
fn fixtures() -> Option<PathBuf> {
    let dir = std::env::var_os("DEBIAS_BENCH_FIXTURES").map(PathBuf::from);
    let dir = dir.filter(|dir| dir.is_dir());
    if dir.is_none() {
        let ci = std::env::var("CI").is_ok_and(|value| value == "true");
        assert!(!ci, "CI needs DEBIAS_BENCH_FIXTURES");
        // Not eprintln!: the test harness swallows it, and a skipped case must be seen.
        let _ = std::io::Write::write_all(
            &mut std::io::stderr(),
            b"SKIPPED 1 case: DEBIAS_BENCH_FIXTURES names no folder\n",
        );
    }
    dir
}
