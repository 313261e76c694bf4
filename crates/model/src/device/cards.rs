//! The driver's own answers, asked for in the order in which something may be missing.

use std::sync::Arc;

use cudarc::driver::{CudaContext, DriverError};

use super::{Card, NoCard};

/// How many cards there are; at least one.
pub(super) fn count() -> Result<usize, NoCard> {
    // cudarc panics where a library is missing, so ask first.
    if !has_driver() {
        return Err(NoCard::NoDriver);
    }
    let count = match CudaContext::device_count() {
        Ok(count) => usize::try_from(count).unwrap_or(0),
        // CUDA_ERROR_NO_DEVICE: a driver without a card.
        Err(error) if error.0 == cudarc::driver::sys::CUresult::CUDA_ERROR_NO_DEVICE => 0,
        Err(error) => return Err(refused(&error)),
    };
    if count == 0 {
        return Err(NoCard::NoCard);
    }
    if !has_compiler() {
        return Err(NoCard::NoCompiler);
    }
    Ok(count)
}

/// All of them, each opened and asked.
pub(super) fn find() -> Result<Vec<Card>, NoCard> {
    (0..count()?)
        .map(|index| CudaContext::new(index).and_then(|context| card(index, &context)))
        .collect::<Result<_, _>>()
        .map_err(|error| refused(&error))
}

fn refused(error: &DriverError) -> NoCard {
    NoCard::Driver(error.to_string())
}

fn card(index: usize, context: &Arc<CudaContext>) -> Result<Card, DriverError> {
    let (free, total) = context.mem_get_info()?;
    Ok(Card {
        index,
        name: context.name()?,
        capability: context.compute_capability()?,
        total_bytes: total as u64,
        free_bytes: free as u64,
    })
}

#[allow(unsafe_code)]
fn has_driver() -> bool {
    // SAFETY: it only tries to open the library under each of its names.
    unsafe { cudarc::driver::sys::is_culib_present() }
}

#[allow(unsafe_code)]
fn has_compiler() -> bool {
    // SAFETY: it only tries to open the library under each of its names.
    unsafe { cudarc::nvrtc::sys::is_culib_present() }
}
