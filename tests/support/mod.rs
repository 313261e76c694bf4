//! What the tests of the command share: starting it, temporary folders, comparing run folders.

#![allow(dead_code, reason = "every test binary uses its own part")]

pub mod published;

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::OnceLock;

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

/// Runs `bench` with `args` in `dir` and `content` on its standard input.
pub fn feed(dir: &Path, args: &[&str], content: &[u8]) -> Output {
    let mut child = bench()
        .args(args)
        .current_dir(dir)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("bench starts");
    let mut stdin = child.stdin.take().expect("piped");
    // A command that refuses its model reads nothing.
    let _ = stdin.write_all(content);
    drop(stdin);
    child.wait_with_output().expect("bench ends")
}

/// Standard output as text.
pub fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).expect("UTF-8")
}

/// Standard error as text.
pub fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).expect("UTF-8")
}

/// The one error line of `bench score` on these lines, with exit status 4.
pub fn refused_lines(model: &Path, images: &Path, given: &[u8]) -> String {
    let work = folder();
    let [model, images] = [model, images].map(|path| path.to_str().expect("UTF-8"));
    let args = ["score", "--model", model, "--images", images];
    let output = feed(work.path(), &args, given);
    let error = stderr(&output);
    assert_eq!(
        (status(&output), stdout(&output).as_str()),
        (4, ""),
        "{error}"
    );
    let first = error.lines().next().unwrap_or_default();
    assert!(first.starts_with("error: "), "{error}");
    assert!(error.lines().count() <= 2, "{error}");
    first.to_owned()
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
    folder_copy(&model_files(name), &to.join("model"))
}

/// A copy of the files of `from` that may be changed, whatever may be done to `from`.
pub fn folder_copy(from: &Path, to: &Path) -> PathBuf {
    fs::create_dir(to).expect("a new folder");
    for entry in fs::read_dir(from).expect("the folder is there") {
        let path = entry.expect("readable").path();
        if path.is_file() {
            let file = path.file_name().expect("a file");
            fs::write(to.join(file), fs::read(&path).expect("readable")).expect("copied");
        }
    }
    to.to_owned()
}

/// Changes a JSON file.
pub fn edit_json(path: &Path, edit: impl Fn(&mut Value)) {
    let text = fs::read_to_string(path).expect("readable");
    let mut value = serde_json::from_str(&text).expect("JSON");
    edit(&mut value);
    fs::write(path, value.to_string()).expect("writable");
}

/// The only run folder below `results`.
pub fn run_folder(results: &Path) -> PathBuf {
    let folders: Vec<_> = fs::read_dir(results)
        .expect("a results folder")
        .map(|entry| entry.expect("readable").path())
        .filter(|path| !path.ends_with("artifacts") && !path.ends_with("base"))
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
    given("DEBIAS_BENCH_DATA", "pairs")
}

/// The folder of fixture models, or `None` after saying so; missing fixtures fail on CI.
pub fn fixtures() -> Option<PathBuf> {
    reference("models")
}

/// The folder `part` of reference values, or `None` after saying so; missing ones fail on CI.
pub fn reference(part: &str) -> Option<PathBuf> {
    Some(given("DEBIAS_BENCH_FIXTURES", part)?.join(part))
}

/// The folder that `variable` names, which must hold the folder `part`.
fn given(variable: &str, part: &str) -> Option<PathBuf> {
    let dir = std::env::var_os(variable).map(PathBuf::from);
    let found = dir.filter(|dir| dir.join(part).is_dir());
    if found.is_none() {
        assert!(
            std::env::var("CI").as_deref() != Ok("true"),
            "{variable} must name a folder with `{part}` on CI"
        );
        let line = format!("SKIPPED 1 case: {variable} names no folder with `{part}`\n");
        // Not eprintln!: the test harness swallows it, and a skipped case must be seen.
        let _ = std::io::stderr().write_all(line.as_bytes());
    }
    found
}

/// A safetensors file taken apart.
#[derive(Default)]
pub struct Tensors {
    /// Name → dtype, shape and place of each tensor.
    pub header: serde_json::Map<String, Value>,
    data: Vec<u8>,
}

impl Tensors {
    /// Reads a file.
    pub fn read(path: &Path) -> Self {
        let bytes = fs::read(path).expect("readable");
        let (length, rest) = bytes.split_first_chunk::<8>().expect("a length");
        let (header, data) = rest.split_at(u64::from_le_bytes(*length) as usize);
        Self {
            header: serde_json::from_slice(header).expect("a header"),
            data: data.to_vec(),
        }
    }

    /// Writes it.
    pub fn write(&self, path: &Path) {
        let mut header = serde_json::to_vec(&self.header).expect("JSON");
        header.resize(header.len().next_multiple_of(8), b' ');
        let length = (header.len() as u64).to_le_bytes();
        let bytes = [&length[..], &header, &self.data].concat();
        fs::write(path, bytes).expect("writable");
    }

    /// Names of the tensors.
    pub fn names(&self) -> Vec<String> {
        let names = self.header.keys().filter(|name| *name != "__metadata__");
        names.cloned().collect()
    }

    /// Bytes of tensor `name`.
    pub fn bytes(&mut self, name: &str) -> &mut [u8] {
        let place = &self.header[name]["data_offsets"];
        let at = |i: usize| place[i].as_u64().expect("an offset") as usize;
        let (from, to) = (at(0), at(1));
        &mut self.data[from..to]
    }

    /// Values of the f32 tensor `name`.
    pub fn floats(&mut self, name: &str) -> Vec<f32> {
        assert_eq!(self.header[name]["dtype"], "F32");
        let bytes = self.bytes(name).as_chunks::<4>().0.iter();
        bytes.map(|bytes| f32::from_le_bytes(*bytes)).collect()
    }

    /// Values of the i64 tensor `name`.
    pub fn ints(&mut self, name: &str) -> Vec<i64> {
        assert_eq!(self.header[name]["dtype"], "I64");
        let bytes = self.bytes(name).as_chunks::<8>().0.iter();
        bytes.map(|bytes| i64::from_le_bytes(*bytes)).collect()
    }

    /// Rows of the matrix `name`, as long as its second axis.
    pub fn rows<T: Clone>(&self, name: &str, values: &[T]) -> Vec<Vec<T>> {
        let width = self.header[name]["shape"][1].as_u64().expect("a matrix");
        values.chunks(width as usize).map(<[T]>::to_vec).collect()
    }

    /// Adds an f32 vector.
    pub fn add(&mut self, name: &str, values: &[f32]) {
        let entry = serde_json::json!({"dtype": "F32", "shape": [values.len()]});
        let bytes: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        self.put(name, entry, &bytes);
    }

    /// Adds tensor `name` of another file.
    pub fn append(&mut self, name: &str, other: &mut Self) {
        let entry = other.header[name].clone();
        self.put(name, entry, other.bytes(name));
    }

    /// Adds a tensor; `entry` says its dtype and shape.
    pub fn put(&mut self, name: &str, mut entry: Value, bytes: &[u8]) {
        let from = self.data.len();
        self.data.extend_from_slice(bytes);
        entry["data_offsets"] = serde_json::json!([from, self.data.len()]);
        self.header.insert(name.to_owned(), entry);
    }

    /// Takes tensor `name` out.
    pub fn remove(&mut self, name: &str) {
        let mut rest = Self {
            header: serde_json::Map::new(),
            data: Vec::new(),
        };
        // A file may not hold bytes that belong to no tensor.
        for kept in self.names().iter().filter(|kept| *kept != name) {
            rest.append(kept, self);
        }
        *self = rest;
    }
}

/// The generated dataset as a folder, built once per test binary.
pub fn town() -> &'static Path {
    static TOWN: OnceLock<tempfile::TempDir> = OnceLock::new();
    TOWN.get_or_init(|| {
        let dir = folder();
        let built = run_in(dir.path(), &["data", "build", "toytown", "--out", "town"]);
        assert!(built.status.success(), "{}", stderr(&built));
        dir
    })
    .path()
}

/// The requests of a file of [`town`].
pub fn town_requests(file: &str) -> Vec<Value> {
    let text = fs::read_to_string(town().join("town").join(file)).expect("was built");
    serde_json::from_str(&text).expect("a list")
}

/// Writes edit requests whose pictures lie in [`town`], and returns the flags that name both.
pub fn write_requests(dir: &Path, file: &str, requests: &[Value]) -> [String; 3] {
    let path = dir.join(file);
    fs::write(&path, Value::from(requests.to_vec()).to_string()).expect("writable");
    let images = town().join("town").join("images");
    [path, "--images".into(), images].map(|part| part.to_str().expect("UTF-8").to_owned())
}

/// The lines of the records of cell `at`.
pub fn records(dir: &Path, object: &Value, at: usize) -> Vec<Value> {
    let run = dir.join(object["run"].as_str().expect("a folder"));
    let file = object["cells"][at]["records"].as_str().expect("a file");
    let text = fs::read_to_string(run.join(file)).expect("the lines are there");
    let lines = text
        .lines()
        .map(|line| serde_json::from_str(line).expect("JSON"));
    lines.collect()
}

/// The log-likelihoods of one side of a record, context by context.
pub fn likelihoods(side: &Value) -> Vec<f64> {
    let mut found = Vec::new();
    for context in ["prompt", "rephrase", "image_rephrase"] {
        for answer in ["y_more", "y_less"] {
            found.push(side[context][answer]["sum"].as_f64().expect("a number"));
        }
    }
    found
}

/// Asserts that two lists of numbers agree.
#[track_caller]
pub fn assert_close(found: &[f64], expected: &[f64], tolerance: f64) {
    assert_eq!(found.len(), expected.len());
    for (found, expected) in found.iter().zip(expected) {
        assert!((found - expected).abs() <= tolerance, "{found} {expected}");
    }
}
