//! Registries: whatever the program knows by name is one file and one line.
//!
//! Editors, datasets, merges, columns, and the families of models stand each in a list that
//! [`registry!`](crate::registry!) declares together with the modules, so that a file cannot be
//! forgotten in the list, nor a line without its file.

use std::collections::BTreeSet;

use crate::error::{Error, Result};

/// Declares modules and the static list of what they offer.
///
/// First the list, with the type of its entries; then a line for every module, with its visibility
/// where others need it, and the item (or items, `a::B | C`) that enter the list: statics,
/// constants or unit structs of that type, or of one that implements that trait.
///
/// ```ignore
/// debias_core::registry! {
///     /// Every dataset.
///     pub static ALL: dyn Dataset;
///     pairs::Pairs,
///     pub(crate) toytown::Toytown,
/// }
/// ```
///
/// Where entries must also be had as values, `fn owned;` behind the list names a function that makes
/// an `Arc` of each; their items are then constants or unit structs.
#[macro_export]
macro_rules! registry {
    (
        $(#[$about:meta])*
        $visible:vis static $list:ident: $entry:ty;
        $($within:vis $module:ident :: $item:ident $(| $more:ident)*,)+
    ) => {
        $($within mod $module;)+

        $(#[$about])*
        $visible static $list: &[&$entry] = &[$(&$module::$item $(, &$module::$more)*),+];
    };
    (
        $(#[$about:meta])*
        $visible:vis static $list:ident: $entry:ty;
        fn $owned:ident;
        $($within:vis $module:ident :: $item:ident,)+
    ) => {
        $crate::registry! {
            $(#[$about])*
            $visible static $list: $entry;
            $($within $module::$item,)+
        }

        fn $owned() -> ::std::vec::Vec<::std::sync::Arc<$entry>> {
            ::std::vec![$(::std::sync::Arc::new($module::$item)),+]
        }
    };
}

/// The entry of `list` that `name_of` gives the name `name`.
///
/// # Errors
/// [`Error::Unknown`] with the nearest name; `kind` is what the list holds, in the singular.
pub fn find<T: ?Sized>(
    kind: &'static str,
    name: &str,
    list: &[&'static T],
    name_of: impl Fn(&'static T) -> &'static str,
) -> Result<&'static T> {
    let mut entries = list.iter().copied();
    entries
        .find(|entry| name_of(entry) == name)
        .ok_or_else(|| Error::unknown(kind, name, list.iter().map(|entry| name_of(entry))))
}

/// What is wrong with a registry whose entries have these names and descriptions: a name that
/// occurs twice or is not lower-case words and digits joined by single `-` or `_`, or a
/// description that is empty. Every registry's test asks this.
pub fn flaws<'a, const N: usize>(
    entries: impl IntoIterator<Item = (&'a str, [&'a str; N])>,
) -> Vec<String> {
    let mut seen = BTreeSet::new();
    let mut flaws = Vec::new();
    for (name, descriptions) in entries {
        if !seen.insert(name) {
            flaws.push(format!("`{name}` occurs twice"));
        }
        if !is_plain(name) {
            flaws.push(format!("`{name}` is not lower-case words joined by - or _"));
        }
        if descriptions.iter().any(|text| text.trim().is_empty()) {
            flaws.push(format!("`{name}` has an empty description"));
        }
    }
    flaws
}

fn is_plain(name: &str) -> bool {
    name.split(['-', '_']).all(|word| {
        let mut letters = word.bytes().peekable();
        letters.peek().is_some()
            && letters.all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Entry(&'static str);

    static LIST: &[&Entry] = &[&Entry("ft-l"), &Entry("ike")];

    #[test]
    fn an_entry_is_found_by_its_name_and_a_misspelt_one_gets_a_suggestion() {
        let found = |name| find("editor", name, LIST, |entry| entry.0).map(|entry| entry.0);
        assert_eq!(found("ike"), Ok("ike"));
        assert_eq!(
            found("ft_l").expect_err("unknown").to_string(),
            "unknown editor `ft_l` — did you mean `ft-l`?"
        );
    }

    #[test]
    fn every_flaw_of_a_registry_is_named() {
        assert_eq!(
            flaws([("a-b", ["x"]), ("t_b2", ["y"])]),
            Vec::<String>::new()
        );
        let flaws = flaws([("a", ["x"]), ("a", ["x"]), ("B", ["x"]), ("c__d", [" "])]);
        assert_eq!(
            flaws,
            [
                "`a` occurs twice",
                "`B` is not lower-case words joined by - or _",
                "`c__d` is not lower-case words joined by - or _",
                "`c__d` has an empty description",
            ]
        );
    }
}
