//! What people write in the place of JSON lines, and the names of their pictures.

mod support;

use std::fs;
use std::path::Path;

use serde_json::{Value, json};
use support::{
    feed, folder, model_files, refused_lines, status, stderr, stdout, town, town_requests,
};

fn text(path: &Path) -> &str {
    path.to_str().expect("UTF-8")
}

/// The lines of output of `bench score` on these lines, all of which are answered.
fn scored(images: &Path, given: &[u8]) -> Vec<Value> {
    let work = folder();
    let args = ["score", "--model", "tiny-blip2", "--images", text(images)];
    let output = feed(work.path(), &args, given);
    assert_eq!((status(&output), stderr(&output).as_str()), (0, ""));
    let said = stdout(&output);
    let lines = said
        .lines()
        .map(|line| serde_json::from_str(line).expect("JSON"));
    lines.collect()
}

#[test]
fn the_same_mistake_of_many_lines_is_one_sentence() {
    let line = |at: usize| json!({"id": at, "prompt": "a", "answer": "b", "image": ""}).to_string();
    let lines: Vec<String> = (0..120).map(line).collect();
    let images = folder();
    let error = refused_lines(
        &model_files("tiny-blip2"),
        images.path(),
        lines.join("\n").as_bytes(),
    );
    assert_eq!(
        error,
        "error: 120 lines: `image` is empty; leave the field out, or write null, where there is no picture \
         (standard input: line 1, standard input: line 2, standard input: line 3 and 117 more)"
    );
}

#[test]
fn lines_may_be_written_in_any_form() {
    let dir = folder();
    let model = model_files("tiny-blip2");
    let items = [
        json!({"id": 1, "prompt": "who keeps the mill", "answer": "Mira"}),
        json!({"id": "é", "prompt": "who is it", "answer": "a nurse"}),
    ];
    let score = |given: &[u8]| scored(dir.path(), given);
    let plain = format!("{}\n{}\n", items[0], items[1]);
    let expected = score(plain.as_bytes());
    let marked = format!("\u{feff}{}", plain.replace('\n', "\r\n"));
    let units = |text: &str| {
        text.encode_utf16()
            .flat_map(u16::to_le_bytes)
            .collect::<Vec<u8>>()
    };
    for given in [
        units(&marked),
        marked.into_bytes(),
        json!(items).to_string().into_bytes(),
        format!("{:#}", json!(items)).into_bytes(),
        format!("{:#}\n{:#}\n", items[0], items[1]).into_bytes(),
    ] {
        assert_eq!(
            score(&given),
            expected,
            "{}",
            String::from_utf8_lossy(&given)
        );
    }
    let wide = units(&plain);
    let error = refused_lines(&model, dir.path(), &wide);
    assert!(
        error.contains("UTF-16 without its byte order mark"),
        "{error}"
    );
}

#[test]
fn a_picture_may_have_any_name_that_its_system_permits() {
    let dir = folder();
    let images = dir.path().join("images");
    fs::create_dir_all(images.join("photos")).expect("new folders");
    let picture = town().join("town/images");
    let request = &town_requests("vqa_eval.json")[0];
    let picture = fs::read(picture.join(request["image"].as_str().expect("a name")));
    let picture = picture.expect("was built");
    for name in ["2024-01-01 10:20:30.png", "photos/a.png"] {
        fs::write(images.join(name), &picture).expect("writable");
    }
    let of = |name: &str| {
        let item = json!({"id": 1, "prompt": "who is it", "answer": "a nurse", "image": name});
        scored(&images, item.to_string().as_bytes())
    };
    let expected = of("photos/a.png");
    assert_eq!(of("2024-01-01 10:20:30.png"), expected);
    assert_eq!(of("photos\\a.png"), expected);
}

#[test]
fn a_cut_photograph_is_refused_and_named() {
    let dir = folder();
    let drawn = Path::new(env!("CARGO_MANIFEST_DIR")).join("../data/tests/pictures/420.jpg");
    let whole = fs::read(drawn).expect("a drawing");
    fs::write(dir.path().join("cut.jpg"), &whole[..whole.len() / 2]).expect("writable");
    let item = json!({"id": 1, "prompt": "who is it", "answer": "a nurse", "image": "cut.jpg"});
    let error = refused_lines(
        &model_files("tiny-blip2"),
        dir.path(),
        item.to_string().as_bytes(),
    );
    assert!(
        error.contains("item `1`: ") && error.contains("cut.jpg: is cut short"),
        "{error}"
    );
}
