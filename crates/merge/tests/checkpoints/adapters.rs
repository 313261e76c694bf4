//! Adapters that change what is tied, or bring tokens of their own.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::world::*;

#[test]
fn an_adapter_gives_a_tied_head_a_life_of_its_own() {
    let world = World::new();
    let base = llama(1, false, 1);
    world.add("base", &json!({"tie_word_embeddings": true}), &base);
    let yaml = "merge_method: linear\nmodels:\n- model: base+ad\n  parameters: {weight: 1}\n";
    let (a, b) = (tensor(&[2, 4], 3), tensor(&[6, 2], 4));
    world.adapter(
        "ad",
        &BTreeMap::from([
            (
                "base_model.model.lm_head.lora_A.weight".to_owned(),
                a.clone(),
            ),
            (
                "base_model.model.lm_head.lora_B.weight".to_owned(),
                b.clone(),
            ),
        ]),
    );
    let (out, _) = world.merged(yaml);
    assert_eq!(config(&out)["tie_word_embeddings"], false);
    assert_eq!(values(&out, TABLE), base[TABLE].values);
    for (at, got) in values(&out, HEAD).iter().enumerate() {
        let (row, column) = (at / 4, at % 4);
        let factor = |r: usize| f64::from(b.values[row * 2 + r]);
        let product: f64 = (0..2)
            .map(|r| factor(r) * f64::from(a.values[r * 4 + column]))
            .sum();
        let want = f64::from(base[TABLE].values[at]) + 2.0 * product;
        assert_eq!(*got, want as f32, "rounded once");
    }
    let (table, head) = (tensor(&[6, 4], 20), tensor(&[6, 4], 21));
    world.adapter(
        "ad",
        &BTreeMap::from([
            (format!("base_model.model.{TABLE}"), table.clone()),
            (format!("base_model.model.{HEAD}"), head.clone()),
            (
                "base_model.model.score.weight".to_owned(),
                tensor(&[2, 4], 1),
            ),
        ]),
    );
    let (out, notes) = world.merged(yaml);
    assert_eq!(values(&out, TABLE), table.values);
    assert_eq!(values(&out, HEAD), head.values);
    assert_eq!(config(&out)["tie_word_embeddings"], false);
    assert!(!out.contains("score.weight") && notes.iter().any(|n| n.contains("score.weight")));
}

#[test]
fn rows_configuration_and_tokenizer_of_an_adapter_with_new_tokens_agree() {
    let world = World::new();
    let settings = json!({"vocab_size": 6, "tie_word_embeddings": false});
    let six = ["t0", "t1", "t2", "t3", "t4", "t5"];
    let eight = ["t0", "t1", "t2", "t3", "t4", "t5", "new", "newer"];
    let wide = |name: &str| (format!("base_model.model.{name}"), tensor(&[8, 4], 30));
    world
        .add("base", &settings, &llama(1, true, 1))
        .tokenizer("base", &six);
    world.adapter("ad", &BTreeMap::from([wide(TABLE), wide(HEAD)]));
    let yaml = "merge_method: linear\nmodels:\n- model: base+ad\n  parameters: {weight: 1}\n";
    let said = world.refused(yaml);
    assert!(
        said.contains("8 rows") && said.contains("tokenizer"),
        "{said}"
    );
    world
        .tokenizer("ad", &eight)
        .file("base/chat_template.jinja", "{{ messages }}");
    let (out, _) = world.merged(yaml);
    assert!(out.bytes("chat_template.jinja").is_ok());
    assert_eq!(config(&out)["vocab_size"], 8);
    assert_eq!(out.info(TABLE).map(|i| i.shape.clone()), Some(vec![8, 4]));
    let tokenizer: Value = out.json("tokenizer.json").expect("a tokenizer");
    assert_eq!(tokenizer["model"]["vocab"]["newer"], 7);
    // An adapter by itself, for which the base is only what it lies on, has the same say.
    let alone =
        "merge_method: linear\nbase_model: base\nmodels:\n- model: ad\n  parameters: {weight: 1}\n";
    let (out, _) = world.merged(alone);
    assert_eq!(config(&out)["vocab_size"], 8);
    let tokenizer: Value = out.json("tokenizer.json").expect("a tokenizer");
    assert_eq!(tokenizer["model"]["vocab"]["newer"], 7);
    // The base beside it has other rows; a union of tokenizers gives both the same.
    let with_base = format!(
        "base_model: base\n{}",
        yaml.replace("linear", "task_arithmetic")
    );
    let error = world.merge(&with_base).expect_err("other rows").to_string();
    assert!(
        error.contains("2 tokens") && error.contains("union"),
        "{error}"
    );
    let (out, _) = world.merged(&format!("tokenizer_source: union\n{with_base}"));
    assert_eq!(config(&out)["vocab_size"], 8);
    // More tokens than rows, or rows for the table alone.
    world.tokenizer("ad", &["a", "b", "c", "d", "e", "f", "g", "h", "i"]);
    assert!(world.refused(yaml).contains("up to number 8"));
    world
        .adapter("ad", &BTreeMap::from([wide(TABLE)]))
        .tokenizer("ad", &eight);
    assert!(world.refused(yaml).contains("`lm_head.weight` with 6"));
    // Trained rows of other tokens in the place of unused ones.
    let whole = format!("base_model.model.{TABLE}");
    world
        .adapter("ad", &BTreeMap::from([(whole, tensor(&[6, 4], 3))]))
        .tokenizer("ad", &["t0", "t1", "t2", "t3", "t4", "mine"]);
    let (out, _) = world.merged(yaml);
    let tokenizer: Value = out.json("tokenizer.json").expect("a tokenizer");
    assert_eq!(tokenizer["model"]["vocab"]["mine"], 5);
}
