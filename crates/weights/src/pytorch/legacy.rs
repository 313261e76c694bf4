//! The layout of `torch.save` before 1.6: five pickles (magic number, version, the writer's
//! machine, the object, the storages' keys), then the storages in the order of the keys, each
//! behind its number of values.

use std::collections::HashMap;

use safetensors::Dtype;

use super::pickle::Machine;
use super::value::{Node, Pickled, Value};
use super::{Storages, state};
use crate::error::{Error, Result};
use crate::header::Entry;

/// 0x1950a86a20f9469cfc6c
const MAGIC: &[u8] = &[0x6c, 0xfc, 0x9c, 0x46, 0xf9, 0x20, 0x6a, 0xa8, 0x50, 0x19];

/// The only version there ever was.
const VERSION: i64 = 1001;

/// Whether `bytes` begins with a pickle of protocol 2 or later.
pub(super) fn recognized(bytes: &[u8]) -> bool {
    matches!(bytes, [0x80, 2..=5, ..])
}

/// The tensors of `bytes`, the whole of `file`.
pub(super) fn parse(bytes: &[u8], file: &str) -> Result<Vec<Entry>> {
    let broken = |problem: &str| Error::pytorch(file, problem);
    let magic = Machine::new(bytes, 0, file).run()?;
    if magic.root != Value::Long(MAGIC) {
        return Err(broken("it is a pickle, but torch.save did not write it"));
    }
    let version = Machine::new(bytes, magic.end, file).run()?;
    if version.root != Value::Int(VERSION) {
        return Err(broken("its version is not 1001"));
    }
    let system = Machine::new(bytes, version.end, file).run()?;
    let little = (Value::Text("little_endian"), Value::Bool(true));
    if !system
        .dict(system.root)
        .is_some_and(|items| items.contains(&little))
    {
        return Err(broken("it was not written by a little-endian machine"));
    }
    let object = Machine::new(bytes, system.end, file).run()?;
    let keys = Machine::new(bytes, object.end, file).run()?;
    let storages = storages(bytes, &object, &keys).map_err(|problem| broken(&problem))?;
    state::entries(&object, &storages, file)
}

/// Walks over the raw storages behind the pickles.
fn storages<'a>(
    bytes: &[u8],
    object: &Pickled<'a>,
    keys: &Pickled<'a>,
) -> std::result::Result<Storages<'a>, String> {
    let sizes = sizes(object)?;
    let Some(Node::List(order)) = keys.node(keys.root) else {
        return Err("the keys of its storages are no list".to_owned());
    };
    let mut storages = Storages::new();
    let mut at = keys.end;
    for key in order {
        let Value::Text(key) = *key else {
            return Err("the key of a storage is no text".to_owned());
        };
        let size = *sizes
            .get(key)
            .ok_or_else(|| format!("no tensor tells the type of storage `{key}`"))?;
        let truncated = || format!("truncated: the file ends inside storage `{key}`");
        let count = bytes[at..].first_chunk::<8>().ok_or_else(truncated)?;
        let start = at + count.len();
        let end = usize::try_from(i64::from_le_bytes(*count))
            .ok()
            .and_then(|count| start.checked_add(count.checked_mul(size)?))
            .filter(|end| *end <= bytes.len())
            .ok_or_else(truncated)?;
        if storages.insert(key, start..end).is_some() {
            return Err(format!("storage `{key}` is listed twice"));
        }
        at = end;
    }
    Ok(storages)
}

/// Bytes per value of each storage.
fn sizes<'a>(object: &Pickled<'a>) -> std::result::Result<HashMap<&'a str, usize>, String> {
    let mut dtypes: HashMap<&str, Dtype> = HashMap::new();
    for node in &object.nodes {
        if let Node::Storage(storage) = node {
            let dtype = *dtypes.entry(storage.key).or_insert(storage.dtype);
            if dtype != storage.dtype {
                return Err(format!("storage `{}` has two types", storage.key));
            }
        }
    }
    Ok(dtypes
        .into_iter()
        .map(|(key, dtype)| (key, dtype.bitsize() / 8))
        .collect())
}
