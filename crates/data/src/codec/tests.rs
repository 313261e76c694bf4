//! Pictures of every kind, whole, cut and foreign.

use std::time::Instant;

use debias_core::sha256_hex;
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

/// The drawings beside the tests, and SHA-256 of the pixels that Pillow 13 reads of them.
const DRAWINGS: [(&str, &str); 23] = [
    (
        "444.jpg",
        "f7643d7a9d5068c6fb30a93980e853c498960c2cb65cddd148e5319e8b52ed47",
    ),
    (
        "422.jpg",
        "4091a4bdc89493afb6fc7c72e1a8cb5b5550f4d47f4af2afb91529c5e19ec880",
    ),
    (
        "420.jpg",
        "f99d6351ead005b3c429046731ee4f1c4b1d0686c515e098892b7ac2bf6ba574",
    ),
    (
        "progressive.jpg",
        "f99d6351ead005b3c429046731ee4f1c4b1d0686c515e098892b7ac2bf6ba574",
    ),
    (
        "restarts.jpg",
        "f99d6351ead005b3c429046731ee4f1c4b1d0686c515e098892b7ac2bf6ba574",
    ),
    (
        "grey.jpg",
        "53da9cf60fcff4e870547bcd531157a7b5313429aeb6c1e3afb4cc2058cbbbdf",
    ),
    (
        "cmyk.jpg",
        "64e85f82fbbede040db67df9e2f24188bd3565b4be7222544f15becf29d6cdc8",
    ),
    (
        "rgb.jpg",
        "64e85f82fbbede040db67df9e2f24188bd3565b4be7222544f15becf29d6cdc8",
    ),
    (
        "exif.jpg",
        "f99d6351ead005b3c429046731ee4f1c4b1d0686c515e098892b7ac2bf6ba574",
    ),
    (
        "two.mpo",
        "f99d6351ead005b3c429046731ee4f1c4b1d0686c515e098892b7ac2bf6ba574",
    ),
    (
        "lossy.webp",
        "607890a7f72bdbeb180e24149cc004ec8e1346589157f48b0a7c0314d3f83e5b",
    ),
    (
        "alpha.webp",
        "9ff98ed6d4c4f033eac8eb932563f8721d6f471529b02334f3a8fb554bc1fc5f",
    ),
    (
        "lossless.webp",
        "dd1b04e5ce89579070ab9e98d41e049a058271b0bfc10ce19c52e003670e57c4",
    ),
    (
        "animated.webp",
        "d681a560beb862342dfa9b90631e374baffd1fadeb05e29d1537a9667740ae93",
    ),
    (
        "animated.gif",
        "6cba86d3818586b18530c92ff28ebda07ea49f5f5549f38d7ada4a9b7cd9270c",
    ),
    (
        "transparent.gif",
        "18455810ca793ab216a42b30dec85884f5a0fd34ffaa5c9f954d971e92a677e0",
    ),
    (
        "interlaced.gif",
        "18455810ca793ab216a42b30dec85884f5a0fd34ffaa5c9f954d971e92a677e0",
    ),
    (
        "plain.bmp",
        "dd1b04e5ce89579070ab9e98d41e049a058271b0bfc10ce19c52e003670e57c4",
    ),
    (
        "palette.bmp",
        "18455810ca793ab216a42b30dec85884f5a0fd34ffaa5c9f954d971e92a677e0",
    ),
    (
        "lzw.tiff",
        "dd1b04e5ce89579070ab9e98d41e049a058271b0bfc10ce19c52e003670e57c4",
    ),
    (
        "grey.tiff",
        "841e3a2c7ff08241433d98a605f221fdcea65e16785c87be4cf5feeca384a0e4",
    ),
    (
        "palette.png",
        "18455810ca793ab216a42b30dec85884f5a0fd34ffaa5c9f954d971e92a677e0",
    ),
    (
        "bits.png",
        "9d5c3ea5346c5853cb9d36dd34f9b079f924d114c39ce6d754c15c096b03dab9",
    ),
];

fn drawing(name: &str) -> Vec<u8> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/pictures");
    fs::read(dir.join(name)).expect("beside the tests")
}

fn digest(bytes: &[u8], name: &str) -> String {
    let picture = decode_picture(bytes, name).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!((picture.width(), picture.height()), (41, 29), "{name}");
    sha256_hex(picture.rgb())
}

#[test]
fn every_kind_of_picture_has_the_pixels_that_pillow_reads() {
    for (name, expected) in DRAWINGS {
        assert_eq!(digest(&drawing(name), name), expected, "{name}");
    }
}

#[test]
fn a_cut_jpeg_is_refused_and_named_wherever_it_is_cut() {
    for name in [
        "444.jpg",
        "420.jpg",
        "progressive.jpg",
        "restarts.jpg",
        "grey.jpg",
        "cmyk.jpg",
    ] {
        let whole = drawing(name);
        // The last two bytes are the end marker; the padding in front may be all that is lost.
        for length in 3..whole.len() - 3 {
            let error = match decode_picture(&whole[..length], name) {
                Err(error) => error.to_string(),
                Ok(picture) => panic!(
                    "{name}: {length} of {} bytes: {:?}",
                    whole.len(),
                    picture.width()
                ),
            };
            let said = format!("{name}: is cut short");
            assert!(error.starts_with(&said), "{length} bytes: {error}");
        }
    }
}

#[test]
fn a_jpeg_whose_scans_are_not_all_there_is_cut_only_without_its_end() {
    let whole = drawing("progressive.jpg");
    let scans: Vec<usize> = (0..whole.len() - 1)
        .filter(|at| whole[*at..].starts_with(&[0xff, 0xda]))
        .collect();
    assert!(scans.len() > 5);
    for at in &scans[1..] {
        let error = decode_picture(&whole[..*at], "a.jpg").expect_err("cut");
        assert!(error.to_string().contains("is cut short"), "{error}");
        // Somebody wrote so few on purpose.
        let ended = [&whole[..*at], &[0xff, 0xd9]].concat();
        assert!(decode_picture(&ended, "a.jpg").is_ok());
    }
}

#[test]
fn what_costs_no_pixel_is_no_damage() {
    for (name, expected) in DRAWINGS.iter().filter(|(name, _)| name.ends_with(".jpg")) {
        let whole = drawing(name);
        let end = whole.len() - 2;
        for read in [
            [&whole[..], b"junk behind the end \xff\xda\xff"].concat(),
            [&whole[..], &[0; 500]].concat(),
            whole[..end].to_vec(),
            whole[..end + 1].to_vec(),
        ] {
            assert_eq!(digest(&read, name), *expected, "{name}");
        }
    }
}

#[test]
fn bytes_that_are_not_as_they_were_written_are_refused() {
    let mut damaged = drawing("420.jpg");
    let middle = damaged.len() * 3 / 4;
    // A marker where none can be: what is behind it belongs to nothing.
    damaged[middle..middle + 2].copy_from_slice(&[0xff, 0xd3]);
    let error = decode_picture(&damaged, "a.jpg").expect_err("damaged");
    assert!(
        error
            .to_string()
            .starts_with("a.jpg: is damaged or cut short"),
        "{error}"
    );
    let error = decode_picture(b"\xff\xd8\xff\xc0\0\x05\x08\0\0\xff\xd9", "a.jpg");
    let error = error.expect_err("no frame").to_string();
    assert!(
        error.starts_with("a.jpg: cannot be decoded: ") && !error.contains('\n'),
        "{error}"
    );
}

#[test]
fn a_picture_of_endless_scans_is_refused() {
    let whole = drawing("progressive.jpg");
    let last = (0..whole.len() - 1).rfind(|at| whole[*at..].starts_with(&[0xff, 0xda]));
    let scan = &whole[last.expect("a scan")..whole.len() - 2];
    let bomb = [&whole[..whole.len() - 2], &scan.repeat(1000), &[0xff, 0xd9]].concat();
    let error = decode_picture(&bomb, "a.jpg")
        .expect_err("refused")
        .to_string();
    assert!(error.contains("scans, the limit is 256"), "{error}");
}

#[test]
fn of_sixteen_bits_the_high_byte_is_kept() {
    let png = |picture: DynamicImage| encoded(picture, ImageFormat::Png);
    let rgb = image::ImageBuffer::from_raw(1, 1, vec![0x01ff_u16, 0x80ff, 0xffff]).expect("size");
    let read = |bytes: &[u8]| {
        decode_picture(bytes, "a.png")
            .expect("decodes")
            .rgb()
            .to_vec()
    };
    assert_eq!(read(&png(DynamicImage::ImageRgb16(rgb))), [1, 0x80, 0xff]);
    let rgba =
        image::ImageBuffer::from_raw(1, 1, vec![0x01ff_u16, 0x80ff, 0xfeff, 7]).expect("size");
    assert_eq!(read(&png(DynamicImage::ImageRgba16(rgba))), [1, 0x80, 0xfe]);
    let grey = image::ImageBuffer::from_raw(1, 1, vec![0x01ff_u16, 7]).expect("size");
    assert_eq!(read(&png(DynamicImage::ImageLumaA16(grey))), [1; 3]);
    // Pillow clips grey alone to white; here it keeps its meaning.
    let grey = image::ImageBuffer::from_raw(2, 1, vec![0x01ff_u16, 0xff00]).expect("size");
    assert_eq!(
        read(&png(DynamicImage::ImageLuma16(grey))),
        [2, 2, 2, 254, 254, 254]
    );
}

#[test]
fn a_long_picture_is_read_whatever_its_sides() {
    let wide = image::GrayImage::from_pixel(8256, 3, image::Luma([9]));
    let picture =
        decode_picture(&encoded(wide.into(), ImageFormat::Png), "a.png").expect("decodes");
    assert_eq!((picture.width(), picture.height()), (8256, 3));
}

#[test]
fn what_stands_in_the_place_of_a_picture_is_called_what_it_is() {
    for (bytes, said) in [
        (
            &b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n"[..],
            "is a Git LFS pointer",
        ),
        (b"<!DOCTYPE html><html>", "is an HTML page"),
        (b"", "is empty"),
        (
            b"%PDF-1.7",
            "is of another kind than PNG, JPEG, WebP, GIF, BMP and TIFF",
        ),
    ] {
        let error = decode_picture(bytes, "a.png")
            .expect_err("refused")
            .to_string();
        assert!(error.starts_with(&format!("a.png: {said}")), "{error}");
    }
}

#[test]
fn bombs_are_refused_at_once_and_named() {
    let start = Instant::now();
    for (width, height) in [
        (40_000, 40_000),
        (8192, 8192),
        (64_000_001, 1),
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
