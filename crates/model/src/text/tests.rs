use std::fs;
use std::path::Path;

use super::train::tests::{CORPUS, KINDS, trained};
use super::*;
use crate::pixels::tests::fixtures;

fn ids(value: &Value) -> Vec<u32> {
    let list = value.as_array().expect("a list of ids");
    list.iter()
        .map(|id| id.as_u64().expect("an id") as u32)
        .collect()
}

fn cases(file: &Path) -> Option<Vec<Value>> {
    let content = fs::read(file).ok()?;
    Some(serde_json::from_slice(&content).expect("a list"))
}

/// Compares with the `tokenizer_cases.json` of a folder, and says how many there were.
pub(super) fn assert_cases(text: &Text, dir: &Path) -> usize {
    let cases = cases(&dir.join("tokenizer_cases.json")).expect("a fixture");
    for case in &cases {
        let input = case["text"].as_str().expect("a text");
        let with = text.encode(input, true).expect("a text");
        assert_eq!(with, ids(&case["ids"]), "{dir:?}: {input}");
        let without = text.encode(input, false).expect("a text");
        assert_eq!(without, ids(&case["ids_no_special"]), "{dir:?}: {input}");
        let decoded = text.decode(&with, true).expect("known ids");
        assert_eq!(Some(&*decoded), case["decoded"].as_str(), "{dir:?}");
        assert!(with.iter().all(|id| (*id as usize) < text.vocab_size()));
        for longest in 4..with.len() + 2 {
            let limited = text.encode_limited(input, longest).expect("a text");
            assert_eq!(limited.len(), longest.min(with.len()));
            let added = with.len() - without.len();
            let kept = (limited.len() - added).min(without.len());
            assert!(
                limited
                    .windows(kept.max(1))
                    .any(|w| kept == 0 || *w == without[..kept])
            );
            assert_eq!(limited.first(), with.first(), "{dir:?}");
            let last = text.token_text(*with.last().expect("not empty"));
            if last.as_deref() == Some("[SEP]") {
                assert_eq!(limited.last(), with.last(), "{dir:?}");
            }
        }
    }
    cases.len()
}

#[test]
fn fixture_tokenizers_agree_with_the_reference() {
    let Some(dir) = fixtures() else { return };
    let (mut found, mut pairs) = (0, 0);
    for model in fs::read_dir(dir.join("models")).expect("the fixtures hold models") {
        let model = model.expect("the folder is readable").path();
        // The decoder of the original MiniGPT-4 files is in a folder of its own.
        for dir in [model.clone(), model.join("llm")] {
            let Ok(json) = fs::read(dir.join("tokenizer.json")) else {
                continue;
            };
            let text = Text::from_bytes(&json, "x").expect("published");
            found += assert_cases(&text, &dir);
            for pair in cases(&dir.join("pair_cases.json")).into_iter().flatten() {
                let [a, b] = ["a", "b"].map(|key| pair[key].as_str().expect("a text"));
                let (pair_ids, types) = text.encode_pair(a, b).expect("two texts");
                assert_eq!(pair_ids, ids(&pair["ids"]), "{dir:?}");
                // DistilBERT has no segments, and its fixture lists none.
                if pair["type_ids"].is_array() {
                    assert_eq!(types, ids(&pair["type_ids"]), "{dir:?}");
                }
                pairs += 1;
            }
        }
    }
    assert!(found >= 177 && pairs >= 6, "{found} texts, {pairs} pairs");
}

#[test]
fn pieces_are_tokenised_on_their_own() {
    let text = trained(KINDS[1], 330);
    let pieces = text.encode_pieces(&["the boat", "the boat"], true);
    let [first, second] = &pieces.expect("two texts")[..] else {
        panic!("two pieces");
    };
    assert_eq!((first[0], &first[1..]), (1, &second[..]));
    assert_ne!(
        text.encode("the boatthe boat", true).expect("a text"),
        [&first[..], second].concat()
    );
    assert_eq!(text.required_id(IMAGE_TOKEN).expect("it is there"), 329);
    assert_eq!(text.token_text(329).as_deref(), Some(IMAGE_TOKEN));
    assert_eq!(text.token_text(330), None);
    let message = text
        .required_id("<IMG_CONTEXT>")
        .expect_err("it is not")
        .to_string();
    assert!(message.contains("no token `<IMG_CONTEXT>`"), "{message}");
    let message = text
        .encode_limited("boat", 1)
        .expect_err("no room")
        .to_string();
    assert!(message.contains("1 special tokens"), "{message}");
}

#[test]
fn stored_padding_and_truncation_are_ignored() {
    let json = train_byte_level_bpe(CORPUS.into_iter(), 300).expect("the vocabulary has room");
    let mut stored: Value = serde_json::from_slice(&json).expect("JSON");
    stored["truncation"] = serde_json::json!({
        "direction": "Right", "max_length": 3, "strategy": "LongestFirst", "stride": 0
    });
    stored["padding"] = serde_json::json!({
        "strategy": {"Fixed": 128}, "direction": "Right", "pad_to_multiple_of": null,
        "pad_id": 1, "pad_type_id": 0, "pad_token": "<pad>"
    });
    let stored = Text::from_bytes(stored.to_string().as_bytes(), "x").expect("valid");
    let plain = Text::from_bytes(&json, "x").expect("valid");
    let ids = |text: &Text| text.encode(CORPUS[0], true).expect("a text");
    assert_eq!(ids(&stored), ids(&plain));
}

#[test]
fn broken_tokenizers_are_refused_in_one_line() {
    let good = train_byte_level_bpe(CORPUS.into_iter(), 300).expect("the vocabulary has room");
    let good = String::from_utf8(good).expect("JSON is text");
    let template = r#""special_tokens":{"</s>":"#;
    let decoder = r#""decoder":{"type":"ByteLevel""#;
    for part in [template, decoder] {
        assert!(good.contains(part), "{good}");
    }
    for json in [
        "",
        "{}",
        "[1]",
        r#"{"version":"1.0","model":{"type":"BPE"}}"#,
        // The crate panics on these two.
        &good.replace(template, r#""special_tokens":{"<x>":"#),
        &good.replace(decoder, r#""decoder":{"type":"\\ud800""#),
        &good[..good.len() / 2],
    ] {
        let error = Text::from_bytes(json.as_bytes(), "DIR").expect_err("no tokenizer");
        let message = error.to_string();
        assert!(
            message.starts_with("DIR: tokenizer.json is unusable: "),
            "{message}"
        );
        assert!(!message.contains('\n'));
    }
}

#[test]
fn an_answer_begins_where_the_prompt_ends() {
    let prompt = "Question: Who repairs the clock in the tower? Answer:";
    for train in KINDS {
        let text = trained(train, 400);
        let joined = text
            .joint_ids(prompt, "the nurse", true)
            .expect("an answer");
        let (front, answer) = joined.ids.split_at(joined.boundary);
        assert_eq!(front, text.encode(prompt, true).expect("a text"));
        // Ids from the joint text: tokenised alone, the byte-level answer lacks its space.
        assert_eq!(
            text.decode(answer, true).expect("known ids").trim(),
            "the nurse"
        );
        for nothing in ["", " ", "\n"] {
            let error = text
                .joint_ids(prompt, nothing, true)
                .expect_err("no answer");
            assert!(error.to_string().contains("has no token of its own"));
        }
        let empty = text.joint_ids("", "the nurse", true).expect("an answer");
        assert_eq!(empty.boundary, 1);
    }
}

#[test]
fn a_merge_across_the_boundary_moves_it_left_for_both_answers() {
    // The one merge is that of two spaces: it takes the prompt's last token away.
    let json = r#"{"version":"1.0","truncation":null,"padding":null,"added_tokens":[],
        "normalizer":null,"pre_tokenizer":null,"post_processor":null,"decoder":null,
        "model":{"type":"BPE","dropout":null,"unk_token":null,"continuing_subword_prefix":null,
        "end_of_word_suffix":null,"fuse_unk":false,"byte_fallback":false,
        "vocab":{"a":0," ":1,"b":2,"c":3,"  ":4},"merges":[[" "," "]]}}"#;
    let text = Text::from_bytes(json.as_bytes(), "x").expect("valid");
    let joined = text.joint_ids("a ", "b", false).expect("an answer");
    assert_eq!(
        (joined.ids.as_slice(), joined.boundary),
        (&[0, 4, 2][..], 1)
    );
    let (more, less) = text.joint_pair("a", " b", "c", false).expect("two answers");
    assert_eq!(
        (more.ids.as_slice(), less.ids.as_slice()),
        (&[0, 4, 2][..], &[0, 1, 3][..])
    );
    assert_eq!((more.boundary, less.boundary), (1, 1));
    let same = text.joint_pair("a", "b", "b", false).expect("two answers");
    assert_eq!(same.0, same.1);
}

/// A trained tokenizer whose post-processor puts the end token behind every text too, in one of the
/// forms that say so.
fn ending(form: &str) -> Text {
    let json = train_metaspace_bpe(CORPUS.into_iter(), 330).expect("the vocabulary has room");
    let mut stored: Value = serde_json::from_slice(&json).expect("JSON");
    let end = serde_json::json!({"SpecialToken": {"id": "</s>", "type_id": 0}});
    let mut template = stored["post_processor"].clone();
    for of in ["single", "pair"] {
        template[of]
            .as_array_mut()
            .expect("pieces")
            .push(end.clone());
    }
    template["special_tokens"]["</s>"] =
        serde_json::json!({"id": "</s>", "ids": [2], "tokens": ["</s>"]});
    stored["post_processor"] = match form {
        "template" => template,
        "sequence" => serde_json::json!({"type": "Sequence", "processors": [template]}),
        "roberta" => serde_json::json!({
            "type": "RobertaProcessing", "sep": ["</s>", 2], "cls": ["<s>", 1],
            "trim_offsets": true, "add_prefix_space": false
        }),
        _ => serde_json::json!({
            "type": "BertProcessing", "sep": ["</s>", 2], "cls": ["<s>", 1]
        }),
    };
    Text::from_bytes(stored.to_string().as_bytes(), "x").expect("valid")
}

#[test]
fn an_end_token_is_no_part_of_a_text_that_goes_on() {
    let plain = trained(train_metaspace_bpe, 330);
    for form in ["template", "sequence", "roberta", "bert"] {
        let whole = ending(form);
        let open = whole.clone().open_ended().expect("a post-processor");
        for text in ["", "the nurse", "the nurse</s>"] {
            let expected = plain.encode(text, true).expect("a text");
            assert_eq!(open.encode(text, true).expect("a text"), expected, "{form}");
            let ended = whole.encode(text, true).expect("a text");
            assert_eq!(ended, [&expected[..], &[2]].concat(), "{form}");
            let bare = plain.encode(text, false).expect("a text");
            assert_eq!(open.encode(text, false).expect("a text"), bare, "{form}");
        }
        assert!(open.is_opened("<s> the nurse").expect("a text"));
        let joined = open.joint_ids("Who?", "the nurse", true);
        let expected = plain.joint_ids("Who?", "the nurse", true);
        assert_eq!(joined.expect("an answer"), expected.expect("an answer"));
    }
    let same = plain.clone().open_ended().expect("no end token");
    let ids = |text: &Text| text.encode("the nurse", true).expect("a text");
    assert_eq!(ids(&same), ids(&plain));
}

#[test]
fn dropout_is_off() {
    let json = train_byte_level_bpe(CORPUS.into_iter(), 400).expect("the vocabulary has room");
    let mut stored: Value = serde_json::from_slice(&json).expect("JSON");
    stored["model"]["dropout"] = 0.9.into();
    let random = Text::from_bytes(stored.to_string().as_bytes(), "x").expect("valid");
    let plain = Text::from_bytes(&json, "x").expect("valid");
    for text in CORPUS {
        let ids = |of: &Text| of.encode(text, true).expect("a text");
        assert_eq!(ids(&random), ids(&plain));
    }
}

#[test]
fn a_token_without_a_row_is_refused_where_a_text_has_it() {
    let text = trained(KINDS[1], 330);
    let image = [329];
    let fits = text.clone().embedded_in(329, &[]).expect("one token more");
    assert!(fits.encode("the nurse", true).is_ok());
    let message = fits
        .encode("see <image>", true)
        .expect_err("no row")
        .to_string();
    assert!(
        message.contains("`see <image>` has the token `<image>` of number 329"),
        "{message}"
    );
    let marked = text.clone().embedded_in(329, &image).expect("one more");
    assert!(marked.encode("see <image>", true).is_ok());
    let message = text.embedded_in(100, &[]).expect_err("another model's");
    assert!(message.to_string().contains("has 330 tokens"), "{message}");
}
