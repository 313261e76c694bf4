//! What a device may do while it computes: run out of memory, or be lost.
//!
//! burn queues operations, so a fault shows where numbers are read, deep inside a forward pass. It
//! travels up from there as an unwinding of its own, past code that could do nothing about it, to
//! the nearest [`guard`]: that of a chunk of records, which tries again with fewer, or that of the
//! command.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use burn::tensor::kind::Basic;
use burn::tensor::{Element, Tensor};

/// A device that cannot go on.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// An allocation failed; the device can be used on.
    #[error("the device is out of memory")]
    OutOfMemory,
    /// Anything else: the program must begin anew.
    #[error("the device was lost: {0}")]
    Lost(String),
}

/// How cubecl and the driver say that memory is short: of a launch, of an allocation, of one larger
/// than any the device gives.
const OUT_OF_MEMORY: [&str; 5] = [
    "out-of-memory",
    "out of device memory",
    "out of memory",
    "out_of_memory",
    "can't allocate buffer",
];

impl Fault {
    fn said(text: &str) -> Self {
        let lower = text.to_lowercase();
        match OUT_OF_MEMORY.iter().any(|words| lower.contains(words)) {
            true => Self::OutOfMemory,
            // A backtrace may follow on lines of its own.
            false => Self::Lost(
                text.lines()
                    .take(3)
                    .map(str::trim)
                    .collect::<Vec<_>>()
                    .join(" "),
            ),
        }
    }
}

/// The values of a tensor, row-major, as `E`.
pub(crate) fn read<const D: usize, K: Basic, E: Element>(tensor: Tensor<D, K>) -> Vec<E> {
    tensor
        .try_into_vec_as()
        // Not a panic: no message is printed, and `guard` makes an error of it.
        .unwrap_or_else(|error| resume_unwind(Box::new(Fault::said(&error.to_string()))))
}

/// Runs `work`; a fault of the device that it meets is its error.
///
/// # Errors
/// The fault.
pub fn guard<T>(work: impl FnOnce() -> T) -> Result<T, Fault> {
    catch_unwind(AssertUnwindSafe(work)).map_err(fault)
}

/// The fault that was thrown; a panic goes on as what it is.
fn fault(thrown: Box<dyn Any + Send>) -> Fault {
    match thrown.downcast::<Fault>() {
        Ok(fault) => *fault,
        Err(panic) => resume_unwind(panic),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_memory_is_told_from_a_lost_device() {
        for text in [
            "An error happened during execution\nCaused by:\n  An out-of-memory error happened during launch",
            "out of device memory allocating 8589934592 bytes\n<backtrace>",
            "CUDA allocation error: CUDA_ERROR_OUT_OF_MEMORY, \"out of memory\"",
        ] {
            assert_eq!(Fault::said(text), Fault::OutOfMemory);
        }
        let lost = Fault::said("The device is poisoned\nCaused by:\n  illegal address\n 0: frame");
        assert_eq!(
            lost,
            Fault::Lost("The device is poisoned Caused by: illegal address".to_owned())
        );
    }

    #[test]
    fn a_fault_becomes_an_error_and_a_panic_stays_one() {
        assert_eq!(guard(|| 3), Ok(3));
        let thrown = guard(|| -> u8 { resume_unwind(Box::new(Fault::OutOfMemory)) });
        assert_eq!(thrown, Err(Fault::OutOfMemory));
        let panicked = catch_unwind(|| guard(|| resume_unwind(Box::new("a bug")) as u8));
        assert_eq!(
            panicked
                .err()
                .and_then(|p| p.downcast_ref::<&str>().copied()),
            Some("a bug")
        );
    }
}
