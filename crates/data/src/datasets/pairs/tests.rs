//! The published counts and splits, on the real files when they are there.

use std::collections::{BTreeMap, HashSet};
use std::fs;

use super::*;
use crate::codec::encode_png;
use crate::folder::{build, check};

/// The data folder, or `None` with a message when the variable is not set; in CI it must be.
fn data() -> Option<PathBuf> {
    let folder = std::env::var_os("DEBIAS_BENCH_DATA").map(PathBuf::from);
    let found = folder.filter(|dir| dir.join("pairs/questions.json").is_file());
    if found.is_none() {
        let in_ci = std::env::var("CI").is_ok_and(|value| value == "true");
        assert!(!in_ci, "DEBIAS_BENCH_DATA must name the data folder in CI");
        // Not eprintln!: the test harness swallows it, and a skipped case must be seen.
        let _ = std::io::Write::write_all(
            &mut std::io::stderr(),
            b"SKIPPED 1 case: DEBIAS_BENCH_DATA names no folder with pairs/questions.json\n",
        );
    }
    found
}

fn by_split(records: &[Record]) -> [usize; 3] {
    [Split::Train, Split::Val, Split::Eval].map(|split| {
        records
            .iter()
            .filter(|record| record.split == split)
            .count()
    })
}

#[test]
fn splits_are_the_published_ones() {
    let Some(root) = data() else { return };
    let pairs = Pairs.open(Some(&root), 2024).expect("opens");
    let records = pairs.records(Task::Vqa).expect("records");
    assert_eq!(by_split(&records), [300, 52, 156]);
    let scenes = |split| -> Vec<String> {
        let mut scenes: Vec<String> = records
            .iter()
            .filter(|record| record.split == split)
            .map(|record| record.group.clone())
            .collect();
        scenes.sort();
        scenes.dedup();
        scenes
    };
    assert_eq!(
        scenes(Split::Eval),
        [
            "occupations/apron",
            "occupations/clipboard",
            "occupations/dental_office",
            "occupations/law_office",
            "occupations/restaurant",
            "occupations/studying",
            "potential_crime/bandanna",
            "potential_crime/running",
            "potential_crime/ski_mask",
            "status/city",
            "status/cooking",
            "status/guitar",
            "status/shopping",
            "status/stroller",
            "status/white_shirt",
        ]
    );
    assert_eq!(
        scenes(Split::Val),
        [
            "occupations/bank",
            "occupations/vest",
            "potential_crime/courtroom",
            "status/microphone",
            "status/smiling",
        ]
    );
}

#[test]
fn extensions_are_sixteen_more_records() {
    let Some(root) = data() else { return };
    let all = Pairs.open_with(&root, 2024, true).expect("opens");
    assert_eq!(all.records(Task::Vqa).expect("records").len(), 524);
    assert!(matches!(
        all.records(Task::Ic),
        Err(Error::NoSuchTask { .. })
    ));
}

/// The key of a record's own picture.
fn own(record: &Record) -> &str {
    record.image.as_deref().expect("a picture")
}

#[test]
fn records_follow_the_mapping() {
    let Some(root) = data() else { return };
    let pairs = Pairs
        .open(Some(&root.join("pairs")), 1)
        .expect("the folder itself opens, too");
    let records = pairs.records(Task::Vqa).expect("records");
    let homes: BTreeMap<&str, &Record> = records.iter().map(|r| (own(r), r)).collect();
    for record in &records {
        let expected = match record.group.starts_with("occupations/") {
            true => "gender",
            false => "race",
        };
        assert_eq!(record.bias_type, expected);
        assert_eq!(record.target, TargetRule::LessLikely);
        assert_ne!(Some(&record.prompt), record.prompt_rephrase.as_ref());
        let unrelated = record.m_locality.as_ref().expect("an item");
        let elsewhere = homes.get(unrelated.image.as_deref().expect("a picture"));
        if let Some(other) = elsewhere {
            assert_eq!(other.split, record.split);
            assert_ne!(other.group, record.group);
        }
        let unrelated = record.t_locality.as_ref().expect("an item");
        assert!(unrelated.question.ends_with('?') && !unrelated.answer.is_empty());
    }
    let phone = records
        .iter()
        .find(|r| r.id == "status/phone/wealth/white_man");
    let phone = phone.expect("the record is there");
    assert_eq!(own(phone), "data/status/phone/white_man1.png");
    assert_eq!([phone.y_more.as_str(), &phone.y_less], ["wealthy", "poor"]);
}

#[test]
fn pictures_are_read_and_rephrased_the_same_way_every_time() {
    let Some(root) = data() else { return };
    let pairs = Pairs.open(Some(&root), 2024).expect("opens");
    let records = pairs.records(Task::Vqa).expect("records");
    let record = &records[0];
    let before = pairs.picture(own(record)).expect("picture");
    assert_eq!((before.width(), before.height()), (256, 256));
    let rephrased = record.image_rephrase.as_deref().expect("a picture");
    let after = pairs.picture(rephrased).expect("rephrased");
    assert_ne!(before, after);
    assert_eq!(after, pairs.picture(rephrased).expect("again"));
    assert_eq!(
        sha256_hex(after.rgb()),
        "05becf394f58de5e72b3c0e6d3318955427a917599277aaec07c0bd9e4b514d6"
    );
    for key in [
        "data/../questions.json",
        "mix/../x.png",
        "/etc/passwd",
        "questions.json",
    ] {
        assert!(
            matches!(pairs.picture(key), Err(Error::UnknownPicture { .. })),
            "{key}"
        );
    }
}

/// A small copy of the dataset's shape: ten scenes, so that every split has two.
fn sketch(dir: &Path) {
    let scenes = ["a", "b", "c", "d", "e", "f", "g", "h", "i", "j"];
    let questions: Vec<Value> = scenes
        .iter()
        .map(|scene| {
            serde_json::json!({
                "id": format!("occupations/{scene}/job"), "subset": "occupations", "scene": scene,
                "question": "Is this person a chef or a cook?", "choices": ["chef", "cook"],
                "source": "published",
            })
        })
        .collect();
    let file = serde_json::json!({
        "format": 1, "image_overrides": {}, "races": ["black", "white"], "genders": ["man"],
        "questions": questions,
    });
    fs::create_dir_all(dir.join("nq_open")).expect("folder");
    for (at, scene) in scenes.iter().enumerate() {
        let folder = dir.join("pairs/data/occupations").join(scene);
        fs::create_dir_all(&folder).expect("folder");
        for persona in ["black_man", "white_man"] {
            let rgb = (0..9 * 9 * 3).map(|b| (b * (at + 3) % 251) as u8).collect();
            let picture = Picture::new(9, 9, rgb).expect("size");
            let bytes = encode_png(&picture).expect("encodes");
            fs::write(folder.join(format!("{persona}.png")), bytes).expect("write");
        }
    }
    fs::write(dir.join("pairs/questions.json"), file.to_string()).expect("write");
    let lines: Vec<String> = (0..10)
        .map(|i| format!(r#"{{"question": "q{i}", "answer": ["a{i}"]}}"#))
        .collect();
    fs::write(dir.join(NQ_OPEN), lines.join("\n")).expect("write");
}

#[test]
fn a_built_folder_equals_its_source() {
    let dir = tempfile::tempdir().expect("temporary folder");
    sketch(dir.path());
    let source = Pairs.open(Some(dir.path()), 5).expect("opens");
    let records = source.records(Task::Vqa).expect("records");
    assert_eq!(by_split(&records), [4, 4, 12]);
    let out = dir.path().join("built");
    let open = |seed| Pairs.open(Some(dir.path()), seed);
    build(&Pairs, open, 5, &out, false, &mut |_, _| {}).expect("builds");
    let built = Pairs.open(Some(&out), 0).expect("opens");
    let mut again = built.records(Task::Vqa).expect("records");
    again.sort_by(|a, b| a.id.cmp(&b.id));
    let mut sorted = records.clone();
    sorted.sort_by(|a, b| a.id.cmp(&b.id));
    assert_eq!(again, sorted);
    let keys: HashSet<&String> = records
        .iter()
        .flat_map(|r| r.images().map(|(_, key)| key))
        .collect();
    for key in keys {
        assert_eq!(
            source.picture(key).expect("source"),
            built.picture(key).expect("built")
        );
    }
    assert_eq!(check(&out).expect("checks").problems, Vec::<String>::new());
}

#[test]
fn missing_files_are_listed_in_one_error() {
    let dir = tempfile::tempdir().expect("temporary folder");
    let empty = Pairs
        .open(Some(dir.path()), 1)
        .err()
        .expect("refused")
        .to_string();
    assert!(
        empty.contains("pairs/questions.json; nq_open/NQ-open.dev.jsonl"),
        "{empty}"
    );
    sketch(dir.path());
    fs::remove_dir_all(dir.path().join("pairs/data")).expect("remove");
    let error = Pairs
        .open(Some(dir.path()), 1)
        .err()
        .expect("refused")
        .to_string();
    assert!(
        error.contains("20 of the files of `pairs` are missing"),
        "{error}"
    );
    assert!(
        error.contains("pairs/data/occupations/a/black_man.png"),
        "{error}"
    );
    assert!(error.contains("; and 10 more"), "{error}");
    let error = Pairs.open(None, 1).err().expect("refused").to_string();
    assert!(error.contains("--data pairs=DIR"), "{error}");
}

#[test]
fn names_that_would_leave_the_folder_are_refused() {
    let dir = tempfile::tempdir().expect("temporary folder");
    sketch(dir.path());
    let path = dir.path().join("pairs/questions.json");
    let text = fs::read_to_string(&path).expect("read");
    for (from, to) in [
        (r#""scene":"a""#, r#""scene":"../../a""#),
        (r#""races":["black""#, r#""races":["../x""#),
        (
            r#""image_overrides":{}"#,
            r#""image_overrides":{"a":"../a.png"}"#,
        ),
        (r#""id":"occupations/a/job""#, r#""id":"../../job""#),
    ] {
        assert!(text.contains(from), "{from}");
        fs::write(&path, text.replace(from, to)).expect("write");
        let error = Pairs
            .open(Some(dir.path()), 1)
            .err()
            .expect("refused")
            .to_string();
        assert!(error.contains("is not a plain"), "{error}");
    }
    fs::write(&path, text.replace(r#""format":1"#, r#""format":2"#)).expect("write");
    assert!(matches!(
        Pairs.open(Some(dir.path()), 1).err(),
        Some(Error::NewerFormat { found: 2, .. })
    ));
}

/// A clone as its authors publish it, in the place of the folder with our questions.
fn clone_of(root: &Path, to: &Path) -> PathBuf {
    let clone = to.join("PAIRS");
    for entry in walkdir::WalkDir::new(root.join("pairs/data")) {
        let entry = entry.expect("readable");
        let inside = entry
            .path()
            .strip_prefix(root.join("pairs"))
            .expect("below");
        let target = clone.join(inside);
        if entry.file_type().is_dir() {
            fs::create_dir_all(&target).expect("folder");
        } else {
            fs::write(&target, fs::read(entry.path()).expect("read")).expect("write");
        }
    }
    clone
}

#[test]
fn a_clone_gives_the_records_that_our_folder_gives() {
    let Some(root) = data() else { return };
    let dir = tempfile::tempdir().expect("temporary folder");
    let clone = clone_of(&root, dir.path());
    let expected = Pairs.open(Some(&root), 2024).expect("opens");
    let expected = expected.records(Task::Vqa).expect("records");
    let found = Pairs.open_clone(&clone, Some(&root), 2024).expect("opens");
    assert_eq!(found.records(Task::Vqa).expect("records"), expected);
    assert_eq!(found.remark(), Some(REMARK));
    // Without NQ-open everything is the same but the unrelated texts, and that is said.
    let alone = Pairs.open_clone(&clone, None, 2024).expect("opens");
    let records = alone.records(Task::Vqa).expect("records");
    assert_eq!(records.len(), expected.len());
    for (found, expected) in records.iter().zip(&expected) {
        let mut found = found.clone();
        let item = found.t_locality.take().expect("an item");
        assert!(item.question.ends_with('?'));
        found.t_locality.clone_from(&expected.t_locality);
        assert_eq!(found, *expected);
    }
    assert!(
        alone
            .remark()
            .expect("said")
            .contains("T-locality (stand-in)")
    );

    let refused = Pairs
        .open(Some(&clone), 2024)
        .err()
        .expect("not built")
        .to_string();
    let said = format!(
        "bench data build pairs --from {} --out DIR",
        clone.display()
    );
    assert!(refused.contains(&said), "{refused}");
    fs::remove_file(clone.join("data/occupations/taxi/black_man.png")).expect("there");
    let lacking = Pairs
        .open_clone(&clone, None, 2024)
        .err()
        .expect("lacks one")
        .to_string();
    assert!(
        lacking.contains("data/occupations/taxi/black_man.png"),
        "{lacking}"
    );
    let nowhere = Pairs
        .open_clone(dir.path(), None, 2024)
        .err()
        .expect("no clone")
        .to_string();
    assert!(nowhere.contains("and 190 more"), "{nowhere}");
}

#[test]
fn what_is_generated_has_no_clone() {
    let error =
        crate::datasets::find("toytown")
            .expect("known")
            .open_clone(Path::new("x"), None, 0);
    assert!(matches!(error, Err(Error::NoClone { .. })));
}
