//! Encoders against their golden files.

use std::collections::BTreeMap;

use burn::tensor::Tensor;
use burn::tensor::activation::{log_softmax, softmax};
use debias_weights::Checkpoint;

use super::case::Case;
use super::golden::{Golden, Values};
use super::{Comparison, compare};
use crate::change::{Parameters, View};
use crate::device::product;
use crate::encoders::{Encoder, Hidden, Tokens};
use crate::error::Result;
use crate::host;

/// Compares everything in `golden` that is no input with what `encoder` makes of its ids.
///
/// # Errors
/// An unreadable golden file, or ids that the encoder does not have.
pub fn verify_encoder(
    encoder: &Encoder,
    golden: &Checkpoint,
    case: &Case,
) -> Result<Vec<Comparison>> {
    let golden = Golden(golden);
    let mut found = BTreeMap::new();
    if let Some(rows) = rows(&golden) {
        let view = View::base();
        let hidden = encoder.hidden(&rows, &view)?;
        let mut keep = |name: &str, values: Vec<f32>| {
            found.insert(name.to_owned(), Values::Numbers(values));
        };
        keep("last_hidden_state", padded(&golden, &rows, &hidden));
        keep("first_token_hidden", first(&hidden));
        keep("mean_pooled", host::values(encoder.pool(&hidden, &view)));
        let sentences = encoder.sentences(&hidden, &view);
        let cosines = product(sentences.clone(), sentences.clone().transpose());
        keep("sentence_embedding", host::values(sentences));
        keep("cosine", host::values(cosines));
        if let Some(summary) = encoder.summary(&hidden, &view) {
            keep("pooler_output", host::values(summary));
        }
        if !encoder.labels().is_empty() {
            let logits = encoder.logits(&hidden, &view)?;
            keep("probabilities", host::values(softmax(logits.clone(), 1)));
            keep("logits", host::values(logits));
            found.extend(gradients(encoder, &golden, &rows)?);
        }
    }
    Ok(compare(&golden, case, &found))
}

/// The rows of ids without their padding.
fn rows(golden: &Golden) -> Option<Vec<Tokens>> {
    let &[b, t] = golden.shape("input_ids")? else {
        return None;
    };
    let ids = golden.ints("input_ids")?;
    let mask = golden.ints("attention_mask");
    let types = golden.ints("token_type_ids");
    let rows = (0..b).map(|r| {
        let kept = (r * t..(r + 1) * t).filter(|i| mask.as_ref().is_none_or(|m| m[*i] != 0));
        let kept: Vec<usize> = kept.collect();
        let id = |values: &[i64], i: usize| u32::try_from(values[i]).unwrap_or(0);
        Tokens {
            ids: kept.iter().map(|i| id(&ids, *i)).collect(),
            types: kept
                .iter()
                .map(|i| types.as_ref().map_or(0, |types| id(types, *i)))
                .collect(),
        }
    });
    Some(rows.collect())
}

/// Hidden states in the reference's layout, zeros where it is padded.
fn padded(golden: &Golden, rows: &[Tokens], hidden: &Hidden) -> Vec<f32> {
    let [b, t, d] = hidden.states().dims();
    let width = golden.shape("input_ids").map_or(t, |shape| shape[1]);
    let values = host::values(hidden.states().clone());
    let mut out = vec![0.0; b * width * d];
    for (r, row) in rows.iter().enumerate() {
        let n = row.ids.len() * d;
        out[r * width * d..][..n].copy_from_slice(&values[r * t * d..][..n]);
    }
    out
}

fn first(hidden: &Hidden) -> Vec<f32> {
    host::values(hidden.states().clone().narrow(1, 0, 1))
}

/// The mean cross-entropy of the golden labels, and its gradients.
fn gradients(
    encoder: &Encoder,
    golden: &Golden,
    rows: &[Tokens],
) -> Result<BTreeMap<String, Values>> {
    let mut found = BTreeMap::new();
    let Some(labels) = golden.ints("labels") else {
        return Ok(found);
    };
    let leaves: BTreeMap<String, Tensor<3>> = golden
        .gradients()
        .filter_map(|name| {
            let value = encoder.value(&name)?.unsqueeze::<3>();
            Some((name, value.autodiff().require_grad()))
        })
        .collect();
    let view = View::replacing(leaves.clone(), true);
    let logits = encoder.logits(&encoder.hidden(rows, &view)?, &view)?;
    let device = logits.device().inner();
    let labels = host::indices(labels, &device).unsqueeze_dim(1);
    let loss = log_softmax(logits, 1).gather(1, labels).mean().neg();
    let value = host::values(match loss.is_autodiff() {
        true => loss.clone().inner(),
        false => loss.clone(),
    });
    found.insert("loss".into(), Values::Numbers(value));
    if leaves.is_empty() {
        return Ok(found);
    }
    let gradients = loss.backward();
    for (name, leaf) in leaves {
        if let Some(gradient) = leaf.grad(&gradients) {
            let values = Values::Numbers(host::values(gradient));
            found.insert(format!("grad.{name}"), values);
        }
    }
    Ok(found)
}
