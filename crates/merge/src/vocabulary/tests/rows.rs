//! Where rows come from.

use super::*;
use crate::stream::VocabularyRow::{Mean, Other, Own, Padding, Zero};

fn rule(source: Option<TokenRowSource>, force: bool) -> TokenRule {
    TokenRule { source, force }
}

fn rows(vocabulary: &Vocabulary) -> Vec<Option<Vec<VocabularyRow>>> {
    let rows = vocabulary.rows.iter();
    rows.map(|rows| rows.as_deref().cloned()).collect()
}

#[test]
fn new_tokens_come_from_the_only_model_from_the_base_or_are_means() {
    let a = Model::new("a", &["x", "y"], &[], 2);
    let b = Model::new("b", &["y", "p", "q"], &["<b>"], 4);
    let c = Model::new("c", &["q", "x"], &[], 2);
    let union = setting(TokenSource::Union);
    // x: a and c; y: a and b; p: b; q: b and c; <b>: b.
    let with_base = joined(&union, &[&a, &b, &c], Some(0)).expect("a union");
    assert_eq!(with_base.size, 5);
    assert_eq!(
        rows(&with_base),
        [
            Some(vec![
                Own(0),
                Own(1),
                Other(1, 1),
                Mean(vec![(1, 2), (2, 0)]),
                Other(1, 3)
            ]),
            Some(vec![Other(0, 0), Own(0), Own(1), Own(2), Own(3)]),
            Some(vec![Own(1), Other(0, 1), Other(1, 1), Own(0), Other(1, 3)]),
        ]
    );
    let without = joined(&union, &[&a, &b, &c], None).expect("a union");
    let without = rows(&without);
    let first = |model: usize| without[model].as_ref().expect("rows")[..2].to_vec();
    assert_eq!(first(1), [Mean(vec![(0, 0), (2, 1)]), Own(0)]);
    assert_eq!(first(2), [Own(1), Mean(vec![(0, 1), (1, 0)])]);
}

#[test]
fn rows_to_spare_are_kept_unless_a_multiple_is_asked_for() {
    let a = Model::new("a", &["x", "y"], &[], 6);
    let b = Model::new("b", &["x", "y", "z"], &[], 4);
    let mut union = setting(TokenSource::Union);
    let kept = joined(&union, &[&a, &b], Some(0)).expect("a union");
    assert_eq!(kept.size, 6);
    assert_eq!(
        rows(&kept),
        [
            Some(vec![Own(0), Own(1), Other(1, 2), Own(3), Own(4), Own(5)]),
            Some(vec![Own(0), Own(1), Own(2), Own(3), Padding, Padding]),
        ]
    );
    union.pad_to_multiple_of = Some(4);
    let padded = joined(&union, &[&a, &b], Some(0)).expect("a union");
    assert_eq!(
        rows(&padded),
        [
            Some(vec![Own(0), Own(1), Other(1, 2), Padding]),
            Some(vec![Own(0), Own(1), Own(2), Padding]),
        ]
    );
    union.pad_to_multiple_of = Some(1);
    let exact = joined(&union, &[&a, &b], Some(0)).expect("a union");
    assert_eq!(exact.size, 3);
    union.pad_to_multiple_of = Some(usize::MAX);
    let error = joined(&union, &[&a, &b], Some(0)).expect_err("too much");
    assert!(error.to_string().contains("give at most"), "{error}");
}

#[test]
fn the_same_tokens_move_nothing() {
    let a = Model::new("a", &["x", "y"], &["<s>"], 8);
    let b = Model::new("b", &["x", "y"], &["<s>"], 8);
    let c = Model::new("c", &["y", "x"], &["<s>"], 8);
    let base = joined(&setting(TokenSource::Base), &[&a, &b, &c], Some(0)).expect("one");
    let c = vec![
        Own(1),
        Own(0),
        Own(2),
        Own(3),
        Own(4),
        Own(5),
        Own(6),
        Own(7),
    ];
    assert_eq!(rows(&base), [None, None, Some(c)]);
    assert_eq!(base.notes, [""; 0]);
}

#[test]
fn the_bases_tokens_are_enough_if_asked_for() {
    let a = Model::new("a", &["x", "y"], &[], 2);
    let b = Model::new("b", &["y", "x", "z"], &[], 3);
    let base = joined(&setting(TokenSource::Base), &[&a, &b], None).expect("the first's");
    assert_eq!(rows(&base), [None, Some(vec![Own(1), Own(0)])]);
    assert!(base.notes[0].contains("leaves out 1 token of model `b`: `z`"));
    let other = TokenSource::Model("b".to_owned());
    let other = joined(&setting(other), &[&a, &b], Some(0)).expect("b's");
    assert_eq!(
        rows(&other),
        [Some(vec![Own(1), Own(0), Other(1, 2)]), None]
    );
}

#[test]
fn a_tokenizer_may_come_from_elsewhere() {
    let a = Model::new("a", &["x", "y"], &[], 8).file("config.json", r#"{"eos_token_id": 1}"#);
    let other = Model::new("other", &["y", "w"], &[], 0);
    let speakers = [a.speaker()];
    let wanted = setting(TokenSource::Model("other".to_owned()));
    let outside = Some(("other", &other.checkpoint));
    let found = unite(&wanted, &speakers, Some(0), outside).expect("a vocabulary");
    assert_eq!(rows(&found), [Some(vec![Own(1), Zero])]);
    let told = |part: &str| found.notes.iter().any(|note| note.contains(part));
    assert!(told("no model has a row for `w`"), "{:?}", found.notes);
    assert!(
        told("`eos_token_id` in config.json is 1"),
        "{:?}",
        found.notes
    );
    assert!(told("set it to 0"), "{:?}", found.notes);
    let error = unite(&wanted, &speakers, Some(0), None).expect_err("nowhere");
    assert!(
        error.to_string().contains("no model of this merge"),
        "{error}"
    );
}

#[test]
fn rules_name_rows_and_force_them() {
    let a = Model::new("a", &["x", "y"], &[], 3);
    let b = Model::new("b", &["x", "y", "z"], &[], 3);
    let mut union = setting(TokenSource::Union);
    let of = |token: Option<&str>, id| TokenRowSource::Token {
        model: "b".to_owned(),
        token: token.map(str::to_owned),
        id,
    };
    let rules = [
        ("x", rule(Some(TokenRowSource::Model("b".to_owned())), true)),
        ("y", rule(Some(TokenRowSource::Zero), false)),
        ("z", rule(Some(of(Some("y"), None)), false)),
        ("<n>", rule(Some(of(None, Some(2))), false)),
        ("<m>", rule(None, false)),
    ];
    let named = rules
        .iter()
        .map(|(token, rule)| ((*token).to_owned(), rule.clone()));
    union.tokens = named.collect();
    let found = joined(&union, &[&a, &b], Some(0)).expect("a union");
    assert_eq!(
        rows(&found),
        [
            Some(vec![Other(1, 0), Own(1), Other(1, 1), Other(1, 2), Zero]),
            Some(vec![Own(0), Own(1), Own(2), Own(2), Zero]),
        ]
    );
    assert!(found.notes[0].contains("no model has a row for `<m>`"));
    for (source, part) in [
        (of(None, Some(3)), "takes row 3, and it has 3 rows"),
        (of(Some("w"), None), "takes the row of `w`, which it lacks"),
        (of(None, None), "needs either"),
        (
            TokenRowSource::Model("c".to_owned()),
            "is no model of this merge",
        ),
    ] {
        union.tokens = vec![("x".to_owned(), rule(Some(source), true))];
        let error = joined(&union, &[&a, &b], Some(0)).expect_err("a wrong rule");
        assert!(error.to_string().contains(part), "{error}");
    }
}

#[test]
fn a_model_without_a_tokenizer_speaks_as_the_base_if_it_has_its_rows() {
    let a = Model::new("a", &["x", "y"], &[], 2);
    let same = Model::bare("same", 2);
    let base = setting(TokenSource::Base);
    let found = joined(&base, &[&a, &same], Some(0)).expect("the same tokens");
    assert_eq!(rows(&found), [None, None]);
    assert!(found.notes[0].contains("model `same` has no tokenizer.json"));
    let more = Model::bare("more", 3);
    let other = Model::bare("other", 2).file("tokenizer.model", "…");
    for (models, who) in [
        ([&a, &more], "more"),
        ([&a, &other], "other"),
        ([&same, &a], "same"),
    ] {
        let error = joined(&base, &models, Some(0))
            .expect_err("unknown tokens")
            .to_string();
        assert!(
            error.contains(who) && error.contains("save_pretrained"),
            "{error}"
        );
    }
}

#[test]
fn a_difference_of_tokens_explains_a_difference_of_rows() {
    let a = Model::new("a", &["x", "y"], &[], 2);
    let b = Model::new("b", &["x", "y"], &["<extra>"], 3);
    let c = Model::new("c", &["x", "y"], &[], 8);
    let told = difference(&a.speaker(), &b.speaker()).expect("a reason");
    let reason = "model `b` has 1 token that `a` lacks: `<extra>`; add `tokenizer_source: union`";
    assert!(told.starts_with(reason), "{told}");
    assert_eq!(difference(&b.speaker(), &a.speaker()), Some(told));
    let told = difference(&a.speaker(), &c.speaker()).expect("a reason");
    assert!(
        told.contains("the same 2 tokens") && told.contains("source: base"),
        "{told}"
    );
    assert_eq!(difference(&a.speaker(), &a.speaker()), None);
    assert_eq!(
        difference(&a.speaker(), &Model::bare("d", 3).speaker()),
        None
    );
}
