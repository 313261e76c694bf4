//! A model under an edit, asked from outside: it answers as the judge scores it.

mod support;

use std::path::Path;

use serde_json::{Value, json};
use support::{feed, folder, json as object, records, run_in, status, stderr, stdout, town};
use support::{town_requests, write_requests};

/// What separates two batches of the same rows through the same weights.
const TOLERANCE: f64 = 1e-6;

/// The same where weights are changed: a product with a changed matrix is rounded by the batch it is in,
/// and the judge reads more rows at a time than are asked here.
const CHANGED: f64 = 1e-5;

/// The prompt as the judge puts it.
fn asked(request: &Value) -> String {
    let prompt = request["prompt"].as_str().expect("a prompt");
    format!("Question: {prompt} Short answer:")
}

/// Both answers of a request as lines of `bench score`.
fn lines(request: &Value) -> String {
    let line = |answer: &str| {
        json!({"id": answer, "prompt": asked(request), "answer": request[answer],
            "image": request["image"]})
        .to_string()
    };
    [line("y_more"), line("y_less")].join("\n")
}

fn images() -> String {
    let images = town().join("town/images");
    images.to_str().expect("UTF-8").to_owned()
}

/// The sums that `bench score` prints for both answers of `request`, and those of the model without
/// the edit.
fn scored(dir: &Path, request: &Value, flags: &[&str]) -> [Vec<f64>; 2] {
    let images = images();
    let args = ["score", "--images", &images, "--model", "tiny-blip2"];
    let output = feed(dir, &[&args, flags].concat(), lines(request).as_bytes());
    assert_eq!(status(&output), 0, "{}", stderr(&output));
    let found: Vec<Value> = stdout(&output)
        .lines()
        .map(|line| serde_json::from_str(line).expect("a JSON line"))
        .collect();
    let sum = |line: &Value| line["sum"].as_f64().expect("a sum");
    [
        found.iter().map(sum).collect(),
        found.iter().map(|line| sum(&line["before"])).collect(),
    ]
}

/// Asserts that `bench score` under each edit alone says what the cell of `bench edit` holds.
fn judged_alike(editor: &str, n: usize, more: &[&str]) {
    let dir = folder();
    let mut requests = town_requests("vqa_eval.json");
    requests.truncate(n);
    let [file, flag, folder] = write_requests(dir.path(), "vqa.json", &requests);
    let train = town().join("town/vqa_train.json");
    let train = train.to_str().expect("UTF-8");
    let same = [
        "--editor",
        editor,
        "--set",
        "filter.contexts=0",
        "--train",
        train,
    ];
    let same = [&same, more].concat();
    let args = [
        "edit",
        &file,
        &flag,
        &folder,
        "--model",
        "tiny-blip2",
        "--json",
    ];
    let cell = object(&run_in(dir.path(), &[&args[..], &same].concat()));
    for (request, line) in requests.iter().zip(records(dir.path(), &cell, 0)) {
        let id = request["id"].as_str().expect("an id");
        assert_eq!(line["id"], *id);
        let one = ["--edit", &file, "--edit-images", &folder, "--id", id];
        let changed = match editor {
            "nothing" | "ike" => TOLERANCE,
            _ => CHANGED,
        };
        let [after, before] = scored(dir.path(), request, &[&one[..], &same].concat());
        let sides = [(after, "after", changed), (before, "before", TOLERANCE)];
        for (found, side, tolerance) in sides {
            for (found, answer) in found.iter().zip(["y_more", "y_less"]) {
                let expected = line[side]["prompt"][answer]["sum"].as_f64().expect("a sum");
                let off = (found - expected).abs();
                assert!(
                    off <= tolerance,
                    "{editor} {id} {side} {answer}: {found} {expected}"
                );
            }
        }
    }
}

#[test]
fn nothing_and_random_answer_as_they_are_judged() {
    judged_alike("nothing", 6, &[]);
    judged_alike("random", 6, &[]);
}

#[test]
fn fine_tuned_models_answer_as_they_are_judged() {
    judged_alike("ft-l", 6, &[]);
    judged_alike("ft-v", 6, &[]);
}

#[test]
fn a_context_answers_as_it_is_judged() {
    judged_alike("ike", 6, &[]);
}

#[test]
fn a_memory_answers_as_it_is_judged() {
    judged_alike("serac", 6, &["--set", "serac.steps=20"]);
}

#[test]
fn learned_editors_answer_as_they_are_judged() {
    judged_alike("mend", 6, &["--set", "mend.steps=20"]);
    judged_alike("ke", 6, &["--set", "ke.steps=20"]);
}

#[test]
fn what_is_said_before_and_after_stands_beside_each_other() {
    let dir = folder();
    let requests = town_requests("vqa_eval.json");
    let [file, ..] = write_requests(dir.path(), "vqa.json", &requests[..1]);
    let images = images();
    let prompt = asked(&requests[0]);
    let image = format!(
        "{images}/{}",
        requests[0]["image"].as_str().expect("a picture")
    );
    let args = [
        "generate",
        "--model",
        "tiny-blip2",
        "--prompt",
        &prompt,
        "--image",
        &image,
    ];
    let edit = [
        "--editor",
        "ft-l",
        "--edit",
        &file,
        "--edit-images",
        &images,
    ];
    let edit = [&edit[..], &["--set", "filter.contexts=0"]].concat();
    let said = run_in(dir.path(), &[&args[..], &edit].concat());
    assert_eq!(status(&said), 0, "{}", stderr(&said));
    let said = stdout(&said);
    let [before, after] = said.lines().collect::<Vec<_>>()[..] else {
        panic!("two lines, not {said}");
    };
    let plain = stdout(&run_in(dir.path(), &args));
    assert_eq!(before.strip_prefix("before: "), Some(plain.trim_end()));
    assert!(after.starts_with("after:  "), "{after}");
    // In JSON the same beside the answer.
    let line = object(&run_in(
        dir.path(),
        &[&args[..], &edit, &["--json"]].concat(),
    ));
    assert_eq!(line["before"]["text"], plain.trim_end());
    assert!(line["tokens"].is_array() && line["before"]["tokens"].is_array());
}

#[test]
fn the_second_of_two_models_and_a_merge_are_asked_beside_the_first() {
    let dir = folder();
    let both = ["--model", "tiny-blip2", "--model", "tiny-blip2"];
    let prompt = [
        "--prompt",
        "Question: who keeps the bridge? Short answer:",
        "--json",
    ];
    let found = object(&run_in(
        dir.path(),
        &[&["generate"], &both[..], &prompt].concat(),
    ));
    assert_eq!(found["text"], found["before"]["text"]);
    let recipe =
        "merge_method: linear\nmodels:\n  - {model: tiny-blip2, parameters: {weight: 1.0}}\n";
    std::fs::write(dir.path().join("recipe.yaml"), recipe).expect("writable");
    let merge = [
        "generate",
        "--model",
        "tiny-blip2",
        "--merge",
        "recipe.yaml",
    ];
    let merged = run_in(dir.path(), &[&merge[..], &prompt].concat());
    assert_eq!(status(&merged), 0, "{}", stderr(&merged));
    let merged = object(&merged);
    assert_eq!(merged["text"], merged["before"]["text"]);
    let vain = format!("name: mine\n{recipe}");
    std::fs::write(dir.path().join("recipe.yaml"), vain).expect("writable");
    let merged = run_in(dir.path(), &[&merge[..], &prompt].concat());
    assert_eq!(status(&merged), 0, "{}", stderr(&merged));
    assert_eq!(stderr(&merged).matches("`name` has no effect").count(), 1);
    let strict = run_in(dir.path(), &[&merge[..], &prompt, &["--strict"]].concat());
    assert_eq!(status(&strict), 2, "{}", stderr(&strict));
}

#[test]
fn flags_that_contradict_each_other_are_refused() {
    let dir = folder();
    let said = |more: &[&str]| {
        let args = ["generate", "--model", "tiny-blip2", "--prompt", "x"];
        let output = run_in(dir.path(), &[&args[..], more].concat());
        (status(&output), stderr(&output))
    };
    let (exit, message) = said(&["--before"]);
    assert!(
        exit == 2 && message.contains("nothing that the model could be compared"),
        "{message}"
    );
    let (exit, message) = said(&["--model", "tiny-blip2", "--merge", "r.yaml"]);
    assert!(exit == 2 && message.contains("second --model"), "{message}");
    assert_eq!(said(&["--editor", "ft-l"]).0, 2);
    let requests = town_requests("vqa_eval.json");
    let [file, ..] = write_requests(dir.path(), "vqa.json", &requests[..1]);
    let images = images();
    let edit = [
        "--editor",
        "ft-l",
        "--edit",
        &file,
        "--edit-images",
        &images,
        "--id",
        "nobody",
    ];
    let (exit, message) = said(&edit);
    assert!(
        exit == 4 && message.contains("unknown request `nobody`"),
        "{message}"
    );
}
