//! The state of a training on disk: written now and then, taken up by the same command.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use debias_model::tune::State;

use crate::terminal::exit::Exit;
use crate::terminal::failure::Refusal;

/// The state of a training on disk, beside the folder that it will write.
pub(super) struct Keeper<'p> {
    path: PathBuf,
    key: &'p str,
    fresh: bool,
}

impl<'p> Keeper<'p> {
    /// Of the training `key` that will write `out`; `fresh` leaves aside what is there.
    pub fn new(out: &Path, key: &'p str, fresh: bool) -> Self {
        Self {
            path: state_path(out),
            key,
            fresh,
        }
    }

    /// Whether there was a state to go on from.
    ///
    /// # Errors
    /// A file that is damaged, or the state of another training.
    pub fn resume(&self, state: &mut State) -> anyhow::Result<bool> {
        if self.fresh || !self.path.exists() {
            return Ok(false);
        }
        if State::key(&self.path)? != self.key {
            return Err(Refusal::new(
                Exit::Refused,
                format!(
                    "{} is the state of another training: recipe, model, data or seed differ",
                    self.path.display()
                ),
            )
            .help("Give --fresh to train from the beginning, or another folder.")
            .into());
        }
        state.read(&self.path)?;
        Ok(true)
    }

    /// Writes the state, whole or not at all.
    ///
    /// # Errors
    /// A file that cannot be written.
    pub fn keep(&self, state: &State) -> anyhow::Result<()> {
        Ok(state.write(&self.path, self.key)?)
    }

    /// Removes the state of a training that is finished.
    ///
    /// # Errors
    /// A file that cannot be removed.
    pub fn forget(&self) -> anyhow::Result<()> {
        match std::fs::remove_file(&self.path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error.into()),
            _ => Ok(()),
        }
    }
}

/// Where the state of a training is kept that will write `out`.
fn state_path(out: &Path) -> PathBuf {
    let mut name = out.file_name().unwrap_or_default().to_owned();
    name.push(".state");
    out.with_file_name(name)
}

/// When a state is due: every so many updates, or as often as costs a twentieth of the time at most.
pub(super) struct Pause {
    every: Option<usize>,
    last: Instant,
    cost: Duration,
}

/// The shortest time between two states.
const SHORTEST: Duration = Duration::from_secs(60);

impl Pause {
    /// Every so many updates, or as the time asks for.
    pub fn new(every: Option<usize>) -> Self {
        Self {
            every,
            last: Instant::now(),
            cost: Duration::ZERO,
        }
    }

    /// Whether one is due behind this update.
    pub fn is_due(&self, update: usize) -> bool {
        match self.every {
            Some(every) => update.is_multiple_of(every.max(1)),
            None => self.last.elapsed() > SHORTEST.max(20 * self.cost),
        }
    }

    /// One was written, which took so long.
    pub fn took(&mut self, cost: Duration) {
        (self.last, self.cost) = (Instant::now(), cost);
    }
}
