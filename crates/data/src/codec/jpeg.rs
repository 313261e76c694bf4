//! JPEG by the code of libjpeg-turbo, so that a model sees the levels that Pillow shows it.
//!
//! The decoder fills up what a file lacks and warns of it; here every such warning is a refusal.

use std::cell::Cell;
use std::io::Read;
use std::panic::{self, AssertUnwindSafe};
use std::ptr;

use mozjpeg::{Decompress, Format};
use mozjpeg_sys::{jpeg_common_struct, jpeg_error_mgr, msg_parm_union};

use super::scans::Scans;

/// Most scans of a progressive file, each of which visits the whole picture; encoders write a dozen.
const MOST_SCANS: usize = 256;

/// The end marker, put behind every file: what then still lacks data lacks pixels.
const END: [u8; 2] = [0xff, 0xd9];

/// What is said of a file whose last bytes are gone.
const CUT: &str = "is cut short: the file ends before its pixels do; fetch it again";

/// What is said of a file with other bytes than were written.
const DAMAGED: &str =
    "is damaged or cut short: some of its pixels cannot be decoded; fetch it again";

thread_local! {
    /// How often the decoder on this thread had to make up what the file does not say.
    static WARNINGS: Cell<u32> = const { Cell::new(0) };
}

/// Width, height and RGB bytes of a JPEG file; `fits` says what is wrong with its size.
///
/// # Errors
/// What is wrong with the file.
pub(super) fn decode(
    bytes: &[u8],
    fits: impl Fn(u32, u32) -> Result<(), String>,
) -> Result<(u32, u32, Vec<u8>), String> {
    let scans = Scans::of(bytes);
    if scans.count > MOST_SCANS {
        return Err(format!(
            "has {} scans, the limit is {MOST_SCANS}; save the picture again",
            scans.count
        ));
    }
    WARNINGS.set(0);
    // The library leaves by unwinding, in Rust and in C alike.
    let decoded = panic::catch_unwind(AssertUnwindSafe(|| pixels(bytes, &scans, fits)));
    let decoded = decoded.unwrap_or_else(|_| Err(refusal(bytes, &scans)))?;
    if scans.lacks_some() {
        return Err(CUT.to_owned());
    }
    if WARNINGS.get() > 0 {
        return Err(if scans.ended { DAMAGED } else { CUT }.to_owned());
    }
    Ok(decoded)
}

fn pixels(
    bytes: &[u8],
    scans: &Scans,
    fits: impl Fn(u32, u32) -> Result<(), String>,
) -> Result<(u32, u32, Vec<u8>), String> {
    let failed = |error: std::io::Error| {
        if scans.ended {
            format!("cannot be decoded: {error}; replace the file")
        } else {
            CUT.to_owned()
        }
    };
    let decoder = Decompress::builder()
        .with_err(counting())
        .from_reader(bytes.chain(&END[..]));
    let decoder = decoder.map_err(failed)?;
    let side = |side: usize| u32::try_from(side).unwrap_or(u32::MAX);
    let (width, height) = (side(decoder.width()), side(decoder.height()));
    fits(width, height)?;
    // Only what is said of the pixels counts: a strange header costs none.
    WARNINGS.set(0);
    let rgb = match decoder.image().map_err(failed)? {
        Format::RGB(mut started) => started.read_scanlines::<u8>().map_err(failed)?,
        Format::Gray(mut started) => {
            let grey = started.read_scanlines::<u8>().map_err(failed)?;
            grey.into_iter().flat_map(|level| [level; 3]).collect()
        }
        Format::CMYK(mut started) => {
            let inks = started.read_scanlines::<u8>().map_err(failed)?;
            inks.as_chunks::<4>()
                .0
                .iter()
                .flat_map(|inks| printed(*inks))
                .collect()
        }
    };
    Ok((width, height, rgb))
}

/// RGB of inks as JPEG files hold them, inverted; Pillow's arithmetic.
fn printed([c, m, y, k]: [u8; 4]) -> [u8; 3] {
    [c, m, y].map(|ink| {
        let product = u32::from(255 - ink) * u32::from(k) + 128;
        k.saturating_sub((((product >> 8) + product) >> 8) as u8)
    })
}

/// What is said of a file that the decoder gives up on: with the library's words, where it has any.
fn refusal(bytes: &[u8], scans: &Scans) -> String {
    if !scans.ended {
        return CUT.to_owned();
    }
    let again = panic::catch_unwind(AssertUnwindSafe(|| {
        let decoder = Decompress::new_mem(bytes)?;
        match decoder.image()? {
            Format::RGB(mut started) | Format::Gray(mut started) | Format::CMYK(mut started) => {
                started.read_scanlines::<u8>().map(|_| ())
            }
        }
    }));
    let said = match again {
        Ok(Err(error)) => error.to_string(),
        Err(words) => match words.downcast_ref::<String>() {
            Some(words) => words.trim_start_matches("libjpeg fatal error: ").to_owned(),
            None => "libjpeg gives up".to_owned(),
        },
        Ok(Ok(())) => "libjpeg gives up".to_owned(),
    };
    format!("cannot be decoded: {said}; replace the file")
}

/// What the library calls in place of its own handlers, which print and end the program.
fn counting() -> jpeg_error_mgr {
    jpeg_error_mgr {
        error_exit: Some(leave),
        emit_message: Some(count),
        output_message: Some(ignore),
        format_message: Some(nothing),
        reset_error_mgr: Some(ignore),
        msg_code: 0,
        msg_parm: msg_parm_union::default(),
        trace_level: 0,
        num_warnings: 0,
        jpeg_message_table: ptr::null(),
        last_jpeg_message: 0,
        addon_message_table: ptr::null(),
        first_addon_message: 0,
        last_addon_message: 0,
    }
}

#[cold]
extern "C-unwind" fn leave(_: &mut jpeg_common_struct) {
    // Not `panic!`: nothing is to be printed.
    panic::resume_unwind(Box::new(()));
}

#[cold]
extern "C-unwind" fn count(_: &mut jpeg_common_struct, level: std::ffi::c_int) {
    if level < 0 {
        WARNINGS.set(WARNINGS.get() + 1);
    }
}

extern "C-unwind" fn ignore(_: &mut jpeg_common_struct) {}

extern "C-unwind" fn nothing(_: &mut jpeg_common_struct, _: &[u8; 80]) {}
