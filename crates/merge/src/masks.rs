//! Keep masks in the place of draws: `--masks FILE.safetensors`.
//!
//! Another generator's masks make a random merge comparable with that generator's program, value by
//! value. The file holds one U8 tensor per `<tensor>::<place among the inputs besides the base>`,
//! flattened, 1 where an element is kept; other tensors draw as usual.

use std::path::Path;

use debias_weights::{Checkpoint, Dtype};

use crate::error::{Error, Result};

/// The masks of one file.
#[derive(Debug)]
pub struct Masks(Checkpoint);

impl Masks {
    /// Opens a file of masks.
    ///
    /// # Errors
    /// A file that is missing or damaged, or holds anything but bytes.
    pub fn open(path: &Path) -> Result<Self> {
        let file = Checkpoint::open_file(path)?;
        for name in file.names() {
            let wrong = file
                .info(name)
                .is_none_or(|info| !matches!(info.dtype, Dtype::U8 | Dtype::BOOL));
            if wrong {
                return Err(Error::Mask {
                    name: name.to_owned(),
                    problem: "is not of dtype U8".to_owned(),
                });
            }
        }
        Ok(Self(file))
    }

    /// The mask of one task vector of the tensor `name`, where the file has one.
    ///
    /// # Errors
    /// A mask of another length.
    pub(crate) fn find(&self, name: &str, place: usize, len: usize) -> Result<Option<&[u8]>> {
        let name = format!("{name}::{place}");
        if !self.0.contains(&name) {
            return Ok(None);
        }
        let raw = self.0.raw(&name)?;
        match raw.bytes.len() == len {
            true => Ok(Some(raw.bytes)),
            false => Err(Error::Mask {
                problem: format!("holds {} values, the tensor {len}", raw.bytes.len()),
                name,
            }),
        }
    }
}
