//! Whether a picture shows what the picture of a remembered request shows.

use debias_core::seed;
use debias_model::{ImageFeatures, Model, Parameters, host};
use rand::seq::SliceRandom;

use crate::editor::Examples;
use crate::embedding::cosine;
use crate::error::Result;
use crate::training::Values;

/// Share of rephrased pictures that the threshold lets through.
const PASS: f64 = 0.99;
/// Share of unrelated pictures that it must keep out, or the gate stands open.
const WORTHWHILE: f64 = 0.25;
/// Records whose pictures decide the threshold.
const RECORDS: usize = 128;
/// The threshold that lets everything through.
const OPEN: f64 = -2.0;

const MEAN: &str = "gate.mean";
const NUMBERS: &str = "gate.numbers";

/// A cosine between pictures, and the least of it that counts as the same scene.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Gate {
    /// Mean of the pictures it was tuned on; what all pictures have in common tells nothing.
    mean: Vec<f32>,
    threshold: f64,
    /// Shares of rephrased pictures that pass, and of unrelated ones that do not.
    passed: f64,
    kept_out: f64,
}

impl Gate {
    /// Tunes the threshold on rephrased pictures (in scope) and those of locality items (out of
    /// scope): between the least cosine that lets [`PASS`] of the former through and the greatest of
    /// the latter below it. Where that keeps hardly any of the latter out, the gate is left open.
    ///
    /// # Errors
    /// A picture that cannot be read.
    pub fn tuned(model: &Model, examples: &dyn Examples, seed: u64) -> Result<Self> {
        let mut order: Vec<usize> = (0..examples.records().len()).collect();
        order.shuffle(&mut seed::stream(seed, &["serac", "gate"]));
        order.truncate(RECORDS);
        let mut embeddings = Vec::with_capacity(order.len());
        for at in order {
            let example = examples.example(at)?;
            let of = |seen: &ImageFeatures| -> Result<Vec<f32>> {
                Ok(host::values(model.image_embedding(seen, &model.base())?))
            };
            let unrelated = example.m_locality.and_then(|item| item.image);
            let pictures = (&example.request.image, &example.image_rephrase, &unrelated);
            if let (Some(own), Some(rephrased), Some(unrelated)) = pictures {
                embeddings.push([of(own)?, of(rephrased)?, of(unrelated)?]);
            }
        }
        Ok(Self::of(&embeddings))
    }

    /// From the embeddings of a record's picture, the rephrased one and that of the locality item.
    fn of(embeddings: &[[Vec<f32>; 3]]) -> Self {
        let width = embeddings
            .first()
            .map_or(0, |embeddings| embeddings[0].len());
        let mut sums = vec![0.0f64; width];
        for embedding in embeddings.iter().flatten() {
            for (sum, value) in sums.iter_mut().zip(embedding) {
                *sum += f64::from(*value);
            }
        }
        let n = (3 * embeddings.len()).max(1) as f64;
        let mut gate = Self {
            mean: sums.iter().map(|sum| (sum / n) as f32).collect(),
            threshold: OPEN,
            passed: 1.0,
            kept_out: 0.0,
        };
        let likeness = |other: usize| -> Vec<f64> {
            let of = |embeddings: &[Vec<f32>; 3]| {
                cosine(&gate.key(&embeddings[0]), &gate.key(&embeddings[other]))
            };
            embeddings.iter().map(of).collect()
        };
        let (mut same, others) = (likeness(1), likeness(2));
        same.sort_by(f64::total_cmp);
        let fails = ((1.0 - PASS) * same.len() as f64).floor() as usize;
        let Some(threshold) = same.get(fails) else {
            return gate;
        };
        let out: Vec<f64> = others.iter().copied().filter(|c| c < threshold).collect();
        let kept_out = out.len() as f64 / others.len() as f64;
        if kept_out >= WORTHWHILE {
            // In the middle of the gap, so that neither side decides by its last picture; rounded
            // as it will be stored.
            let nearest = out.into_iter().fold(-1.0, f64::max);
            gate.threshold = f64::from(((threshold + nearest) / 2.0) as f32);
            gate.passed = 1.0 - fails as f64 / same.len() as f64;
            gate.kept_out = kept_out;
        }
        gate
    }

    /// What a picture is remembered by, of length 1.
    ///
    /// # Errors
    /// A text model.
    pub fn picture(&self, model: &Model, seen: &ImageFeatures) -> Result<Vec<f32>> {
        let embedding = host::values(model.image_embedding(seen, &model.base())?);
        Ok(self.key(&embedding))
    }

    fn key(&self, embedding: &[f32]) -> Vec<f32> {
        let centred: Vec<f32> = embedding
            .iter()
            .zip(&self.mean)
            .map(|(x, m)| x - m)
            .collect();
        let norm = cosine(&centred, &centred).sqrt().max(f64::MIN_POSITIVE);
        let scaled = centred.iter().map(|x| (f64::from(*x) / norm) as f32);
        scaled.collect()
    }

    /// Whether pictures of that cosine may show the same.
    pub fn lets_through(&self, likeness: f64) -> bool {
        likeness >= self.threshold
    }

    /// What a reader of the result must know.
    pub fn note(&self) -> String {
        match self.threshold <= OPEN {
            true => "serac: the image gate stands open, because rephrased and unrelated pictures \
                     cannot be told apart by the cosine of their query outputs"
                .to_owned(),
            false => format!(
                "serac: the image gate lets pictures of a cosine of at least {:.3} through: {:.0} % of the rephrased pictures it was tuned on, {:.0} % of the unrelated ones",
                self.threshold,
                100.0 * self.passed,
                100.0 * (1.0 - self.kept_out),
            ),
        }
    }

    /// As tensors that can be stored.
    pub fn stored(&self, model: &Model) -> Values {
        let row = |values: Vec<f32>| {
            let n = values.len();
            host::tensor(values, [1, n], model.device())
        };
        let numbers = [self.threshold, self.passed, self.kept_out];
        Values::from([
            (MEAN.to_owned(), row(self.mean.clone())),
            (NUMBERS.to_owned(), row(numbers.map(|x| x as f32).to_vec())),
        ])
    }

    /// What [`Gate::stored`] has stored; `None` when there is nothing.
    pub fn restored(stored: &Values) -> Option<Self> {
        let mean = host::values(stored.get(MEAN)?.clone());
        let numbers = host::values(stored.get(NUMBERS)?.clone());
        let [threshold, passed, kept_out] = numbers[..].try_into().ok()?;
        Some(Self {
            mean,
            threshold: f64::from(threshold),
            passed: f64::from(passed),
            kept_out: f64::from(kept_out),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Gists of three pictures by their angles, around a common point.
    fn embeddings(angles: [f32; 3]) -> [Vec<f32>; 3] {
        angles.map(|angle| vec![angle.cos(), angle.sin()])
    }

    #[test]
    fn the_threshold_lets_the_rephrased_through_and_keeps_others_out() {
        // Own and rephrased picture at nearly one angle, the other on the far side.
        let turns = [0.0, 1.6, 3.1, 4.7f32];
        let found: Vec<_> = turns.map(|t| embeddings([t, t + 0.1, t + 3.1])).to_vec();
        let gate = Gate::of(&found);
        for embeddings in &found {
            let [own, same, other] = [0, 1, 2].map(|i| gate.key(&embeddings[i]));
            assert!(gate.lets_through(cosine(&own, &same)));
            assert!(!gate.lets_through(cosine(&own, &other)));
        }
        assert_eq!((gate.passed, gate.kept_out), (1.0, 1.0));
    }

    #[test]
    fn a_gate_that_cannot_tell_stands_open() {
        let turns = [0.0, 1.6, 3.1, 4.7f32];
        let found: Vec<_> = turns.map(|t| embeddings([t, t + 3.1, t + 0.1])).to_vec();
        let gate = Gate::of(&found);
        assert!(gate.lets_through(-1.0));
        assert!(gate.note().contains("stands open"));
    }
}
