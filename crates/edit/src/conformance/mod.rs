//! The conformance kit: twenty properties that every editor must have, tested through its traits
//! alone (`spec/editors.md` section 7).
//!
//! [`check`] puts an [`Editor`] into a small [`World`] and returns one [`Finding`] per property.
//! It knows no editor by name: what applies is derived from what the editor returns (its
//! [`Edit`](crate::Edit)s), what it learns ([`Editor::learns`]), its card and its
//! [`Claims`](crate::Claims).
//!
//! | | property | how it is seen |
//! |---|---|---|
//! | C1 | revert | hash of every weight and of base logits before and after edits, scores and an error in the middle of a batch; the next edit is as before |
//! | C2 | empty edit | no request; empty target, equal answers, over-long prompt among good ones: an error that names the record |
//! | C3 | identity | under [`Editor::identity`] scores are those of the base model, bit for bit |
//! | C4 | determinism | again, freshly prepared, in another process: the same bits; another seed changes what [`Claims::random`](crate::Claims) admits |
//! | C5 | declared footprint | what the card says it touches is what it touches; every declared parameter differs once the edit lies over it |
//! | C6 | structural locality | vision-only editors: text-only logits keep their bits |
//! | C7 | effect | margins of training records rise, or come closer to 0 where balance is claimed; targets are preferred where reliability is claimed |
//! | C8 | order | joint mode: permuted requests, the same scores to 1e-5 |
//! | C9 | batch invariance | scored alone or in company, edited alone or in company |
//! | C10 | additivity | low-rank factors as a side path against the dense matrix |
//! | C11 | memory of edits | n edits less one against n - 1 edits |
//! | C12 | isolation | two edits used in turns; an edit made again after another |
//! | C13 | base row | the empty edit: success 0 on admitted records, locality 1, KL 0 |
//! | C14 | scorer symmetry | exchanged answers exchange success and failure |
//! | C15 | label leak | the score of one answer does not depend on the other; the distribution in front of the answer does not depend on the answer |
//! | C16 | save and load | parts through bytes give the same edit; an interrupted training ends in the same parts |
//! | C17 | finite | deltas and scores are finite; a NaN laid into the editor's own edit is refused |
//! | C18 | separation | no evaluation id or group among the lessons; a planted one does not come through in a context |
//! | C19 | gradient check | [`Prepared::gradient_probe`](crate::Prepared::gradient_probe) against automatic differentiation, and the rank of edits |
//! | C20 | cost report | time, peak memory and bytes of each edit |
//!
//! Some violations cannot be written down in Rust against these traits, and are tested all the
//! same because an editor may be a program of its own and the harness may have errors: base
//! weights are behind `&Model` (C1), an [`Edit`](crate::Edit) is a value without a destructor of its
//! own (C12), text never passes the vision side (C6), one scorer asks for both answers (C13, C14),
//! and the size of an edit is computed from what it holds (C20).

mod answers;
mod company;
mod data;
mod effect;
mod footprint;
mod gradient;
mod numbers;
mod repeat;
mod revert;
mod saved;
mod shelf;
mod trial;
mod verdict;
mod world;

use serde::Serialize;

use crate::editor::Editor;
use crate::error::{Error, Result};
use crate::settings::Settings;

pub use repeat::other_seed;
pub use trial::{digest, fingerprint};
pub use verdict::{Options, Verdict};
pub use world::World;

use trial::Trial;

/// One property of one editor.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// `C1` to `C20`.
    pub id: &'static str,
    /// The property's name.
    pub title: &'static str,
    /// Whether the editor has it.
    #[serde(flatten)]
    pub verdict: Verdict,
}

/// A property and how it is tested.
struct Property {
    id: &'static str,
    title: &'static str,
    test: fn(&Trial) -> Result<Verdict>,
}

macro_rules! properties {
    ($($id:literal $title:literal $test:path,)*) => {
        static PROPERTIES: &[Property] = &[
            $(Property { id: $id, title: $title, test: $test },)*
        ];
    };
}

properties! {
    "C1" "revert" revert::revert,
    "C2" "empty edit" revert::empty,
    "C3" "identity edit" revert::identity,
    "C4" "determinism" repeat::determinism,
    "C5" "declared footprint" footprint::declared,
    "C6" "structural locality" footprint::vision_only,
    "C7" "effect" effect::effect,
    "C8" "order" company::order,
    "C9" "batch invariance" company::batch,
    "C10" "additivity" footprint::additivity,
    "C11" "memory of edits" company::memory,
    "C12" "isolation" company::isolation,
    "C13" "base row" answers::base_row,
    "C14" "scorer symmetry" answers::symmetry,
    "C15" "label leak" answers::leak,
    "C16" "save and load" saved::saved,
    "C17" "finite" numbers::finite,
    "C18" "train and eval apart" data::separation,
    "C19" "gradient check" gradient::gradient,
    "C20" "cost report" numbers::cost,
}

/// Tests `editor` under `settings` in `world`: one finding per property, C1 to C20 in order.
///
/// # Errors
/// What [`Editor::check`] refuses, or an editor that cannot be prepared or cannot edit the
/// evaluation records of `world` at all: nothing can be said of it then.
pub fn check(
    editor: &dyn Editor,
    world: &World,
    settings: &Settings,
    options: &Options,
) -> Result<Vec<Finding>> {
    editor.check(world.model, settings)?;
    let trial = Trial::new(editor, world, settings, options)?;
    Ok(PROPERTIES
        .iter()
        .map(|property| Finding {
            id: property.id,
            title: property.title,
            verdict: verdict((property.test)(&trial)),
        })
        .collect())
}

/// An error on the way is a failure, unless another property is about it.
fn verdict(tested: Result<Verdict>) -> Verdict {
    match tested {
        Ok(verdict) => verdict,
        Err(Error::Model(debias_model::Error::NotFinite { what })) => {
            Verdict::NotApplicable(format!("{what} is not finite, see C17"))
        }
        Err(error) => Verdict::Failed(error.to_string()),
    }
}
