//! Pictures of the common kinds, decoded only after their header has been held against limits.
//!
//! Alpha is dropped without blending, grey and palettes are expanded, of 16 bits the high eight are
//! kept, EXIF is ignored, of several frames the first is taken: what a model sees is the stored
//! pixels, at the levels that Pillow gives the models' own processors.

mod jpeg;
mod scans;

use std::fs::{self, File};
use std::io::Cursor;
use std::path::Path;

use debias_core::{Foreign, Picture};
use image::codecs::png::PngEncoder;
use image::{
    DynamicImage, ExtendedColorType, ImageDecoder, ImageEncoder, ImageFormat, ImageReader, Limits,
};

use crate::source::read_bounded;
use crate::{Error, Result};

/// Most pixels of a picture, whatever its sides: cameras have up to 61 million.
pub const MAX_PIXELS: u64 = 64_000_000;
/// Largest picture file, in bytes.
pub const MAX_FILE_BYTES: u64 = 256 << 20;
/// Most memory a decoder may ask for, in bytes: 64 Mpx of 16-bit RGBA fit.
const MAX_ALLOCATION: u64 = 512 << 20;
/// The kinds that are read, as messages name them.
const KINDS: &str = "PNG, JPEG, WebP, GIF, BMP and TIFF";

/// Reads a picture file: PNG, JPEG, WebP, GIF, BMP or TIFF, by its content.
///
/// # Errors
/// [`Error::Io`] when it cannot be read, [`Error::TooLarge`] above [`MAX_FILE_BYTES`],
/// [`Error::Picture`] when it is corrupt, cut short, of another kind, or larger than
/// [`MAX_PIXELS`]; each names the path.
pub fn read_picture(path: &Path) -> Result<Picture> {
    let meta = fs::metadata(path).map_err(Error::io("read", path))?;
    if !meta.is_file() {
        return Err(refuse(
            &path.display().to_string(),
            "is not a file; give a picture file",
        ));
    }
    let file = File::open(path).map_err(Error::io("read", path))?;
    let bytes = read_bounded(file, path, MAX_FILE_BYTES)?;
    decode_picture(&bytes, &path.display().to_string())
}

/// Decodes the bytes of a picture file; `name` is used in errors.
///
/// # Errors
/// [`Error::Picture`] as for [`read_picture`].
pub fn decode_picture(bytes: &[u8], name: &str) -> Result<Picture> {
    let (width, height, rgb) = decoded(bytes).map_err(|problem| refuse(name, &problem))?;
    Picture::new(width, height, rgb).ok_or_else(|| refuse(name, "has no pixels"))
}

/// Width, height and RGB bytes.
fn decoded(bytes: &[u8]) -> std::result::Result<(u32, u32, Vec<u8>), String> {
    let format = match image::guess_format(bytes) {
        Ok(ImageFormat::Jpeg) => return jpeg::decode(bytes, fits),
        Ok(
            format @ (ImageFormat::Png
            | ImageFormat::WebP
            | ImageFormat::Gif
            | ImageFormat::Bmp
            | ImageFormat::Tiff),
        ) => format,
        _ => return Err(foreign(bytes)),
    };
    let corrupt =
        |error: image::ImageError| format!("cannot be decoded: {error}; replace the file");
    let mut reader = ImageReader::with_format(Cursor::new(bytes), format);
    let mut limits = Limits::default();
    limits.max_alloc = Some(MAX_ALLOCATION);
    reader.limits(limits);
    let decoder = reader.into_decoder().map_err(corrupt)?;
    let (width, height) = decoder.dimensions();
    fits(width, height)?;
    let picture = DynamicImage::from_decoder(decoder).map_err(corrupt)?;
    Ok((width, height, levels(picture)?))
}

/// What is said of bytes that are no picture of a kind that is read.
fn foreign(bytes: &[u8]) -> String {
    match Foreign::of(bytes) {
        _ if bytes.is_empty() => "is empty; fetch it again".to_owned(),
        Some(foreign) => foreign.to_string(),
        None => format!("is of another kind than {KINDS}; convert the file"),
    }
}

/// Refuses more than [`MAX_PIXELS`].
fn fits(width: u32, height: u32) -> std::result::Result<(), String> {
    if u64::from(width) * u64::from(height) <= MAX_PIXELS {
        return Ok(());
    }
    Err(format!(
        "is {width}x{height} pixels, the limit is {MAX_PIXELS} in all; scale the picture down"
    ))
}

/// The 8-bit RGB levels of a picture.
fn levels(picture: DynamicImage) -> std::result::Result<Vec<u8>, String> {
    let high = |level: u16| (level >> 8) as u8;
    Ok(match picture {
        // Pillow keeps the high byte; of grey alone, whose 16 bits it clips to white, the nearest
        // level is meant.
        DynamicImage::ImageRgb16(pixels) => pixels.into_raw().into_iter().map(high).collect(),
        DynamicImage::ImageRgba16(pixels) => {
            let pixels = pixels.into_raw();
            let pixels = pixels.as_chunks::<4>().0.iter();
            pixels
                .flat_map(|[r, g, b, _]| [*r, *g, *b].map(high))
                .collect()
        }
        DynamicImage::ImageLumaA16(pixels) => {
            let pixels = pixels.into_raw();
            let pixels = pixels.as_chunks::<2>().0.iter();
            pixels.flat_map(|[grey, _]| [high(*grey); 3]).collect()
        }
        DynamicImage::ImageRgb32F(_) | DynamicImage::ImageRgba32F(_) => {
            return Err("holds floating-point levels; convert it to 8 bits".to_owned());
        }
        picture => picture.into_rgb8().into_raw(),
    })
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
mod tests;
