//! What a language model knows of a text before its first layer.

use std::sync::Arc;

use burn::tensor::Device;

use crate::change::View;
use crate::decoders::Decoder;
use crate::error::Result;
use crate::host;
use crate::model::Model;
use crate::text::Text;

/// Texts as the mean of their tokens' input embeddings: a sentence encoder of the simplest kind,
/// which every language model brings along. The table is the model's own, not a copy.
#[derive(Clone)]
pub struct MeanTokenEmbedding {
    decoder: Arc<dyn Decoder>,
    text: Text,
    device: Device,
}

impl MeanTokenEmbedding {
    /// The input embeddings of `model`.
    pub fn of(model: &Model) -> Self {
        Self {
            decoder: model.shared_decoder(),
            text: model.text().clone(),
            device: model.device().clone(),
        }
    }

    /// Length of a text's vector.
    pub fn width(&self) -> usize {
        self.decoder.outline().width
    }

    /// The mean over the tokens of `text`, those that open every text left out; zeros for a text
    /// without tokens.
    ///
    /// # Errors
    /// When the tokenizer cannot represent `text`.
    pub fn mean(&self, text: &str) -> Result<Vec<f32>> {
        let ids = self.text.encode(text, false)?;
        let mut sums = vec![0.0f64; self.width()];
        if ids.is_empty() {
            return Ok(vec![0.0; sums.len()]);
        }
        let n = ids.len();
        let ids = host::indices(ids.into_iter().map(i64::from).collect(), &self.device);
        let vectors = host::values(self.decoder.embed(ids, [1, n], &View::base()));
        for vector in vectors.chunks(sums.len()) {
            for (sum, value) in sums.iter_mut().zip(vector) {
                *sum += f64::from(*value);
            }
        }
        Ok(sums.iter().map(|sum| (sum / n as f64) as f32).collect())
    }
}
