//! Parts of one model on devices of their own, for models larger than one of them.

use burn::tensor::{Device, Tensor};

use crate::parallel::Workers;
use crate::parameter::Stage;

/// Where the parts of a model live. What goes from one part to the next is moved.
#[derive(Clone, Debug, PartialEq)]
pub struct Placement {
    /// The vision tower.
    pub vision: Device,
    /// The projector between tower and decoder.
    pub projector: Device,
    /// The language model.
    pub decoder: Device,
    /// The most memory that is taken of a device, in bytes; no limit for one that is not here.
    limits: Vec<(Device, u64)>,
}

impl Default for Placement {
    /// All on the processor.
    fn default() -> Self {
        Self::from(&Device::flex())
    }
}

impl From<&Device> for Placement {
    /// All on one.
    fn from(device: &Device) -> Self {
        Self {
            vision: device.clone(),
            projector: device.clone(),
            decoder: device.clone(),
            limits: Vec::new(),
        }
    }
}

impl Placement {
    /// Takes at most `bytes` of the memory of `device`.
    #[must_use]
    pub fn limited(mut self, device: &Device, bytes: u64) -> Self {
        self.limits.retain(|(other, _)| other != device);
        self.limits.push((device.clone(), bytes));
        self
    }

    /// The most memory that may be taken of `device`, in bytes.
    pub(crate) fn limit(&self, device: &Device) -> Option<u64> {
        let mut limits = self.limits.iter();
        limits
            .find(|(other, _)| other == device)
            .map(|(_, limit)| *limit)
    }

    /// Whether a card takes part.
    pub fn uses_card(&self) -> bool {
        let processor = Device::flex();
        let mut parts = [&self.vision, &self.projector, &self.decoder].into_iter();
        parts.any(|device| *device != processor)
    }

    /// Who computes: `threads`, or where a card takes part the caller, because a card has a queue and
    /// pools of memory for every thread that asks it for anything.
    pub fn workers(&self, threads: usize) -> Workers {
        match self.uses_card() {
            true => Workers::Caller,
            false => Workers::Threads(threads),
        }
    }

    /// Where the parameters that `stage` reads first live.
    pub fn of(&self, stage: Stage) -> &Device {
        match stage {
            Stage::Vision => &self.vision,
            Stage::Projector => &self.projector,
            Stage::Embed | Stage::Attention(_) | Stage::FeedForward(_) | Stage::Head => {
                &self.decoder
            }
        }
    }
}

/// `tensor` on `device`.
pub(crate) fn moved<const D: usize>(tensor: Tensor<D>, device: &Device) -> Tensor<D> {
    match tensor.device().inner() == *device {
        true => tensor,
        false => tensor.to_device(device),
    }
}
