//! The zip archives of `torch.save` since 1.6: every entry is stored as it is, so the storages
//! are ranges of the file.
//!
//! Only what torch writes is read. An archive that two readers could understand differently
//! (compressed, overlapping or double entries, names that disagree, names with a path) is refused.

use std::ops::Range;

use super::Storages;

/// The first bytes of an archive that is not empty.
pub(super) const SIGNATURE: &[u8] = b"PK\x03\x04";

const DIRECTORY: &[u8] = b"PK\x01\x02";
const END: &[u8] = b"PK\x05\x06";
const END_64: &[u8] = b"PK\x06\x06";
const LOCATOR_64: &[u8] = b"PK\x06\x07";

const END_LENGTH: usize = 22;
const LOCATOR_LENGTH: usize = 20;

/// Most bytes of the comment at an archive's end.
const COMMENT_LIMIT: usize = 65_535;

/// What stands in a field of 32 bits when a zip64 field holds the number.
const ELSEWHERE: u64 = 0xffff_ffff;

/// Tag of the extra field that holds these numbers.
const EXTRA_64: u64 = 1;

type Result<T> = std::result::Result<T, String>;

/// The entries that matter.
pub(super) struct Archive<'a> {
    pickle: Option<Range<usize>>,
    storages: Storages<'a>,
}

/// One record of the central directory.
struct Record<'a> {
    name: &'a str,
    header: usize,
    data: Range<usize>,
}

impl<'a> Archive<'a> {
    /// Reads and checks the directory of `bytes`.
    pub(super) fn open(bytes: &'a [u8]) -> Result<Self> {
        let (directory, records) = directory(bytes)?;
        let mut archive = Self {
            pickle: None,
            storages: Storages::new(),
        };
        let mut top = None;
        let mut taken = Vec::new();
        let mut at = directory.start;
        while at < directory.end {
            let (record, next) = record(bytes, at, &directory)?;
            at = next;
            taken.push((record.header, record.data.end));
            let Some((folder, path)) = record.name.split_once('/') else {
                return Err(format!("entry `{}` lies in no folder", record.name));
            };
            if *top.get_or_insert(folder) != folder {
                return Err(format!("entry `{}` lies in a second folder", record.name));
            }
            archive.keep(bytes, path, record.data)?;
        }
        if taken.len() as u64 != records {
            return Err("the archive's directory is not as long as it says".to_owned());
        }
        taken.sort_unstable();
        if taken.windows(2).any(|pair| pair[1].0 < pair[0].1) {
            return Err("two entries of the archive overlap".to_owned());
        }
        Ok(archive)
    }

    /// Where the pickle lies.
    pub(super) fn pickle(&self) -> Result<Range<usize>> {
        self.pickle
            .clone()
            .ok_or_else(|| "the archive holds no data.pkl".to_owned())
    }

    /// Where the storages lie.
    pub(super) fn storages(&self) -> &Storages<'a> {
        &self.storages
    }

    fn keep(&mut self, bytes: &[u8], path: &'a str, data: Range<usize>) -> Result<()> {
        let double = if path == "data.pkl" {
            self.pickle.replace(data).is_some()
        } else if let Some(key) = path.strip_prefix("data/") {
            self.storages.insert(key, data).is_some()
        } else if path == "byteorder" && &bytes[data] != b"little" {
            return Err("its numbers are not little-endian".to_owned());
        } else {
            // Versions, alignment, identifiers: nothing that changes a tensor.
            false
        };
        if double {
            return Err(format!("the archive holds entry `{path}` twice"));
        }
        Ok(())
    }
}

/// Where the central directory lies, and how many records it has.
fn directory(bytes: &[u8]) -> Result<(Range<usize>, u64)> {
    let missing = || "truncated: the archive has no end record".to_owned();
    let last = bytes.len().checked_sub(END_LENGTH).ok_or_else(missing)?;
    let end = (last.saturating_sub(COMMENT_LIMIT)..=last)
        .rev()
        .find(|at| {
            bytes[*at..].starts_with(END) && at + END_LENGTH + small(bytes, at + 20) == bytes.len()
        })
        .ok_or_else(missing)?;
    let mut disks = number(bytes, end + 4, 4)?;
    let mut records = number(bytes, end + 10, 2)?;
    let mut size = number(bytes, end + 12, 4)?;
    let mut start = number(bytes, end + 16, 4)?;
    let mut limit = end;
    if let Some(locator) = end.checked_sub(LOCATOR_LENGTH)
        && bytes[locator..].starts_with(LOCATOR_64)
    {
        limit = position(number(bytes, locator + 8, 8)?, locator)?;
        if !bytes[limit..].starts_with(END_64) {
            return Err("the archive's zip64 end record is missing".to_owned());
        }
        disks = number(bytes, limit + 16, 8)?;
        records = number(bytes, limit + 32, 8)?;
        size = number(bytes, limit + 40, 8)?;
        start = number(bytes, limit + 48, 8)?;
    }
    if disks != 0 {
        return Err("the archive is one of several parts".to_owned());
    }
    let start = position(start, limit)?;
    let end = position(size, limit - start)? + start;
    Ok((start..end, records))
}

/// The record at `at`, and where the next one begins.
fn record<'a>(bytes: &'a [u8], at: usize, directory: &Range<usize>) -> Result<(Record<'a>, usize)> {
    const LENGTH: usize = 46;
    if at + LENGTH > directory.end || !bytes[at..].starts_with(DIRECTORY) {
        return Err("the archive's directory is damaged".to_owned());
    }
    let name_end = at + LENGTH + small(bytes, at + 28);
    let extra_end = name_end + small(bytes, at + 30);
    let next = extra_end + small(bytes, at + 32);
    if next > directory.end {
        return Err("the archive's directory is damaged".to_owned());
    }
    let name = name(&bytes[at + LENGTH..name_end])?;
    if small(bytes, at + 10) != 0 {
        return Err(format!("entry `{name}` of the archive is compressed"));
    }
    if bytes[at + 8] & 1 != 0 {
        return Err(format!("entry `{name}` of the archive is encrypted"));
    }
    let mut wide = wide(&bytes[name_end..extra_end]);
    let mut field = |offset| match number(bytes, at + offset, 4)? {
        ELSEWHERE => wide
            .next()
            .ok_or_else(|| format!("entry `{name}` of the archive lacks its zip64 size")),
        value => Ok(value),
    };
    // In this order the zip64 field holds those that are elsewhere.
    let (size, stored, header) = (field(24)?, field(20)?, field(42)?);
    if size != stored {
        return Err(format!("entry `{name}` of the archive has two sizes"));
    }
    let header = position(header, directory.start)?;
    let start = contents(bytes, header, name)?;
    let outside = || format!("truncated: entry `{name}` of the archive does not end in it");
    let room = directory.start.checked_sub(start).ok_or_else(outside)?;
    let data = start..start + position(size, room).map_err(|_| outside())?;
    Ok((Record { name, header, data }, next))
}

/// Where the data of the local header at `header` begins; it must tell of the same entry.
fn contents(bytes: &[u8], header: usize, name: &str) -> Result<usize> {
    const LENGTH: usize = 30;
    let differs = || format!("entry `{name}` of the archive is not where its directory says");
    let local = &bytes[header..];
    if !local.starts_with(SIGNATURE) || local.len() < LENGTH || small(local, 8) != 0 {
        return Err(differs());
    }
    let name_end = LENGTH + small(local, 26);
    if local.get(LENGTH..name_end) != Some(name.as_bytes()) {
        return Err(differs());
    }
    Ok(header + name_end + small(local, 28))
}

/// An entry's name, if it is a plain path inside the archive.
fn name(bytes: &[u8]) -> Result<&str> {
    let plain = |name: &&str| {
        !name.contains('\\')
            && !name.chars().any(char::is_control)
            && name.split('/').all(|part| !matches!(part, "" | "." | ".."))
    };
    std::str::from_utf8(bytes)
        .ok()
        .filter(plain)
        .ok_or_else(|| {
            let name = String::from_utf8_lossy(bytes);
            format!("`{name}` is no name for an entry of the archive")
        })
}

/// The numbers of the zip64 extra field among `extra`.
fn wide(mut extra: &[u8]) -> impl Iterator<Item = u64> {
    let mut found: &[u8] = &[];
    while extra.len() >= 4 {
        let (tag, length) = (small(extra, 0) as u64, small(extra, 2));
        let Some(field) = extra.get(4..4 + length) else {
            break;
        };
        if tag == EXTRA_64 {
            found = field;
            break;
        }
        extra = &extra[4 + length..];
    }
    found
        .as_chunks::<8>()
        .0
        .iter()
        .map(|value| u64::from_le_bytes(*value))
}

/// `value` as a position up to and including `limit`.
fn position(value: u64, limit: usize) -> Result<usize> {
    usize::try_from(value)
        .ok()
        .filter(|value| *value <= limit)
        .ok_or_else(|| "truncated: the archive refers to bytes beyond its end".to_owned())
}

/// The number of two bytes at `at`, which the caller knows to be there.
fn small(bytes: &[u8], at: usize) -> usize {
    usize::from(u16::from_le_bytes([bytes[at], bytes[at + 1]]))
}

/// The unsigned number of `length` bytes, 8 at most, at `at`.
fn number(bytes: &[u8], at: usize, length: usize) -> Result<u64> {
    let mut value = [0; 8];
    let found = bytes
        .get(at..at + length)
        .ok_or("truncated: the archive ends inside a record")?;
    value[..length].copy_from_slice(found);
    Ok(u64::from_le_bytes(value))
}
