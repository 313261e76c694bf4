//! Where the bytes of tensors lie.

use std::collections::HashMap;
use std::ops::Range;

/// Where each storage lies in the file, by key.
pub(super) type Storages<'a> = HashMap<&'a str, Range<usize>>;
