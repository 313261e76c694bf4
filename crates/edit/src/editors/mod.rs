//! The built-in editors: one file each, one line here.

use std::sync::Arc;

use crate::editor::Editor;

macro_rules! registry {
    ($($module:ident :: $editor:ident,)*) => {
        $(mod $module;)*

        /// All built-in editors, controls first.
        pub static ALL: &[&dyn Editor] = &[$(&$module::$editor),*];

        fn owned() -> Vec<Arc<dyn Editor>> {
            vec![$(Arc::new($module::$editor)),*]
        }
    };
}

registry! {
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
    ALL.iter()
        .copied()
        .find(|editor| editor.card().id == name)
        .ok_or_else(|| {
            let known = ALL.iter().map(|editor| editor.card().id);
            debias_core::Error::unknown("editor", name, known)
        })
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
