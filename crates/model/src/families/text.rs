//! Text models: a decoder alone.

use super::family::{Folder, ModelParts};
use crate::error::Result;
use crate::loader::Loader;
use crate::positions::ImagePositions;
use crate::prompt::Frame;

/// Loads the decoder that `config.json` describes at its top.
///
/// # Errors
/// What the decoder or the tokenizer refuses.
pub(super) fn load(loader: &mut Loader, folder: &Folder) -> Result<ModelParts> {
    let (decoder, optional) = folder.decoder(loader, folder.home(""))?;
    Ok(ModelParts {
        sight: None,
        pixels: None,
        decoder,
        text: folder.text()?,
        frame: Frame::none(),
        chat: None,
        frozen_queries: false,
        image_positions: ImagePositions::Counted,
        optional,
    })
}
