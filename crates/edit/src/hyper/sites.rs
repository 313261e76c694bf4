//! Which matrices a meta-learned editor edits, by published name (`spec/editors.md` sections 3.0
//! and 4).

use debias_model::{Model, Parameter, Parameters};
use serde::{Deserialize, Serialize};

use crate::card::Setting;
use crate::error::{Error, Result};

/// The choice as settings.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Sites {
    /// The language model's feed-forward matrices, or the projector.
    pub side: Side,
    /// Decoder layers, negative from the last; for the language side.
    pub layers: Vec<i64>,
    /// Published names in place of the two settings above.
    pub sites: Vec<String>,
}

/// Which of a layer's two feed-forward matrices an editor edits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Matrices {
    /// Both.
    Both,
    /// The one that leads back to the residual stream.
    Second,
}

/// The side that is edited.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Side {
    /// Feed-forward matrices of the decoder.
    Language,
    /// The outputs of the last Q-Former layers, or the projection.
    Vision,
}

impl Sites {
    /// The settings with their meaning.
    pub const SETTINGS: &[Setting] = &[
        (
            "side",
            "language (feed-forward matrices of `layers`) or vision (last Q-Former outputs, or the projection)",
        ),
        (
            "layers",
            "decoder layers to edit; negative numbers count from the last",
        ),
        (
            "sites",
            "names of linear weights to edit, in place of side and layers",
        ),
    ];

    /// The published choice: the last three layers of the language model.
    pub fn published() -> Self {
        Self {
            side: Side::Language,
            layers: vec![-3, -2, -1],
            sites: Vec::new(),
        }
    }

    /// The side that all chosen weights are on; none where they are named one by one.
    pub fn claimed(&self) -> Option<debias_model::Side> {
        match (self.sites.is_empty(), self.side) {
            (false, _) => None,
            (true, Side::Language) => Some(debias_model::Side::Language),
            (true, Side::Vision) => Some(debias_model::Side::Vision),
        }
    }

    /// The chosen linear weights.
    ///
    /// # Errors
    /// A layer or a name that the model lacks, or a parameter that is no linear layer's weight.
    pub fn of<'m>(
        &self,
        editor: &'static str,
        matrices: Matrices,
        model: &'m Model,
    ) -> Result<Vec<&'m Parameter>> {
        let names = match (self.sites.is_empty(), self.side) {
            (false, _) => self.sites.clone(),
            (true, Side::Vision) => vision_sites(model),
            (true, Side::Language) => {
                let outline = model.decoder().outline();
                let mut names = Vec::new();
                for layer in &self.layers {
                    let index = layer_index(editor, *layer, outline.depth)?;
                    let first = match matrices {
                        Matrices::Both => 0,
                        Matrices::Second => 1,
                    };
                    names.extend(outline.feed_forward_sites(index).split_off(first));
                }
                names
            }
        };
        let refuse = |problem: String| Error::Elsewhere { editor, problem };
        if names.is_empty() {
            return Err(refuse(format!(
                "{} has nothing to edit on that side; name weights with {editor}.sites",
                model.name()
            )));
        }
        let mut found = Vec::with_capacity(names.len());
        for name in &names {
            let site = model.parameter(name)?;
            if site.linear.is_none() {
                return Err(refuse(format!(
                    "`{name}` is not the weight of a linear layer; choose one that is"
                )));
            }
            if !found.contains(&site) {
                found.push(site);
            }
        }
        Ok(found)
    }
}

/// The weights by which the vision side is usually edited (`spec/editors.md` section 4): the outputs
/// of the last two Q-Former layers, or the last linear layer of the projector for a family without
/// a Q-Former, or that never trained it (MiniGPT-4). Empty for a text model.
fn vision_sites(model: &Model) -> Vec<String> {
    let outputs = model.query_outputs();
    let weights = if outputs.is_empty() || model.has_frozen_queries() {
        let mut projector = model.projector_weights();
        projector.split_off(projector.len().saturating_sub(1))
    } else {
        let last_two = outputs.len().saturating_sub(2);
        outputs[last_two..].to_vec()
    };
    weights.into_iter().map(str::to_owned).collect()
}

/// Layer `layer` of `depth`, counted from the end where negative.
pub(crate) fn layer_index(editor: &'static str, layer: i64, depth: usize) -> Result<usize> {
    let index = if layer < 0 {
        layer + depth as i64
    } else {
        layer
    };
    usize::try_from(index)
        .ok()
        .filter(|index| *index < depth)
        .ok_or(Error::Layer {
            editor,
            layer,
            depth,
        })
}
