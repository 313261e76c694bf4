//! Files that are no tokenizers: one clear error each, never a panic.

use proptest::prelude::*;

use super::*;

fn refused_with(content: &str, part: &str) {
    let a = Model::new("good", &["x"], &[], 1);
    let b = Model::bare("bad", 4).file("tokenizer.json", content);
    for models in [[&a, &b], [&b, &a]] {
        let error = joined(&setting(TokenSource::Union), &models, Some(0)).expect_err(content);
        let error = error.to_string();
        assert!(error.contains(part), "{content}: {error}");
        assert_eq!(error.lines().count(), 1, "{error}");
    }
}

#[test]
fn broken_tokenizers_are_refused() {
    refused_with("", "tokenizer.json");
    refused_with("{\"model\": ", "ends too early");
    refused_with("{}", "model");
    refused_with(r#"{"model": {}}"#, "vocab");
    refused_with(r#"{"model": {"vocab": 3}}"#, "ids by token");
    refused_with(r#"{"model": {"vocab": {"x": -1}}}"#, "model.vocab");
    refused_with(r#"{"model": {"vocab": {"x": 99999999999}}}"#, "model.vocab");
    refused_with(r#"{"model": {"vocab": [["x"]]}}"#, "model.vocab");
    refused_with(r#"{"model": {"vocab": {}}}"#, "names no token");
    refused_with(r#"{"model": {"vocab": {"x": 7}}}"#, "names no token");
    refused_with(
        r#"{"model": {"vocab": {"x": 0}}, "added_tokens": [{"id": 3}]}"#,
        "content",
    );
}

#[test]
fn a_list_in_the_place_of_an_object_is_refused_when_it_has_to_be_written() {
    // serde reads structs from lists too.
    let list = Model::bare("list", 1).file("tokenizer.json", r#"[[], {"vocab": {"x": 0}}]"#);
    let other = Model::new("other", &["y"], &[], 1);
    let error = joined(&setting(TokenSource::Union), &[&list, &other], Some(0));
    let error = error.expect_err("no object").to_string();
    assert!(error.contains("tokenizer.json is no object"), "{error}");
}

#[test]
fn an_id_from_nowhere_takes_no_memory() {
    let far = json!({"type": "BPE", "vocab": {"x": 0, "y": 4_000_000_000u32}});
    let a = Model::new("a", &["x"], &[], 1);
    let far = Model::with("far", far, &[], 1);
    let wanted = setting(TokenSource::Model("far".to_owned()));
    let outside = Some(("far", &far.checkpoint));
    let error = unite(&wanted, &[a.speaker()], Some(0), outside).expect_err("too far");
    assert!(error.to_string().contains("the id of `y`"), "{error}");
}

proptest! {
    #[test]
    fn damaged_files_do_not_panic(at in 0usize..400, byte in any::<u8>(), base in any::<bool>()) {
        let good = Model::new("good", &["x", "y"], &["<s>"], 3);
        let mut bytes = good.checkpoint.bytes("tokenizer.json").expect("a file").into_owned();
        let at = at % bytes.len();
        bytes[at] = byte;
        let bad = Model::bare("bad", 3);
        std::fs::write(bad.folder.path().join("tokenizer.json"), bytes).expect("a file");
        let models = if base { [&bad, &good] } else { [&good, &bad] };
        if let Ok(found) = joined(&setting(TokenSource::Union), &models, Some(0)) {
            prop_assert_eq!(found.rows.len(), 2);
        }
    }
}
