//! Where a model computes: the processor, or an NVIDIA card in builds with the feature `cuda`.
//!
//! A card is looked for before the first tensor, because burn's device threads end the program
//! where the driver, the compiler of kernels or the card is missing. What happens to a card later
//! ([`Fault`]) is found where numbers are read from it.

mod card;
#[cfg(feature = "cuda")]
mod cards;
mod fault;
mod placement;
mod product;

pub use card::{GraphicsCard, NoCard};
pub(crate) use fault::read;
pub use fault::{Fault, guard};
pub use placement::Placement;
pub(crate) use placement::moved;
pub(crate) use product::{affine, attention, product};

use std::fmt;
use std::str::FromStr;

use burn::tensor::Device;

/// A device by the name it has on the command line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum DeviceName {
    /// `cpu`
    #[default]
    Cpu,
    /// `cuda` or `cuda:N`, counted as the driver counts.
    Cuda(usize),
}

/// A name that is no device's.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("unknown device `{0}`; devices are cpu and cuda[:N]")]
pub struct UnknownDevice(String);

impl FromStr for DeviceName {
    type Err = UnknownDevice;

    fn from_str(name: &str) -> Result<Self, UnknownDevice> {
        let unknown = || UnknownDevice(name.to_owned());
        match name.split_once(':') {
            None if name == "cpu" => Ok(Self::Cpu),
            None if name == "cuda" => Ok(Self::Cuda(0)),
            // Digits alone: `parse` would also take a sign.
            Some(("cuda", n)) if n.bytes().all(|c| c.is_ascii_digit()) => {
                n.parse().map(Self::Cuda).map_err(|_| unknown())
            }
            _ => Err(unknown()),
        }
    }
}

impl fmt::Display for DeviceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cpu => f.write_str("cpu"),
            Self::Cuda(n) => write!(f, "cuda:{n}"),
        }
    }
}

impl DeviceName {
    /// What results are filed under: the kind, never which one.
    pub fn kind(self) -> &'static str {
        match self {
            Self::Cpu => "cpu",
            Self::Cuda(_) => "cuda",
        }
    }

    /// The device, ready for tensors.
    ///
    /// # Errors
    /// What is missing on this machine or in this build.
    pub fn open(self) -> Result<Device, NoCard> {
        match self {
            Self::Cpu => Ok(Device::flex()),
            Self::Cuda(asked) => opened(asked),
        }
    }
}

/// The memory of `name` that no program holds, in bytes; `None` for the processor, whose memory is
/// the system's to share out.
///
/// # Errors
/// As [`DeviceName::open`].
pub fn free_memory(name: DeviceName) -> Result<Option<u64>, NoCard> {
    match name {
        DeviceName::Cpu => Ok(None),
        DeviceName::Cuda(asked) => free(asked).map(Some),
    }
}

#[cfg(feature = "cuda")]
fn free(asked: usize) -> Result<u64, NoCard> {
    Ok(cards::one(asked)?.free_bytes)
}

#[cfg(not(feature = "cuda"))]
fn free(_asked: usize) -> Result<u64, NoCard> {
    Err(NoCard::NotBuilt)
}

#[cfg(feature = "cuda")]
fn opened(asked: usize) -> Result<Device, NoCard> {
    cards::check(asked)?;
    Ok(Device::cuda(asked))
}

#[cfg(not(feature = "cuda"))]
fn opened(_asked: usize) -> Result<Device, NoCard> {
    Err(NoCard::NotBuilt)
}

/// The cards of this machine, in the driver's order.
///
/// # Errors
/// Why none can be used.
pub fn cards() -> Result<Vec<GraphicsCard>, NoCard> {
    #[cfg(feature = "cuda")]
    return cards::find();
    #[cfg(not(feature = "cuda"))]
    Err(NoCard::NotBuilt)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_as_they_are_written() {
        for (name, want) in [
            ("cpu", DeviceName::Cpu),
            ("cuda", DeviceName::Cuda(0)),
            ("cuda:0", DeviceName::Cuda(0)),
            ("cuda:12", DeviceName::Cuda(12)),
        ] {
            let got: DeviceName = name.parse().expect("a device");
            assert_eq!(got, want);
            assert_eq!(got.to_string().parse(), Ok(want));
        }
        for wrong in [
            "", "gpu", "cpu:0", "cuda:", "cuda:x", "cuda:-1", "cuda:+1", "CUDA",
        ] {
            assert!(wrong.parse::<DeviceName>().is_err(), "{wrong}");
        }
    }

    #[cfg(not(feature = "cuda"))]
    #[test]
    fn a_build_without_cuda_says_how_to_get_one() {
        let refused = DeviceName::Cuda(0).open().expect_err("no card");
        assert_eq!(refused, NoCard::NotBuilt);
        assert!(refused.to_string().contains("cuda/cargo build"));
    }
}
