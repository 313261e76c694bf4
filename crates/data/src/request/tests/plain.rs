//! Requests of text alone: EasyEdit's forms, what may be left out, and what means nothing.

use debias_core::{TargetRule, Unrelated};

use super::*;

fn request() -> Value {
    json!({
        "case_id": 7, "subject": "The nurse", "prompt": "The nurse is", "target_new": "a man",
        "ground_truth": "a woman", "rephrase_prompt": "Who is the nurse? It is",
        "locality_prompt": "The capital of France is", "locality_ground_truth": "Paris",
        "portability": {"Reasoning": [{"prompt": "x", "ground_truth": "y"}]},
    })
}

fn without(keys: &[&str]) -> Value {
    let mut request = request();
    let map = request.as_object_mut().expect("an object");
    map.retain(|key, _| !keys.contains(&key.as_str()));
    request
}

fn changed(key: &str, value: Value) -> Value {
    let mut request = request();
    request[key] = value;
    request
}

fn nested(locality: Value) -> Value {
    let mut request = without(&["locality_prompt", "locality_ground_truth"]);
    request["locality"] = locality;
    request
}

fn read(request: Value) -> Record {
    let found = Bench::new().read(&json!([request])).expect("reads");
    found.all()[0].clone()
}

fn item(question: &str, answer: &str) -> Option<Unrelated> {
    Some(Unrelated {
        image: None,
        question: question.into(),
        answer: answer.into(),
    })
}

#[test]
fn easyedits_text_json_is_read() {
    // The file is called vqa_eval.json: a name says nothing of what has no picture.
    let record = read(request());
    assert_eq!((record.id.as_str(), record.task), ("7", Task::Text));
    assert_eq!(
        (record.y_more.as_str(), record.y_less.as_str()),
        ("a woman", "a man")
    );
    assert_eq!(record.target, TargetRule::Given);
    assert_eq!(
        record.prompt_rephrase.as_deref(),
        Some("Who is the nurse? It is")
    );
    assert_eq!(record.t_locality, item("The capital of France is", "Paris"));
    assert_eq!(record.m_locality, None);
    assert_eq!(record.images().count(), 0);
}

#[test]
fn every_name_of_a_field_is_known() {
    let ours = json!({
        "id": "7", "prompt": "The nurse is", "y_less": "a man", "y_more": "a woman",
        "prompt_rephrase": "Who is the nurse? It is",
        "loc_q": "The capital of France is", "loc_a": "Paris",
    });
    let mend = json!({
        "id": 7, "src": "The nurse is", "alt": "a man", "pred": "a woman",
        "rephrase": "Who is the nurse? It is",
        "loc": "The capital of France is", "loc_ans": "Paris", "cond": "a >> b || c",
    });
    for other in [ours, mend] {
        assert_eq!(read(other), read(request()));
    }
    for (key, value) in [
        ("ground_truth", json!(["a woman", "female"])),
        ("ground_truth", json!([["a woman"], ["female"]])),
        ("target_true", json!("a woman")),
        (
            "rephrase_prompt",
            json!(["Who is the nurse? It is", "and she is"]),
        ),
    ] {
        assert_eq!(read(changed(key, value)), read(request()));
    }
}

#[test]
fn a_locality_is_read_in_either_form() {
    let expected = item("The capital of France is", "Paris");
    let (q, a) = ("The capital of France is", "Paris");
    for locality in [
        json!({"neighborhood": {"prompt": q, "ground_truth": a}}),
        json!({"neighborhood": {"prompt": [q, "2+2="], "ground_truth": [a, "4"]}}),
        json!({"Relation_Specificity": [{"prompt": q, "ground_truth": [[a, "Lutetia"]]}],
               "Forgetfulness": [{"prompt": "x", "ground_truth": "y"}]}),
        json!([{"prompt": q, "ground_truth": a}]),
        json!({"prompt": q, "ground_truth": [a]}),
    ] {
        assert_eq!(
            read(nested(locality.clone())).t_locality,
            expected,
            "{locality}"
        );
    }
    for nothing in [
        json!({}),
        json!([]),
        json!(null),
        json!({"neighborhood": []}),
    ] {
        assert_eq!(read(nested(nothing)).t_locality, None);
    }
    let bench = Bench::new();
    for (locality, expected) in [
        (
            json!({"neighborhood": {"prompt": [q, q], "ground_truth": [a]}}),
            "2 texts in `prompt` and 1",
        ),
        (
            json!({"neighborhood": {"prompt": [q, q], "ground_truth": a}}),
            "2 texts in `prompt` and 1",
        ),
        (
            json!({"neighborhood": {"prompt": q}}),
            "a `prompt` without `ground_truth`",
        ),
        (
            json!({"neighborhood": {"prompt": 3, "ground_truth": a}}),
            "a `prompt` that is not text",
        ),
        (
            json!({"neighborhood": {"prompt": q, "ground_truth": " "}}),
            "a `ground_truth` that is empty",
        ),
        (
            json!({"neighborhood": "x"}),
            "something else than `prompt` and `ground_truth`",
        ),
    ] {
        let text = bench.refusal(&json!([nested(locality)]));
        assert!(
            text.contains("record `7`: `locality` ") && text.contains(expected),
            "{text}"
        );
    }
}

#[test]
fn what_is_asked_only_in_part_is_said() {
    let bench = Bench::new();
    let list = changed("rephrase_prompt", json!(["a", "b"]));
    let mut other =
        nested(json!([{"prompt": "a", "ground_truth": "b"}, {"prompt": "c", "ground_truth": "d"}]));
    other["case_id"] = json!(8);
    let mut whole = request();
    whole["case_id"] = json!(9);
    let both = bench.read(&json!([list, other, whole])).expect("reads");
    let remark = both.remark().expect("a remark");
    assert!(
        remark.starts_with("2 of 3 requests hold several prompts"),
        "{remark}"
    );
    assert_eq!(
        bench.read(&json!([request()])).expect("reads").remark(),
        None
    );
}

#[test]
fn only_prompt_and_target_are_needed() {
    let bare = read(
        json!({"prompt": "The nurse is", "target_new": "a man", "ground_truth": null, "locality": null}),
    );
    assert!(bare.awaits_answer());
    assert_eq!((bare.target, bare.y_more.as_str()), (TargetRule::Own, ""));
    assert_eq!(
        (bare.prompt_rephrase.as_ref(), bare.t_locality.as_ref()),
        (None, None)
    );
    let bench = Bench::new();
    for (request, expected) in [
        (
            without(&["prompt"]),
            "record `7`: `prompt` (EasyEdit's `src`) is missing",
        ),
        (
            without(&["target_new"]),
            "record `7`: `y_less` (EasyEdit's `target_new`) is missing",
        ),
        (
            changed("target_new", json!(null)),
            "`y_less` (EasyEdit's `target_new`) is missing",
        ),
        (
            changed("target_new", json!(" ")),
            "`y_less` (EasyEdit's `target_new`) is empty",
        ),
        (
            changed("target_new", json!(["a man"])),
            "`target_new` is not text",
        ),
        (
            changed("target_new", json!("a woman")),
            "`y_less` equals y_more",
        ),
        (
            changed("pred", json!("a person")),
            "`pred` and `ground_truth` differ",
        ),
        (
            without(&["locality_ground_truth"]),
            "`loc_a` (EasyEdit's `locality_ground_truth`) is missing",
        ),
        (
            without(&["locality_prompt"]),
            "`loc_q` (EasyEdit's `locality_prompt`) is missing",
        ),
        (
            changed("m_loc_q", json!("What colour?")),
            "`mloc_image` (EasyEdit's `m_loc`) is missing",
        ),
        (
            changed("task", json!("speech")),
            "`task` `speech` is none of ic, vqa, text",
        ),
        (changed("task", json!("vqa")), "`image` is missing"),
        (
            changed("case_id", json!([1])),
            "`case_id` is neither text nor a number",
        ),
    ] {
        let text = bench.refusal(&json!([request]));
        assert!(text.contains(expected), "{text}");
    }
    let mut pictured = changed("image", json!("a.png"));
    pictured["task"] = json!("text");
    let text = bench.refusal(&json!([pictured]));
    assert!(
        text.contains("`image` names a picture, but its task is text alone"),
        "{text}"
    );
    // Without the word the picture counts, and everything that belongs to it is missing.
    pictured.as_object_mut().expect("an object").remove("task");
    let text = bench.refusal(&json!([pictured]));
    assert!(
        text.contains("`m_loc`") && text.contains("`image_rephrase` is missing"),
        "{text}"
    );
}

#[test]
fn ids_that_are_numbers_are_read_as_text() {
    let bench = Bench::new();
    let text = bench.refusal(&json!([changed("id", json!(3)), changed("id", json!("3"))]));
    assert!(text.contains("record `3`: `id` is used twice"), "{text}");
    assert_eq!(read(changed("group", json!(12))).group, "12");
}

#[test]
fn marks_and_line_ends_of_other_systems_are_fine() {
    let bench = Bench::new();
    let path = bench.dir.path().join("requests.json");
    let list = serde_json::to_string_pretty(&json!([request()])).expect("JSON");
    let text = format!("\u{feff}{}", list.replace('\n', "\r\n"));
    std::fs::write(&path, text).expect("write");
    let found = bench.reading(&path, Split::Eval).expect("reads");
    assert_eq!(found.all()[0], read(request()));
}

#[test]
fn what_is_written_of_text_alone_is_read_back() {
    let bare = json!({"id": "1", "prompt": "The nurse is", "target_new": "a man"});
    for request in [request(), bare] {
        let record = read(request);
        let written = to_json(&record);
        assert_eq!(written["target_new"], written["y_less"]);
        assert!(
            written
                .as_object()
                .expect("an object")
                .values()
                .all(|value| !value.is_null())
        );
        assert!(written.get("image").is_none() && written.get("m_loc").is_none());
        assert_eq!(read(written), record);
    }
}
