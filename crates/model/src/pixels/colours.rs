//! The figures by which the three channels are normalised.

/// Mean and standard deviation of the three channels, on the scale from 0 to 1.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Colours {
    /// What is subtracted.
    pub mean: [f64; 3],
    /// By what the difference is divided.
    pub std: [f64; 3],
}

impl Colours {
    /// Those of CLIP, which BLIP-2, MiniGPT-4, LLaVA and GLM-4V use too.
    pub const CLIP: Self = Self {
        mean: [0.48145466, 0.4578275, 0.40821073],
        std: [0.26862954, 0.26130258, 0.27577711],
    };

    /// Those of ImageNet, which InternVL uses.
    pub const IMAGENET: Self = Self {
        mean: [0.485, 0.456, 0.406],
        std: [0.229, 0.224, 0.225],
    };
}
