//! The merges: one file each, one line here.

use crate::merger::Merger;

debias_core::registry! {
    /// All merges, sorted by name.
    pub static ALL: dyn Merger;
    three_dm::ThreeDm,
    bias_vector::BiasVector,
    breadcrumbs::MERGER,
    breadcrumbs_ties::MERGER,
    dare_linear::MERGER,
    dare_ties::MERGER,
    della::MERGER,
    della_linear::MERGER,
    karcher::Karcher,
    linear::Linear,
    model_stock::ModelStock,
    multislerp::MultiSlerp,
    nearswap::NearSwap,
    nuslerp::NuSlerp,
    passthrough::Passthrough,
    pcb::Pcb,
    robust_merge::RobustMerge,
    sce::Sce,
    slerp::Slerp,
    task_arithmetic::MERGER,
    ties::MERGER,
}

/// mergekit's methods that are not offered.
const ELSEWHERE: [&str; 3] = ["arcee_fusion", "ram", "ramplus_tl"];

/// Looks a merge up by name.
///
/// # Errors
/// Why there is none: not offered here, or unknown, with the nearest name.
pub fn find(name: &str) -> Result<&'static dyn Merger, String> {
    let known = || ALL.iter().map(|merger| merger.card().id);
    if let Some(merger) = ALL.iter().find(|merger| merger.card().id == name) {
        return Ok(*merger);
    }
    if ELSEWHERE.contains(&name) {
        return Err(format!(
            "merge method `{name}` is not offered; `bench list mergers` shows those that are"
        ));
    }
    // A real trap: hyphens for underscores.
    let suggestion = debias_core::nearest(&name.replace('-', "_"), known())
        .map(|nearest| format!(" — did you mean `{nearest}`?"));
    Err(format!(
        "unknown merge method `{name}`{}",
        suggestion.unwrap_or_default()
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::card::{Base, ParameterScope};
    use debias_core::registry;
    use std::collections::BTreeSet;

    #[test]
    fn cards_are_whole_sorted_and_agree_with_themselves() {
        let cards = || ALL.iter().map(|merger| merger.card());
        assert!(cards().is_sorted_by_key(|card| card.id));
        let entries = cards().map(|card| {
            let texts = [
                card.title,
                card.summary,
                card.paper,
                card.equation,
                card.degenerate,
            ];
            (card.id, texts)
        });
        assert_eq!(registry::flaws(entries), Vec::<String>::new());
        for merger in ALL {
            let card = merger.card();
            let names: BTreeSet<_> = card.parameters.iter().map(|p| p.name).collect();
            assert_eq!(names.len(), card.parameters.len(), "{}", card.id);
            assert!(card.inputs.max.is_none_or(|max| max >= card.inputs.min));
            if card.inputs.base == Base::Ignored {
                assert!(
                    card.parameters
                        .iter()
                        .all(|p| p.scope != ParameterScope::Other),
                    "{}: without a base every input is one of all",
                    card.id
                );
            }
        }
    }

    #[test]
    fn a_hyphen_for_an_underscore_gets_its_suggestion() {
        let refused = |name| find(name).err().expect("no such method");
        assert_eq!(
            refused("dare-ties"),
            "unknown merge method `dare-ties` — did you mean `dare_ties`?"
        );
        assert!(refused("ram").contains("not offered"));
    }
}
