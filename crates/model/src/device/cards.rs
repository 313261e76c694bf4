//! The driver's own answers, asked for in the order in which something may be missing.

use std::sync::Arc;

use cubecl_cuda::install;
use cudarc::driver::{CudaContext, DriverError};

use super::card::{GraphicsCard, NoCard};

/// How many cards there are; at least one.
fn count() -> Result<usize, NoCard> {
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
    // cubecl panics where it finds no toolkit, and says little where headers are missing.
    let toolkit = install::cuda_path().unwrap_or_else(|| "/usr/local/cuda".into());
    let header = toolkit.join("include/cuda_fp16.h");
    if !header.exists() {
        return Err(NoCard::NoHeaders(header));
    }
    Ok(count)
}

/// That there is one of this number.
pub(super) fn check(asked: usize) -> Result<(), NoCard> {
    let found = count()?;
    if asked < found {
        Ok(())
    } else {
        Err(NoCard::Number { asked, found })
    }
}

/// One of them, opened and asked.
pub(super) fn one(asked: usize) -> Result<GraphicsCard, NoCard> {
    check(asked)?;
    CudaContext::new(asked)
        .and_then(|context| card(asked, &context))
        .map_err(|error| refused(&error))
}

/// All of them.
pub(super) fn find() -> Result<Vec<GraphicsCard>, NoCard> {
    (0..count()?).map(one).collect()
}

fn refused(error: &DriverError) -> NoCard {
    NoCard::Driver(error.to_string())
}

fn card(index: usize, context: &Arc<CudaContext>) -> Result<GraphicsCard, DriverError> {
    let (free, total) = context.mem_get_info()?;
    Ok(GraphicsCard {
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
