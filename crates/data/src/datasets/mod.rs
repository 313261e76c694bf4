//! The registry: one file and one line per dataset, in alphabetical order.

use debias_core::registry;

use crate::{Dataset, Result};

debias_core::registry! {
    /// Every dataset the program knows.
    pub static ALL: dyn Dataset;
    pub pairs::Pairs,
    pub toytown::Toytown,
}

/// The dataset of that name.
///
/// # Errors
/// An unknown name, with the nearest known one.
pub fn find(name: &str) -> Result<&'static dyn Dataset> {
    Ok(registry::find("dataset", name, ALL, |dataset| {
        &dataset.card().name
    })?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_sorted_and_cards_complete_and_agree_with_the_code() {
        let cards = || ALL.iter().map(|dataset| dataset.card());
        assert!(cards().is_sorted_by_key(|card| &card.name));
        let entries = cards().map(|card| {
            let texts = [
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
            (card.name.as_str(), texts.map(String::as_str))
        });
        assert_eq!(registry::flaws(entries), Vec::<String>::new());
        for dataset in ALL {
            assert_eq!(dataset.card().tasks, dataset.tasks());
        }
    }

    #[test]
    fn a_misspelt_name_gets_a_suggestion() {
        let error = find("toytwon").err().expect("unknown").to_string();
        assert!(error.contains("did you mean `toytown`"), "{error}");
    }
}
