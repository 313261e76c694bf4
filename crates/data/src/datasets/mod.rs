//! The registry: one file and one line per dataset, in alphabetical order.

use debias_core::nearest;

use crate::{Dataset, Error, Result};

/// Declares the modules and the list in one go.
macro_rules! registry {
    ($contract:ident: $($module:ident::$item:ident,)+) => {
        $(pub mod $module;)+
        /// Every dataset the program knows.
        pub static ALL: &[&dyn $contract] = &[$(&$module::$item),+];
    };
}

registry! { Dataset:
    pairs::Pairs,
    toytown::Toytown,
}

/// The dataset of that name.
///
/// # Errors
/// An unknown name, with the nearest known one.
pub fn find(name: &str) -> Result<&'static dyn Dataset> {
    let names = || ALL.iter().map(|dataset| dataset.card().name.as_str());
    let found = ALL.iter().find(|dataset| dataset.card().name == name);
    found.copied().ok_or_else(|| {
        Error::Core(debias_core::Error::Unknown {
            kind: "dataset",
            name: name.to_owned(),
            suggestion: nearest(name, names()),
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_kebab_case_sorted_and_found() {
        let names: Vec<&str> = ALL.iter().map(|d| d.card().name.as_str()).collect();
        assert!(names.is_sorted(), "{names:?}");
        for name in names {
            assert!(
                name.bytes()
                    .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
            );
            assert_eq!(find(name).expect("registered").card().name, name);
        }
    }

    #[test]
    fn cards_are_complete_and_agree_with_the_code() {
        for dataset in ALL {
            let card = dataset.card();
            assert_eq!(card.tasks, dataset.tasks());
            let fields = [
                &card.title,
                &card.version,
                &card.licence,
                &card.citation,
                &card.source,
                &card.size,
                &card.splits,
                &card.ethics,
                &card.obtained,
                &card.locality,
            ];
            for field in fields {
                assert!(!field.trim().is_empty(), "{}: an empty field", card.name);
            }
        }
    }

    #[test]
    fn a_misspelt_name_gets_a_suggestion() {
        let error = find("toytwon").err().expect("unknown").to_string();
        assert!(error.contains("did you mean `toytown`"), "{error}");
    }
}
