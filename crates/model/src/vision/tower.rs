//! What all vision towers are: patches and a class token with learned positions, and blocks.

use burn::tensor::Tensor;
use serde::{Deserialize, Deserializer};

use super::block::{Block, BlockPlan};
use crate::change::View;
use crate::decoders::Home;
use crate::error::Result;
use crate::layers::{LayerNorm, Matrix, Patches};
use crate::loader::{Loader, Place};
use crate::parameter::Stage;
use crate::recorder::Recorder;

/// What distinguishes one tower from another.
pub(super) struct TowerPlan<'a> {
    /// In front of every name, with a final dot where not empty.
    pub at: &'a str,
    /// Side of the square input, pixels.
    pub image_size: usize,
    /// Side of a patch, pixels.
    pub patch_size: usize,
    /// Number of blocks.
    pub depth: usize,
    /// Number of blocks behind which the features are taken; the others serve no purpose but are
    /// published.
    pub used: usize,
    /// The patch convolution, and whether it has a bias.
    pub patches: (&'a str, bool),
    /// The class token and its published axes in front of the width.
    pub class: (&'a str, &'a [usize]),
    /// The position table and its published axes in front of its rows.
    pub positions: (&'a str, &'a [usize]),
    /// The norm in front of the blocks, where there is one.
    pub pre_norm: Option<&'a str>,
    /// The blocks, without their number.
    pub blocks: &'a str,
    /// The norm behind the blocks with its epsilon, where there is one.
    pub post_norm: Option<(&'a str, f64)>,
    /// The blocks themselves.
    pub block: BlockPlan,
}

/// A vision tower.
#[derive(Clone, Debug)]
pub struct Tower {
    patches: Patches,
    class: Matrix,
    positions: Matrix,
    pre_norm: Option<LayerNorm>,
    blocks: Vec<Block>,
    used: usize,
    post_norm: Option<LayerNorm>,
    image_size: usize,
    grid: usize,
    width: usize,
}

impl Tower {
    /// Loads the tower that `plan` describes; `home` is its configuration, for messages.
    ///
    /// # Errors
    /// Missing or misshapen tensors; sizes that do not divide.
    pub(super) fn load(loader: &mut Loader, plan: &TowerPlan, home: Home) -> Result<Self> {
        if plan.patch_size == 0 || !plan.image_size.is_multiple_of(plan.patch_size) {
            return Err(home.refuse("patch_size", "must divide image_size".into()));
        }
        let place = Place::vision(Stage::Vision);
        let (width, eps) = (plan.block.width, plan.block.eps);
        let grid = plan.image_size / plan.patch_size;
        let at = |name: &str| format!("{}{name}", plan.at);
        let shaped = |axes: &[usize], rest: &[usize]| [axes, rest].concat();
        let (patches, bias) = plan.patches;
        let kernel = [width, 3, plan.patch_size];
        let patches = Patches::load(loader, &at(patches), kernel, bias, place)?;
        let (class, axes) = plan.class;
        let class = loader.matrix(&at(class), &shaped(axes, &[width]), place)?;
        let (positions, axes) = plan.positions;
        let table = shaped(axes, &[grid * grid + 1, width]);
        let positions = loader.matrix(&at(positions), &table, place)?;
        let mut norm = |name: Option<(&str, f64)>| {
            name.map(|(name, eps)| LayerNorm::load(loader, &at(name), width, eps, place))
                .transpose()
        };
        let pre_norm = norm(plan.pre_norm.map(|name| (name, eps)))?;
        let post_norm = norm(plan.post_norm)?;
        let blocks = (0..plan.depth)
            .map(|i| Block::load(loader, &plan.block, &at(&format!("{}.{i}.", plan.blocks))))
            .collect::<Result<_>>()?;
        Ok(Self {
            patches,
            class,
            positions,
            pre_norm,
            blocks,
            used: plan.used,
            post_norm,
            image_size: plan.image_size,
            grid,
            width,
        })
    }

    /// Side of the square input, pixels.
    pub fn image_size(&self) -> usize {
        self.image_size
    }

    /// Patches along one side.
    pub fn grid(&self) -> usize {
        self.grid
    }

    /// Width of a feature.
    pub fn width(&self) -> usize {
        self.width
    }

    /// pixels `[n, 3, s, s]` → features `[n, 1 + patches, width]`, class token first.
    pub fn forward(&self, pixels: Tensor<4>, view: &View) -> Tensor<3> {
        let x = self.embed(pixels, view);
        view.note("vision.embeddings", &x);
        let x = match &self.pre_norm {
            Some(norm) => norm.forward(x, view),
            None => x,
        };
        view.note("vision.hidden_states.0", &x);
        let features = self.walk(x, 0..self.used, view);
        let watched = view.recorder().is_some_and(Recorder::keeps_notes);
        if watched && self.used < self.blocks.len() {
            // Nobody but the recorder wants to see these.
            let last = self.walk(features.clone(), self.used..self.blocks.len(), view);
            view.note("vision.last_hidden_state", &last);
            return features;
        }
        let features = match &self.post_norm {
            Some(norm) => norm.forward(features, view),
            None => features,
        };
        view.note("vision.last_hidden_state", &features);
        features
    }

    fn embed(&self, pixels: Tensor<4>, view: &View) -> Tensor<3> {
        let n = pixels.dims()[0];
        let x = self.patches.forward(pixels, view);
        let like = |table: &Matrix| table.shared(view).unsqueeze::<3>();
        let class = like(&self.class).expand([n, 1, self.width]);
        Tensor::cat(vec![class, x], 1) + like(&self.positions)
    }

    fn walk(&self, x: Tensor<3>, blocks: std::ops::Range<usize>, view: &View) -> Tensor<3> {
        blocks.fold(x, |x, i| {
            let x = self.blocks[i].forward(x, view);
            view.note(&format!("vision.hidden_states.{}", i + 1), &x);
            x
        })
    }
}

/// Number of blocks in front of the features that `layer` names: counted from the embeddings, or
/// from the end where negative.
///
/// # Errors
/// When the tower has no such layer.
pub(super) fn used_blocks(home: Home, depth: usize, layer: i64) -> Result<usize> {
    let from_front = if layer < 0 {
        depth as i64 + 1 + layer
    } else {
        layer
    };
    match usize::try_from(from_front)
        .ok()
        .filter(|used| *used <= depth)
    {
        Some(used) => Ok(used),
        None => Err(home.refuse(
            "num_hidden_layers",
            format!("is {depth}, so there is no feature layer {layer}"),
        )),
    }
}

/// A side in pixels, which some files write as height and width.
///
/// # Errors
/// When these two differ.
pub(super) fn side<'de, D: Deserializer<'de>>(from: D) -> std::result::Result<usize, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum ImageSize {
        Side(usize),
        Both([usize; 2]),
    }
    match ImageSize::deserialize(from)? {
        ImageSize::Side(side) => Ok(side),
        ImageSize::Both([height, width]) if height == width => Ok(height),
        ImageSize::Both(_) => Err(serde::de::Error::custom("only squares are supported")),
    }
}
