//! The header of a safetensors file, checked against the published rules.
//!
//! The file is: eight bytes (header length, little endian), the header (JSON), the data. All
//! checks are made here, before any tensor is touched, because later code slices the data by the
//! offsets found here.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use safetensors::Dtype;
use serde::Deserialize;
use serde::de::{Deserializer, Error as _, MapAccess, Visitor};

use crate::error::{Error, Result};

/// The format's own limit of the header's length.
const HEADER_LIMIT: u64 = 100_000_000;

/// Longest tensor name in bytes; published ones stay below 200.
const NAME_LIMIT: usize = 1024;

/// Bytes in front of the header.
const PREFIX: usize = 8;

/// Dtype and shape of a stored tensor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TensorInfo {
    /// Number format of the file; nothing is converted until it is asked for.
    pub dtype: Dtype,
    /// Sides, outermost first; a linear weight is `[out, in]`.
    pub shape: Vec<usize>,
}

impl TensorInfo {
    /// Number of values; `None` when it overflows.
    pub fn elements(&self) -> Option<usize> {
        self.shape
            .iter()
            .try_fold(1usize, |n, side| n.checked_mul(*side))
    }

    /// Size in bytes; `None` when it overflows or ends inside a byte.
    pub fn bytes(&self) -> Option<u64> {
        let bits = self.elements()?.checked_mul(self.dtype.bitsize())?;
        (bits % 8 == 0).then_some((bits / 8) as u64)
    }
}

/// One tensor of a file. Invariant: `start <= end <= file length`, and without `strides`
/// `end - start` is the size that `info` asks for.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub(crate) name: String,
    pub(crate) info: TensorInfo,
    /// First byte, counted from the beginning of the file.
    pub(crate) start: usize,
    /// One past the last byte.
    pub(crate) end: usize,
    /// Steps per side, in values, of a PyTorch view that is not row-major; every value that they
    /// reach lies between `start` and `end`, and there are no more values than fit there.
    pub(crate) strides: Option<Vec<usize>>,
}

/// Reads and checks the header of `bytes`, the whole of `file`; entries come in the order of
/// their data.
pub(crate) fn parse(bytes: &[u8], file: &str) -> Result<Vec<Entry>> {
    let format = |problem: String| Error::format(file, &problem);
    let Some((prefix, rest)) = bytes.split_first_chunk::<PREFIX>() else {
        return Err(Error::Truncated {
            file: file.to_owned(),
            found: bytes.len() as u64,
            promised: PREFIX as u64,
        });
    };
    let length = u64::from_le_bytes(*prefix);
    if length > HEADER_LIMIT {
        return Err(format(format!(
            "the header claims {length} bytes, the limit is {HEADER_LIMIT}"
        )));
    }
    // The limit above fits any usize of at least 32 bits.
    let Some((header, data)) = rest.split_at_checked(length as usize) else {
        return Err(Error::Truncated {
            file: file.to_owned(),
            found: bytes.len() as u64,
            promised: PREFIX as u64 + length,
        });
    };
    if header.first() != Some(&b'{') {
        return Err(format("the header does not begin with `{`".to_owned()));
    }
    let header: Header = serde_json::from_slice(header)
        .map_err(|source| format(format!("the header is malformed: {source}")))?;
    let mut entries = sized(header.tensors).map_err(format)?;
    entries.sort_by_key(|entry| (entry.start, entry.end));
    let promised = contiguous(&entries).map_err(format)?;
    let found = data.len();
    if found < promised {
        return Err(Error::Truncated {
            file: file.to_owned(),
            found: bytes.len() as u64,
            promised: ((bytes.len() - found) as u64).saturating_add(promised as u64),
        });
    }
    if found > promised {
        return Err(format(format!(
            "{} bytes follow the last tensor",
            found - promised
        )));
    }
    let base = bytes.len() - found;
    for entry in &mut entries {
        // In bounds: the last end equals `found`.
        entry.start += base;
        entry.end += base;
    }
    Ok(entries)
}

/// Checks that each tensor has as many bytes as its dtype and shape ask for.
fn sized(tensors: Vec<(String, Described)>) -> std::result::Result<Vec<Entry>, String> {
    tensors
        .into_iter()
        .map(|(name, described)| {
            let Described {
                dtype,
                shape,
                data_offsets: [start, end],
            } = described;
            let bits = shape
                .iter()
                .try_fold(dtype.bitsize(), |bits, side| bits.checked_mul(*side))
                .ok_or_else(|| format!("the size of tensor `{name}` overflows: {shape:?}"))?;
            if bits % 8 != 0 {
                return Err(format!("tensor `{name}` does not fill whole bytes"));
            }
            let expected = bits / 8;
            match end.checked_sub(start) {
                Some(found) if found == expected => Ok(Entry {
                    name,
                    info: TensorInfo { dtype, shape },
                    start,
                    end,
                    strides: None,
                }),
                Some(found) => Err(format!(
                    "tensor `{name}` spans {found} bytes, its dtype and shape ask for {expected}"
                )),
                None => Err(format!("tensor `{name}` ends before it begins")),
            }
        })
        .collect()
}

/// Checks that sorted `entries` follow each other from 0 without overlap or gap; gives their end.
fn contiguous(entries: &[Entry]) -> std::result::Result<usize, String> {
    entries.iter().try_fold(0, |position, entry| {
        if entry.start == position {
            Ok(entry.end)
        } else {
            let kind = if entry.start < position {
                "overlaps the tensor before it"
            } else {
                "leaves a gap before it"
            };
            Err(format!(
                "tensor `{}` {kind}: it begins at {}, expected {position}",
                entry.name, entry.start
            ))
        }
    })
}

/// What the header says about one tensor.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Described {
    dtype: Dtype,
    shape: Vec<usize>,
    data_offsets: [usize; 2],
}

/// The header, with duplicate names refused: `serde_json` would keep the last one silently.
struct Header {
    tensors: Vec<(String, Described)>,
}

impl<'de> Deserialize<'de> for Header {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        struct Fields;

        impl<'de> Visitor<'de> for Fields {
            type Value = Header;

            fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
                out.write_str("an object of tensors")
            }

            fn visit_map<A: MapAccess<'de>>(
                self,
                mut map: A,
            ) -> std::result::Result<Header, A::Error> {
                let mut seen = BTreeSet::new();
                let mut tensors = Vec::new();
                while let Some(name) = map.next_key::<String>()? {
                    if !seen.insert(name.clone()) {
                        return Err(A::Error::custom(format!("`{name}` is written twice")));
                    }
                    if name == "__metadata__" {
                        let Pairs(texts) = map.next_value()?;
                        if let Some((key, ..)) = duplicate(&texts) {
                            return Err(A::Error::custom(format!("`{key}` is written twice")));
                        }
                    } else if !printable(&name) {
                        return Err(A::Error::custom(format!(
                            "`{name}` is no name for a tensor"
                        )));
                    } else {
                        tensors.push((name, map.next_value()?));
                    }
                }
                Ok(Header { tensors })
            }
        }

        deserializer.deserialize_map(Fields)
    }
}

/// Whether `name` can stand in a message: neither empty nor huge, and without control characters.
pub(crate) fn printable(name: &str) -> bool {
    (1..=NAME_LIMIT).contains(&name.len()) && !name.chars().any(char::is_control)
}

/// An object of texts as the list that the file holds, duplicate keys included.
pub(crate) struct Pairs(pub(crate) Vec<(String, String)>);

impl<'de> Deserialize<'de> for Pairs {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        struct Fields;

        impl<'de> Visitor<'de> for Fields {
            type Value = Pairs;

            fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
                out.write_str("an object of texts")
            }

            fn visit_map<A: MapAccess<'de>>(
                self,
                mut map: A,
            ) -> std::result::Result<Pairs, A::Error> {
                let mut texts = Vec::new();
                while let Some(entry) = map.next_entry()? {
                    texts.push(entry);
                }
                Ok(Pairs(texts))
            }
        }

        deserializer.deserialize_map(Fields)
    }
}

/// The first key of `pairs` that occurs twice, with both values.
pub(crate) fn duplicate(pairs: &[(String, String)]) -> Option<(&str, &str, &str)> {
    let mut seen = BTreeMap::new();
    pairs.iter().find_map(|(key, value)| {
        seen.insert(key.as_str(), value.as_str())
            .map(|earlier| (key.as_str(), earlier, value.as_str()))
    })
}
