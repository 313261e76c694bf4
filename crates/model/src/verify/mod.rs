//! Comparison with a reference: a folder's golden file, tensor by tensor.
//!
//! A golden file holds what the reference implementation computed from given ids and pixels:
//! batches named `single`, `right`, `left`, `textonly` (or none), each with ids, masks, labels,
//! logits, hidden states; vision features; gradients of the batch's loss; greedy continuations.
//! Everything it holds beyond inputs is computed here from the same inputs and compared.

mod batch;
mod case;
mod comparison;
mod encoder;
mod golden;
mod pictures;

use std::collections::BTreeMap;
use std::sync::Arc;

use burn::tensor::{DType, Tensor};
use debias_weights::Checkpoint;

use crate::batch::{ImageFeatures, Row};
use crate::change::{Parameters, View};
use crate::error::{Error, Result};
use crate::generate::Limits;
use crate::host;
use crate::model::Model;
use crate::recorder::Recorder;

use batch::GoldenBatch;
pub use case::Case;
use case::Tolerance;
pub use comparison::Comparison;
pub use encoder::verify_encoder;
use golden::{Golden, Values};
pub use pictures::{Compared, verify_pictures};

/// Compares everything in `golden` that is no input.
///
/// Everything is computed in f32, as the model is used. A reference that was itself computed in
/// f32 may be as far from the exact value as the tolerance allows, in deep models whose layers
/// amplify. Where f32 misses the tolerance everything is therefore computed once more in f64: a
/// tensor holds if the exact value is within the tolerance of the reference, and this build's f32
/// is at most four times further from it than the reference or the tolerance is.
///
/// # Errors
/// An unreadable golden file or picture, or a pass that fails.
pub fn verify(model: &Model, golden: &Checkpoint, case: &Case) -> Result<Vec<Comparison>> {
    let golden = Golden(golden);
    let compute = |dtype| {
        let mut verifier = Verifier {
            model,
            golden: &golden,
            case,
            view: View::base().computing_in(dtype),
            found: BTreeMap::new(),
        };
        let seen = verifier.vision()?;
        for prefix in golden.batches() {
            verifier.batch(&prefix, seen.as_ref())?;
        }
        Ok::<_, Error>(verifier.found)
    };
    let single = compute(DType::F32)?;
    let compared = compare(&golden, case, &single);
    if compared.iter().any(|tensor| tensor.ok == Some(false)) {
        Ok(settle(
            &golden,
            case,
            compared,
            &single,
            &compute(DType::F64)?,
        ))
    } else {
        Ok(compared)
    }
}

/// How many times further from the exact value this build may be than the reference or the
/// tolerance.
const NOISE: f64 = 4.0;

/// Judges what f32 missed by `exact`.
fn settle(
    golden: &Golden,
    case: &Case,
    compared: Vec<Comparison>,
    single: &BTreeMap<String, Values>,
    exact: &BTreeMap<String, Values>,
) -> Vec<Comparison> {
    let settle = |tensor: Comparison| {
        if tensor.ok != Some(false) {
            return tensor;
        }
        let name = tensor.name.as_str();
        let tolerance = Tolerance::of(name, &case.tolerances);
        let judge = |found: &Values, expected: &Values| {
            tolerance.judge(name, tensor.shape.clone(), found, expected)
        };
        let (Some(exact), Some(single)) = (exact.get(name), single.get(name)) else {
            return tensor;
        };
        let Some(expected) = golden.values(name) else {
            return tensor;
        };
        let found = judge(exact, &expected);
        let own = judge(single, exact).max_abs.unwrap_or(f64::NAN);
        let allowed = NOISE * found.tolerance.max(found.max_abs.unwrap_or(0.0));
        if found.ok == Some(true) && own <= allowed {
            Comparison {
                computed_in: "f64",
                ..found
            }
        } else {
            tensor
        }
    };
    compared.into_iter().map(settle).collect()
}

/// What was computed so far.
struct Verifier<'a> {
    model: &'a Model,
    golden: &'a Golden<'a>,
    case: &'a Case,
    view: View,
    found: BTreeMap<String, Values>,
}

impl Verifier<'_> {
    fn keep(&mut self, name: String, values: Vec<f32>) {
        if self.golden.has(&name) {
            self.found.insert(name, Values::Numbers(values));
        }
    }

    fn keep_ids(&mut self, name: String, ids: Vec<i64>) {
        if self.golden.has(&name) {
            self.found.insert(name, Values::Ids(ids));
        }
    }

    /// Pictures to pixels, and the golden pixels through tower and projector.
    fn vision(&mut self) -> Result<Option<ImageFeatures>> {
        if !self.model.has_sight() {
            return Ok(None);
        }
        let pictures = self.case.pictures()?;
        let mut tiles = None;
        let mut own = None;
        if !pictures.is_empty() {
            let pictures: Vec<_> = pictures.iter().collect();
            let (pixels, counts) = self.model.pixels(&pictures)?;
            self.keep("pixel_values".into(), pixels.clone());
            self.keep_ids(
                "tiles_per_image".into(),
                counts.iter().map(|n| *n as i64).collect(),
            );
            if self.golden.has("pixel_values_padded_square") {
                let padded = self.model.pixels_padded_to_square(&pictures)?;
                self.keep("pixel_values_padded_square".into(), padded);
            }
            own = Some(pixels);
            tiles = Some(counts);
        }
        // The reference's own pixels where it gives them, so that one difference is not two.
        let golden = self.golden.floats_if_present("pixel_values")?;
        let Some(pixels) = golden.or(own) else {
            return Ok(None);
        };
        let side = self.model.sight()?.image_size();
        let total = pixels.len() / (3 * side * side).max(1);
        let tiles = match self.golden.ints("tiles_per_image") {
            Some(counts) => counts.iter().map(|n| (*n).max(0) as usize).collect(),
            None => tiles
                .filter(|tiles| tiles.iter().sum::<usize>() == total)
                .unwrap_or_else(|| vec![1; total]),
        };
        let recorder = Arc::new(Recorder::default().with_notes());
        let view = self.view.clone().watched(recorder.clone());
        let seen = self.model.see_pixels(pixels, tiles, &view)?;
        self.model.vectors(&seen, &view);
        for (name, value) in recorder.notes() {
            self.keep(name, host::values(value));
        }
        Ok(Some(seen))
    }

    fn batch(&mut self, prefix: &str, seen: Option<&ImageFeatures>) -> Result<()> {
        let Some(batch) = GoldenBatch::read(self.golden, prefix, self.case)? else {
            return Ok(());
        };
        let seen = if batch.pictured() { seen } else { None };
        self.positions(&batch);
        self.forward(&batch, seen)?;
        if batch.has_labels() {
            self.gradients(&batch, seen)?;
        }
        self.continuations(&batch, seen)
    }

    fn positions(&mut self, batch: &GoldenBatch) {
        let name = batch.name("position_ids");
        if let Some(reference) = self.golden.ints(&name) {
            let of = |row: &Row, i: usize| self.model.image_positions().of(row, i);
            self.keep_ids(name, batch.scatter_ids(reference, of));
        }
    }

    /// Hidden states, site inputs, logits and everything read off them.
    fn forward(&mut self, batch: &GoldenBatch, seen: Option<&ImageFeatures>) -> Result<()> {
        let marker = batch.name("site_input.");
        let sites = self.golden.names().filter_map(|name| {
            let module = name.strip_prefix(&marker)?;
            Some(format!("{module}.weight"))
        });
        let recorder = Arc::new(Recorder::of_sites(sites).with_notes());
        let view = self.view.clone().watched(recorder.clone());
        let logits = self.model.logits(batch.batch(seen), &view);
        for (name, value) in recorder.notes() {
            if name.starts_with("hidden.") {
                self.keep(batch.name(&name), batch.scatter(&value));
            }
        }
        for site in recorder.parameters() {
            if let Some(input) = recorder.input_of(&site) {
                let module = site.trim_end_matches(".weight");
                let name = batch.name(&format!("site_input.{module}"));
                let mut values = if batch.fits(&input) {
                    batch.scatter(&input)
                } else {
                    host::values(input)
                };
                // The vision side has seen all pictures; this batch may have the first ones only.
                let expected = self.golden.shape(&name).map(|shape| shape.iter().product());
                values.truncate(expected.unwrap_or(values.len()));
                self.keep(name, values);
            }
        }
        self.keep(batch.name("logits_tail"), batch.tail(&logits, 4));
        self.keep(batch.name("logits"), batch.scatter(&logits));
        if batch.has_labels() {
            let scores = self.model.score(&batch.rows, seen, &self.view)?;
            let sums = scores.iter().map(|score| score.sum() as f32).collect();
            self.keep(batch.name("seq_logprob"), sums);
            self.keep(batch.name("token_logprobs"), batch.scatter_scores(&scores));
        }
        let lowp = format!("lowp.{}", batch.name("logits"));
        if self.golden.has(&lowp) {
            let low = View::base().computing_in(DType::BF16);
            let logits = self.model.logits(batch.batch(seen), &low);
            self.keep(lowp, batch.scatter(&logits));
        }
        Ok(())
    }

    /// The loss, and its gradients where this batch is the one they were taken of.
    fn gradients(&mut self, batch: &GoldenBatch, seen: Option<&ImageFeatures>) -> Result<()> {
        let names: Vec<String> = if batch.owns_gradients(self.golden) {
            self.golden.gradients().collect()
        } else {
            Vec::new()
        };
        let leaves: BTreeMap<String, Tensor<3>> = names
            .into_iter()
            .filter_map(|name| {
                let value = self.model.value(&name)?.unsqueeze::<3>();
                Some((name, value.autodiff().require_grad()))
            })
            .collect();
        let view = if leaves.is_empty() {
            self.view.clone()
        } else {
            View::replacing(leaves.clone(), true).computing_in(self.view.dtype())
        };
        // Gradients reach the vision side only through pixels seen by the same view.
        let seen = match (seen, leaves.is_empty()) {
            (Some(_), false) => self.case.see_again(self.model, self.golden, &view)?,
            _ => seen.cloned(),
        };
        let logits = self.model.logits(batch.batch(seen.as_ref()), &view);
        let loss = batch.loss(logits);
        let value = host::values(if loss.is_autodiff() {
            loss.clone().inner()
        } else {
            loss.clone()
        });
        self.keep(batch.name("loss"), value);
        if leaves.is_empty() {
            return Ok(());
        }
        let gradients = loss.backward();
        for (name, leaf) in leaves {
            if let Some(gradient) = leaf.grad(&gradients) {
                self.keep(format!("grad.{name}"), host::values(gradient));
            }
        }
        Ok(())
    }

    fn continuations(&mut self, batch: &GoldenBatch, seen: Option<&ImageFeatures>) -> Result<()> {
        for (name, stops) in [
            ("generated", Vec::new()),
            ("generated_stop", self.case.stops()),
        ] {
            let name = batch.name(name);
            let Some(&[_, width]) = self.golden.shape(&name) else {
                continue;
            };
            if name.ends_with("_stop") && stops.is_empty() {
                continue;
            }
            let limits = Limits {
                max_tokens: width,
                stops,
            };
            let added = self
                .model
                .generate(&batch.rows, seen, &limits, &self.view)?;
            let pad = self.case.pad();
            let padded = added.iter().flat_map(|ids| {
                let rest = width.saturating_sub(ids.len());
                let ids = ids.iter().map(|id| i64::from(*id));
                ids.chain(std::iter::repeat_n(pad, rest))
            });
            self.keep_ids(name, padded.collect());
        }
        Ok(())
    }
}

/// Everything that was found beside everything that `golden` asks for.
fn compare(golden: &Golden, case: &Case, found: &BTreeMap<String, Values>) -> Vec<Comparison> {
    let compared = golden
        .outputs()
        .filter(|name| !case.is_given(name))
        .map(|name| {
            let shape = golden.shape(name).unwrap_or_default().to_vec();
            let tolerance = Tolerance::of(name, &case.tolerances);
            match found.get(name).zip(golden.values(name)) {
                Some((found, expected)) => tolerance.judge(name, shape, found, &expected),
                None => Comparison {
                    name: name.to_owned(),
                    shape,
                    max_abs: None,
                    max_rel: None,
                    tolerance: tolerance.absolute,
                    computed_in: "f32",
                    ok: None,
                },
            }
        });
    compared.collect()
}
