//! What a decoder offers, and what it is loaded from.

use burn::tensor::{Device, Int, Tensor};
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::change::View;
use crate::error::{Error, Result};
use crate::loader::Loader;
use crate::parameter::Stage;
use crate::positions::{Pass, Positions};

/// Dimensions of a decoder and the names of its parts.
#[derive(Clone, Debug)]
pub struct Outline {
    /// What `config.json` calls its family.
    pub model_type: &'static str,
    /// Number of layers.
    pub depth: usize,
    /// Width of the residual stream.
    pub width: usize,
    /// Rows of the vocabulary.
    pub vocabulary: usize,
    /// Longest sequence, image vectors included.
    pub max_positions: usize,
    /// What stands in front of a layer's number in published names.
    pub layers: String,
    /// The first and the last matrix of a feed-forward block, by their names within a layer; a gate
    /// is neither.
    pub feed_forward: [&'static str; 2],
}

impl Outline {
    /// The published name under which the parameters of `layer` stand, with a final dot.
    pub fn layer_prefix(&self, layer: usize) -> String {
        format!("{}{layer}.", self.layers)
    }

    /// Published names of the first and the last feed-forward matrix of `layer`.
    pub fn feed_forward_sites(&self, layer: usize) -> Vec<String> {
        let at = self.layer_prefix(layer);
        let names = self.feed_forward.iter();
        names.map(|name| format!("{at}{name}.weight")).collect()
    }
}

/// What every decoder family offers.
pub trait Decoder: Send + Sync {
    /// Its dimensions and the names of its parts.
    fn outline(&self) -> &Outline;

    /// ids `[b * t]` → embeddings `[b, t, d]`, without positions.
    fn embed(&self, ids: Tensor<1, Int>, shape: [usize; 2], view: &View) -> Tensor<3>;
    /// Adds absolute positions where the family has them: `[b, t, d]` → `[b, t, d]`.
    fn place(&self, x: Tensor<3>, places: &Positions, view: &View) -> Tensor<3>;
    /// Attention block of `layer` with its residual, `[b, t, d]` → `[b, t, d]`.
    fn attention(&self, layer: usize, x: Tensor<3>, pass: &mut Pass, view: &View) -> Tensor<3>;
    /// Feed-forward block of `layer` with its residual; acts on every position alone.
    fn feed_forward(&self, layer: usize, x: Tensor<3>, view: &View) -> Tensor<3>;
    /// Final norm and head, `[b, t, d]` → logits `[b, t, vocabulary]`.
    fn head(&self, x: Tensor<3>, view: &View) -> Tensor<3>;

    /// Runs the blocks from `from` up to, not including, `to`.
    fn advance(
        &self,
        x: Tensor<3>,
        pass: &mut Pass,
        from: Stage,
        to: Stage,
        view: &View,
    ) -> Tensor<3> {
        let mut x = x;
        for layer in 0..self.outline().depth {
            let within = |stage: Stage| !stage.precedes(from) && stage.precedes(to);
            if within(Stage::Attention(layer)) {
                x = self.attention(layer, x, pass, view);
            }
            if within(Stage::FeedForward(layer)) {
                x = self.feed_forward(layer, x, view);
                view.note(&format!("hidden.layer{layer}"), &x);
            }
        }
        x
    }
}

/// Sizes from which tables are made before any tensor is read, and what no model comes near.
const LIMITS: [(&str, u64); 7] = [
    ("hidden_size", 1 << 20),
    ("n_embd", 1 << 20),
    ("head_dim", 1 << 20),
    ("kv_channels", 1 << 20),
    ("num_hidden_layers", 1 << 16),
    ("num_layers", 1 << 16),
    ("n_layer", 1 << 16),
];

/// Where a decoder's configuration and parameters are to be found.
#[derive(Clone, Copy)]
pub(crate) struct Home<'a> {
    /// Its configuration.
    pub config: &'a Value,
    /// Name of the object in `config.json` that holds it, for messages; empty at the top.
    pub within: &'a str,
    /// What stands in front of its parameters' names, with a final dot where not empty.
    pub prefix: &'a str,
    /// Of the folder, for messages.
    pub location: &'a str,
}

impl Home<'_> {
    /// The typed configuration.
    ///
    /// # Errors
    /// A field of the wrong kind, or a size beyond that of any model.
    pub fn read<T: DeserializeOwned>(&self) -> Result<T> {
        for (field, limit) in LIMITS {
            if let Some(size) = self.config[field].as_u64().filter(|size| *size > limit) {
                return Err(self.refuse(field, format!("is {size}; the limit is {limit}")));
            }
        }
        serde_path_to_error::deserialize(self.config).map_err(|problem| {
            self.refuse(&problem.path().to_string(), problem.inner().to_string())
        })
    }

    /// A configuration value that cannot be honoured.
    pub fn refuse(&self, field: &str, problem: String) -> Error {
        Error::Config {
            location: self.location.to_owned(),
            field: match self.within {
                "" => field.to_owned(),
                within => format!("{within}.{field}"),
            },
            problem,
        }
    }

    /// Refuses a number of heads that does not divide the width.
    pub fn check_heads(&self, field: &str, heads: usize, width: usize) -> Result<()> {
        if heads > 0 && width.is_multiple_of(heads) {
            Ok(())
        } else {
            Err(self.refuse(field, format!("must divide the width {width}")))
        }
    }

    /// An activation by its name.
    pub fn activation(&self, field: &str, name: &str) -> Result<crate::layers::Activation> {
        use crate::layers::Activation;
        Activation::named(name)
            .ok_or_else(|| self.refuse(field, format!("is `{name}`; known: {}", Activation::KNOWN)))
    }
}

/// A family of decoders: its name in `config.json`, and how to load it.
pub(crate) struct DecoderFamily {
    /// `model_type`.
    pub model_type: &'static str,
    /// Reads the configuration and loads the weights.
    pub load: fn(&mut Loader, Home) -> Result<Box<dyn Decoder>>,
    /// Names, as in [`crate::names::refuse_unused`], that a file may hold and no layer reads.
    pub optional: &'static [&'static str],
}

/// The device of a residual stream, outside autodiff.
pub(crate) fn device_of(x: &Tensor<3>) -> Device {
    x.device().inner()
}
