//! What every target does with its input, and how its first inputs come to be.

use debias_weights::{Checkpoint, Dtype};

/// Reads `bytes` as a weight file; if it is accepted, reads every tensor in every way and checks
/// that they agree.
pub(super) fn read(bytes: &[u8]) {
    let checkpoint = match Checkpoint::from_bytes("fuzz", bytes.to_vec()) {
        Ok(checkpoint) => checkpoint,
        Err(error) => {
            let message = error.to_string();
            assert!(!message.contains('\n'), "one line: {message}");
            return;
        }
    };
    if let Err(error) = checkpoint.refuse_quantised() {
        assert!(!error.to_string().contains('\n'), "one line: {error}");
    }
    for name in checkpoint.names() {
        let info = checkpoint.info(name).expect("was listed");
        let count: usize = info.shape.iter().product();
        let shared = checkpoint.shared(name).expect("was listed");
        assert_eq!(
            shared.bytes.len() * 8,
            count * info.dtype.bitsize(),
            "{name}"
        );
        if let Ok(raw) = checkpoint.raw(name) {
            assert_eq!(raw.bytes, shared.bytes, "{name}");
        }
        let float = matches!(
            info.dtype,
            Dtype::F64 | Dtype::F32 | Dtype::F16 | Dtype::BF16
        );
        match checkpoint.f32(name, &info.shape) {
            Ok(values) => {
                assert!(float && values.len() == count, "{name}");
                assert!(values.iter().all(|value| value.is_finite()), "{name}");
            }
            Err(error) => assert!(!error.to_string().contains('\n'), "one line: {error}"),
        }
    }
    checkpoint.digest().expect("no file is read");
}

/// Where `DEBIAS_FUZZ_SEEDS` names a folder, writes `seeds` there and ends the program.
pub(super) fn plant(seeds: &[Vec<u8>]) {
    let Some(dir) = std::env::var_os("DEBIAS_FUZZ_SEEDS") else {
        return;
    };
    for (number, seed) in seeds.iter().enumerate() {
        let path = std::path::Path::new(&dir).join(format!("seed-{number}"));
        std::fs::write(path, seed).expect("the folder is writable");
    }
    std::process::exit(0);
}
