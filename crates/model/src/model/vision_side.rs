//! The vision side of a model: pictures to pixels, features and decoder vectors.

use burn::tensor::Tensor;
use debias_core::Picture;
use rayon::prelude::*;

use super::Model;
use crate::batch::ImageFeatures;
use crate::change::View;
use crate::device::moved;
use crate::error::{Error, Result};
use crate::families::VisionSide;
use crate::host;
use crate::pixels::PixelConfig;

impl Model {
    /// Whether it can look at pictures.
    pub fn has_sight(&self) -> bool {
        self.parts.sight.is_some()
    }

    /// The vision side.
    ///
    /// # Errors
    /// [`Error::NoVisionSide`] for a text model.
    pub(crate) fn sight(&self) -> Result<&dyn VisionSide> {
        self.parts
            .sight
            .as_deref()
            .ok_or_else(|| Error::NoVisionSide {
                model: self.name.clone(),
            })
    }

    /// Pictures as the vision tower reads them: `[tiles, 3, s, s]`, row-major, and the number of
    /// tiles of each.
    ///
    /// # Errors
    /// [`Error::NoVisionSide`] for a text model.
    pub fn pixels(&self, pictures: &[&Picture]) -> Result<(Vec<f32>, Vec<usize>)> {
        let config = self.pixel_config()?;
        let values: Vec<Vec<f32>> = pictures.par_iter().map(|p| config.preprocess(p)).collect();
        let tiles = pictures.iter().map(|p| config.tiles(p));
        Ok((values.concat(), tiles.collect()))
    }

    /// [`Model::pixels`] of pictures that are first put into the middle of a square of the mean
    /// colour, as the original evaluation of LLaVA-1.5 does.
    ///
    /// # Errors
    /// [`Error::NoVisionSide`] for a text model.
    pub(crate) fn pixels_padded_to_square(&self, pictures: &[&Picture]) -> Result<Vec<f32>> {
        let config = self.pixel_config()?.clone().padded_to_square();
        Ok(pictures.iter().flat_map(|p| config.preprocess(p)).collect())
    }

    fn pixel_config(&self) -> Result<&PixelConfig> {
        self.parts
            .pixels
            .as_ref()
            .ok_or_else(|| Error::NoVisionSide {
                model: self.name.clone(),
            })
    }

    /// The tiles that a picture is cut into.
    ///
    /// # Errors
    /// [`Error::NoVisionSide`] for a text model.
    pub fn tiles(&self, picture: &Picture) -> Result<usize> {
        Ok(self.pixel_config()?.tiles(picture))
    }

    /// The most tiles that a picture may be cut into.
    pub fn most_tiles(&self) -> usize {
        self.parts
            .pixels
            .as_ref()
            .map_or(1, PixelConfig::most_tiles)
    }

    /// Pictures through the vision tower.
    ///
    /// # Errors
    /// [`Error::NoVisionSide`] for a text model.
    pub fn see(&self, pictures: &[&Picture], view: &View) -> Result<ImageFeatures> {
        let (pixels, tiles) = self.pixels(pictures)?;
        self.see_pixels(pixels, tiles, view)
    }

    /// Prepared pixels (see [`Model::pixels`]) through the vision tower.
    ///
    /// # Errors
    /// [`Error::NoVisionSide`] for a text model.
    pub fn see_pixels(
        &self,
        pixels: Vec<f32>,
        tiles: Vec<usize>,
        view: &View,
    ) -> Result<ImageFeatures> {
        let sight = self.sight()?;
        let side = sight.image_size();
        let shape = [tiles.iter().sum(), 3, side, side];
        let pixels: Tensor<4> = host::tensor(pixels, shape, &self.placement.vision);
        let features = sight.see(view.lift(&pixels), view);
        Ok(ImageFeatures::new(features, tiles))
    }

    /// Pictures through tower and projector, for families with learned queries: `[n, q, w]`.
    ///
    /// # Errors
    /// [`Error::NoVisionSide`] for a model without learned queries.
    pub(crate) fn look(&self, pictures: &[&Picture], view: &View) -> Result<ImageFeatures> {
        let seen = self.see(pictures, view)?;
        let features = moved(seen.features.clone(), &self.placement.projector);
        let queries = self.sight()?.queries(features, view);
        let queries = queries.ok_or_else(|| Error::NoVisionSide {
            model: self.name.clone(),
        })?;
        Ok(seen.with(queries))
    }

    /// Queries of [`Model::look`] → decoder vectors.
    ///
    /// # Errors
    /// [`Error::NoVisionSide`] for a text model.
    pub(crate) fn project(&self, queries: &ImageFeatures, view: &View) -> Result<ImageFeatures> {
        let vectors = self.sight()?.project(queries.features.clone(), view);
        Ok(queries.with(moved(vectors, self.device())))
    }
}
