//! What is written: every loading program has to find the ids that the rows were made for.

use proptest::prelude::*;

use super::*;

/// The tokens of the output by id, checked against the files.
fn tokens(vocabulary: &Vocabulary) -> Vec<String> {
    let found = reread(vocabulary);
    for (at, (token, id)) in found.iter().enumerate() {
        assert_eq!(at, *id, "{token}");
    }
    found.into_iter().map(|(token, _)| token).collect()
}

#[test]
fn what_does_not_change_is_copied_to_the_byte() {
    let a = Model::new("a", &["x"], &["<s>"], 4)
        .file("tokenizer_config.json", "{ \"bos_token\":\"<s>\" }")
        .file("merges.txt", "#version")
        .file("vocab.json", "{}")
        .file("config.json", "{}");
    let found = joined(&setting(TokenSource::Union), &[&a, &a], Some(0)).expect("a union");
    assert_eq!(found.files, copied(&a.checkpoint).expect("files"));
    let names: Vec<&str> = found.files.iter().map(|(name, _)| name.as_str()).collect();
    let want = [
        "tokenizer.json",
        "tokenizer_config.json",
        "merges.txt",
        "vocab.json",
    ];
    assert_eq!(names, want);
}

#[test]
fn new_tokens_follow_in_the_order_of_models_and_ids() {
    let a = Model::new("a", &["x", "y"], &["<s>"], 3)
        .file(
            "tokenizer_config.json",
            r#"{"added_tokens_decoder": {"2": {"content": "<s>", "special": true}}, "bos_token": "<s>"}"#,
        )
        .file("added_tokens.json", r#"{"<s>": 2}"#)
        .file("vocab.json", "{}");
    let b = Model::new("b", &["q", "x", "p"], &["<b>", "y"], 5);
    let c = Model::new("c", &["r", "<b>"], &["<c>"], 3);
    let found = joined(&setting(TokenSource::Union), &[&a, &b, &c], Some(0)).expect("a union");
    let want = ["x", "y", "<s>", "q", "p", "r", "<b>", "<c>"];
    assert_eq!(tokens(&found), want);
    let tokenizer = json_of(&found, "tokenizer.json");
    let added = tokenizer["added_tokens"].as_array().expect("a list");
    let shown = added.iter().map(|added| {
        let flag = |name: &str| added[name].as_bool().expect("a flag");
        (
            added["content"].as_str().expect("a token"),
            flag("special"),
            flag("normalized"),
        )
    });
    let shown: Vec<_> = shown.collect();
    assert_eq!(
        shown,
        [
            ("y", true, false),
            ("<s>", true, false),
            ("q", false, true),
            ("p", false, true),
            ("r", false, true),
            ("<b>", true, false),
            ("<c>", true, false),
        ]
    );
    let config = json_of(&found, "tokenizer_config.json");
    assert_eq!(config["bos_token"], "<s>");
    let decoder = config["added_tokens_decoder"]
        .as_object()
        .expect("an object");
    let ids: Vec<&str> = decoder.keys().map(String::as_str).collect();
    assert_eq!(ids, ["1", "2", "3", "4", "5", "6", "7"]);
    assert_eq!(decoder["7"]["content"], "<c>");
    assert_eq!(
        json_of(&found, "added_tokens.json"),
        json!({"<s>": 2, "q": 3, "p": 4, "r": 5, "<b>": 6, "<c>": 7})
    );
}

#[test]
fn tokens_of_a_unigram_model_are_counted_by_place() {
    let pieces = json!({"type": "Unigram", "unk_id": 0, "vocab": [["<unk>", 0.0], ["a", -1.5]]});
    let a = Model::with("a", pieces, &["<unk>", "<s>"], 3);
    let b = Model::new("b", &["a", "b"], &[], 2);
    let found = joined(&setting(TokenSource::Union), &[&a, &b], Some(0)).expect("a union");
    assert_eq!(tokens(&found), ["<unk>", "a", "<s>", "b"]);
    let tokenizer = json_of(&found, "tokenizer.json");
    assert_eq!(
        tokenizer["model"]["vocab"]
            .as_array()
            .expect("a list")
            .len(),
        2
    );
}

#[test]
fn ids_with_holes_are_written_where_they_count() {
    let holes = json!({"type": "WordLevel", "vocab": {"x": 0, "y": 3}, "unk_token": "x"});
    let a = Model::with("a", holes, &[], 8);
    let b = Model::new("b", &["z", "x"], &["<b>"], 3);
    let found = joined(&setting(TokenSource::Union), &[&a, &b], Some(0)).expect("a union");
    let want = [("x", 0), ("y", 3), ("z", 4), ("<b>", 5)];
    assert_eq!(
        reread(&found),
        want.map(|(token, id)| (token.to_owned(), id))
    );
}

#[test]
fn tokens_without_a_row_are_left_out_with_all_that_names_them() {
    let model = json!({
        "type": "BPE",
        "vocab": {"x": 0, "y": 1, "z": 2, "xy": 3, "yz": 4},
        "merges": ["x y", ["y", "z"]],
    });
    let a = Model::with("a", model, &["x", "<pad>"], 4)
        .file("tokenizer.model", "…")
        .file(
            "tokenizer_config.json",
            r#"{"pad_token": "<pad>", "bos_token": "x"}"#,
        )
        .file(
            "special_tokens_map.json",
            r#"{"pad_token": {"content": "<pad>"}, "additional_special_tokens": ["<pad>", "x"]}"#,
        );
    let found = joined(&setting(TokenSource::Base), &[&a], None).expect("fewer tokens");
    assert_eq!(tokens(&found), ["x", "y", "z", "xy"]);
    assert_eq!(found.size, 4);
    let merges = &json_of(&found, "tokenizer.json")["model"]["merges"];
    assert_eq!(merges, &json!(["x y"]));
    assert_eq!(
        json_of(&found, "tokenizer_config.json"),
        json!({"bos_token": "x"})
    );
    let special = json!({"additional_special_tokens": ["x"]});
    assert_eq!(json_of(&found, "special_tokens_map.json"), special);
    assert!(
        found
            .files
            .iter()
            .all(|(name, _)| name != "tokenizer.model")
    );
    assert!(
        found.notes[0].contains("no row there: `<pad>`, `yz`"),
        "{:?}",
        found.notes
    );
}

#[test]
fn tokens_that_only_the_settings_name_are_tokens() {
    let a = Model::new("a", &["x"], &[], 4).file(
        "tokenizer_config.json",
        r#"{"added_tokens_decoder": {"1": {"content": "<image>", "special": true}}}"#,
    );
    let b = Model::new("b", &["x"], &[], 4).file("added_tokens.json", r#"{"<q>": 2, "<p>": 1}"#);
    let found = joined(&setting(TokenSource::Union), &[&a, &b], Some(0)).expect("a union");
    assert_eq!(tokens(&found), ["x", "<image>", "<p>", "<q>"]);
}

proptest! {
    #[test]
    fn the_files_name_the_tokens_that_the_rows_were_made_for(
        vocabs in prop::collection::vec(prop::collection::vec(0u8..12, 1..8), 1..4),
        added in prop::collection::vec(prop::collection::vec(0u8..16, 0..4), 3),
        spare in 0usize..4,
        short in 0usize..2,
    ) {
        let name = |token: &u8| format!("t{token}");
        let models: Vec<Model> = vocabs.iter().zip(&added).map(|(vocab, added)| {
            let mut unique: Vec<String> = Vec::new();
            for token in vocab.iter().map(name) {
                if !unique.contains(&token) {
                    unique.push(token);
                }
            }
            let added: Vec<String> = added.iter().map(name).collect();
            let vocab: Vec<&str> = unique.iter().map(String::as_str).collect();
            let added: Vec<&str> = added.iter().map(String::as_str).collect();
            let rows = (vocab.len() + spare).saturating_sub(short).max(1);
            Model::new("m", &vocab, &added, rows)
        }).collect();
        let models: Vec<&Model> = models.iter().collect();
        let found = joined(&setting(TokenSource::Union), &models, None).expect("a union");
        let written = reread(&found);
        let speakers = models.iter().map(|model| {
            Tokens::read("m", &model.checkpoint, Some(model.rows)).expect("tokens").expect("a file")
        });
        let speakers: Vec<Tokens> = speakers.collect();
        prop_assert!(written.len() <= found.size);
        for tokens in &speakers {
            for token in tokens.in_order() {
                prop_assert!(written.iter().any(|(known, _)| known == token));
            }
        }
        for (token, id) in written {
            for (at, tokens) in speakers.iter().enumerate() {
                let row = found.rows[at].as_ref().map_or(VocabularyRow::Own(id), |rows| rows[id].clone());
                match tokens.id(&token) {
                    Some(own) => prop_assert_eq!(row, VocabularyRow::Own(own)),
                    None => prop_assert!(!matches!(row, VocabularyRow::Own(_) | VocabularyRow::Padding | VocabularyRow::Zero)),
                }
            }
        }
    }
}
