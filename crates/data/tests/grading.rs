//! The scorers against the known outputs of `fixtures/scoring`, key by key, and the readers against
//! the real files. Both are found by environment variables; without them the tests say so and skip.

use std::path::{Path, PathBuf};

use debias_core::{Norm, measure, seed};
use debias_data::benchmarks::{self, Source};
use serde_json::Value;

/// The folder that a variable names.
fn folder(variable: &str) -> Option<PathBuf> {
    let found = std::env::var_os(variable).map(PathBuf::from);
    if found.is_none() {
        eprintln!("skipped: {variable} is not set");
    }
    found
}

fn source(name: &str) -> Option<Source> {
    let root = folder("DEBIAS_BENCH_DATA")?;
    let benchmark = benchmarks::find(name).expect("registered");
    Some(Source::new(benchmark.card(), &root))
}

fn read(path: &Path) -> Value {
    let text = std::fs::read_to_string(path).expect("a fixture");
    serde_json::from_str(&text).expect("JSON")
}

/// Every key of both sides, numbers within 1e-9.
fn same(at: &str, got: &Value, expected: &Value) {
    match (got, expected) {
        (Value::Object(got), Value::Object(expected)) => {
            for (key, expected) in expected {
                let got = got
                    .get(key)
                    .unwrap_or_else(|| panic!("{at}.{key} is missing"));
                same(&format!("{at}.{key}"), got, expected);
            }
            for key in got.keys() {
                assert!(expected.contains_key(key), "{at}.{key} is not expected");
            }
        }
        (Value::Number(got), Value::Number(expected)) => {
            let (got, expected) = (got.as_f64().expect("f64"), expected.as_f64().expect("f64"));
            assert!(
                (got - expected).abs() < 1e-9,
                "{at}: {got} is not {expected}"
            );
        }
        _ => assert_eq!(got, expected, "{at}"),
    }
}

#[test]
fn stereoset_scores_are_those_of_its_own_code() {
    let (Some(fixtures), Some(source)) = (folder("DEBIAS_BENCH_FIXTURES"), source("stereoset"))
    else {
        return;
    };
    let dir = fixtures.join("scoring/stereoset");
    let files = [
        "predictions_gpt2.json.gz",
        "predictions_bert-base-cased.json.gz",
        "synthetic_scores.jsonl",
    ];
    let files = files.map(|name| dir.join(name));
    let benchmark = benchmarks::find("stereoset").expect("registered");
    let graded = benchmark.grade(&files, Some(&source)).expect("graded");
    same(
        "figures",
        &graded.figures,
        &read(&dir.join("expected.json")),
    );
}

#[test]
fn bbq_scores_are_those_of_the_harness_and_of_the_paper() {
    let (Some(fixtures), Some(source)) = (folder("DEBIAS_BENCH_FIXTURES"), source("bbq")) else {
        return;
    };
    let dir = fixtures.join("scoring/bbq");
    let benchmark = benchmarks::find("bbq").expect("registered");
    let grade = |name: &str| {
        benchmark
            .grade(&[dir.join(name)], Some(&source))
            .expect("graded")
    };
    let graded = grade("items.jsonl");
    same(
        "figures",
        &graded.figures,
        &read(&dir.join("expected.json")),
    );
    assert!(!graded.official);
    let lines = &graded.sets[0].1;
    let rng = seed::stream(0, &["bootstrap", "bbq"]);
    let metrics = measure(benchmark.columns(), lines, Norm::Mean, rng).expect("finite");
    assert!((metrics["survey"].value - 0.031_578_947_368_421_15).abs() < 1e-12);
    assert!((metrics["lm_eval_bias_amb.Age"].value - 0.0625).abs() < 1e-12);
    assert!((metrics["bias_amb.Gender_identity_names"].value - 2.0 / 9.0).abs() < 1e-12);
    let graded = grade("unifiedqa_race_preds.csv");
    same(
        "figures",
        &graded.figures,
        &read(&dir.join("unifiedqa_expected.json")),
    );
}

#[test]
fn bbq_is_read_whole_and_says_what_stands_in() {
    let Some(source) = source("bbq") else {
        return;
    };
    let benchmark = benchmarks::find("bbq").expect("registered");
    let opened = benchmark.open(&source, &[], None, 2024).expect("opened");
    assert_eq!(opened.items.len(), 58_492);
    assert!(!opened.official);
    let stand_ins = opened
        .notes
        .iter()
        .filter(|note| note.contains("stands in"))
        .count();
    assert_eq!(stand_ins, 5, "{:?}", opened.notes);
    assert!(
        opened
            .notes
            .iter()
            .any(|note| note.starts_with("80 of 58492 rows")),
        "{:?}",
        opened.notes
    );
    let parts = ["Religion".to_owned(), "Age".to_owned()];
    let opened = benchmark
        .open(&source, &parts, Some(3), 2024)
        .expect("opened");
    assert_eq!(
        (opened.items.len(), opened.official),
        (24, true),
        "{:?}",
        opened.notes
    );
    assert_eq!(opened.parts, ["Age", "Religion"]);
    let conditions = |condition| {
        opened
            .items
            .iter()
            .filter(|item| item.tags["condition"] == condition)
            .count()
    };
    assert_eq!((conditions("ambig"), conditions("disambig")), (12, 12));
}

#[test]
fn targets_by_the_rule_are_those_of_the_table() {
    let Some(root) = folder("DEBIAS_BENCH_DATA") else {
        return;
    };
    let benchmark = benchmarks::find("bbq").expect("registered");
    let bare = tempfile::tempdir().expect("temporary folder");
    let mut checked = 0;
    for category in benchmark
        .parts()
        .iter()
        .filter(|category| !category.starts_with("Race_x_"))
    {
        for below in ["", "regenerated/"] {
            for end in ["", ".gz"] {
                let name = format!("{below}{category}.jsonl{end}");
                let to = bare.path().join(&name);
                std::fs::create_dir_all(to.parent().expect("a folder")).expect("create");
                if root.join("bbq").join(&name).is_file() {
                    std::fs::copy(root.join("bbq").join(&name), to).expect("copy");
                }
            }
        }
        let part = [(*category).to_owned()];
        let open = |dir: &Path| {
            let source = Source::new(benchmark.card(), dir);
            benchmark
                .open(&source, &part, None, 2024)
                .expect("opened")
                .items
        };
        let (ruled, known) = (open(bare.path()), open(&root));
        assert!(ruled == known, "{category}");
        checked += known.len();
    }
    assert_eq!(checked, 31_372);
}

#[test]
fn stereoset_is_read_whole() {
    let Some(source) = source("stereoset") else {
        return;
    };
    let benchmark = benchmarks::find("stereoset").expect("registered");
    let opened = benchmark.open(&source, &[], None, 2024).expect("opened");
    assert_eq!(
        (opened.items.len(), opened.official),
        (4_229, true),
        "{:?}",
        opened.notes
    );
    let counted = |subtask: &str, domain: &str| {
        let tagged = opened
            .items
            .iter()
            .filter(|item| item.tags["subtask"] == subtask && item.tags["bias_type"] == domain);
        tagged.count()
    };
    let domains = ["gender", "profession", "race", "religion"];
    assert_eq!(
        domains.map(|domain| counted("intrasentence", domain)),
        [255, 810, 962, 79]
    );
    assert_eq!(
        domains.map(|domain| counted("intersentence", domain)),
        [242, 827, 976, 78]
    );
    let parts = ["intrasentence".to_owned()];
    let opened = benchmark
        .open(&source, &parts, Some(5), 2024)
        .expect("opened");
    assert_eq!(opened.items.len(), 20);
}
