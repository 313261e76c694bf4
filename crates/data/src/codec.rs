//! PNG and JPEG, decoded only after their header has been held against limits.
//!
//! Alpha is dropped without blending, grey and palettes are expanded, EXIF is ignored: what a
//! model sees is the stored pixels.

use std::fs::{self, File};
use std::io::Cursor;
use std::path::Path;

use debias_core::Picture;
use image::codecs::png::PngEncoder;
use image::{
    DynamicImage, ExtendedColorType, ImageDecoder, ImageEncoder, ImageFormat, ImageReader, Limits,
};

use crate::source::read_bounded;
use crate::{Error, Result};

/// Longest side of a picture, in pixels.
pub const MAX_SIDE: u32 = 8192;
/// Most pixels of a picture.
pub const MAX_PIXELS: u64 = 64_000_000;
/// Largest picture file, in bytes.
pub const MAX_FILE_BYTES: u64 = 64 << 20;
/// Most memory a decoder may ask for, in bytes: 64 Mpx of 16-bit RGB fit.
const MAX_ALLOCATION: u64 = 512 << 20;

/// Reads a PNG or JPEG file.
///
/// # Errors
/// [`Error::Io`] when it cannot be read, [`Error::TooLarge`] above [`MAX_FILE_BYTES`],
/// [`Error::Picture`] when it is corrupt, of another kind, or larger than [`MAX_SIDE`] or
/// [`MAX_PIXELS`]; each names the path.
pub fn read_picture(path: &Path) -> Result<Picture> {
    let meta = fs::metadata(path).map_err(Error::io("read", path))?;
    if !meta.is_file() {
        return Err(refuse(
            &path.display().to_string(),
            "is not a file; give a PNG or JPEG file",
        ));
    }
    let file = File::open(path).map_err(Error::io("read", path))?;
    let bytes = read_bounded(file, path, MAX_FILE_BYTES)?;
    decode_picture(&bytes, &path.display().to_string())
}

/// Decodes PNG or JPEG bytes; `name` is used in errors.
///
/// # Errors
/// [`Error::Picture`] as for [`read_picture`].
pub fn decode_picture(bytes: &[u8], name: &str) -> Result<Picture> {
    let corrupt = |error: image::ImageError| {
        refuse(
            name,
            &format!("cannot be decoded: {error}; replace the file"),
        )
    };
    let format = match image::guess_format(bytes) {
        Ok(format @ (ImageFormat::Png | ImageFormat::Jpeg)) => format,
        _ => return Err(refuse(name, "is neither PNG nor JPEG; convert the file")),
    };
    let mut reader = ImageReader::with_format(Cursor::new(bytes), format);
    let mut limits = Limits::default();
    limits.max_alloc = Some(MAX_ALLOCATION);
    reader.limits(limits);
    let decoder = reader.into_decoder().map_err(corrupt)?;
    let (width, height) = decoder.dimensions();
    let pixels = u64::from(width) * u64::from(height);
    if width > MAX_SIDE || height > MAX_SIDE || pixels > MAX_PIXELS {
        return Err(refuse(
            name,
            &format!(
                "is {width}x{height} pixels, the limits are {MAX_SIDE} a side and {MAX_PIXELS} in all; scale the picture down"
            ),
        ));
    }
    let rgb = DynamicImage::from_decoder(decoder)
        .map_err(corrupt)?
        .into_rgb8();
    Picture::new(width, height, rgb.into_raw()).ok_or_else(|| refuse(name, "has no pixels"))
}

/// Encodes a picture as 8-bit RGB PNG.
///
/// # Errors
/// [`Error::Picture`] when the encoder refuses the picture.
pub fn encode_png(picture: &Picture) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    PngEncoder::new(&mut bytes)
        .write_image(
            picture.rgb(),
            picture.width(),
            picture.height(),
            ExtendedColorType::Rgb8,
        )
        .map_err(|error| refuse("picture", &format!("cannot be encoded: {error}")))?;
    Ok(bytes)
}

fn refuse(name: &str, problem: &str) -> Error {
    Error::Picture {
        name: name.to_owned(),
        problem: problem.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use proptest::prelude::*;

    use super::*;

    fn encoded(picture: DynamicImage, format: ImageFormat) -> Vec<u8> {
        let mut bytes = Cursor::new(Vec::new());
        picture.write_to(&mut bytes, format).expect("encode");
        bytes.into_inner()
    }

    /// A PNG whose header claims `width x height` and whose data are a few bytes.
    fn bomb(width: u32, height: u32) -> Vec<u8> {
        let mut header = Vec::from(*b"IHDR");
        header.extend(width.to_be_bytes());
        header.extend(height.to_be_bytes());
        header.extend([8, 2, 0, 0, 0]);
        let mut crc = flate2::Crc::new();
        crc.update(&header);
        let mut bytes = Vec::from(*b"\x89PNG\r\n\x1a\n");
        bytes.extend(13u32.to_be_bytes());
        bytes.extend(&header);
        bytes.extend(crc.sum().to_be_bytes());
        bytes.extend([0, 0, 0, 0]);
        bytes.extend(b"IDAT\x35\xaf\x06\x1e");
        bytes
    }

    #[test]
    fn alpha_is_dropped_without_blending() {
        let pixels = image::RgbaImage::from_raw(2, 1, vec![9, 8, 7, 0, 1, 2, 3, 128]);
        let bytes = encoded(pixels.expect("size").into(), ImageFormat::Png);
        let picture = decode_picture(&bytes, "rgba").expect("decodes");
        assert_eq!(picture.rgb(), [9, 8, 7, 1, 2, 3]);
    }

    #[test]
    fn grey_is_expanded() {
        let pixels = image::GrayImage::from_raw(2, 1, vec![0, 200]).expect("size");
        let bytes = encoded(pixels.into(), ImageFormat::Png);
        let picture = decode_picture(&bytes, "grey").expect("decodes");
        assert_eq!(picture.rgb(), [0, 0, 0, 200, 200, 200]);
    }

    #[test]
    fn jpeg_is_read() {
        let pixels = image::RgbImage::from_pixel(16, 8, image::Rgb([120, 120, 120]));
        let bytes = encoded(pixels.into(), ImageFormat::Jpeg);
        let picture = decode_picture(&bytes, "jpeg").expect("decodes");
        assert_eq!((picture.width(), picture.height()), (16, 8));
        assert!(picture.rgb().iter().all(|&v| v.abs_diff(120) < 3));
    }

    #[test]
    fn bombs_are_refused_at_once_and_named() {
        let start = Instant::now();
        for (width, height) in [
            (40_000, 40_000),
            (8193, 1),
            (8192, 8192),
            (u32::MAX >> 1, 1),
        ] {
            let error = decode_picture(&bomb(width, height), "bomb.png").expect_err("refused");
            assert!(error.to_string().starts_with("bomb.png: "), "{error}");
        }
        let error = decode_picture(&bomb(40_000, 40_000), "bomb.png").expect_err("refused");
        assert!(error.to_string().contains("40000x40000"), "{error}");
        assert!(start.elapsed().as_secs_f64() < 1.0);
    }

    #[test]
    fn truncated_and_foreign_files_are_refused() {
        let pixels = image::RgbImage::from_pixel(64, 64, image::Rgb([1, 2, 3]));
        let mut bytes = encoded(pixels.into(), ImageFormat::Png);
        bytes.truncate(bytes.len() / 2);
        for bad in [&bytes[..], b"", b"GIF89a......", b"<html>"] {
            assert!(matches!(
                decode_picture(bad, "bad.png"),
                Err(Error::Picture { name, .. }) if name == "bad.png"
            ));
        }
        let dir = tempfile::tempdir().expect("temporary folder");
        assert!(matches!(
            read_picture(dir.path()),
            Err(Error::Picture { .. } | Error::Io { .. })
        ));
    }

    proptest! {
        #[test]
        fn png_round_trips(width in 1u32..9, height in 1u32..9, seed in any::<u8>()) {
            let rgb: Vec<u8> = (0..width * height * 3)
                .map(|at| (at as u8).wrapping_mul(37).wrapping_add(seed))
                .collect();
            let picture = Picture::new(width, height, rgb).expect("size");
            let bytes = encode_png(&picture).expect("encodes");
            prop_assert_eq!(decode_picture(&bytes, "x").expect("decodes"), picture);
        }

        #[test]
        fn no_bytes_make_it_panic(tail in proptest::collection::vec(any::<u8>(), 0..200)) {
            let mut png = Vec::from(*b"\x89PNG\r\n\x1a\n");
            png.extend(&tail);
            let mut jpeg = vec![0xff, 0xd8, 0xff];
            jpeg.extend(&tail);
            prop_assert!(decode_picture(&png, "p").is_err());
            prop_assert!(decode_picture(&jpeg, "j").is_err());
        }
    }
}
