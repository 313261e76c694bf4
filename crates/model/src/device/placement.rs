//! Parts of one model on devices of their own, for models larger than one of them.

use burn::tensor::{Device, Tensor};

use crate::site::Stage;

/// Where the parts of a model live. What goes from one part to the next is moved.
#[derive(Clone, Debug, PartialEq)]
pub struct Placement {
    /// The vision tower.
    pub vision: Device,
    /// The bridge between tower and decoder.
    pub bridge: Device,
    /// The language model.
    pub decoder: Device,
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
            bridge: device.clone(),
            decoder: device.clone(),
        }
    }
}

impl Placement {
    /// Where the parameters that `stage` reads first live.
    pub fn of(&self, stage: Stage) -> &Device {
        match stage {
            Stage::Vision => &self.vision,
            Stage::Bridge => &self.bridge,
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
