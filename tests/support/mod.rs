//! What the tests of the command share: starting it, temporary folders, comparing run folders.

#![allow(dead_code, reason = "every test binary uses its own part")]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;

/// `bench` without anything from this machine's environment that could change its output.
pub fn bench() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_bench"));
    command
        .env_remove("DEBIAS_BENCH_DATA")
        .env("XDG_CACHE_HOME", "/nonexistent")
        .env("NO_COLOR", "1")
        .env("COLUMNS", "100");
    command
}

/// Runs `bench` with `args` in `dir`.
pub fn run_in(dir: &Path, args: &[&str]) -> Output {
    bench()
        .args(args)
        .current_dir(dir)
        .output()
        .expect("bench starts")
}

/// Standard output as text.
pub fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).expect("UTF-8")
}

/// Standard error as text.
pub fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).expect("UTF-8")
}

/// The exit status.
pub fn status(output: &Output) -> i32 {
    output.status.code().unwrap_or(-1)
}

/// The one JSON object on standard output of a command that must succeed.
pub fn json(output: &Output) -> Value {
    assert!(output.status.success(), "{}", stderr(output));
    serde_json::from_slice(&output.stdout).expect("one JSON object and nothing else")
}

/// A temporary folder.
pub fn folder() -> tempfile::TempDir {
    tempfile::tempdir().expect("a temporary folder")
}

/// The files of an embedded model in the source tree.
pub fn model_files(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("models")
        .join(name)
}

/// A copy of an embedded model's folder that may be damaged.
pub fn model_copy(name: &str, to: &Path) -> PathBuf {
    let copy = to.join("model");
    fs::create_dir(&copy).expect("a new folder");
    for entry in fs::read_dir(model_files(name)).expect("embedded models are committed") {
        let path = entry.expect("readable").path();
        let file = path.file_name().expect("a file");
        fs::copy(&path, copy.join(file)).expect("copied");
    }
    copy
}

/// The only run folder below `results`.
pub fn run_folder(results: &Path) -> PathBuf {
    let folders: Vec<_> = fs::read_dir(results)
        .expect("a results folder")
        .map(|entry| entry.expect("readable").path())
        .collect();
    assert_eq!(folders.len(), 1, "{folders:?}");
    folders[0].clone()
}

/// Names and bytes of the results of a run.
pub type Cells = BTreeMap<String, Vec<u8>>;

/// Everything in `cells` that is no provenance.
pub fn cells(run: &Path) -> Cells {
    fs::read_dir(run.join("cells"))
        .expect("a folder of cells")
        .map(|entry| entry.expect("readable").path())
        .filter_map(|path| {
            let name = path.file_name()?.to_str()?.to_owned();
            let result = !name.ends_with(".run.json") && !name.starts_with('.');
            result.then(|| (name, fs::read(&path).expect("readable")))
        })
        .collect()
}

/// The folder with real data, or `None` after saying so; missing data fails on CI.
pub fn real_data() -> Option<PathBuf> {
    let dir = std::env::var_os("DEBIAS_BENCH_DATA").map(PathBuf::from);
    match dir.filter(|dir| dir.join("pairs").is_dir()) {
        Some(dir) => Some(dir),
        None => {
            assert!(
                std::env::var("CI").as_deref() != Ok("true"),
                "DEBIAS_BENCH_DATA must name a folder with `pairs` on CI"
            );
            // Not eprintln!: the test harness swallows it, and a skipped case must be seen.
            let _ = std::io::Write::write_all(
                &mut std::io::stderr(),
                b"SKIPPED 1 case: DEBIAS_BENCH_DATA names no folder with `pairs`\n",
            );
            None
        }
    }
}
