//! What a picture is like, in one vector: by it editors tell whether two pictures show the same.

use burn::tensor::Tensor;

use crate::batch::ImageFeatures;
use crate::change::View;
use crate::error::Result;
use crate::model::Model;

impl Model {
    /// One vector per picture `[pictures, w]`: the mean over its learned queries behind the projector
    /// and in front of the projection, or over the tower's features for families without such
    /// queries, and over its tiles.
    ///
    /// # Errors
    /// [`Error::NoVisionSide`](crate::Error::NoVisionSide) for a text model.
    pub fn image_embedding(&self, seen: &ImageFeatures, view: &View) -> Result<Tensor<2>> {
        let features = view.lift(&seen.features);
        let queries = self.sight()?.queries(features.clone(), view);
        let of_tiles = queries.unwrap_or(features).mean_dim(1).squeeze_dim::<2>(1);
        let pictures = (0..seen.pictures()).map(|i| {
            let tiles = seen.image_ref(i).tiles;
            of_tiles
                .clone()
                .narrow(0, seen.first_tile(i), tiles)
                .mean_dim(0)
        });
        Ok(Tensor::cat(pictures.collect(), 0))
    }
}
