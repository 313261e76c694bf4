//! The chat templates of multimodal folders.

mod support;

use std::fs;
use std::path::Path;

use serde_json::{Value, json};
use support::published::{Copy, assert_near, items};
use support::{
    folder, json as object, likelihoods, records, run_in, town_requests, write_requests,
};

/// One that takes parts, and writes its placeholder itself.
const TEMPLATE: &str = "{% for m in messages %}<{{ m['role'] }}>{% for c in m['content'] %}\
    {% if c['type'] == 'image' %}PICTURE{% else %}{{ c['text'] }}{% endif %}{% endfor %}\
    {% endfor %}{% if add_generation_prompt %}<answer>{% endif %}";

/// One that takes text alone.
const TEXT: &str =
    "{% for m in messages %}[{{ m['role'] }}]{{ m['content'] + '' }}{% endfor %}[answer]";

#[test]
fn a_multimodal_folders_own_template_stands_around_prompts() {
    for (case, written, placed, turn) in [
        ("llava", "<image>", "<image>", "<image>\n"),
        (
            "internvl",
            "<IMG_CONTEXT>",
            "<img><IMG_CONTEXT></img>",
            "<img><IMG_CONTEXT></img>\n",
        ),
        (
            "internvl_chat",
            "<image>",
            "<img><IMG_CONTEXT></img>",
            "<img><IMG_CONTEXT></img>\n",
        ),
        ("blip2_opt", "<image>", "<ImageHere>", "<ImageHere>\n"),
    ] {
        let Some(copy) = Copy::of(case) else { return };
        let [text, mut picture] = [0, 1].map(|at| items()[at].clone());
        picture["image"] = json!("image_0.png");
        let own = copy.scored(&[text.clone(), picture.clone()], &[]);
        let raw = |prompts: [String; 2]| {
            let mut given = [text.clone(), picture.clone()];
            for (item, prompt) in given.iter_mut().zip(prompts) {
                item["prompt"] = json!(prompt);
            }
            copy.scored(&given, &["--raw"])
        };
        let said = |item: &Value| item["prompt"].as_str().expect("a text").to_owned();
        for (file, content, expected) in [
            (
                "chat_template.jinja",
                TEMPLATE.replace("PICTURE", written),
                [
                    format!("<user>{}<answer>", said(&text)),
                    format!("<user>{placed}{}<answer>", said(&picture)),
                ],
            ),
            (
                "chat_template.json",
                json!({"chat_template": TEXT}).to_string(),
                [
                    format!("[user]{}[answer]", said(&text)),
                    format!("[user]{turn}{}[answer]", said(&picture)),
                ],
            ),
        ] {
            copy.write(file, &content);
            let (lines, _) = copy.lines(&[text.clone(), picture.clone()], &[]);
            let sums: Vec<f64> = lines
                .iter()
                .map(|l| l["sum"].as_f64().expect("a sum"))
                .collect();
            assert_near(&sums, &raw(expected).0, case);
            assert_ne!(sums, own.0, "{case}");
            assert!(lines.iter().all(|line| line["template"] == file), "{case}");
            fs::remove_file(copy.dir.join(file)).expect("is there");
        }
        assert_eq!(
            copy.scored(&[text.clone(), picture.clone()], &[]),
            own,
            "{case}"
        );
    }
}

#[test]
fn a_prompt_that_says_where_its_picture_goes_is_put_as_it_is() {
    let Some(copy) = Copy::of("llava") else {
        return;
    };
    let item = json!({
        "id": 1, "prompt": "USER: <image>\nWho is it? ASSISTANT:", "answer": "a nurse",
        "image": "image_0.png"
    });
    let right = copy.scored(std::slice::from_ref(&item), &["--raw"]);
    copy.write(
        "chat_template.jinja",
        &TEMPLATE.replace("PICTURE", "<image>"),
    );
    assert_eq!(copy.scored(&[item], &[]), right);
}

#[test]
fn the_original_internvl_opens_as_its_configuration_says() {
    let Some(copy) = Copy::of("internvl_chat") else {
        return;
    };
    copy.edit("config.json", |config| {
        config["template"] = json!("internvl2_5")
    });
    let system = "<|im_start|>system\n你是书生·万象，英文名是InternVL，是由上海人工智能实验室、清华大学及多家合作单位联合开发的多模态大语言模型。<|im_end|>\n";
    let [text, mut picture] = [0, 1].map(|at| items()[at].clone());
    picture["image"] = json!("image_0.png");
    let (lines, _) = copy.lines(&[text.clone(), picture.clone()], &[]);
    let given = [(text, ""), (picture, "<img><IMG_CONTEXT></img>\n")].map(|(mut item, turn)| {
        let said = item["prompt"].as_str().expect("a text");
        item["prompt"] = json!(format!(
            "{system}<|im_start|>user\n{turn}{said}<|im_end|>\n<|im_start|>assistant\n"
        ));
        item
    });
    let sums: Vec<f64> = lines
        .iter()
        .map(|l| l["sum"].as_f64().expect("a sum"))
        .collect();
    assert_near(&sums, &copy.scored(&given, &["--raw"]).0, "internvl2_5");
    assert!(lines.iter().all(|line| line["template"] == "internvl2_5"));
}

#[test]
fn edits_see_the_template_and_their_cells_say_so() {
    let copy = Copy::embedded("tiny-blip2");
    let work = folder();
    let requests = &town_requests("vqa_eval.json")[..2];
    let file = write_requests(work.path(), "vqa.json", requests);
    let file: Vec<&str> = file.iter().map(String::as_str).collect();
    let edited = |dir: &Path| {
        let args = [
            "--model",
            dir.to_str().expect("UTF-8"),
            "--editor",
            "nothing",
            "--set",
            "filter.contexts=0",
            "--json",
        ];
        let found = object(&run_in(
            work.path(),
            &[&["edit"], &file[..], &args].concat(),
        ));
        let lines = records(work.path(), &found, 0);
        (found["cells"][0].clone(), likelihoods(&lines[0]["before"]))
    };
    let (plain, right) = edited(&copy.dir);
    assert_eq!(plain["template"], Value::Null);
    // One that puts nothing around a turn and its picture in front, as the family does by itself.
    let bare = "{% for part in messages[0].content %}\
        {{ '<image>' if part.type == 'image' else part.text }}{% endfor %}";
    copy.write("chat_template.jinja", bare);
    let (framed, same) = edited(&copy.dir);
    assert_eq!(framed["template"], "chat_template.jinja");
    assert_ne!(framed["key"], plain["key"]);
    assert_near(&same, &right, "the same text");
    copy.write("chat_template.jinja", &format!("Say: {bare} Now:"));
    let (other, found) = edited(&copy.dir);
    assert_ne!(other["key"], framed["key"]);
    assert!((found[0] - right[0]).abs() > 1e-3, "{found:?} {right:?}");
}
