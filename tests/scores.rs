//! `bench score` and `bench generate` from outside: reference values, batches, inputs, refusals.

mod support;

use std::fs;
use std::path::Path;
use std::process::Output;

use serde_json::{Value, json};
use support::{Tensors, edit_json, feed, fixtures, folder, folder_copy, run_in, status, stderr};
use support::{model_files, refused_lines, stdout};

fn text(path: &Path) -> &str {
    path.to_str().expect("UTF-8")
}

/// The lines of a command that must succeed and say nothing else.
fn lines(output: &Output) -> Vec<Value> {
    assert_eq!((status(output), stderr(output).as_str()), (0, ""));
    let lines = stdout(output);
    let line = |line| serde_json::from_str(line).expect("a JSON line");
    lines.lines().map(line).collect()
}

fn numbers(value: &Value) -> Vec<f64> {
    let list = value.as_array().expect("a list").iter();
    list.map(|number| number.as_f64().expect("a number"))
        .collect()
}

/// `items` scored by the model in `dir`, which also holds the pictures.
fn score(dir: &Path, items: &[Value], more: &[&str]) -> Vec<Value> {
    let work = folder();
    let given: Vec<String> = items.iter().map(Value::to_string).collect();
    let args = ["score", "--model", text(dir), "--images", text(dir)];
    let output = feed(
        work.path(),
        &[&args, more].concat(),
        given.join("\n").as_bytes(),
    );
    let found = lines(&output);
    assert_eq!(found.len(), items.len());
    for (item, score) in items.iter().zip(&found) {
        assert_eq!(item["id"], score["id"]);
        let fields = 5 + usize::from(score["template"].is_string());
        assert_eq!(score.as_object().map(serde_json::Map::len), Some(fields));
        let tokens = numbers(&score["token_logprobs"]);
        let sum: f64 = tokens.iter().sum();
        assert_eq!(score["tokens"], tokens.len());
        assert!((score["sum"].as_f64().expect("a sum") - sum).abs() < 1e-9);
        let mean = sum / tokens.len() as f64;
        assert!((score["mean"].as_f64().expect("a mean") - mean).abs() < 1e-9);
        assert!(tokens.iter().all(|value| *value < 0.0));
    }
    found
}

/// The prompts of a fixture as lines.
fn prompts(case: &Path) -> Vec<Value> {
    let written = fs::read(case.join("case.json")).expect("case.json");
    let written: Value = serde_json::from_slice(&written).expect("JSON");
    let prompts = written["prompts"].as_array().expect("a list").iter();
    let item = |(id, prompt): (usize, &Value)| {
        let mut item = json!({"id": id, "join": ""});
        for field in ["prompt", "answer", "image"] {
            if prompt[field].is_string() {
                item[field] = prompt[field].clone();
            }
        }
        item
    };
    prompts.enumerate().map(item).collect()
}

fn assert_same(found: &[Value], expected: &[Value], what: &str) {
    // This case's layers amplify the rounding of other batch sizes; the reference is held to 1e-4.
    let tolerance = if what == "internvl_chat" { 1e-4 } else { 1e-5 };
    assert_eq!(found.len(), expected.len());
    for (found, expected) in found.iter().zip(expected) {
        assert_eq!(found["id"], expected["id"], "{what}");
        let (a, b) = (&found["token_logprobs"], &expected["token_logprobs"]);
        let (a, b) = (numbers(a), numbers(b));
        assert_eq!(a.len(), b.len(), "{what}");
        for (a, b) in a.iter().zip(&b) {
            assert!(
                (a - b).abs() < tolerance,
                "{what}: {a} {b} of {}",
                found["id"]
            );
        }
    }
}

#[test]
fn scores_are_those_of_the_reference() {
    let Some(fixtures) = fixtures() else { return };
    for case in ["opt", "gpt2", "qwen2", "llama3", "blip2_opt", "glm4v_9b"] {
        let dir = fixtures.join(case);
        let mut golden = Tensors::read(&dir.join("golden.safetensors"));
        let logprobs = golden.floats("right.token_logprobs");
        let logprobs = golden.rows("right.token_logprobs", &logprobs);
        let labels = golden.ints("right.labels");
        let labels = golden.rows("right.labels", &labels);
        let sums = golden.floats("right.seq_logprob");
        let found = score(&dir, &prompts(&dir), &["--raw"]);
        assert_eq!(found.len(), labels.len(), "{case}");
        for (row, found) in found.iter().enumerate() {
            let labelled = labels[row].iter().skip(1).zip(&logprobs[row]);
            let mut expected: Vec<f32> = labelled
                .filter_map(|(label, value)| (*label >= 0).then_some(*value))
                .collect();
            // The reference also scores the end token, which is no part of an answer.
            let end = f64::from(expected.pop().expect("labels"));
            let tokens = numbers(&found["token_logprobs"]);
            assert_eq!(tokens.len(), expected.len(), "{case} {row}");
            for (found, expected) in tokens.iter().zip(&expected) {
                assert!((found - f64::from(*expected)).abs() < 1e-4, "{case} {row}");
            }
            let sum = found["sum"].as_f64().expect("a sum") + end;
            assert!((sum - f64::from(sums[row])).abs() < 1e-3, "{case} {row}");
        }
    }
}

/// Lines of many lengths: shared prompts, shared pictures, with and without a picture.
fn mixture(pictures: &[&str]) -> Vec<Value> {
    let asked = [
        "Who is it?",
        "Question: Who is reading the letter at the school? Answer:",
        "The judge and the farmer were on the way to the park, when",
    ];
    let answers = ["a nurse", "no", "they met the old teacher again"];
    let mut items = Vec::new();
    for (p, prompt) in asked.iter().enumerate() {
        for (a, answer) in answers.iter().enumerate() {
            for picture in (0..=pictures.len()).filter(|picture| (picture + p + a) % 4 != 3) {
                let mut item = json!({"prompt": prompt, "answer": answer});
                item["id"] = match items.len() % 2 {
                    0 => json!(items.len()),
                    _ => json!(format!("item {}", items.len())),
                };
                if let Some(picture) = pictures.get(picture) {
                    item["image"] = json!(picture);
                }
                items.push(item);
            }
        }
    }
    // Neighbours of a batch are not neighbours of the file.
    let half = items.len() / 2;
    items.rotate_left(half);
    items
}

#[test]
fn a_batch_equals_single_lines() {
    let Some(fixtures) = fixtures() else { return };
    let pictures: &[&str] = &["image_0.png", "image_1.png"];
    let cases = [
        ("opt", &[][..]),
        ("gpt_neo", &[]),
        ("llama3", &[]),
        ("blip2_opt", pictures),
    ];
    for (case, pictures) in cases.into_iter().chain([("internvl_chat", pictures)]) {
        let dir = fixtures.join(case);
        let items = mixture(pictures);
        for style in [&["--raw"][..], &[]] {
            let together = score(&dir, &items, style);
            let small = score(&dir, &items, &[style, &["--batch-tokens", "1"]].concat());
            assert_same(&together, &small, case);
            let medium = score(&dir, &items, &[style, &["--batch-tokens", "130"]].concat());
            assert_same(&together, &medium, case);
            for i in (0..items.len()).step_by(5) {
                let alone = score(&dir, &items[i..=i], style);
                assert_same(&alone, &together[i..=i], case);
            }
        }
    }
}

#[test]
fn a_limit_on_memory_makes_batches_smaller() {
    let dir = folder();
    let model = text(&model_files("tiny-blip2")).to_owned();
    let items = mixture(&[]);
    let given: Vec<String> = items.iter().map(Value::to_string).collect();
    let run = |size: &str| {
        let args = ["score", "--model", &model, "--max-memory", size];
        feed(dir.path(), &args, given.join("\n").as_bytes())
    };
    let wide = lines(&run("1GiB"));
    assert_eq!(wide.len(), items.len());
    assert_same(&wide, &lines(&run("6MiB")), "6MiB");
    let refused = run("1MiB");
    assert_eq!(refused.status.code(), Some(6));
    assert!(stderr(&refused).contains("--max-memory"));
}

#[test]
fn lines_may_come_from_anywhere_and_on_any_number_of_threads() {
    let dir = folder();
    let model = text(&model_files("tiny-blip2")).to_owned();
    let items = mixture(&[]);
    let given: Vec<String> = items.iter().map(Value::to_string).collect();
    let given = given.join("\n\n") + "\n";
    fs::write(dir.path().join("in.jsonl"), &given).expect("writable");
    let run = |more: &[&str]| {
        let args = [&["score", "--model", &model], more].concat();
        let output = feed(dir.path(), &args, given.as_bytes());
        assert_eq!(lines(&output).len(), items.len(), "{more:?}");
        stdout(&output)
    };
    let expected = run(&["--threads", "1"]);
    let ways: [&[&str]; 6] = [
        &["--threads", "2"],
        &["--threads", "5"],
        &["in.jsonl"],
        &["-"],
        &["--input", "in.jsonl", "--json"],
        &["--input", "-", "--quiet"],
    ];
    for way in ways {
        assert_eq!(run(way), expected, "{way:?}");
    }
    let named = run_in(dir.path(), &["score", "--model", "tiny-blip2", "in.jsonl"]);
    assert_eq!(stdout(&named), expected);
    let nothing = feed(dir.path(), &["score", "--model", &model], b"\n \n");
    assert!(lines(&nothing).is_empty());
}

#[test]
fn lines_that_cannot_be_used_are_named() {
    let work = folder();
    let model = model_files("tiny-blip2");
    let images = work.path().join("images");
    fs::create_dir(&images).expect("a new folder");
    fs::write(work.path().join("secret.png"), "x").expect("writable");
    fs::write(images.join("broken.png"), "x").expect("writable");
    // Alone it ends the command; beside another line it costs that one nothing.
    let second = |line: &str| {
        let said = costs_no_other(&model, &images, line);
        let alone = refused_lines(&model, &images, format!("\n{line}\n").as_bytes());
        assert!(alone.contains(&said), "{alone}: {said}");
        alone
    };
    for (line, named) in [
        ("{\"id\": 1", &["standard input: line 2"][..]),
        ("\"x\"", &["line 2", "must be a JSON object"]),
        ("\u{0}", &["line 2"]),
        (r#"{"id": 1, "prompt": "a"}"#, &["line 2", "answer"]),
        (r#"{"prompt": "a", "answer": "b"}"#, &["line 2", "id"]),
        (
            r#"{"id": [1], "prompt": "a", "answer": "b"}"#,
            &["line 2", "`id`"],
        ),
        (r#"{"id": 1, "prompt": 2, "answer": "b"}"#, &["line 2"]),
        (
            r#"{"id": 1, "prompt": "a", "answer": "b", "image": 3}"#,
            &["line 2"],
        ),
        (r#"{"id": "x", "prompt": "a", "answer": ""}"#, &["`x`"]),
        (r#"{"id": "x", "prompt": "a", "answer": " \n"}"#, &["`x`"]),
    ] {
        let error = second(line);
        assert!(
            named.iter().all(|part| error.contains(part)),
            "{line}: {error}"
        );
    }
    let pictured = |image: &str| {
        let line = json!({"id": "x", "prompt": "a", "answer": "b", "image": image});
        second(&line.to_string())
    };
    let absolute = work.path().join("secret.png");
    for outside in ["../secret.png", "a/../../secret.png", text(&absolute), ".."] {
        let error = pictured(outside);
        let named = ["line 2", "`image`", "would leave the images folder"];
        assert!(named.iter().all(|part| error.contains(part)), "{error}");
        assert!(error.contains(outside), "{error}");
    }
    let error = pictured("");
    assert!(
        error.contains("line 2: `image` is empty; leave the field out"),
        "{error}"
    );
    let error = second(r#"{"id": 1, "prompt": "a", "answer": "b", "image": NaN}"#);
    assert!(
        error.contains("line 2: not JSON: `NaN`, as Python writes"),
        "{error}"
    );
    for unreadable in ["missing.png", "broken.png", "./broken.png"] {
        let error = pictured(unreadable);
        assert!(
            error.contains(unreadable.trim_start_matches("./")),
            "{error}"
        );
    }
    let long = json!({"id": "long", "prompt": "a nurse ".repeat(300), "answer": "b"});
    let error = second(&long.to_string());
    assert!(error.contains("`long`") && error.contains("384"), "{error}");
    assert!(error.len() < 400, "{error}");

    let output = run_in(
        work.path(),
        &["score", "--model", text(&model), "none.jsonl"],
    );
    assert_eq!(status(&output), 4);
    assert!(
        stderr(&output).contains("none.jsonl"),
        "{}",
        stderr(&output)
    );
}

/// What the line of output says of a line that cannot be scored and stands between two that can.
fn costs_no_other(model: &Path, images: &Path, line: &str) -> String {
    let work = folder();
    let args = ["score", "--model", text(model), "--images", text(images)];
    let good = r#"{"id": 12345678901234567890123, "prompt": "a", "answer": "b"}"#;
    let output = feed(
        work.path(),
        &args,
        format!("{good}\n{line}\n{good}\n").as_bytes(),
    );
    let (said, warned) = (stdout(&output), stderr(&output));
    assert_eq!(status(&output), 3, "{line}: {warned}");
    assert!(
        warned.starts_with("warning: 1 of 3 lines have no answer: "),
        "{warned}"
    );
    let [first, broken, last] = said.lines().collect::<Vec<_>>()[..] else {
        panic!("three lines, not {said}");
    };
    // The id has all its digits.
    assert!(
        first.starts_with(r#"{"id":12345678901234567890123,"sum":"#),
        "{first}"
    );
    assert_eq!(first, last);
    let broken: Value = serde_json::from_str(broken).expect("JSON");
    assert!(broken["id"].is_string() || broken["id"].is_number() || broken["line"] == 2);
    broken["error"].as_str().expect("an error").to_owned()
}

#[test]
fn fields_that_are_not_ours_are_left_alone() {
    let item = |more: Value| {
        let mut item = json!({"id": 7, "prompt": "who is it", "answer": "a nurse"});
        for (key, value) in more.as_object().expect("an object") {
            item[key] = value.clone();
        }
        score(&model_files("tiny-blip2"), &[item], &[])
    };
    let plain = item(json!({}));
    assert_eq!(
        item(json!({"label": 1, "meta": {"a": [2]}, "image": null})),
        plain
    );
    assert_eq!(item(json!({"join": " "})), plain);
    assert_ne!(item(json!({"join": ""})), plain);
    assert_eq!(item(json!({"join": "", "answer": " a nurse"})), plain);
}

#[test]
fn a_picture_for_a_text_model_is_refused() {
    let Some(fixtures) = fixtures() else { return };
    let images = fixtures.join("llava");
    let line = json!({"id": 1, "prompt": "a", "answer": "b", "image": "image_0.png"});
    let error = refused_lines(&fixtures.join("opt"), &images, line.to_string().as_bytes());
    assert!(
        error.contains("opt") && error.contains("picture"),
        "{error}"
    );
}

/// `items` continued by the model in `dir`, which also holds the pictures.
fn generate(dir: &Path, items: &[Value], more: &[&str]) -> Vec<Value> {
    let work = folder();
    let given: Vec<String> = items.iter().map(Value::to_string).collect();
    let args = [
        "generate",
        "--raw",
        "--json",
        "--model",
        text(dir),
        "--images",
        text(dir),
    ];
    let args = [&args[..], &["--max-tokens", "12"], more].concat();
    let found = lines(&feed(work.path(), &args, given.join("\n").as_bytes()));
    let ids = |list: &[Value]| -> Vec<Value> { list.iter().map(|l| l["id"].clone()).collect() };
    assert_eq!(ids(&found), ids(items));
    found
}

fn tokens(line: &Value) -> Vec<i64> {
    let list = line["tokens"].as_array().expect("a list").iter();
    list.map(|id| id.as_i64().expect("an id")).collect()
}

#[test]
fn continuations_are_those_of_the_reference() {
    let Some(fixtures) = fixtures() else { return };
    for case in ["opt", "llama3", "gpt_neo", "blip2_opt", "glm4v_9b"] {
        let dir = fixtures.join(case);
        let mut golden = Tensors::read(&dir.join("golden.safetensors"));
        let expected = golden.ints("left.generated");
        let expected = golden.rows("left.generated", &expected);
        let items = prompts(&dir);
        let found = generate(&dir, &items, &["--ignore-end"]);
        let ids: Vec<Vec<i64>> = found.iter().map(tokens).collect();
        assert_eq!(ids, expected, "{case}");
        for (item, found) in items.iter().zip(&found) {
            let alone = generate(&dir, std::slice::from_ref(item), &["--ignore-end"]);
            assert_eq!(alone[0], *found, "{case}");
        }
    }
}

#[test]
fn a_continuation_ends_at_the_end_token_that_the_folder_names() {
    let Some(fixtures) = fixtures() else { return };
    for case in ["opt", "llama3"] {
        let work = folder();
        let dir = folder_copy(&fixtures.join(case), &work.path().join("model"));
        let written = fs::read(dir.join("case.json")).expect("case.json");
        let written: Value = serde_json::from_slice(&written).expect("JSON");
        let stop = written["stop_token_id_for_generated_stop"].clone();
        let mut golden = Tensors::read(&dir.join("golden.safetensors"));
        let expected = golden.ints("left.generated_stop");
        let expected = golden.rows("left.generated_stop", &expected).into_iter();
        let expected: Vec<Vec<i64>> = expected
            .map(|row| row.into_iter().take_while(|id| stop != *id).collect())
            .collect();
        assert!(expected.iter().any(|row| row.len() < 12), "{case}");
        let items = prompts(&dir);
        let found = || -> Vec<Vec<i64>> {
            let found = generate(&dir, &items, &[]);
            found.iter().map(tokens).collect()
        };
        edit_json(&dir.join("config.json"), |config| {
            config["eos_token_id"] = stop.clone()
        });
        assert_eq!(found(), expected, "{case}");
        // A file for generation goes before the model's own, and may name several.
        edit_json(&dir.join("config.json"), |config| {
            config["eos_token_id"] = json!(3)
        });
        let several = json!({"eos_token_id": [3, stop]}).to_string();
        fs::write(dir.join("generation_config.json"), several).expect("writable");
        assert_eq!(found(), expected, "{case}");
    }
}

#[test]
fn a_stop_text_is_cut_off() {
    let dir = folder();
    let prompt = [
        "generate",
        "--model",
        "tiny-blip2",
        "--prompt",
        "who keeps the north bridge",
    ];
    let run = |more: &[&str]| {
        let output = run_in(dir.path(), &[&prompt, more].concat());
        assert_eq!((status(&output), stderr(&output).as_str()), (0, ""));
        stdout(&output)
    };
    let whole = run(&[]);
    let words: Vec<&str> = whole.split_whitespace().collect();
    assert!(words.len() > 1, "{whole}");
    let cut = run(&["--stop", words[1], "--stop", "not there"]);
    let (before, _) = whole.split_once(words[1]).expect("a word");
    assert_eq!(cut.trim_end(), before.trim_end());
    let line = &lines(&run_in(dir.path(), &[&prompt[..], &["--json"]].concat()))[0];
    assert_eq!(line["text"].as_str().map(str::trim), Some(whole.trim()));
    assert_eq!(
        tokens(
            &lines(&run_in(
                dir.path(),
                &[&prompt[..], &["--json", "--max-tokens", "1"]].concat(),
            ))[0]
        )
        .len(),
        1
    );

    let output = run_in(
        dir.path(),
        &[&prompt[..], &["--max-tokens", "1000"]].concat(),
    );
    assert_eq!(status(&output), 4);
    let error = stderr(&output);
    let named = ["who keeps the north bridge", "--max-tokens", "384"];
    assert!(named.iter().all(|part| error.contains(part)), "{error}");
    let output = run_in(
        dir.path(),
        &[&prompt[..], &["--image", "none.png"]].concat(),
    );
    assert_eq!(status(&output), 4);
    assert!(stderr(&output).contains("none.png"), "{}", stderr(&output));
    let line = br#"{"id": "x", "prompt": "a", "image": "../a.png"}"#;
    let output = feed(dir.path(), &prompt[..3], line);
    assert_eq!(status(&output), 4);
    assert!(stderr(&output).contains("would leave the images folder"));
}
