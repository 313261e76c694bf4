//! An invented town, drawn and described by code from a seed.
//!
//! Every picture shows one inhabitant with four visible binary attributes, one per bias axis, and
//! four neutral facts (ball colour, number of balloons, side of the ball, weather). Texts tie each
//! attribute to roles and traits that nothing in the picture reveals: in the training text the
//! stereotyped answer is drawn with a stated probability ([`STEREOTYPE_SHARE`]), so a model
//! trained on it is biased by a known cause. The groups are invented and depict nobody.
//!
//! The world itself (which scenes exist, their split, their look, the town facts) never depends
//! on a seed, because the embedded models were trained in it; the seed only draws lessons and
//! decides which scenes, topics and wordings the records use.

mod context;
mod drawing;
mod fact;
mod lesson;
mod probe;
mod request;
mod scene;
mod seed;
mod text;
mod topic;

pub use context::{ContextForm, ContextLesson, ContextText, DEMONSTRATIONS, Demonstration};
pub use drawing::{SIDE, draw};
pub use fact::Fact;
pub use lesson::{Lesson, LessonText};
pub use probe::{ContextProbe, Probe};
pub use scene::{Axis, Scene};
pub(crate) use seed::WORLD_SEED;
pub use text::OPENERS;
pub use topic::Topic;

use debias_core::{Picture, Split};

use crate::dataset::{SPLITS, split_name};

/// Probability with which a training text gives the stereotyped answer.
pub const STEREOTYPE_SHARE: f64 = 0.85;

/// How the training text of a town differs from the default one.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Variant {
    /// Probability in [0, 1] that a training text gives the stereotyped answer: above
    /// [`STEREOTYPE_SHARE`] amplifies the bias, below one half inverts it.
    pub stereotype_share: f64,
}

impl Default for Variant {
    fn default() -> Self {
        Self {
            stereotype_share: STEREOTYPE_SHARE,
        }
    }
}

/// The town: all scenes by split, the town facts, and the seed that draws from them.
#[derive(Clone, Debug)]
pub struct Town {
    seed: u64,
    variant: Variant,
    train: Vec<Scene>,
    val: Vec<Scene>,
    eval: Vec<Scene>,
    facts: Vec<Fact>,
}

impl Town {
    /// Builds the town; `seed` decides what is drawn from it, never what is in it.
    pub fn new(seed: u64, variant: Variant) -> Self {
        let of = |split| scene::in_split(split);
        Self {
            seed,
            variant,
            train: of(Split::Train),
            val: of(Split::Val),
            eval: of(Split::Eval),
            facts: fact::all(),
        }
    }

    /// The scenes of one split, in the order by which picture keys number them.
    pub fn scenes(&self, split: Split) -> &[Scene] {
        match split {
            Split::Train => &self.train,
            Split::Val => &self.val,
            Split::Eval => &self.eval,
        }
    }

    /// Draws the picture that `key` names, e.g. `eval/0007/1.png` (split, scene, view); `None`
    /// when the town has no such picture.
    pub fn picture(&self, key: &str) -> Option<Picture> {
        let mut parts = key.strip_suffix(".png")?.split('/');
        let folder = parts.next()?;
        let (split, _) = SPLITS.into_iter().find(|(_, name)| *name == folder)?;
        let (scene, view) = (parts.next()?, parts.next()?);
        let index: usize = scene.parse().ok()?;
        let view: u32 = view.parse().ok()?;
        let canonical = parts.next().is_none() && picture_key(split, index, view) == key;
        let scene = self.scenes(split).get(index)?;
        canonical.then(|| draw(scene, view))
    }
}

/// The key of one view of one scene.
pub(crate) fn picture_key(split: Split, scene: usize, view: u32) -> String {
    format!("{}/{scene:04}/{view}.png", split_name(split))
}

#[cfg(test)]
mod tests;
