//! What is written is whole, equal for equal input, and opens again.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use super::folder;
use crate::{Checkpoint, Error, Tensor, write_atomic, write_folder};

fn tensors() -> BTreeMap<String, Tensor> {
    let tensor = |shape: &[usize], values: &[f32]| Tensor {
        shape: shape.to_vec(),
        values: values.to_vec(),
    };
    BTreeMap::from([
        ("z.weight".to_owned(), tensor(&[2, 1], &[1.0, -0.0])),
        (
            "a.bias".to_owned(),
            tensor(&[3], &[0.1, f32::MIN_POSITIVE, f32::MAX]),
        ),
        ("scalar".to_owned(), tensor(&[], &[7.0])),
        ("empty".to_owned(), tensor(&[0, 4], &[])),
    ])
}

fn files() -> Vec<(String, Vec<u8>)> {
    vec![("config.json".to_owned(), b"{}".to_vec())]
}

/// Everything in `dir`, hidden names included.
fn listing(dir: &Path) -> Vec<String> {
    let mut names: Vec<_> = fs::read_dir(dir)
        .expect("the folder is readable")
        .map(|entry| {
            let entry = entry.expect("the folder is readable");
            entry.file_name().to_string_lossy().into_owned()
        })
        .collect();
    names.sort();
    names
}

#[test]
fn a_folder_survives_the_round_trip_and_is_reproducible() {
    let base = folder(&[]);
    for name in ["one", "two"] {
        write_folder(&base.path().join(name), &files(), &tensors(), false).expect("writable");
    }
    assert_eq!(listing(base.path()), ["one", "two"]);
    assert_eq!(
        listing(&base.path().join("one")),
        ["config.json", "model.safetensors"]
    );
    let bytes = |name: &str| {
        fs::read(base.path().join(name).join("model.safetensors")).expect("was written")
    };
    assert_eq!(bytes("one"), bytes("two"));
    let text = String::from_utf8_lossy(&bytes("one")).into_owned();
    assert!(text[8..].starts_with(r#"{"__metadata__":{"format":"pt"},"a.bias":"#));
    let read = Checkpoint::open(&base.path().join("one")).expect("valid");
    for (name, tensor) in tensors() {
        let values = read.f32(&name, &tensor.shape).expect("was written");
        let bits = |values: &[f32]| values.iter().map(|v| v.to_bits()).collect::<Vec<_>>();
        assert_eq!(bits(&values), bits(&tensor.values), "{name}");
    }
    assert_eq!(read.names().count(), tensors().len());
}

#[test]
fn an_existing_target_stays_unless_forced() {
    let base = folder(&[]);
    let dir = base.path().join("m");
    write_folder(&dir, &files(), &tensors(), false).expect("writable");
    let before = Checkpoint::open(&dir)
        .and_then(|c| c.digest())
        .expect("valid");
    let fewer = BTreeMap::from([tensors().pop_first().expect("not empty")]);
    let error = write_folder(&dir, &[], &fewer, false).expect_err("exists");
    assert!(error.to_string().contains("exists already"), "{error}");
    let after = Checkpoint::open(&dir)
        .and_then(|c| c.digest())
        .expect("valid");
    assert_eq!(before, after);
    write_folder(&dir, &files(), &fewer, true).expect("forced");
    assert_eq!(
        Checkpoint::open(&dir).expect("valid").names().count(),
        fewer.len()
    );
    assert_eq!(listing(base.path()), ["m"]);
}

#[test]
fn force_replaces_nothing_but_checkpoints() {
    let base = folder(&[("file", b"x")]);
    let home = base.path().join("home");
    fs::create_dir_all(home.join("documents")).expect("writable");
    fs::write(home.join("config.json"), b"{}").expect("writable");
    let notes = base.path().join("notes");
    fs::create_dir(&notes).expect("writable");
    fs::write(notes.join("diary.txt"), b"dear").expect("writable");
    for target in ["home", "notes", "file"] {
        let error = write_folder(&base.path().join(target), &files(), &tensors(), true)
            .expect_err("no checkpoint");
        assert!(matches!(error, Error::Target { .. }), "{error}");
    }
    assert!(home.join("documents").is_dir() && notes.join("diary.txt").is_file());
    assert_eq!(listing(base.path()), ["file", "home", "notes"]);
    fs::create_dir(base.path().join("void")).expect("writable");
    write_folder(&base.path().join("void"), &files(), &tensors(), true).expect("empty");
}

#[test]
fn nothing_is_left_behind_after_an_error() {
    let base = folder(&[]);
    let dir = base.path().join("m");
    let with = |name: &str| vec![(name.to_owned(), vec![])];
    let twice = [with("a.json"), with("a.json")].concat();
    for files in [
        with("../x"),
        with("a/b"),
        with(""),
        with("model.safetensors"),
        twice,
    ] {
        let error = write_folder(&dir, &files, &tensors(), false).expect_err("no plain name");
        assert!(matches!(error, Error::FileName { .. }), "{error}");
    }
    // Passes every check made in advance; the operating system refuses it half-way.
    let long = with(&"n".repeat(300));
    let error = write_folder(&dir, &[files(), long].concat(), &tensors(), false);
    assert!(matches!(error, Err(Error::Io { .. })));
    for (shape, values) in [
        (vec![2], vec![1.0]),
        (vec![usize::MAX, 2], vec![]),
        (vec![1], vec![f32::NAN]),
    ] {
        let tensor = Tensor { shape, values };
        let tensors = BTreeMap::from([("t".to_owned(), tensor)]);
        let error = write_folder(&dir, &[], &tensors, false).expect_err("bad tensor");
        assert!(error.to_string().contains("tensor `t`"), "{error}");
    }
    assert!(listing(base.path()).is_empty());
    let nowhere = base.path().join("no").join("m");
    assert!(write_folder(&nowhere, &[], &tensors(), false).is_err());
    assert!(write_folder(Path::new("/"), &[], &tensors(), true).is_err());
}

#[test]
fn files_are_replaced_whole() {
    let base = folder(&[("f.json", b"old content")]);
    let path = base.path().join("f.json");
    write_atomic(&path, b"new").expect("writable");
    assert_eq!(fs::read(&path).expect("is there"), b"new");
    assert_eq!(listing(base.path()), ["f.json"]);
    let error = write_atomic(&base.path().join("no").join("f"), b"x").expect_err("no folder");
    assert!(error.to_string().contains("no/f"), "{error}");
    fs::create_dir(base.path().join("d")).expect("writable");
    assert!(write_atomic(&base.path().join("d"), b"x").is_err());
    assert_eq!(listing(base.path()), ["d", "f.json"]);
}

#[cfg(unix)]
#[test]
fn written_files_are_readable_by_others_as_the_umask_says() {
    use std::os::unix::fs::PermissionsExt;
    let base = folder(&[]);
    fs::write(base.path().join("plain"), b"x").expect("writable");
    fs::create_dir(base.path().join("dir")).expect("writable");
    write_atomic(&base.path().join("f"), b"x").expect("writable");
    write_folder(&base.path().join("m"), &[], &tensors(), false).expect("writable");
    let mode = |name: &str| {
        let meta = fs::metadata(base.path().join(name)).expect("is there");
        meta.permissions().mode() & 0o777
    };
    assert_eq!(mode("f"), mode("plain"));
    assert_eq!(mode("m"), mode("dir"));
    assert_eq!(mode("m/model.safetensors"), mode("plain"));
}
