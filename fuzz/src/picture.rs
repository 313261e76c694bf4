//! Fuzz target of the picture decoder: every kind, whole, cut and damaged.

#![no_main]

mod seeds;

use debias_data::{MAX_PIXELS, decode_picture};
use libfuzzer_sys::fuzz_target;

fuzz_target!(
    init: seeds::plant(&drawings()),
    |bytes: &[u8]| match decode_picture(bytes, "fuzz") {
        Ok(picture) => {
            let pixels = u64::from(picture.width()) * u64::from(picture.height());
            assert!(pixels > 0 && pixels <= MAX_PIXELS);
            assert_eq!(picture.rgb().len() as u64, 3 * pixels);
        }
        Err(error) => {
            let message = error.to_string();
            assert!(message.starts_with("fuzz: ") && !message.contains('\n'), "{message}");
        }
    }
);

fn drawings() -> Vec<Vec<u8>> {
    macro_rules! drawings {
        ($($name:literal)*) => {
            vec![$(include_bytes!(concat!("../../crates/data/tests/pictures/", $name)).to_vec(),)*]
        };
    }
    drawings![
        "420.jpg" "444.jpg" "progressive.jpg" "restarts.jpg" "grey.jpg" "cmyk.jpg" "exif.jpg"
        "lossy.webp" "alpha.webp" "animated.gif" "transparent.gif" "palette.bmp" "grey.tiff"
        "palette.png" "bits.png"
    ]
}
