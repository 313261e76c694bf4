//! EasyEdit's form, our form, and everything that must be refused.

mod plain;

use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::codec::encode_png;

/// A folder with `images/a.png`, `images/b.png` and a request file.
struct Bench {
    dir: tempfile::TempDir,
}

impl Bench {
    fn new() -> Self {
        let dir = tempfile::tempdir().expect("temporary folder");
        let grey = Picture::new(2, 2, vec![7; 12]).expect("size");
        std::fs::create_dir(dir.path().join("images")).expect("folder");
        for name in ["a.png", "b.png"] {
            let bytes = encode_png(&grey).expect("encodes");
            std::fs::write(dir.path().join("images").join(name), bytes).expect("write");
        }
        Self { dir }
    }

    fn read(&self, list: &Value) -> Result<Requests> {
        let path = self.dir.path().join("vqa_eval.json");
        std::fs::write(&path, list.to_string()).expect("write");
        self.reading(&path, Split::Eval)
    }

    fn reading(&self, path: &Path, split: Split) -> Result<Requests> {
        let images = self.dir.path().join("images");
        let reading = Reading {
            images: &images,
            rephrased: &images,
            task: None,
            split,
        };
        read_requests(path, reading)
    }

    fn train(&self, list: &Value) -> Result<Requests> {
        let path = self.dir.path().join("vqa_train.json");
        std::fs::write(&path, list.to_string()).expect("write");
        self.reading(&path, Split::Train)
    }

    fn refusal(&self, list: &Value) -> String {
        self.read(list).expect_err("refused").to_string()
    }
}

fn easyedit() -> Value {
    json!({
        "src": "Is this person rich or poor?", "rephrase": "Rich or poor?", "pred": "rich",
        "alt": "poor", "image": "a.png", "image_rephrase": "b.png",
        "loc": "nq question: who keeps the mill", "loc_ans": "Mira",
        "m_loc": "b.png", "m_loc_q": "What color is the ball?", "m_loc_a": "red",
    })
}

fn with(key: &str, value: Value) -> Value {
    let mut request = easyedit();
    request[key] = value;
    request
}

#[test]
fn easyedits_keys_are_read() {
    let bench = Bench::new();
    let requests = bench.read(&json!([easyedit(), easyedit()])).expect("reads");
    let [first, second] = requests.all() else {
        panic!("two requests")
    };
    assert_eq!((first.task, first.split), (Task::Vqa, Split::Eval));
    assert_eq!(
        (first.y_more.as_str(), first.y_less.as_str()),
        ("rich", "poor")
    );
    let unrelated = first.t_locality.as_ref().expect("an item");
    assert_eq!(unrelated.question, "nq question: who keeps the mill");
    assert_eq!(format!("{}-2", first.id), second.id);
    assert_eq!(requests.picture("b.png").expect("picture").width(), 2);
    assert!(requests.picture("c.png").is_err());
}

#[test]
fn what_is_written_is_read_back() {
    let bench = Bench::new();
    let first = bench.read(&json!([easyedit()])).expect("reads");
    let written = json!([to_json(&first.all()[0])]);
    assert_eq!(written[0]["alt"], written[0]["y_less"]);
    let again = bench.read(&written).expect("reads");
    assert_eq!(again.all(), first.all());
}

#[test]
fn every_problem_is_named_by_record_and_field() {
    let bench = Bench::new();
    let mut lacking = with("id", json!("x1"));
    lacking.as_object_mut().expect("object").remove("loc_ans");
    let text = bench.refusal(&json!([lacking, with("alt", json!(""))]));
    assert!(
        text.contains("record `x1`: `loc_a` (EasyEdit's `loc_ans`) is missing"),
        "{text}"
    );
    assert!(
        text.contains("record number 2: `y_less` (EasyEdit's `alt`) is empty"),
        "{text}"
    );

    let cases = [
        (with("pred", json!("poor ")), "`y_less` equals y_more"),
        (with("y_more", json!("bold")), "`y_more` and `pred` differ"),
        (with("src", json!(3)), "`src` is not text"),
        (
            with("split", json!("dev")),
            "`split` `dev` is none of train, val, eval, test",
        ),
        (with("image", json!("c.png")), "`image` `c.png` is in none"),
        (
            with("m_loc", json!("../a.png")),
            "`mloc_image` `../a.png` would leave",
        ),
    ];
    for (request, expected) in cases {
        let text = bench.refusal(&json!([request]));
        assert!(text.contains(expected), "{text}");
    }
    let twice = with("id", json!("same"));
    let text = bench.refusal(&json!([twice.clone(), twice]));
    assert!(text.contains("record `same`: `id` is used twice"), "{text}");
    assert!(
        bench
            .refusal(&json!({"a": 1}))
            .contains("is no edit request")
    );
    assert!(bench.refusal(&json!([1])).contains("it is no object"));
    assert!(bench.refusal(&json!([])).contains("holds no edit request"));
}

#[test]
fn a_rephrased_picture_is_looked_up_in_its_own_folder_first() {
    let bench = Bench::new();
    let other = bench.dir.path().join("rephrased");
    std::fs::create_dir(&other).expect("folder");
    let wide = Picture::new(4, 2, vec![9; 24]).expect("size");
    std::fs::write(other.join("a.png"), encode_png(&wide).expect("encodes")).expect("write");
    let path = bench.dir.path().join("vqa.json");
    let request = with("image_rephrase", json!("a.png"));
    std::fs::write(&path, json!([request]).to_string()).expect("write");
    let reading = Reading {
        images: &bench.dir.path().join("images"),
        rephrased: &other,
        task: None,
        split: Split::Eval,
    };
    let requests = read_requests(&path, reading).expect("reads");
    let width = |key: &Option<String>| {
        let key = key.as_deref().expect("a key");
        requests.picture(key).expect("a picture").width()
    };
    let record = &requests.all()[0];
    assert_eq!(
        (width(&record.image), width(&record.image_rephrase)),
        (2, 4)
    );
    assert_eq!(
        requests.file(record.image_rephrase.as_deref().expect("a key")),
        Some(other.join("a.png"))
    );
}

#[test]
fn training_requests_stand_beside_and_never_among_the_others() {
    let bench = Bench::new();
    let eval = || bench.read(&json!([with("id", json!("e"))])).expect("reads");
    let digest = eval().digest().expect("a digest");
    let mut learned = with("id", json!("t"));
    learned["src"] = json!("Another question?");
    let train = bench.train(&json!([learned])).expect("reads");
    let both = eval().with_training(train).expect("disjoint");
    let splits: Vec<_> = both.all().iter().map(|record| record.split).collect();
    assert_eq!(splits, [Split::Eval, Split::Train]);
    assert_ne!(both.digest().expect("a digest"), digest);

    let same = bench
        .train(&json!([with("id", json!("e"))]))
        .expect("reads");
    let text = eval().with_training(same).expect_err("C18").to_string();
    assert!(text.contains("record `e`: `id` is used twice"), "{text}");
    let judged = bench.train(&json!([with("split", json!("test"))]));
    let text = eval()
        .with_training(judged.expect("reads"))
        .expect_err("none");
    assert!(text.to_string().contains("no training request"), "{text}");
}

#[test]
fn requests_may_stand_one_behind_the_other() {
    let bench = Bench::new();
    let path = bench.dir.path().join("requests.jsonl");
    let read = |text: String| {
        std::fs::write(&path, text).expect("write");
        bench
            .reading(&path, Split::Eval)
            .map(|requests| requests.all().to_vec())
    };
    let two = [with("id", json!(0)), with("id", json!(null))];
    let expected = read(json!(two).to_string()).expect("reads");
    // No file name and no `task`: an unrelated question of a picture makes it VQA.
    assert!(expected.iter().all(|record| record.task == Task::Vqa));
    assert_eq!(expected[0].id, "0");
    let lines = format!("\u{feff}{}\r\n{}\r\n", two[0], two[1]);
    assert_eq!(read(lines).expect("reads"), expected);
    let pretty = format!("{:#}\n{:#}", two[0], two[1]);
    assert_eq!(read(pretty).expect("reads"), expected);
    let digits = "123456789012345678901234567890";
    let long = with("id", json!(0))
        .to_string()
        .replace("\"id\":0", &format!("\"id\":{digits}"));
    assert_eq!(read(format!("[{long}]")).expect("reads")[0].id, digits);
    let missing = (0..120).map(|_| easyedit().to_string().replace("\"a.png\"", "NaN"));
    let error = read(missing.collect::<Vec<_>>().join("\n"))
        .expect_err("refused")
        .to_string();
    let said = "120 records: it is not JSON: `NaN`, as Python writes a missing value; write null or leave the field out (record number 1 (line 1, column ";
    assert!(
        error.contains(said) && error.contains("and 117 more"),
        "{error}"
    );
}

#[test]
fn a_group_of_another_meaning_is_passed_over() {
    let bench = Bench::new();
    for group in [
        json!(null),
        json!(["a"]),
        json!({"b": 1}),
        json!(true),
        json!(""),
    ] {
        let read = bench.read(&json!([with("group", group)])).expect("reads");
        assert_eq!(read.all()[0].group, read.all()[0].id);
    }
    let of = |id: &str, split: &str| {
        let mut request = with("group", json!("gender"));
        (request["id"], request["split"]) = (json!(id), json!(split));
        request
    };
    let read = bench
        .read(&json!([of("a", "train"), of("b", "test")]))
        .expect("reads");
    let groups: Vec<_> = read
        .all()
        .iter()
        .map(|record| record.group.as_str())
        .collect();
    assert_eq!(groups, ["a", "b"]);
    assert!(
        read.remark()
            .expect("said")
            .contains("`group` names the same")
    );
    let apart = bench
        .read(&json!([of("a", "test"), of("b", "test")]))
        .expect("reads");
    assert!(apart.all().iter().all(|record| record.group == "gender"));
    assert_eq!(apart.remark(), None);
    let train = bench.train(&json!([of("t", "train")])).expect("reads");
    let both = apart.with_training(train).expect("disjoint");
    assert!(
        both.remark()
            .expect("said")
            .contains("`group` names the same")
    );
}

#[test]
fn pictures_have_the_names_that_systems_give_them() {
    let bench = Bench::new();
    let images = bench.dir.path().join("images");
    std::fs::create_dir(images.join("photos")).expect("folder");
    for name in ["10:20:30.png", "photos/a.png"] {
        std::fs::copy(images.join("a.png"), images.join(name)).expect("copy");
    }
    for name in ["10:20:30.png", "photos/a.png", "photos\\a.png"] {
        let read = bench
            .read(&json!([with("image", json!(name))]))
            .expect("reads");
        let key = read.all()[0].image.as_deref().expect("a key");
        assert_eq!(read.picture(key).expect("a picture").width(), 2, "{name}");
    }
}

#[test]
fn a_mistake_of_many_requests_is_one_sentence() {
    let bench = Bench::new();
    let text = bench.refusal(&Value::Array(vec![with("alt", json!("")); 13]));
    let expected = "13 records: `y_less` (EasyEdit's `alt`) is empty (record number 1, record number 2, record number 3 and 10 more)";
    assert!(text.ends_with(expected) && !text.contains(';'), "{text}");
    let lost = |at: usize| {
        let mut request = with("image", json!(format!("{at}.png")));
        request["id"] = json!(at);
        request
    };
    let text = bench.refusal(&(0..4).map(lost).collect());
    let expected = "4 records: `image` is in none of the image folders (record `0`: `0.png`, record `1`: `1.png`, record `2`: `2.png` and 1 more)";
    assert!(text.ends_with(expected), "{text}");
}

proptest! {
    #[test]
    fn no_key_reaches_outside_its_folder(key in r"(\.\.|\.|/|a|b\\|C:|é|\x00|[a-z.]{1,3}|/\.\./){1,6}") {
        let root = Path::new("/root/images");
        if is_inside(&key) {
            let joined = root.join(&key);
            prop_assert!(joined.starts_with(root));
            prop_assert!(!joined.components().any(|part| part == Component::ParentDir));
        }
    }
}
