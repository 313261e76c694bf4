//! SIGINT and SIGTERM: the first asks, the second insists.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::flag;

use crate::terminal::exit::Exit;
use crate::terminal::failure::Refusal;

/// Remembers the first signal; a second one ends the process at once.
#[derive(Clone, Debug, Default)]
pub struct Interrupt {
    signal: Arc<AtomicUsize>,
}

impl Interrupt {
    /// Starts to listen.
    ///
    /// # Errors
    /// When the operating system refuses the handlers.
    pub fn listen() -> io::Result<Self> {
        let interrupt = Self::default();
        let pending = Arc::new(AtomicBool::new(false));
        for (signal, exit) in [(SIGINT, Exit::Interrupted), (SIGTERM, Exit::Terminated)] {
            // Order matters: the shutdown looks at `pending` before the line below it sets it.
            flag::register_conditional_shutdown(signal, i32::from(exit as u8), pending.clone())?;
            flag::register(signal, pending.clone())?;
            flag::register_usize(signal, interrupt.signal.clone(), signal as usize)?;
        }
        Ok(interrupt)
    }

    /// Whether a signal came.
    pub fn is_raised(&self) -> bool {
        self.signal.load(Ordering::Relaxed) != 0
    }

    /// Stops the work in hand when a signal came; called between chunks.
    ///
    /// # Errors
    /// A [`Refusal`] with exit status 130 or 143.
    pub fn check(&self) -> Result<(), Refusal> {
        let (exit, word) = match self.signal.load(Ordering::Relaxed) {
            0 => return Ok(()),
            signal if signal == SIGTERM as usize => (Exit::Terminated, "terminated"),
            _ => (Exit::Interrupted, "interrupted"),
        };
        Err(Refusal::new(exit, word)
            .help("Finished cells are kept; the same command goes on from here."))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_raised_without_a_signal() {
        let interrupt = Interrupt::default();
        assert!(!interrupt.is_raised());
        assert!(interrupt.check().is_ok());
    }
}
