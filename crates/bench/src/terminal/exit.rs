//! The exit status is part of the interface.

use std::process::ExitCode;

/// How a command ended; the numbers are those of the command-line contract.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// All cells done, gates held.
    Done = 0,
    /// A gate failed: a control of the run did not hold.
    Gate = 1,
    /// Wrong usage or configuration.
    Usage = 2,
    /// Finished, but some cells failed.
    CellsFailed = 3,
    /// An input was refused: missing, corrupt or unsafe; or the output cannot be written.
    Refused = 4,
    /// A stored format needs a newer `bench`.
    NewerFormat = 5,
    /// No such device, out of memory, or device lost.
    Device = 6,
    /// Stopped by SIGINT.
    Interrupted = 130,
    /// Stopped by SIGTERM.
    Terminated = 143,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        ExitCode::from(exit as u8)
    }
}
