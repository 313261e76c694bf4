//! `merge.json`: what made a merged folder.

use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

use super::{Planned, Work};
use crate::error::Result;
use crate::merger::Facts;

impl Planned {
    /// The manifest: recipe, seed, inputs by the digest of their headers, and the parameters of every
    /// tensor. Weights are not hashed: that would take longer than the merge.
    pub(crate) fn manifest(&self, facts: &Facts) -> Result<Vec<u8>> {
        let card = self.recipe.merger.card();
        let mut tensors = Map::new();
        for tensor in &self.tensors {
            let made = match &tensor.job.work {
                Work::Copy { model, .. } => json!({"copied_from": self.models[*model].label}),
                Work::Merge { shared, each, .. } => json!({"shared": shared, "inputs": each}),
            };
            tensors.insert(tensor.job.name.clone(), made);
        }
        let inputs: Vec<Value> = self
            .models
            .iter()
            .map(|model| json!({"model": model.label, "headers_sha256": headers(model)}))
            .collect();
        let manifest = json!({
            "format": "1.0",
            "version": env!("CARGO_PKG_VERSION"),
            "method": card.id,
            "method_version": card.version,
            "recipe": self.recipe.text,
            "seed": self.seed(),
            "inputs": inputs,
            "remarks": facts.remarks,
            "statistics": facts.statistics,
            "tensors": tensors,
        });
        Ok(format!("{manifest:#}\n").into_bytes())
    }
}

/// Names, formats and shapes of a model's tensors, and its configuration, as one digest.
fn headers(model: &super::Opened) -> String {
    let mut hash = Sha256::new();
    for name in model.names() {
        let info = model.info(name);
        hash.update(format!("{name} {info:?}\n"));
    }
    hash.update(model.config.to_string());
    hex::encode(hash.finalize())
}
