//! The merges: one file each, one line here.

use std::sync::LazyLock;

use crate::merger::Merger;

macro_rules! registry {
    ($($module:ident,)*) => {
        $(pub(crate) mod $module;)*

        /// All merges, sorted by name.
        pub static ALL: LazyLock<Vec<&dyn Merger>> = LazyLock::new(|| vec![$($module::MERGER),*]);
    };
}

registry! {
    three_dm,
    bias_vector,
    breadcrumbs,
    breadcrumbs_ties,
    dare_linear,
    dare_ties,
    della,
    della_linear,
    karcher,
    linear,
    model_stock,
    multislerp,
    nearswap,
    nuslerp,
    passthrough,
    pcb,
    robust_merge,
    sce,
    slerp,
    task_arithmetic,
    ties,
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
    use crate::card::{Base, Scope};
    use std::collections::BTreeSet;

    #[test]
    fn cards_are_whole_sorted_and_agree_with_themselves() {
        let ids: Vec<_> = ALL.iter().map(|merger| merger.card().id).collect();
        let mut sorted = ids.clone();
        sorted.sort_unstable();
        sorted.dedup();
        assert_eq!(ids, sorted);
        for merger in ALL.iter() {
            let card = merger.card();
            for text in [
                card.title,
                card.summary,
                card.paper,
                card.equation,
                card.degenerate,
            ] {
                assert!(!text.is_empty(), "{}", card.id);
            }
            let names: BTreeSet<_> = card.parameters.iter().map(|p| p.name).collect();
            assert_eq!(names.len(), card.parameters.len(), "{}", card.id);
            assert!(card.inputs.max.is_none_or(|max| max >= card.inputs.min));
            if card.inputs.base == Base::Ignored {
                assert!(
                    card.parameters.iter().all(|p| p.scope != Scope::Other),
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
