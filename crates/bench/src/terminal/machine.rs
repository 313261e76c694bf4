//! What this machine is: provenance of a run and the body of `bench doctor`.
//!
//! Read from `/proc` where there is one; unknown elsewhere.

use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// The machine a run happened on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Machine {
    /// Host name.
    pub name: Option<String>,
    /// Operating system.
    pub os: String,
    /// Processor architecture.
    pub arch: String,
    /// Processor model.
    pub cpu: Option<String>,
    /// Logical cores that this process may use.
    pub cores: usize,
    /// Physical memory.
    pub memory_bytes: Option<u64>,
}

impl Machine {
    /// This machine.
    pub fn here() -> Self {
        Self {
            name: line("/proc/sys/kernel/hostname"),
            os: std::env::consts::OS.to_owned(),
            arch: std::env::consts::ARCH.to_owned(),
            cpu: field("/proc/cpuinfo", "model name"),
            cores: cores(),
            memory_bytes: kibibytes("/proc/meminfo", "MemTotal"),
        }
    }
}

/// Logical cores that this process may use; 1 when unknown.
pub fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// Highest resident memory of this process so far; 0 where the system does not say.
pub fn peak_bytes() -> u64 {
    kibibytes("/proc/self/status", "VmHWM").unwrap_or(0)
}

/// The highest anonymous memory of this process (mapped files apart) while this value lives. The
/// system keeps no record of it, so a thread looks every few milliseconds.
pub struct AnonymousPeak {
    highest: Arc<AtomicU64>,
    ended: Arc<AtomicBool>,
}

impl AnonymousPeak {
    /// Begins to look.
    pub fn watch() -> Self {
        let peak = Self {
            highest: Arc::new(AtomicU64::new(anonymous_bytes())),
            ended: Arc::default(),
        };
        let (highest, ended) = (peak.highest.clone(), peak.ended.clone());
        thread::spawn(move || {
            while !ended.load(Ordering::Relaxed) {
                highest.fetch_max(anonymous_bytes(), Ordering::Relaxed);
                thread::sleep(Duration::from_millis(5));
            }
        });
        peak
    }

    /// The highest so far; 0 where the system does not say.
    pub fn bytes(&self) -> u64 {
        self.highest
            .fetch_max(anonymous_bytes(), Ordering::Relaxed)
            .max(anonymous_bytes())
    }
}

impl Drop for AnonymousPeak {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Relaxed);
    }
}

fn anonymous_bytes() -> u64 {
    kibibytes("/proc/self/status", "RssAnon").unwrap_or(0)
}

/// Memory that a new process could use now.
pub fn available_bytes() -> Option<u64> {
    kibibytes("/proc/meminfo", "MemAvailable")
}

fn line(path: &str) -> Option<String> {
    let text = fs::read_to_string(path).ok()?;
    Some(text.trim().to_owned()).filter(|text| !text.is_empty())
}

/// The value of the first `name: value` line of a file.
fn field(path: &str, name: &str) -> Option<String> {
    let text = fs::read_to_string(path).ok()?;
    text.lines()
        .filter_map(|line| line.split_once(':'))
        .find(|(key, _)| key.trim() == name)
        .map(|(_, value)| value.trim().to_owned())
}

fn kibibytes(path: &str, name: &str) -> Option<u64> {
    let value = field(path, name)?;
    let number: u64 = value.strip_suffix("kB")?.trim().parse().ok()?;
    Some(number * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(target_os = "linux")]
    #[test]
    fn the_peak_grows_with_memory_that_is_touched() {
        let before = peak_bytes();
        let block = std::hint::black_box(vec![1_u8; 64 << 20]);
        assert!(before > 0 && peak_bytes() >= before.max(block.len() as u64));
    }
}
