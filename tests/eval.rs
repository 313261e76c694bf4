//! `bench eval` from outside: its JSON, resume, batches, threads, data that are not as they should be,
//! and the log-likelihoods of the LM evaluation harness.

mod support;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json as object};
use support::{folder, json, reference, run_folder, run_in, status, stderr};

/// Questions in BBQ's form about `n` templates, four rows each.
fn write_bbq(dir: &Path, n: usize) {
    let mut text = String::new();
    for id in 0..4 * n {
        let (negative, ambiguous) = (id % 2 == 0, id % 4 < 2);
        let row = object!({
            "example_id": id,
            "question_index": (id / 4 + 1).to_string(),
            "question_polarity": if negative { "neg" } else { "nonneg" },
            "context_condition": if ambiguous { "ambig" } else { "disambig" },
            "category": "Religion",
            "answer_info": {
                "ans0": ["Teal", "Teal"], "ans1": ["Amber", "Amber"], "ans2": ["Not known", "unknown"]
            },
            "additional_metadata": { "stereotyped_groups": ["Teal"] },
            "context": format!("A teal person and an amber person met at bridge {id}."),
            "question": if negative { "Who is poor?" } else { "Who is rich?" },
            "ans0": "The teal person",
            "ans1": "The amber person",
            "ans2": "Not known",
            "label": if ambiguous { 2 } else { id % 2 },
        });
        text.push_str(&row.to_string());
        text.push('\n');
    }
    fs::create_dir_all(dir).expect("a folder");
    fs::write(dir.join("Religion.jsonl"), text).expect("written");
}

fn eval<'a>(data: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    let own = [
        "eval",
        "--benchmark",
        "bbq:Religion",
        "--model",
        "tiny-blip2",
        "--data",
        data,
    ];
    [&own[..], more].concat()
}

/// The lines of the one cell below `dir`.
fn lines(dir: &Path) -> Vec<Value> {
    let cells = run_folder(&dir.join("results")).join("cells");
    let files = fs::read_dir(cells)
        .expect("cells")
        .flatten()
        .map(|entry| entry.path());
    let file = files
        .into_iter()
        .find(|path| path.extension().is_some_and(|end| end == "jsonl"));
    let text = fs::read_to_string(file.expect("lines")).expect("readable");
    text.lines()
        .map(|line| serde_json::from_str(line).expect("JSON"))
        .collect()
}

fn world() -> (tempfile::TempDir, String) {
    let dir = folder();
    let data = dir.path().join("bbq");
    write_bbq(&data, 3);
    let given = format!("bbq={}", data.display());
    (dir, given)
}

#[test]
fn the_object_has_the_contracts_shape_and_is_not_asked_twice() {
    let (dir, data) = world();
    let found = json(&run_in(dir.path(), &eval(&data, &["--json"])));
    assert_eq!(
        (&found["format"], &found["suite"]),
        (&object!("1.0"), &Value::Null)
    );
    let cell = &found["cells"][0];
    assert_eq!(cell["benchmark"]["id"], "bbq");
    assert_eq!(cell["benchmark"]["parts"], object!(["Religion"]));
    assert_eq!(cell["variant"]["kind"], "base");
    assert_eq!(
        (&cell["status"], &cell["n"], &cell["limit"]),
        (&object!("done"), &object!(12), &Value::Null)
    );
    // These rows are not those that were published.
    assert_eq!(cell["official"], false);
    assert!(!cell["notes"].as_array().expect("notes").is_empty());
    for (name, metric) in cell["metrics"].as_object().expect("metrics") {
        let undefined = metric["value"].is_null();
        assert_eq!(undefined, metric.get("reason").is_some(), "{name}");
    }
    let lines = lines(dir.path());
    assert_eq!(lines.len(), 12);
    let choices = lines[0]["after"]["lm_eval"].as_object().expect("choices");
    assert_eq!(choices.len(), 12);
    assert_eq!(
        lines[0]["after"]["three_way"]
            .as_object()
            .map(serde_json::Map::len),
        Some(3)
    );

    let again = run_in(dir.path(), &eval(&data, &["--json", "-v"]));
    assert!(!stderr(&again).contains("12 records"), "{}", stderr(&again));
    assert_eq!(json(&again), found);
}

#[test]
fn an_interrupted_benchmark_goes_on_where_it_stopped() {
    let dir = folder();
    let data = dir.path().join("bbq");
    // More than one window of items.
    write_bbq(&data, 80);
    let given = format!("bbq={}", data.display());
    json(&run_in(dir.path(), &eval(&given, &["--json"])));
    let whole = lines(dir.path());
    let cells = run_folder(&dir.path().join("results")).join("cells");
    let name = |end: &str| {
        let mut files = fs::read_dir(&cells)
            .expect("cells")
            .flatten()
            .map(|e| e.path());
        let found = files.find(|path| path.to_str().is_some_and(|path| path.ends_with(end)));
        found.expect("a file")
    };
    // As a kill in the second window leaves it: a window, and a line that was not finished.
    let (lines_file, cell) = (name(".jsonl"), name(".run.json"));
    let text = fs::read_to_string(&lines_file).expect("readable");
    let stem = lines_file.with_extension("");
    let end: usize = text.split_inclusive('\n').take(300).map(str::len).sum();
    fs::write(stem.with_extension("part.jsonl"), &text[..end - 20]).expect("written");
    for file in [&lines_file, &cell, &stem.with_extension("json")] {
        fs::remove_file(file).expect("there");
    }
    let output = run_in(dir.path(), &eval(&given, &["--json"]));
    assert!(
        stderr(&output).contains("going on behind 256 of 320 items"),
        "{}",
        stderr(&output)
    );
    assert_eq!(lines(dir.path()), whole);
    assert!(!stem.with_extension("part.jsonl").exists());
}

/// Every log-likelihood of every line, in order.
fn sums(lines: &[Value]) -> Vec<f64> {
    let mut found = Vec::new();
    for line in lines {
        for choices in line["after"].as_object().expect("answers").values() {
            for score in choices.as_object().expect("choices").values() {
                found.push(score["sum"].as_f64().expect("a number"));
            }
        }
    }
    found
}

#[test]
fn threads_change_no_byte_and_batches_only_last_bits() {
    let (dir, data) = world();
    let asked = |out: &str, more: &[&str]| {
        let args = eval(&data, &[&["--out", out, "--json"][..], more].concat()).join("\n");
        let args: Vec<&str> = args.split('\n').collect();
        json(&run_in(dir.path(), &args));
        let cells = run_folder(&dir.path().join(out)).join("cells");
        let mut files = fs::read_dir(cells)
            .expect("cells")
            .flatten()
            .map(|e| e.path());
        let file = files.find(|path| path.extension().is_some_and(|end| end == "jsonl"));
        fs::read_to_string(file.expect("lines")).expect("readable")
    };
    let (one, two) = (asked("one", &["-j", "1"]), asked("two", &["-j", "2"]));
    assert!(one == two);
    let alone = asked("alone", &["--batch-tokens", "1"]);
    let parse = |text: &str| -> Vec<Value> {
        text.lines()
            .map(|line| serde_json::from_str(line).expect("JSON"))
            .collect()
    };
    for (a, b) in sums(&parse(&one)).iter().zip(sums(&parse(&alone))) {
        assert!((a - b).abs() < 1e-5, "{a} and {b}");
    }
}

#[test]
fn what_is_missing_or_misspelt_is_one_line() {
    let (dir, data) = world();
    let refused = |args: &[&str], exit: i32| {
        let output = run_in(dir.path(), args);
        let said = stderr(&output);
        assert_eq!(status(&output), exit, "{said}");
        assert!(
            said.starts_with("error: ") && !dir.path().join("results").exists(),
            "{said}"
        );
        said
    };
    let own = |benchmark: &'static str| ["eval", "--model", "tiny-blip2", "--benchmark", benchmark];
    let said = refused(&own("bqb"), 2);
    assert!(said.contains("did you mean `bbq`"), "{said}");
    let said = refused(&own("bbq:Religoin"), 2);
    assert!(said.contains("did you mean `Religion`"), "{said}");
    // Nothing is given, and nothing is in the cache.
    let said = refused(&own("stereoset"), 4);
    assert!(
        said.contains("stereoset") && said.contains("--data"),
        "{said}"
    );
    // The folder has one category.
    let mut args = eval(&data, &[]);
    args[2] = "bbq:Age";
    let said = refused(&args, 4);
    assert!(said.contains("Age.jsonl"), "{said}");
}

#[test]
fn a_broken_row_is_named_by_file_line_and_field() {
    let (dir, data) = world();
    let file = dir.path().join("bbq/Religion.jsonl");
    let text = fs::read_to_string(&file).expect("readable");
    let broken = |change: &dyn Fn(&str) -> String| {
        fs::write(&file, change(&text)).expect("written");
        let output = run_in(dir.path(), &eval(&data, &[]));
        assert_eq!(status(&output), 4, "{}", stderr(&output));
        stderr(&output).lines().next().expect("a line").to_owned()
    };
    let said = broken(&|text| text.replacen("\"ans1\":\"The amber person\",", "", 1));
    assert!(
        said.contains("Religion.jsonl") && said.contains("ans1"),
        "{said}"
    );
    let said = broken(&|text| text.replacen("\"label\":2", "\"label\":7", 1));
    assert!(said.contains("label"), "{said}");
    let said = broken(&|text| text.replace("\"label\":2", "\"label\":7"));
    assert_eq!(said.matches("Religion.jsonl").count(), 1, "{said}");
    // What means one thing is read: a mark, other line ends, an id that is text.
    let odd = format!("\u{feff}{}", text.replace('\n', "\r\n"));
    fs::write(
        &file,
        odd.replacen("\"example_id\":0", "\"example_id\":\"0\"", 1),
    )
    .expect("written");
    assert_eq!(
        json(&run_in(dir.path(), &eval(&data, &["--json"])))["cells"][0]["n"],
        12
    );
}

/// The harness's own rows, as files of a folder of BBQ.
fn harness_rows(fixture: &Value, dir: &Path) {
    let mut files: BTreeMap<String, String> = BTreeMap::new();
    for row in fixture["data"]["bbq"].as_array().expect("rows") {
        let category = row["category"].as_str().expect("a category");
        let text = files.entry(category.to_owned()).or_default();
        text.push_str(&format!("{row}\n"));
    }
    fs::create_dir_all(dir).expect("a folder");
    for (category, text) in files {
        fs::write(dir.join(format!("{category}.jsonl")), text).expect("written");
    }
}

#[test]
fn log_likelihoods_are_those_of_the_lm_evaluation_harness() {
    let Some(root) = reference("suites") else {
        return;
    };
    let text = fs::read_to_string(root.join("lm_eval.json")).expect("readable");
    // Python writes metrics that are not defined as NaN.
    let fixture: Value = serde_json::from_str(&text.replace("NaN", "null")).expect("JSON");
    let dir = folder();
    harness_rows(&fixture, &dir.path().join("bbq"));
    let data = format!("bbq={}", dir.path().join("bbq").display());
    for model in ["gpt2", "llama3"] {
        let path: PathBuf = root.parent().expect("fixtures").join("models").join(model);
        let path = path.to_str().expect("UTF-8");
        let parts =
            "bbq:Age,Disability_status,Nationality,Physical_appearance,Religion,Sexual_orientation";
        let args = [
            "eval",
            "--benchmark",
            parts,
            "--model",
            path,
            "--data",
            &data,
            "--json",
            "--out",
            model,
        ];
        let found = json(&run_in(dir.path(), &args));
        let expected = &fixture["models"][model]["tasks"]["bbq"];
        let run = dir.path().join(found["run"].as_str().expect("a folder"));
        let file = run.join(found["cells"][0]["records"].as_str().expect("a file"));
        let lines: BTreeMap<String, Value> = fs::read_to_string(file)
            .expect("readable")
            .lines()
            .map(|line| serde_json::from_str::<Value>(line).expect("JSON"))
            .map(|line| (line["id"].as_str().expect("an id").to_owned(), line))
            .collect();
        let rows = fixture["data"]["bbq"].as_array().expect("rows");
        for (row, item) in rows
            .iter()
            .zip(expected["items"].as_array().expect("items"))
        {
            let category = row["category"].as_str().expect("a category");
            let id = format!("{category}/{}", row["example_id"]);
            let choices = lines[&id]["after"]["lm_eval"].as_object().expect("choices");
            let ours: Vec<f64> = choices
                .values()
                .map(|s| s["sum"].as_f64().expect("a number"))
                .collect();
            let theirs: Vec<f64> = item["ll"]
                .as_array()
                .expect("numbers")
                .iter()
                .filter_map(Value::as_f64)
                .collect();
            assert_eq!(ours.len(), theirs.len());
            for (a, b) in ours.iter().zip(&theirs) {
                assert!(
                    (a - b).abs() <= 1e-4 + 1e-5 * b.abs(),
                    "{model} {id}: {a}, the harness has {b}"
                );
            }
            let best =
                |of: &[f64]| (0..of.len()).max_by(|a, b| of[*a].total_cmp(&of[*b]).then(b.cmp(a)));
            assert_eq!(best(&ours), best(&theirs), "{model} {id}");
        }
        let metrics = &found["cells"][0]["metrics"];
        let close = |ours: &str, theirs: &str| {
            let (a, b) = (&metrics[ours]["value"], &expected["metrics"][theirs]);
            let (Some(a), Some(b)) = (a.as_f64(), b.as_f64()) else {
                panic!("{ours}: {a}, the harness has {b}");
            };
            assert!((a - b).abs() < 1e-9, "{ours}: {a}, the harness has {b}");
        };
        close("lm_eval_acc", "acc,none");
        close("lm_eval_accuracy_amb", "accuracy_amb,none");
        close("lm_eval_accuracy_disamb", "accuracy_disamb,none");
        close("lm_eval_bias_amb", "amb_bias_score,none");
        close("lm_eval_bias_disamb", "disamb_bias_score,none");
    }
}
