//! The pictures of a training: looked at once before it begins, so that none is found missing hours later.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use debias_core::sha256_hex;
use debias_data::picture_file;
use debias_model::Model;
use debias_model::engine::Pictures;

use crate::asking::PictureFolder;
use crate::results::digest::digest_of;
use crate::terminal::exit::Exit;
use crate::terminal::failure::Refusal;

/// What is known of the pictures of a training.
#[derive(Debug, Default)]
pub struct Seen {
    /// Tiles of each picture.
    pub tiles: BTreeMap<String, usize>,
    /// Digest of all of them.
    pub digest: String,
}

/// Looks at every picture of `keys` below `folder`.
///
/// # Errors
/// Pictures that cannot be read: how many, and the first.
pub fn look<'k>(
    model: &Model,
    folder: &Path,
    keys: impl Iterator<Item = &'k str>,
) -> anyhow::Result<Seen> {
    let pictures = PictureFolder::new(folder);
    let mut seen = Seen::default();
    let mut refused = None;
    let mut missing = BTreeSet::new();
    let mut lines = String::new();
    for key in keys {
        if seen.tiles.contains_key(key) || missing.contains(key) {
            continue;
        }
        match pictures.picture(key) {
            Ok(picture) => {
                seen.tiles.insert(key.to_owned(), model.tiles(&picture)?);
                lines += &format!("{}  {key}\n", digest_of(&picture_file(folder, key))?);
            }
            Err(error) => {
                missing.insert(key);
                refused.get_or_insert(error);
            }
        }
    }
    if let Some(first) = refused {
        return Err(Refusal::new(
            Exit::Refused,
            format!(
                "{} of the pictures cannot be read, the first: {first}",
                missing.len()
            ),
        )
        .help("`images` in the recipe names their folder; without it, it is that of the data.")
        .into());
    }
    seen.digest = sha256_hex(lines.as_bytes());
    Ok(seen)
}
