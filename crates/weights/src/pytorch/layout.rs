//! From a view of a storage to a range of the file.

use std::ops::Range;

use super::value::View;
use crate::header::{Entry, TensorInfo};

/// The entry of tensor `name`, whose storage lies at `storage` in the file; says what is wrong
/// when a value of it would lie elsewhere.
pub(super) fn entry(name: &str, view: &View, storage: &Range<usize>) -> Result<Entry, String> {
    // Every dtype that a storage can have fills whole bytes.
    let size = view.storage.dtype.bitsize() / 8;
    let held = storage.len() / size;
    if view.storage.count > held {
        return Err(format!(
            "the storage of tensor `{name}` holds {held} values, the pickle promises {}",
            view.storage.count
        ));
    }
    let overflow = || format!("the size of tensor `{name}` overflows: {:?}", view.shape);
    let count = view
        .shape
        .iter()
        .try_fold(1usize, |count, side| count.checked_mul(*side))
        .ok_or_else(overflow)?;
    let reach = if count == 0 {
        0
    } else {
        reach(view).ok_or_else(overflow)?
    };
    let first = if count == 0 { 0 } else { view.offset };
    let fits = first
        .checked_add(reach)
        .is_some_and(|end| end <= view.storage.count);
    if !fits {
        return Err(format!(
            "tensor `{name}` reaches outside its storage of {} values",
            view.storage.count
        ));
    }
    if count > view.storage.count {
        return Err(format!(
            "tensor `{name}` repeats values of its storage: it has {count} of {}",
            view.storage.count
        ));
    }
    // In bounds: `first + reach` values fit into the storage.
    let start = storage.start + first * size;
    Ok(Entry {
        name: name.to_owned(),
        info: TensorInfo {
            dtype: view.storage.dtype,
            shape: view.shape.clone(),
        },
        start,
        end: start + reach * size,
        strides: (!row_major(view)).then(|| view.strides.clone()),
    })
}

/// How many values lie between the first and the last one of a tensor that is not empty, both
/// included.
fn reach(view: &View) -> Option<usize> {
    let steps = view.shape.iter().zip(&view.strides);
    steps
        .map(|(side, stride)| (side - 1).checked_mul(*stride))
        .try_fold(1usize, |reach, step| reach.checked_add(step?))
}

/// Whether the values lie in the file as a reader expects them. The stride of a side of length 1
/// is never used.
fn row_major(view: &View) -> bool {
    if view.shape.contains(&0) {
        return true;
    }
    let mut expected = 1;
    for (side, stride) in view.shape.iter().zip(&view.strides).rev() {
        if *side != 1 && *stride != expected {
            return false;
        }
        // Cannot overflow: the product of all sides was computed.
        expected *= side;
    }
    true
}

/// The row-major bytes of a strided view whose values take `size` bytes and begin at `bytes`.
pub(crate) fn gather(bytes: &[u8], size: usize, shape: &[usize], strides: &[usize]) -> Vec<u8> {
    let count: usize = shape.iter().product();
    let mut out = Vec::with_capacity(count * size);
    let (Some((row, outer)), Some((step, strides))) = (shape.split_last(), strides.split_last())
    else {
        out.extend_from_slice(bytes);
        return out;
    };
    let mut index = vec![0; outer.len()];
    for _ in 0..count / row.max(&1) {
        let start: usize = index
            .iter()
            .zip(strides)
            .map(|(i, stride)| i * stride)
            .sum();
        for column in 0..*row {
            let at = (start + column * step) * size;
            out.extend_from_slice(&bytes[at..at + size]);
        }
        for (place, side) in index.iter_mut().zip(outer).rev() {
            *place += 1;
            if *place < *side {
                break;
            }
            *place = 0;
        }
    }
    out
}
