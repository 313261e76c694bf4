//! The built-in editors: one file each, one line here.

use crate::editor::Editor;

macro_rules! registry {
    ($($module:ident :: $editor:ident,)*) => {
        $(mod $module;)*

        /// All built-in editors, controls first.
        pub static ALL: &[&dyn Editor] = &[$(&$module::$editor),*];
    };
}

registry! {
    nothing::Nothing,
    random::Random,
    ft_l::FtL,
    ft_v::FtV,
    ke::Ke,
    mend::Mend,
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
