//! Round trips of the embedded dataset, and folders that must be refused.

use std::fs;

use super::*;
use crate::datasets::toytown::Toytown;
use crate::{Card, Dataset};

/// The embedded dataset cut down to a few records per split, so that tests write few pictures.
struct Few;

struct FewRecords(Box<dyn Collection>);

impl Dataset for Few {
    fn card(&self) -> &Card {
        Toytown.card()
    }

    fn tasks(&self) -> &'static [Task] {
        &Task::PICTURED
    }

    fn open(&self, root: Option<&Path>, seed: u64) -> Result<Box<dyn Collection>> {
        Ok(Box::new(FewRecords(Toytown.open(root, seed)?)))
    }
}

impl Collection for FewRecords {
    fn records(&self, task: Task) -> Result<Vec<Record>> {
        let all = self.0.records(task)?;
        Ok(all.into_iter().step_by(56).collect())
    }

    fn picture(&self, key: &str) -> Result<Picture> {
        self.0.picture(key)
    }

    fn digest(&self) -> Result<String> {
        self.0.digest()
    }

    fn m_locality_source(&self) -> &str {
        self.0.m_locality_source()
    }

    fn remark(&self) -> Option<&str> {
        self.0.remark()
    }
}

fn built() -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().expect("temporary folder");
    let out = dir.path().join("deep/town");
    build(
        &Few,
        |seed| Few.open(None, seed),
        3,
        &out,
        false,
        &mut |_, _| {},
    )
    .expect("builds");
    (dir, out)
}

fn problems_of(out: &Path) -> String {
    check(out).expect("a folder").problems.join("\n")
}

#[test]
fn what_is_built_opens_with_equal_records_and_pictures() {
    let (_dir, out) = built();
    let source = Few.open(None, 3).expect("opens");
    let folder = Toytown.open(Some(&out), 99).expect("opens");
    for task in Task::PICTURED {
        let records = source.records(task).expect("records");
        assert_eq!(records, folder.records(task).expect("records"));
        for record in &records {
            for (_, key) in record.images() {
                let (a, b) = (source.picture(key), folder.picture(key));
                assert_eq!(a.expect("drawn"), b.expect("read"));
            }
        }
    }
    assert_eq!(folder.m_locality_source(), source.m_locality_source());
    let manifest = Manifest::read(&out).expect("manifest");
    assert_eq!(folder.digest().expect("digest"), manifest.content_digest);
    let checked = check(&out).expect("checks");
    assert_eq!(checked.problems, Vec::<String>::new());
    assert_eq!((checked.records, checked.pictures), (24, manifest.pictures));
    let seen = folder.picture("../manifest.json");
    assert!(matches!(seen, Err(Error::UnknownPicture { .. })));
}

#[test]
fn two_builds_are_equal_to_the_byte() {
    let ((_a, one), (_b, two)) = (built(), built());
    let manifest = |out: &Path| fs::read(out.join(MANIFEST)).expect("manifest");
    assert_eq!(manifest(&one), manifest(&two));
}

#[test]
fn an_occupied_folder_is_kept_unless_forced() {
    let (dir, out) = built();
    let again = |out: &Path, force| {
        build(
            &Few,
            |seed| Few.open(None, seed),
            4,
            out,
            force,
            &mut |_, _| {},
        )
    };
    assert!(matches!(again(&out, false), Err(Error::Occupied { .. })));
    assert_eq!(Manifest::read(&out).expect("kept").seed, 3);
    again(&out, true).expect("replaces");
    assert_eq!(Manifest::read(&out).expect("replaced").seed, 4);

    let foreign = dir.path().join("foreign");
    fs::create_dir(&foreign).expect("folder");
    fs::write(foreign.join("thesis.txt"), "precious").expect("write");
    for force in [false, true] {
        assert!(matches!(
            again(&foreign, force),
            Err(Error::Occupied { .. })
        ));
    }
    assert!(foreign.join("thesis.txt").is_file());
    let file = foreign.join("thesis.txt");
    assert!(matches!(again(&file, true), Err(Error::Occupied { .. })));
    assert!(again(&file.join("below"), true).is_err());
    let left: Vec<_> = fs::read_dir(dir.path().join("deep"))
        .expect("read")
        .collect();
    assert_eq!(left.len(), 1, "no temporary folder stays behind");
}

#[test]
fn everything_wrong_with_a_folder_is_listed() {
    let (_dir, out) = built();
    let folder = Folder::open(&out).expect("opens");
    let mut pictures = folder.keys.iter().map(|key| out.join(IMAGES).join(key));
    let (gone, corrupt) = (pictures.next().expect("one"), pictures.next().expect("two"));
    fs::remove_file(&gone).expect("remove");
    fs::write(&corrupt, b"\x89PNG\r\n\x1a\nnothing").expect("write");
    fs::write(out.join("stray.txt"), "x").expect("write");
    let text = fs::read_to_string(out.join("ic_eval.json")).expect("read");
    let (first, rest) = text.split_once("\"y_less\": \"").expect("a record");
    fs::write(
        out.join("ic_eval.json"),
        format!("{first}\"y_less\": \"not {rest}"),
    )
    .expect("write");
    let found = problems_of(&out);
    for expected in [
        "cannot read",
        "cannot be decoded",
        "stray.txt: does not belong",
        "`y_less` and `alt` differ",
        "`content_digest` does not match",
        "`counts.ic`",
    ] {
        assert!(found.contains(expected), "{expected} is not in:\n{found}");
    }
}

#[test]
fn a_folder_that_lacks_files_is_refused_with_a_list() {
    let (_dir, out) = built();
    fs::remove_file(out.join("vqa_val.json")).expect("remove");
    let error = Folder::open(&out).expect_err("refused").to_string();
    assert!(error.contains("missing: vqa_val.json"), "{error}");
    assert!(problems_of(&out).contains("vqa_val.json"));

    let (_dir, out) = built();
    fs::remove_dir_all(out.join(IMAGES)).expect("remove");
    let error = Folder::open(&out).expect_err("refused").to_string();
    assert!(
        error.contains("images/eval/") && error.contains(" more"),
        "{error}"
    );
}

#[test]
fn manifests_of_later_builds_are_refused_as_such() {
    let (_dir, out) = built();
    fs::write(out.join(MANIFEST), r#"{"format": 7, "new": true}"#).expect("write");
    assert!(matches!(
        Folder::open(&out),
        Err(Error::NewerFormat {
            found: 7,
            known: 1,
            ..
        })
    ));
    assert!(problems_of(&out).contains("format 7 is newer"));
    fs::write(out.join(MANIFEST), r#"{"format": 1}"#).expect("write");
    assert!(problems_of(&out).contains("missing field `dataset`"));
    assert!(check(&out.join("nowhere")).is_err());
}

#[test]
fn records_that_point_outside_the_folder_are_refused() {
    let (_dir, out) = built();
    let path = out.join("ic_eval.json");
    let text = fs::read_to_string(&path).expect("read");
    let key = text
        .split("\"image\": \"")
        .nth(1)
        .and_then(|t| t.split('"').next());
    let escaped = text.replace(key.expect("a key"), "../manifest.json");
    fs::write(&path, escaped).expect("write");
    assert!(Folder::open(&out).is_err());
    assert!(problems_of(&out).contains("would leave the folder"));
}
