//! `bench grade`, and what the catalogue says of benchmarks.

mod support;

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Output;

use serde_json::{Value, json};
use support::{bench, folder, run_in, status, stderr, stdout};

/// The folder that a variable names; without it a test skips and says so.
fn named(variable: &str) -> Option<PathBuf> {
    let found = std::env::var_os(variable).map(PathBuf::from);
    if found.is_none() {
        eprintln!("skipped: {variable} is not set");
    }
    found
}

/// Grades files of a folder of fixtures with the real data.
fn graded(name: &str, files: &[&str]) -> Option<(PathBuf, Value)> {
    let dir = named("DEBIAS_BENCH_FIXTURES")?.join("scoring").join(name);
    let data = named("DEBIAS_BENCH_DATA")?;
    let output = bench()
        .args(["grade", name, "--json", "--data"])
        .arg(format!("{name}={}", data.join(name).display()))
        .args(files)
        .current_dir(&dir)
        .output()
        .expect("bench starts");
    Some((dir, support::json(&output)))
}

fn expected(dir: &Path, name: &str) -> Value {
    let text = fs::read_to_string(dir.join(name)).expect("a fixture");
    serde_json::from_str(&text).expect("JSON")
}

/// Every key of both sides, numbers within 1e-9.
fn same(at: &str, got: &Value, expected: &Value) {
    match (got, expected) {
        (Value::Object(got), Value::Object(expected)) => {
            let keys = |map: &serde_json::Map<String, Value>| {
                let mut keys: Vec<String> = map.keys().cloned().collect();
                keys.sort();
                keys
            };
            assert_eq!(keys(got), keys(expected), "{at}");
            for (key, expected) in expected {
                same(&format!("{at}.{key}"), &got[key], expected);
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
fn stereoset_figures_are_those_of_its_own_code() {
    let files = [
        "predictions_gpt2.json.gz",
        "predictions_bert-base-cased.json.gz",
        "synthetic_scores.jsonl",
    ];
    let Some((dir, got)) = graded("stereoset", &files) else {
        return;
    };
    let expected = expected(&dir, "expected.json");
    same("figures", &got["figures"], &expected);
    let gender = &expected["gpt2"]["gender"]["SS Score"]
        .as_f64()
        .expect("a number")
        / 100.0;
    let got = &got["metrics"]["gpt2/ss.intrasentence.gender"];
    assert!((got["value"].as_f64().expect("a number") - gender).abs() < 1e-9);
    assert!(
        got["low"].as_f64() < got["value"].as_f64() && got["n"] == 255,
        "{got}"
    );
    let (_, one) = graded("stereoset", &files[..1]).expect("as above");
    assert_eq!(one["figures"].as_object().expect("figures").len(), 1);
    assert_eq!(
        (&one["n"], &one["metrics"]["ss"]["n"]),
        (&json!(1296), &json!(1296))
    );
    let absent = &one["metrics"]["ss.intersentence"];
    assert_eq!(absent["value"], Value::Null);
    assert_eq!(
        absent["reason"],
        "no answered item has subtask intersentence"
    );
}

#[test]
fn bbq_figures_are_those_of_the_harness_the_paper_and_the_survey() {
    let Some((dir, got)) = graded("bbq", &["items.jsonl"]) else {
        return;
    };
    let expected_of_items = expected(&dir, "expected.json");
    same("figures", &got["figures"], &expected_of_items);
    assert_eq!(
        (&got["n"], &got["official"], &got["version"]),
        (&json!(300), &json!(false), &json!(1))
    );
    let survey = expected_of_items["survey_variant"]["score"].as_f64();
    assert_eq!(got["metrics"]["survey"]["value"].as_f64(), survey);
    let (dir, got) = graded("bbq", &["unifiedqa_race_preds.csv"]).expect("as above");
    same(
        "figures",
        &got["figures"],
        &expected(&dir, "unifiedqa_expected.json"),
    );
    assert_eq!(got["official"], true);
}

/// One row of BBQ with its outputs.
fn row(id: u64) -> Value {
    json!({
        "record": {
            "example_id": id, "question_index": "1", "question_polarity": "neg",
            "context_condition": "disambig", "category": "Age",
            "answer_info": {"ans0": ["a", "old"], "ans1": ["b", "nonOld"], "ans2": ["Unknown", "unknown"]},
            "additional_metadata": {"stereotyped_groups": ["old"]},
            "context": "c", "question": "q", "ans0": "A", "ans1": "B", "ans2": "Unknown", "label": 0,
        },
        "loglik_3": [-1.0, -2.0, -3.0], "target_loc": 0, "label_type": "label",
    })
}

fn refused(output: &Output) -> String {
    let said = stderr(output);
    assert_eq!(status(output), 4, "{said}");
    assert!(stdout(output).is_empty());
    said.lines().next().unwrap_or_default().to_owned()
}

#[test]
fn people_get_a_table_with_intervals_and_a_sentence() {
    let dir = folder();
    let lines: String = (0..4).map(|id| format!("{}\n", row(id))).collect();
    fs::write(dir.path().join("mine.jsonl"), lines).expect("write");
    let output = run_in(dir.path(), &["grade", "bbq", "mine.jsonl"]);
    let said = stdout(&output);
    assert!(
        said.starts_with("mine: 4 items"),
        "{said}{}",
        stderr(&output)
    );
    let words = |name: &str| -> Vec<String> {
        let row = said
            .lines()
            .find(|line| line.starts_with(&format!("{name} ")));
        let row = row.unwrap_or_else(|| panic!("{name}: {said}"));
        row.split_whitespace().map(str::to_owned).collect()
    };
    assert_eq!(
        words("survey"),
        ["survey", "100.00", "100.00", "–", "100.00", "4"]
    );
    assert_eq!(words("accuracy_disamb")[1], "higher");
    assert!(
        said.contains("BBQ: answers follow stereotypes (score +1.000"),
        "{said}"
    );
    assert!(
        said.contains("\n  bias_amb: no answered item has condition ambig\n"),
        "{said}"
    );
}

#[test]
fn hostile_outputs_are_one_line_that_names_file_line_and_field() {
    let dir = folder();
    let path = dir.path().join("out.jsonl");
    let said = |text: &str| {
        fs::write(&path, text).expect("write");
        refused(&run_in(dir.path(), &["grade", "bbq", "out.jsonl"]))
    };
    let mut broken = row(0);
    broken["record"]["label"] = json!(5);
    let twice = format!("{}\n{}\n", row(1), row(1));
    assert_eq!(
        said(&twice),
        "error: out.jsonl: line 2: `example_id` is used twice (found \"Age/1\")"
    );
    let many: String = (0..500).map(|_| format!("{broken}\n")).collect();
    assert_eq!(
        said(&many),
        "error: out.jsonl: lines 1, 2, 3 and 497 more (500 in all): `label` must be a whole number from 0 to 2 (found 5 on line 1)"
    );
    assert!(said("").contains("out.jsonl: holds no row"));
    assert!(
        said("{\"record\": {}, \"loglik_3\": [1]}").contains("line 1: `example_id` is missing")
    );
    assert!(said("{\"category\": \"Age\", \"example_id\": 0}").contains("--data bbq=DIR"));
    assert!(said("[").contains("out.jsonl: line 1: the list does not end"));
    let absent = refused(&run_in(dir.path(), &["grade", "bbq", "absent.jsonl"]));
    assert!(absent.contains("cannot read absent.jsonl"), "{absent}");
    let unknown = run_in(dir.path(), &["grade", "bqb", "out.jsonl"]);
    assert_eq!(status(&unknown), 2);
    assert!(
        stderr(&unknown).contains("`bench list benchmarks` shows what there is."),
        "{}",
        stderr(&unknown)
    );
}

#[test]
fn marks_line_ends_and_numbers_for_ids_are_read() {
    let dir = folder();
    let plain: String = (0..4).map(|id| format!("{}\n", row(id))).collect();
    let mut odd = row(0);
    odd["record"]["example_id"] = json!("0");
    odd["record"]["question_index"] = json!(1);
    let odd = plain.replacen(&row(0).to_string(), &odd.to_string(), 1);
    let figures = |text: String| {
        fs::write(dir.path().join("out.jsonl"), text).expect("write");
        support::json(&run_in(
            dir.path(),
            &["grade", "bbq", "out.jsonl", "--json"],
        ))
    };
    let marked = format!("\u{feff}{}", odd.replace('\n', "\r\n"));
    assert_eq!(figures(plain), figures(marked));
}

#[test]
fn a_line_of_ten_gigabytes_is_refused_at_once() {
    let dir = folder();
    let file = File::create(dir.path().join("long.jsonl")).expect("create");
    file.set_len(10 << 30).expect("a sparse file");
    let said = refused(&run_in(dir.path(), &["grade", "bbq", "long.jsonl"]));
    assert_eq!(
        said,
        "error: long.jsonl: line 1: longer than 8 MiB; each entry is one JSON object"
    );
}

#[test]
fn data_that_is_not_on_disk_is_named_with_where_to_get_it() {
    let dir = folder();
    fs::write(dir.path().join("preds.json"), "{\"a\": 1}").expect("write");
    let said = refused(&run_in(dir.path(), &["grade", "stereoset", "preds.json"]));
    assert!(
        said.contains("--data stereoset=DIR") && said.contains("https://"),
        "{said}"
    );
    let given = format!("stereoset={}", dir.path().display());
    let said = refused(&run_in(
        dir.path(),
        &["grade", "stereoset", "preds.json", "--data", &given],
    ));
    assert!(
        said.contains("intrasentence_sentence_ids.jsonl") && said.contains("https://"),
        "{said}"
    );
}

#[test]
fn the_catalogue_has_benchmarks_and_their_cards() {
    let dir = folder();
    let list = support::json(&run_in(dir.path(), &["list", "benchmarks", "--json"]));
    let names: Vec<&str> = list["benchmarks"]
        .as_array()
        .expect("a list")
        .iter()
        .filter_map(|entry| entry["name"].as_str())
        .collect();
    assert_eq!(names, ["bbq", "debias-edit", "stereoset"]);
    let card = support::json(&run_in(dir.path(), &["show", "bbq", "--json"]));
    assert_eq!(card["parts"].as_array().expect("parts").len(), 11);
    assert!(card["files"].as_array().expect("files").len() > 11);
    let said = stdout(&run_in(dir.path(), &["show", "bbq"]));
    assert!(
        said.contains("https://") && said.contains("CC BY 4.0"),
        "{said}"
    );
}
