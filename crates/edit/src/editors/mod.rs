//! The built-in editors: one file each, one line here.

use std::sync::Arc;

use debias_core::registry;

use crate::editor::Editor;

debias_core::registry! {
    /// All built-in editors, controls first.
    pub static ALL: dyn Editor;
    fn owned;
    nothing::Nothing,
    random::Random,
    ft_l::EDITOR,
    ft_v::EDITOR,
    ike::Ike,
    ke::EDITOR,
    mend::EDITOR,
    serac::Serac,
    biasedit::EDITOR,
}

/// Looks an editor up by name.
///
/// # Errors
/// [`debias_core::Error::Unknown`] with the nearest name.
pub fn find(name: &str) -> debias_core::Result<&'static dyn Editor> {
    registry::find("editor", name, ALL, |editor| editor.card().id)
}

/// As [`find`], as a value beside editors that are not built in.
///
/// # Errors
/// As [`find`].
pub fn shared(name: &str) -> debias_core::Result<Arc<dyn Editor>> {
    let found = find(name)?;
    let same = |editor: &Arc<dyn Editor>| editor.card().id == found.card().id;
    Ok(owned()
        .into_iter()
        .find(same)
        .expect("both lists come from one registry"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_kebab_case_and_cards_complete() {
        let entries = ALL.iter().map(|editor| {
            let card = editor.card();
            let texts = [
                card.title,
                card.summary,
                card.paper,
                card.equation,
                card.cost,
            ];
            (card.id, texts)
        });
        assert_eq!(registry::flaws(entries), Vec::<String>::new());
        assert!(ALL.iter().all(|editor| !editor.card().id.contains('_')));
        assert!(
            ALL.iter()
                .all(|editor| !editor.card().touches.kinds.is_empty())
        );
    }
}
