//! What is known of a card, and why there is none.

use std::path::PathBuf;

/// A card as its driver describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GraphicsCard {
    /// Its number.
    pub index: usize,
    /// Its product name.
    pub name: String,
    /// Compute capability, major and minor.
    pub capability: (i32, i32),
    /// Memory, in bytes.
    pub total_bytes: u64,
    /// Memory that no program holds, in bytes.
    pub free_bytes: u64,
}

/// Why no card can be used, and what to do about it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoCard {
    /// The feature `cuda` is off.
    #[error("this build computes on the CPU; `cuda/cargo build --release` builds for NVIDIA cards")]
    NotBuilt,
    /// No `libcuda`.
    #[error(
        "no NVIDIA driver: libcuda.so.1 is not found; install the driver, or name its folder in LD_LIBRARY_PATH"
    )]
    NoDriver,
    /// No `libnvrtc`.
    #[error(
        "no compiler of kernels: libnvrtc.so is not found; install NVRTC of the CUDA toolkit, or name its folder in LD_LIBRARY_PATH"
    )]
    NoCompiler,
    /// What kernels include.
    #[error(
        "no headers for kernels: {} is not found; install the CUDA toolkit, or name its folder in CUDA_PATH", .0.display()
    )]
    NoHeaders(PathBuf),
    /// The driver counts none.
    #[error("the driver finds no card; look at nvidia-smi and CUDA_VISIBLE_DEVICES")]
    NoCard,
    /// The driver counts fewer.
    #[error("the driver finds {found} of them, counted from 0; there is no number {asked}")]
    Number {
        /// The number asked for.
        asked: usize,
        /// How many there are.
        found: usize,
    },
    /// The driver is there and says no.
    #[error("the driver says: {0}; look at nvidia-smi")]
    Driver(String),
}
