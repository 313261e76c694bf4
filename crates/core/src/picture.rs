//! An 8-bit RGB picture: what datasets hand out and models preprocess.

/// Row-major RGB bytes, three per pixel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Picture {
    width: u32,
    height: u32,
    rgb: Vec<u8>,
}

impl Picture {
    /// Wraps `rgb`; `None` unless it holds exactly `3 * width * height` bytes and neither side is 0.
    pub fn new(width: u32, height: u32, rgb: Vec<u8>) -> Option<Self> {
        let expected = (width as usize)
            .checked_mul(height as usize)?
            .checked_mul(3)?;
        (expected > 0 && rgb.len() == expected).then_some(Self { width, height, rgb })
    }

    /// Pixels per row.
    pub fn width(&self) -> u32 {
        self.width
    }

    /// Number of rows.
    pub fn height(&self) -> u32 {
        self.height
    }

    /// The bytes, row by row, red first.
    pub fn rgb(&self) -> &[u8] {
        &self.rgb
    }

    /// Takes the bytes out.
    pub fn into_rgb(self) -> Vec<u8> {
        self.rgb
    }
}
