//! Tests of the crate as a whole; the helpers build hostile files.

use std::path::PathBuf;

mod edited;
mod fixtures;
mod format;
mod hostile;
mod open;
mod published;
mod pytorch;
mod torch;
mod write;

/// A safetensors file with this header and data.
fn file(header: &str, data: &[u8]) -> Vec<u8> {
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend_from_slice(header.as_bytes());
    bytes.extend_from_slice(data);
    bytes
}

/// Two tensors: `a` F32 [2] = [1, -2] and `b` BF16 [1, 2] = [0.5, 3].
fn good() -> Vec<u8> {
    let mut data = Vec::new();
    for value in [1.0f32, -2.0] {
        data.extend_from_slice(&value.to_le_bytes());
    }
    for value in [0.5f32, 3.0] {
        data.extend_from_slice(&value.to_le_bytes()[2..]);
    }
    file(
        r#"{"__metadata__":{"format":"pt"},"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"b":{"dtype":"BF16","shape":[1,2],"data_offsets":[8,12]}}"#,
        &data,
    )
}

/// A temporary folder with these files.
fn folder(files: &[(&str, &[u8])]) -> tempfile::TempDir {
    let dir = tempfile::tempdir().expect("the temporary folder is writable");
    for (name, bytes) in files {
        std::fs::write(dir.path().join(name), bytes).expect("the temporary folder is writable");
    }
    dir
}

/// The fixtures' folder; `None`, said on stderr, where there is none and CI does not ask for it.
fn fixtures() -> Option<PathBuf> {
    let dir = std::env::var_os("DEBIAS_BENCH_FIXTURES").map(PathBuf::from);
    match dir.filter(|dir| dir.is_dir()) {
        Some(dir) => Some(dir),
        None => {
            let ci = std::env::var("CI").is_ok_and(|value| value == "true");
            assert!(!ci, "CI needs DEBIAS_BENCH_FIXTURES");
            // Not eprintln!: the test harness swallows it, and a skipped case must be seen.
            let _ = std::io::Write::write_all(
                &mut std::io::stderr(),
                b"SKIPPED 1 case: DEBIAS_BENCH_FIXTURES names no folder\n",
            );
            None
        }
    }
}
