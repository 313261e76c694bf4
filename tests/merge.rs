//! `bench merge` from outside: what it writes, what it refuses, and what is left behind.

mod support;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use debias_weights::{Checkpoint, Tensor, write_folder};
use serde_json::Value;
use support::{bench, folder, json, run_in, status, stderr, stdout};

const UP: &str = "language_model.model.layers.0.mlp.up_proj.weight";
const HEAD: &str = "language_model.lm_head.weight";
const EYE: &str = "vision_tower.layers.0.mlp.fc1.weight";

/// Writes a small model of two towers; `change` may alter its tensors.
fn model(dir: &Path, name: &str, salt: usize, change: impl FnOnce(&mut BTreeMap<String, Tensor>)) {
    let mut tensors = BTreeMap::new();
    for (tensor, shape) in [(UP, [6, 4]), (HEAD, [10, 4]), (EYE, [5, 5])] {
        let len = shape.iter().product::<usize>();
        let value = |i: usize| ((i * 37 + salt * 11) % 23) as f32 / 23.0 - 0.4;
        let values = (0..len).map(value).collect();
        let shape = shape.to_vec();
        tensors.insert(tensor.to_owned(), Tensor { shape, values });
    }
    change(&mut tensors);
    let config = br#"{"model_type": "llava", "torch_dtype": "float32"}"#.to_vec();
    let files = [("config.json".to_owned(), config)];
    write_folder(&dir.join(name), &files, &tensors, false).expect("a checkpoint");
}

fn world() -> tempfile::TempDir {
    let dir = folder();
    for (salt, name) in ["base", "a", "b"].into_iter().enumerate() {
        model(dir.path(), name, salt, |_| ());
    }
    dir
}

fn recipe(dir: &Path, text: &str) {
    fs::write(dir.join("recipe.yaml"), text).expect("written");
}

const LINEAR: &str = "merge_method: linear
models:
- model: a
- model: b
parameters: {weight: 0.5}
";

fn values(checkpoint: &Checkpoint, name: &str) -> Vec<f32> {
    let shape = checkpoint.info(name).expect(name).shape.clone();
    checkpoint.f32(name, &shape).expect(name)
}

/// What lies in the folder besides models and recipe.
fn left(dir: &Path) -> Vec<String> {
    let known = ["base", "a", "b", "odd", "recipe.yaml"];
    let entries = fs::read_dir(dir).expect("a folder");
    let names = entries.map(|e| {
        e.expect("an entry")
            .file_name()
            .to_string_lossy()
            .into_owned()
    });
    names
        .filter(|name| !known.contains(&name.as_str()))
        .collect()
}

#[test]
fn a_merged_folder_is_whole_and_says_what_made_it() {
    let dir = world();
    recipe(dir.path(), LINEAR);
    let output = run_in(dir.path(), &["merge", "recipe.yaml", "out", "--json"]);
    assert_eq!(status(&output), 0, "{}", stderr(&output));
    let report = json(&output);
    assert_eq!(report["method"], "linear");
    assert_eq!(report["tensors"], 3);
    assert_eq!(report["parameters"], 24 + 40 + 25);
    assert_eq!(report["bytes_written"], 4 * 89);
    assert_eq!(report["bytes_read"], 2 * 4 * 89);
    assert!(report["wall_s"].as_f64().is_some_and(|s| s >= 0.0));
    assert!(report["peak_bytes"].as_u64().is_some_and(|bytes| bytes > 0));
    let of = |name: &str| Checkpoint::open(&dir.path().join(name)).expect(name);
    let (out, a, b) = (of("out"), of("a"), of("b"));
    for name in out.names() {
        for (got, (a, b)) in values(&out, name)
            .iter()
            .zip(values(&a, name).iter().zip(values(&b, name)))
        {
            assert!((got - (a + b) / 2.0).abs() < 1e-6);
        }
    }
    let manifest: Value = out.json("merge.json").expect("a manifest");
    assert_eq!(manifest["method"], "linear");
    assert_eq!(manifest["recipe"], LINEAR);
    assert_eq!(manifest["inputs"].as_array().map(Vec::len), Some(2));
    assert_eq!(left(dir.path()), ["out"]);
}

#[test]
fn check_prints_the_plan_and_writes_nothing() {
    let dir = world();
    recipe(dir.path(), LINEAR);
    let output = run_in(dir.path(), &["merge", "recipe.yaml", "--check", "--json"]);
    assert_eq!(status(&output), 0, "{}", stderr(&output));
    let report = json(&output);
    assert_eq!(report["tensors"], 3);
    assert_eq!(report["plan"].as_array().map(Vec::len), Some(3));
    assert!(report["memory"].as_u64().is_some_and(|bytes| bytes > 0));
    assert!(report["expected_s"].as_f64().is_some_and(|s| s >= 0.0));
    let output = run_in(dir.path(), &["merge", "recipe.yaml", "out", "--check"]);
    assert!(stdout(&output).contains("nothing was written"));
    assert!(left(dir.path()).is_empty());
}

#[test]
fn one_tower_is_merged_and_the_rest_copied() {
    let dir = world();
    let only = format!("{LINEAR}base_model: base\nonly: language_model\n");
    let module = "merge_method: slerp
base_model: base
modules:
  vision_tower:
    models:
    - model: a
parameters: {t: 0.5}
";
    let filter = "merge_method: task_arithmetic
base_model: base
models:
- model: a
  parameters:
    weight:
    - {filter: language_model, value: 1}
    - {value: 0}
";
    for (text, merged) in [
        (only.as_str(), vec![UP, HEAD]),
        (module, vec![EYE]),
        (filter, vec![UP, HEAD]),
    ] {
        recipe(dir.path(), text);
        let output = run_in(dir.path(), &["merge", "recipe.yaml", "out", "--force"]);
        assert_eq!(status(&output), 0, "{}", stderr(&output));
        let of = |name: &str| Checkpoint::open(&dir.path().join(name)).expect(name);
        let (out, base) = (of("out"), of("base"));
        for name in [UP, HEAD, EYE] {
            let same = values(&out, name) == values(&base, name);
            assert_eq!(same, !merged.contains(&name), "{text}\n{name}");
        }
    }
}

/// One refused recipe: its text, the odd model, and words of the one line that says why.
type Refused = (
    &'static str,
    fn(&mut BTreeMap<String, Tensor>),
    &'static [&'static str],
);

#[test]
fn bad_input_is_refused_in_one_line_and_leaves_nothing() {
    const ODD: &str =
        "merge_method: linear\nmodels:\n- model: a\n- model: odd\nparameters: {weight: 0.5}\n";
    let cases: [Refused; 11] = [
        (ODD, |t| drop(t.remove(UP)), &[UP, "missing", "odd"]),
        (
            ODD,
            |t| {
                drop(t.insert(
                    "extra.weight".to_owned(),
                    Tensor {
                        shape: vec![1],
                        values: vec![0.0],
                    },
                ))
            },
            &["extra.weight", "missing", "`a`"],
        ),
        (
            ODD,
            |t| {
                drop(t.insert(
                    EYE.to_owned(),
                    Tensor {
                        shape: vec![5, 4],
                        values: vec![0.0; 20],
                    },
                ))
            },
            &[EYE, "[5, 5]", "[5, 4]"],
        ),
        (
            "merge_method: linear\nmodels:\n- model: a\n  parameters: {weight: 1}\n- model: b\n  parameters: {weight: -1}\n",
            |_| (),
            &["weight", "sum to zero", "normalize"],
        ),
        (
            "merge_method: linear\nmodles:\n- model: a\n",
            |_| (),
            &["models"],
        ),
        (
            "merge_method: linear\nmodels:\n- model: a\n  weight: 1\n",
            |_| (),
            &["models[0].weight", "parameters"],
        ),
        (
            "merge_method: linear\nmodels:\n- model: a\nparameters: {wieght: 1}\n",
            |_| (),
            &["wieght", "weight"],
        ),
        (
            "merge_method: liner\nmodels:\n- model: a\n",
            |_| (),
            &["liner", "linear"],
        ),
        (
            "merge_method: linear\nmodels:\n- model: nowhere\nparameters: {weight: 1}\n",
            |_| (),
            &["nowhere", "no such folder"],
        ),
        ("merge_method: linear\nmodels: [\n", |_| (), &["YAML"]),
        (
            "merge_method: linear\nmodels:\n- model: away@main\nparameters: {weight: 1}\n",
            |_| (),
            &["revision"],
        ),
    ];
    for (text, change, words) in cases {
        let dir = world();
        model(dir.path(), "odd", 5, change);
        recipe(dir.path(), text);
        let output = run_in(dir.path(), &["merge", "recipe.yaml", "out"]);
        assert!(
            [2, 4].contains(&status(&output)),
            "{text}: {}",
            stderr(&output)
        );
        let said = stderr(&output);
        for word in words {
            assert!(said.contains(word), "{text}: {said}");
        }
        assert!(!said.contains("panicked") && stdout(&output).is_empty());
        assert!(left(dir.path()).is_empty(), "{:?}", left(dir.path()));
    }
}

#[test]
fn what_has_no_effect_is_named_and_refused_when_that_is_asked() {
    let dir = world();
    let odd = "name: mine
parametres: {t: 1}
merge_method: linear
models:
- {model: a, weight: 0.9}
- model: b
parameters: {weight: 0.5, smooth: false}
";
    recipe(dir.path(), odd);
    let output = run_in(dir.path(), &["merge", "recipe.yaml", "out"]);
    assert_eq!(status(&output), 0, "{}", stderr(&output));
    let said = stderr(&output);
    for words in [
        "`name` has no effect",
        "did you mean `parameters`?",
        "`parameters.smooth` has no effect",
        "`models[0].weight` IS IGNORED",
    ] {
        assert_eq!(said.matches(words).count(), 1, "{words}: {said}");
    }
    let strict = run_in(dir.path(), &["merge", "recipe.yaml", "other", "--strict"]);
    assert_eq!(status(&strict), 2, "{}", stderr(&strict));
    assert!(stderr(&strict).contains("`name`") && stderr(&strict).contains("--strict"));
    assert_eq!(left(dir.path()), ["out"]);
}

/// Overwrites the first value of a stored tensor by NaN.
fn poison(path: &Path, tensor: &str) {
    let file = path.join("model.safetensors");
    let mut bytes = fs::read(&file).expect("weights");
    let length = u64::from_le_bytes(*bytes.first_chunk().expect("a header")) as usize;
    let header: Value = serde_json::from_slice(&bytes[8..8 + length]).expect("a header");
    let at = 8
        + length
        + header[tensor]["data_offsets"][0]
            .as_u64()
            .expect("an offset") as usize;
    bytes[at..at + 4].copy_from_slice(&f32::NAN.to_le_bytes());
    fs::write(&file, bytes).expect("written");
}

#[test]
fn nan_is_named_and_passes_only_when_allowed() {
    let dir = world();
    recipe(dir.path(), LINEAR);
    poison(&dir.path().join("b"), HEAD);
    let output = run_in(dir.path(), &["merge", "recipe.yaml", "out"]);
    assert_eq!(status(&output), 4);
    for word in [HEAD, "`b`", "1 value", "--allow-nonfinite"] {
        assert!(
            stderr(&output).contains(word),
            "{word}: {}",
            stderr(&output)
        );
    }
    assert!(left(dir.path()).is_empty());
    let output = run_in(
        dir.path(),
        &["merge", "recipe.yaml", "out", "--allow-nonfinite"],
    );
    assert_eq!(status(&output), 0, "{}", stderr(&output));
}

#[test]
fn what_is_there_is_replaced_only_when_forced() {
    let dir = world();
    recipe(dir.path(), LINEAR);
    let merge = |extra: &[&str]| {
        let args = [&["merge", "recipe.yaml", "out"][..], extra].concat();
        run_in(dir.path(), &args)
    };
    assert_eq!(status(&merge(&[])), 0);
    let before = fs::read(dir.path().join("out/merge.json")).expect("a manifest");
    recipe(dir.path(), &LINEAR.replace("0.5", "0.25"));
    let refused = merge(&[]);
    assert_eq!(status(&refused), 4);
    assert!(stderr(&refused).contains("exists already"));
    assert_eq!(
        fs::read(dir.path().join("out/merge.json")).expect("a manifest"),
        before
    );
    assert_eq!(status(&merge(&["--force"])), 0);
    assert_ne!(
        fs::read(dir.path().join("out/merge.json")).expect("a manifest"),
        before
    );
    // A folder of something else is never replaced.
    fs::create_dir_all(dir.path().join("thesis/chapters")).expect("folders");
    let output = run_in(dir.path(), &["merge", "recipe.yaml", "thesis", "--force"]);
    assert_eq!(status(&output), 4);
    assert!(dir.path().join("thesis/chapters").is_dir());
}

#[test]
fn a_bound_on_memory_that_cannot_be_kept_is_refused_before_any_work() {
    let dir = world();
    recipe(dir.path(), LINEAR);
    let output = run_in(
        dir.path(),
        &["merge", "recipe.yaml", "out", "--max-memory", "1M"],
    );
    assert_eq!(status(&output), 2);
    assert!(stderr(&output).contains("--max-memory"));
    assert!(left(dir.path()).is_empty());
}

/// A model large enough that a merge of it can be stopped on the way.
fn large(dir: &Path, name: &str) {
    let len = 24 << 20;
    let tensors = (0..4).map(|at| {
        let values = vec![0.5 + at as f32; len];
        (
            format!("model.layers.{at}.w"),
            Tensor {
                shape: vec![len],
                values,
            },
        )
    });
    let files = [("config.json".to_owned(), b"{}".to_vec())];
    write_folder(&dir.join(name), &files, &tensors.collect(), false).expect("a checkpoint");
}

#[test]
fn killed_or_interrupted_on_the_way_nothing_stands_at_the_target() {
    let dir = folder();
    large(dir.path(), "a");
    recipe(
        dir.path(),
        "merge_method: karcher\nmodels:\n- model: a\n- model: ./a\n",
    );
    let out = dir.path().join("out");
    for (signal, leaves) in [("KILL", true), ("INT", false)] {
        let mut child = bench()
            .args(["merge", "recipe.yaml", "out", "-j", "1"])
            .current_dir(dir.path())
            .stderr(Stdio::null())
            .spawn()
            .expect("bench starts");
        // As soon as the folder beside the target is there, the merge is on its way.
        while left(dir.path())
            .iter()
            .all(|name| !name.starts_with(".out."))
        {
            assert!(
                child.try_wait().expect("a child").is_none(),
                "it was too fast to be stopped"
            );
            thread::sleep(Duration::from_millis(1));
        }
        let killed = Command::new("kill")
            .args([format!("-{signal}"), child.id().to_string()])
            .status();
        assert!(killed.expect("kill runs").success());
        let ended = child.wait().expect("a child");
        assert!(!ended.success());
        assert!(!out.exists());
        assert_eq!(left(dir.path()).is_empty(), !leaves, "{signal}");
        for rest in left(dir.path()) {
            fs::remove_dir_all(dir.path().join(rest)).expect("removed");
        }
    }
}

/// A file system of one MiB, where this user may mount one.
fn small_disk(dir: &Path) -> Option<PathBuf> {
    let at = dir.join("disk");
    fs::create_dir(&at).expect("a folder");
    let mounted = Command::new("mount")
        .args(["-t", "tmpfs", "-o", "size=1m", "tmpfs"])
        .arg(&at)
        .stderr(Stdio::null())
        .status();
    match mounted.is_ok_and(|status| status.success()) {
        true => Some(at),
        false => {
            eprintln!("SKIPPED: no small file system may be mounted here");
            None
        }
    }
}

#[test]
fn a_full_disk_leaves_nothing_behind() {
    let dir = folder();
    let Some(disk) = small_disk(dir.path()) else {
        return;
    };
    large(dir.path(), "a");
    recipe(
        dir.path(),
        "merge_method: passthrough\nmodels:\n- model: a\n",
    );
    let output = run_in(dir.path(), &["merge", "recipe.yaml", "disk/out"]);
    let rest: Vec<_> = fs::read_dir(&disk).expect("the disk").collect();
    let unmounted = Command::new("umount").arg(&disk).status();
    assert_eq!(status(&output), 4, "{}", stderr(&output));
    assert!(
        stderr(&output).contains("bytes are needed"),
        "{}",
        stderr(&output)
    );
    assert!(rest.is_empty() && unmounted.is_ok_and(|status| status.success()));
}

#[test]
fn the_catalogue_shows_every_merge() {
    let dir = folder();
    let listed = stdout(&run_in(dir.path(), &["list", "mergers"]));
    for name in [
        "ties",
        "3dm",
        "pcb",
        "robust_merge",
        "bias_vector",
        "nearswap",
    ] {
        assert!(listed.contains(name), "{name}");
    }
    let shown = stdout(&run_in(dir.path(), &["show", "ties"]));
    for word in ["density", "lambda", "arXiv:2306.01708", "base_model"] {
        assert!(shown.contains(word), "{word}: {shown}");
    }
}

#[test]
fn a_merged_folder_is_a_model_of_every_suite() {
    let dir = folder();
    recipe(
        dir.path(),
        "merge_method: slerp
base_model: tiny-blip2
models:
- model: tiny-blip2-inverted
parameters: {t: 0.5}
",
    );
    let output = run_in(dir.path(), &["merge", "recipe.yaml", "merged"]);
    assert_eq!(status(&output), 0, "{}", stderr(&output));
    let args = [
        "run",
        "--suite",
        "debias-edit",
        "--model",
        "merged",
        "--editor",
        "nothing",
        "--task",
        "vqa",
    ];
    let output = run_in(
        dir.path(),
        &[&args[..], &["--limit", "3", "--json"]].concat(),
    );
    assert_eq!(status(&output), 0, "{}", stderr(&output));
    assert_eq!(json(&output)["cells"][0]["model"], "merged");
}
