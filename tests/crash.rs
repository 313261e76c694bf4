//! Signals: whatever ends a run, the same command finishes it to the same bytes.

#![cfg(unix)]

mod support;

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use support::{bench, cells, folder, run_folder, run_in, status};

/// Editors of every kind: fine-tuned, in context, trained.
const ARGS: [&str; 24] = [
    "run",
    "--suite",
    "debias-edit",
    "--model",
    "tiny-blip2",
    "--task",
    "vqa",
    "--editor",
    "ft-l",
    "--editor",
    "ft-v",
    "--editor",
    "ike",
    "--editor",
    "mend",
    "--limit",
    "12",
    "--threads",
    "2",
    "--set",
    "ft-v.steps=5",
    "--set",
    "train.steps=40",
    "--json",
];

fn start(dir: &Path) -> Child {
    bench()
        .args(ARGS)
        .current_dir(dir)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("bench starts")
}

fn signal(child: &Child, name: &str) {
    let sent = Command::new("kill")
        .args([&format!("-{name}"), &child.id().to_string()])
        .status()
        .expect("kill starts");
    assert!(sent.success());
}

/// The results of a run that nobody disturbed, and how long it took.
fn undisturbed() -> (support::Cells, Duration) {
    let dir = folder();
    let begin = Instant::now();
    assert_eq!(status(&run_in(dir.path(), &ARGS)), 0);
    (
        cells(&run_folder(&dir.path().join("results"))),
        begin.elapsed(),
    )
}

#[test]
fn a_killed_run_is_finished_by_the_same_command() {
    let (expected, time) = undisturbed();
    let dir = folder();
    // Eight kills spread over the run, one after the other on the same folder.
    for part in 1..=8 {
        let mut child = start(dir.path());
        sleep(time * part / 10);
        signal(&child, "KILL");
        child.wait().expect("it ended");
    }
    assert_eq!(status(&run_in(dir.path(), &ARGS)), 0);
    assert!(cells(&run_folder(&dir.path().join("results"))) == expected);
}

#[test]
fn an_interrupted_run_says_so_and_keeps_what_is_whole() {
    let (expected, time) = undisturbed();
    for (name, exit) in [("INT", 130), ("TERM", 143)] {
        let dir = folder();
        let mut child = start(dir.path());
        sleep(time / 2);
        signal(&child, name);
        let ended = child.wait().expect("it ended").code();
        assert_eq!(ended, Some(exit));
        let results = dir.path().join("results");
        if results.is_dir() {
            for (file, bytes) in cells(&run_folder(&results)) {
                assert!(expected[&file] == bytes, "{file}");
            }
        }
        assert_eq!(status(&run_in(dir.path(), &ARGS)), 0);
        assert!(cells(&run_folder(&results)) == expected);
    }
}
