//! Where and in what a command computes, and the models it opens.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use clap::{Args, ValueEnum};
use debias_model::device::{DeviceName, NoCard, Placement, free_memory};
use debias_model::{DType, Device, Model, View};
use debias_weights::Checkpoint;

use crate::models::ModelSource;
use crate::terminal::exit::Exit;
use crate::terminal::failure::Refusal;

/// A number format on the command line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Dtype {
    /// 32-bit floats
    #[default]
    F32,
    /// Brain floats
    Bf16,
    /// Half floats
    F16,
}

impl fmt::Display for Dtype {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Dtype::F32 => "f32",
            Dtype::Bf16 => "bf16",
            Dtype::F16 => "f16",
        })
    }
}

impl From<Dtype> for DType {
    fn from(dtype: Dtype) -> Self {
        match dtype {
            Dtype::F32 => DType::F32,
            Dtype::Bf16 => DType::BF16,
            Dtype::F16 => DType::F16,
        }
    }
}

/// The device of a command.
#[derive(Clone, Debug, Args)]
pub struct Compute {
    /// Where to compute: cpu, or in builds with CUDA cuda or cuda:N
    #[arg(long, default_value_t, value_name = "DEVICE")]
    pub device: DeviceName,
    /// A part of the model on a device of its own: vision, projector or decoder (repeatable)
    #[arg(long = "place", value_name = "PART=DEVICE")]
    pub placed: Vec<Placed>,
}

/// `vision=cuda:1`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Placed {
    part: Part,
    device: DeviceName,
}

/// A part of a model that can have a device of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    Vision,
    Projector,
    Decoder,
}

impl FromStr for Placed {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (part, device) = text
            .split_once('=')
            .ok_or("expected PART=DEVICE, for example vision=cuda:1")?;
        Ok(Self {
            part: match part {
                "vision" => Part::Vision,
                "projector" | "bridge" => Part::Projector,
                "decoder" => Part::Decoder,
                _ => {
                    return Err(format!(
                        "no part `{part}`; parts are vision, projector, decoder"
                    ));
                }
            },
            device: device.parse().map_err(|unknown| format!("{unknown}"))?,
        })
    }
}

/// The number format of a command.
#[derive(Clone, Debug, Args)]
pub struct Numbers {
    /// Number format to compute in; weights stay in the format they are stored in
    #[arg(long, value_enum, default_value_t)]
    pub dtype: Dtype,
}

impl Numbers {
    /// A model as it is, seen in the number format asked for.
    pub fn view(&self) -> View {
        View::base().computing_in(self.dtype.into())
    }
}

/// How much memory a command may take.
#[derive(Clone, Copy, Debug, Args)]
pub struct MemoryLimit {
    /// Most memory to take of the device, as 600M or 20GiB, weights on a card included; batches are
    /// chosen to fit [default: nine tenths of what a card has free; no limit on the CPU]
    #[arg(long, value_name = "SIZE", value_parser = size)]
    pub max_memory: Option<u64>,
}

/// A number of bytes: k, m, g, b count in thousands as mergekit's do, KiB and so on in 1024s.
///
/// # Errors
/// What is no size.
pub fn size(text: &str) -> Result<u64, String> {
    let text = text.trim();
    let digits = text.find(|c: char| !c.is_ascii_digit() && c != '.');
    let (number, unit) = text.split_at(digits.unwrap_or(text.len()));
    let number: f64 = number
        .parse()
        .map_err(|_| "expected a size such as 500M, 5B or 2GiB".to_owned())?;
    let factor = match unit.trim().to_lowercase().as_str() {
        "" => 1.0,
        "k" | "kb" => 1e3,
        "m" | "mb" => 1e6,
        "b" | "g" | "gb" => 1e9,
        "kib" => 1024.0,
        "mib" => 1024.0 * 1024.0,
        "gib" => 1024.0 * 1024.0 * 1024.0,
        other => {
            return Err(format!(
                "unknown unit `{other}`; use K, M, B, KiB, MiB or GiB"
            ));
        }
    };
    match number * factor {
        bytes if (1.0..1e18).contains(&bytes) => Ok(bytes as u64),
        _ => Err("expected a size above 0".to_owned()),
    }
}

/// How a command opens one model.
#[derive(Clone, Debug, Args)]
pub struct Loading {
    #[command(flatten)]
    #[allow(
        missing_docs,
        reason = "a doc comment would become the help of the flattened flags"
    )]
    pub compute: Compute,
    /// Accept weights that are NaN or infinite
    #[arg(long)]
    pub allow_nan: bool,
    /// Worker threads
    #[arg(short = 'j', long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    pub threads: Option<u16>,
}

impl Compute {
    /// The device, ready for tensors.
    ///
    /// # Errors
    /// [`Exit::Device`] with what is missing on this machine or in this build.
    pub fn open(&self) -> Result<Device, Refusal> {
        opened(self.device)
    }

    /// Where each part of a model goes, the devices ready for tensors, and how much of each one's
    /// memory may be taken: `most` bytes, and nine tenths of what is free on a card.
    ///
    /// # Errors
    /// As [`Compute::open`].
    pub fn placement(&self, most: Option<u64>) -> Result<Placement, Refusal> {
        let mut placement = Placement::from(&self.open()?);
        for placed in &self.placed {
            let device = opened(placed.device)?;
            match placed.part {
                Part::Vision => placement.vision = device,
                Part::Projector => placement.projector = device,
                Part::Decoder => placement.decoder = device,
            }
        }
        let names = self.placed.iter().map(|placed| placed.device);
        for name in [self.device].into_iter().chain(names) {
            let free = free_memory(name).map_err(|missing| no_device(name, &missing))?;
            let most = most.into_iter().chain(free.map(|free| free / 10 * 9)).min();
            if let Some(most) = most {
                placement = placement.limited(&opened(name)?, most);
            }
        }
        Ok(placement)
    }
}

fn opened(name: DeviceName) -> Result<Device, Refusal> {
    name.open().map_err(|missing| no_device(name, &missing))
}

fn no_device(name: DeviceName, missing: &NoCard) -> Refusal {
    Refusal::new(Exit::Device, format!("no device `{name}`: {missing}"))
        .help("`bench doctor` lists the devices; without --device, bench computes on the CPU.")
}

impl Loading {
    /// Opens the model that `name` is, a name or a folder.
    ///
    /// # Errors
    /// An unknown name, or anything in its folder that cannot be used.
    pub fn open(&self, name: &str) -> anyhow::Result<Model> {
        self.open_source(&ModelSource::resolve(name)?, None)
    }

    /// Opens `source` on the device asked for, of whose memory `most` bytes may be taken.
    ///
    /// # Errors
    /// Anything in its folder that cannot be used.
    pub fn open_source(&self, source: &ModelSource, most: Option<u64>) -> anyhow::Result<Model> {
        self.prepare()?;
        self.open_checkpoint(source.checkpoint()?, most)
    }

    /// The same of a checkpoint.
    ///
    /// # Errors
    /// Anything in it that cannot be used.
    pub fn open_checkpoint(
        &self,
        checkpoint: Checkpoint,
        most: Option<u64>,
    ) -> anyhow::Result<Model> {
        let checkpoint = checkpoint.allow_nan(self.allow_nan);
        let placement = self.compute.placement(most)?;
        Ok(Model::open_across(&checkpoint, &placement)?)
    }

    /// Opens the device and sets the number of threads.
    ///
    /// # Errors
    /// A device that this build or this machine does not have.
    pub fn prepare(&self) -> anyhow::Result<Device> {
        let device = self.compute.open()?;
        if let Some(threads) = self.threads {
            // Fails only where a pool exists already, and then it is the same one.
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads.into());
            let _ = pool.build_global();
        }
        Ok(device)
    }
}

/// Where a command reads its lines: a file, or standard input.
#[derive(Clone, Debug, Args)]
pub struct Input {
    /// The lines; standard input if left out or `-`
    #[arg(value_name = "FILE")]
    file: Option<PathBuf>,
    /// The same by a flag
    #[arg(long, value_name = "FILE", conflicts_with = "file")]
    input: Option<PathBuf>,
}

impl Input {
    /// The path, unless lines come from standard input.
    pub fn path(&self) -> Option<&PathBuf> {
        let path = self.file.as_ref().or(self.input.as_ref());
        path.filter(|path| path.as_os_str() != "-")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_mergekits_and_binary_ones() {
        assert_eq!(size("100k"), Ok(100_000));
        assert_eq!(size("5B"), Ok(5_000_000_000));
        assert_eq!(size("2GiB"), Ok(2 << 30));
        assert_eq!(size("1.5M"), Ok(1_500_000));
        assert_eq!(size("77"), Ok(77));
        for wrong in ["", "GiB", "5X", "-1", "0"] {
            assert!(size(wrong).is_err(), "{wrong}");
        }
    }
}
