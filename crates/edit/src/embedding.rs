//! Texts as directions, by which editors find what lies near: a sentence encoder where one is
//! given, the model's own words where none is.

use std::collections::HashMap;
use std::fmt;
use std::path::Path;
use std::sync::Arc;

use debias_model::{Encoder, MeanTokenEmbedding, Model, View, open_folder};

use crate::error::{Error, Result};

/// What turns texts into vectors of length 1, so that a cosine is a dot product.
///
/// Clones share the weights.
#[derive(Clone)]
pub struct TextEmbedding(Source);

#[derive(Clone)]
enum Source {
    Encoder(Arc<Encoder>),
    MeanTokenEmbedding(MeanTokenEmbedding),
}

impl TextEmbedding {
    /// The sentence encoder in the Hugging Face folder `encoder` on the device of `model`; without
    /// a folder, the mean of the input embeddings of the language model's tokens.
    ///
    /// # Errors
    /// A folder that holds no usable encoder.
    pub fn of(model: &Model, encoder: Option<&Path>) -> Result<Self> {
        let Some(folder) = encoder else {
            return Ok(Self(Source::MeanTokenEmbedding(MeanTokenEmbedding::of(
                model,
            ))));
        };
        let encoder = Encoder::open(&open_folder(folder)?, model.device())?;
        Ok(Self(Source::Encoder(Arc::new(encoder))))
    }

    /// Length of a text's vector.
    pub fn width(&self) -> usize {
        match &self.0 {
            Source::Encoder(encoder) => encoder.width(),
            Source::MeanTokenEmbedding(words) => words.width(),
        }
    }

    /// One vector of length 1 per text, in their order; equal texts get equal vectors. A text
    /// without tokens gets zeros, which are near nothing.
    ///
    /// # Errors
    /// A text that cannot be tokenised, or an embedding that is not finite.
    pub fn embed(&self, texts: &[&str]) -> Result<Vec<Vec<f32>>> {
        // A padded batch may change the last bit, so a text is read once however often it stands.
        let mut index = HashMap::new();
        let mut distinct: Vec<&str> = Vec::new();
        let places: Vec<usize> = texts
            .iter()
            .map(|text| {
                *index.entry(*text).or_insert_with(|| {
                    distinct.push(text);
                    distinct.len() - 1
                })
            })
            .collect();
        let vectors = match &self.0 {
            Source::Encoder(encoder) => encoder.embed(&distinct, &View::base())?,
            Source::MeanTokenEmbedding(words) => {
                let vectors = distinct.iter().map(|text| words.mean(text));
                vectors.collect::<debias_model::Result<_>>()?
            }
        };
        let vectors: Vec<Vec<f32>> = vectors.into_iter().map(unit).collect::<Result<_>>()?;
        Ok(places.into_iter().map(|at| vectors[at].clone()).collect())
    }

    /// The vector of one text; it does not depend on what else is embedded.
    ///
    /// # Errors
    /// As [`TextEmbedding::embed`].
    pub fn one(&self, text: &str) -> Result<Vec<f32>> {
        Ok(self.embed(&[text])?.concat())
    }

    /// What a reader of a result must know: that the model's own words stand in for an encoder.
    pub fn note(&self) -> Option<String> {
        match &self.0 {
            Source::Encoder(_) => None,
            Source::MeanTokenEmbedding(_) => Some(
                "no sentence encoder given; texts are compared by the mean of the model's own \
                 input embeddings"
                    .to_owned(),
            ),
        }
    }
}

impl fmt::Debug for TextEmbedding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = match &self.0 {
            Source::Encoder(encoder) => encoder.name(),
            Source::MeanTokenEmbedding(_) => "the model's own words",
        };
        f.debug_tuple("TextEmbedding").field(&name).finish()
    }
}

/// The cosine of two vectors of length 1.
pub fn cosine(a: &[f32], b: &[f32]) -> f64 {
    let products = a.iter().zip(b).map(|(x, y)| f64::from(*x) * f64::from(*y));
    products.sum()
}

fn unit(vector: Vec<f32>) -> Result<Vec<f32>> {
    let norm = cosine(&vector, &vector).sqrt();
    match norm {
        norm if !norm.is_finite() => Err(Error::Model(debias_model::Error::NotFinite {
            what: "the embedding of a text".into(),
        })),
        0.0 => Ok(vector),
        norm => {
            let scaled = vector.into_iter().map(|x| (f64::from(x) / norm) as f32);
            Ok(scaled.collect())
        }
    }
}
