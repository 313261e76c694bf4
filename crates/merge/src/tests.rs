//! What unit tests share: the reference vectors of the fixtures.

use std::path::PathBuf;

use debias_weights::Checkpoint;

/// A file of reference vectors.
pub(crate) struct Reference(Checkpoint);

/// A file of `ref/`, or nothing where the fixtures are not laid out; under CI they must be.
fn file(name: &str) -> Option<PathBuf> {
    let root = std::env::var_os("DEBIAS_BENCH_FIXTURES").map(PathBuf::from);
    let path = root.map(|root| root.join("merge/ref").join(name));
    let found = path.filter(|path| path.is_file());
    if found.is_none() {
        assert!(
            std::env::var_os("CI").is_none(),
            "DEBIAS_BENCH_FIXTURES does not lead to merge/ref/{name}"
        );
        eprintln!("SKIPPED: merge/ref/{name} is not here");
    }
    found
}

/// Reference vectors.
pub(crate) fn reference(name: &str) -> Option<Reference> {
    let path = file(&format!("{name}.safetensors"))?;
    Some(Reference(Checkpoint::open_file(&path).expect("a fixture")))
}

/// Known answers.
pub(crate) fn known(name: &str) -> Option<serde_json::Value> {
    let text = std::fs::read(file(&format!("{name}.json"))?).expect("a fixture");
    Some(serde_json::from_slice(&text).expect("JSON"))
}

impl Reference {
    pub(crate) fn f32s(&self, name: &str) -> Vec<f32> {
        let bytes = self.0.raw(name).expect(name).bytes;
        let values = bytes.as_chunks::<4>().0.iter();
        values.map(|b| f32::from_le_bytes(*b)).collect()
    }

    pub(crate) fn f64s(&self, name: &str) -> Vec<f64> {
        let bytes = self.0.raw(name).expect(name).bytes;
        let values = bytes.as_chunks::<8>().0.iter();
        values.map(|b| f64::from_le_bytes(*b)).collect()
    }
}

/// `|got - want| <= atol + rtol |want|` everywhere.
pub(crate) fn close(what: &str, got: &[f32], want: &[f32], atol: f32, rtol: f32) {
    assert_eq!(got.len(), want.len(), "{what}");
    for (i, (got, want)) in got.iter().zip(want).enumerate() {
        assert!(
            (got - want).abs() <= atol + rtol * want.abs(),
            "{what}: {got} at {i}, expected {want}"
        );
    }
}
