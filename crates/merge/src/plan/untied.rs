//! Whether the head of the output is its token table, and what its configuration has to say of it.

use super::check::Checked;
use super::config;
use super::jobs::Work;
use super::open::Opened;
use super::tied;
use crate::error::Result;

/// Said when the configuration of the output is changed.
pub(super) const NOTE: &str =
    "the output has a head that is not its token table: `tie_word_embeddings` is set to false";

/// Drops a head that is the token table in every input, where the donor's configuration ties both;
/// whether the output has a head that is none, and a configuration that must say so.
///
/// # Errors
/// A tensor that cannot be read.
pub(super) fn settle(tensors: &mut Vec<Checked>, models: &[Opened], donor: usize) -> Result<bool> {
    let ties = config::ties(&models[donor].config);
    if ties == Some(false) {
        return Ok(false);
    }
    let mut kept = Vec::with_capacity(tensors.len());
    let mut untied = false;
    for tensor in tensors.drain(..) {
        let head = tied::is_head(&tensor.job.name);
        if head && is_table(&tensor.job.work, models)? {
            if ties == Some(true) {
                continue;
            }
        } else {
            untied |= head;
        }
        kept.push(tensor);
    }
    *tensors = kept;
    Ok(untied)
}

/// Whether a head is the token table in every model that it comes from.
fn is_table(work: &Work, models: &[Opened]) -> Result<bool> {
    let inputs: Vec<(usize, &str)> = match work {
        Work::Copy { model, tensor } => vec![(*model, tensor)],
        Work::Merge { inputs, .. } => inputs.iter().map(|i| (i.model, i.name.as_str())).collect(),
    };
    for (at, name) in inputs {
        let model = &models[at];
        let Some(table) = model.token_table() else {
            return Ok(false);
        };
        let same = name == table
            || (!model.is_adapted(name)
                && model.info(name) == model.info(table)
                && model.bytes(name)? == model.bytes(table)?);
        if !same {
            return Ok(false);
        }
    }
    Ok(true)
}
