use std::collections::BTreeSet;

use debias_core::ItemLine;

use super::benchmark::chosen;
use super::*;

#[test]
fn names_are_sorted_and_found_and_cards_are_whole() {
    let cards = || ALL.iter().map(|benchmark| benchmark.card());
    assert!(cards().is_sorted_by_key(|card| &card.name));
    let names = cards().map(|card| (card.name.as_str(), []));
    assert_eq!(registry::flaws(names), Vec::<String>::new());
    for benchmark in ALL {
        let card = benchmark.card();
        assert_eq!(find(&card.name).expect("registered").card(), card);
        let value = serde_json::to_value(card).expect("a card");
        for (field, value) in value.as_object().expect("fields") {
            assert!(
                value.as_str().is_none_or(|text| !text.trim().is_empty()),
                "{field}"
            );
        }
        assert!(!card.files.is_empty() && card.version > 0);
        assert!(card.obtained.contains("https://"), "{}", card.obtained);
    }
    let error = find("bqb").err().expect("unknown").to_string();
    assert_eq!(error, "unknown benchmark `bqb` — did you mean `bbq`?");
}

#[test]
fn columns_have_names_of_their_own_and_headlines_name_some() {
    for benchmark in ALL {
        let mut ids = BTreeSet::new();
        for column in benchmark.columns() {
            assert!(ids.insert(column.id), "{} is named twice", column.id);
            assert!(!column.definition.is_empty());
        }
        for id in benchmark.headline() {
            assert!(ids.contains(id), "{id}");
        }
    }
}

#[test]
fn parts_are_put_in_order_and_unknown_ones_named() {
    let parts = &["a", "b", "c"];
    let asked = ["c".to_owned(), "a".to_owned()];
    assert_eq!(chosen(parts, &asked).expect("known"), ["a", "c"]);
    assert_eq!(chosen(parts, &[]).expect("all"), ["a", "b", "c"]);
    assert!(chosen(parts, &["d".to_owned()]).is_err());
}

#[test]
fn a_column_without_a_value_says_why() {
    let benchmark = find("bbq").expect("registered");
    let named = |id: &str| {
        benchmark
            .columns()
            .iter()
            .find(|column| column.id == id)
            .expect("a column")
    };
    assert_eq!(undefined(named("survey"), &[]), "no item was answered");
    let reason = undefined(named("bias_amb.Age"), &[]);
    assert_eq!(
        reason,
        "no answered item has category Age, label_type label, condition ambig"
    );
    let line = ItemLine {
        after: Some(Default::default()),
        ..ItemLine::default()
    };
    let reason = undefined(named("survey"), &[line]);
    assert!(
        reason.starts_with("the one item leaves it undefined: 2 b / n - 1"),
        "{reason}"
    );
}
