//! What the targets of weights do with their input.

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
