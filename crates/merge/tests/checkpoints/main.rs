//! Checkpoints as people have them: tensors that only some of them have, two spellings, tied heads,
//! added tokens, code beside the weights.

mod adapters;
#[path = "../support/mod.rs"]
mod support;
mod world;

use std::path::Path;

use debias_weights::Tensor;
use serde_json::{Value, json};

use world::*;

#[test]
fn an_unlisted_base_hides_no_gap() {
    let world = World::new();
    let lost = "model.layers.1.mlp.up_proj.weight";
    let mut lacks = llama(3, true, 2);
    lacks.remove(lost);
    let mut headless = llama(3, false, 2);
    headless.remove("model.norm.weight");
    world
        .add("base", &json!({}), &llama(3, true, 1))
        .add("lacks", &json!({}), &lacks)
        .add("short", &json!({}), &llama(2, true, 2))
        .add("headless", &json!({}), &headless)
        .add("deep", &json!({}), &llama(4, true, 2));
    let methods = [
        "ties",
        "task_arithmetic",
        "slerp",
        "linear",
        "karcher",
        "nearswap",
        "multislerp",
        "sce",
        "dare_ties",
        "della",
        "breadcrumbs",
        "pcb",
    ];
    for method in methods {
        for (model, words) in [
            ("lacks", lost),
            ("short", "has 2 layers"),
            ("deep", "has 4 layers"),
            ("headless", "model.norm.weight"),
        ] {
            for listed in ["", "- model: base\n  parameters: {weight: 1}\n"] {
                let yaml = format!(
                    "merge_method: {method}\nbase_model: base\nmodels:\n- model: {model}\n{listed}parameters: {{weight: 1, t: 0.5, density: 0.5}}\n"
                );
                let said = world.refused(&yaml);
                assert!(said.contains(words) && said.contains(model), "{yaml}{said}");
            }
        }
    }
}

#[test]
fn what_only_some_have_is_copied_or_left_out_and_said() {
    let world = World::new();
    let mask = Tensor {
        shape: vec![1, 1, 2, 2],
        values: vec![1.0, 0.0, 1.0, 1.0],
    };
    let extras = [
        ("model.layers.0.attn.bias", mask),
        ("model.embeddings.position_ids", tensor(&[1, 6], 0)),
        ("v_head.summary.weight", tensor(&[1, 4], 1)),
        ("mtp.layers.0.self_attn.q_proj.weight", tensor(&[4, 4], 1)),
        ("score.weight", tensor(&[2, 4], 1)),
    ];
    for (name, extra) in extras {
        let (plain, other) = (llama(2, true, 1), llama(2, true, 2));
        let mut more = plain.clone();
        more.insert(name.to_owned(), extra.clone());
        world
            .add("base", &json!({}), &more)
            .add("a", &json!({}), &other);
        let (out, notes) = world.merged(TIES);
        assert_eq!(values(&out, name), extra.values);
        assert!(
            notes
                .iter()
                .any(|n| n.contains("copied from `base`") && n.contains(name)),
            "{notes:?}"
        );
        check_middle(&out, TABLE, &plain[TABLE], &other[TABLE]);
        let mut more = other.clone();
        more.insert(name.to_owned(), extra);
        world
            .add("base", &json!({}), &plain)
            .add("a", &json!({}), &more);
        let (out, notes) = world.merged(TIES);
        assert!(!out.contains(name));
        assert!(
            notes
                .iter()
                .any(|n| n.contains("left out") && n.contains(name)),
            "{notes:?}"
        );
        check_middle(&out, HEAD, &plain[HEAD], &other[HEAD]);
    }
    // A mask that all have is no weight.
    let name = "model.layers.0.attn.bias";
    let (mut base, mut other) = (llama(1, true, 1), llama(1, true, 2));
    base.insert(name.to_owned(), tensor(&[1, 1, 3, 3], 1));
    other.insert(name.to_owned(), tensor(&[1, 1, 2, 2], 2));
    world
        .add("base", &json!({}), &base)
        .add("a", &json!({}), &other);
    assert_eq!(values(&world.merged(TIES).0, name), base[name].values);
    // Layers behind those that count predict further tokens.
    let deep = json!({"num_hidden_layers": 2, "num_nextn_predict_layers": 1});
    world.add("base", &deep, &llama(3, true, 1)).add(
        "a",
        &json!({"num_hidden_layers": 2}),
        &llama(2, true, 2),
    );
    let (out, _) = world.merged(TIES);
    let last = "model.layers.2.mlp.up_proj.weight";
    assert_eq!(values(&out, last), llama(3, true, 1)[last].values);
}

#[test]
fn one_architecture_has_several_spellings() {
    let world = World::new();
    type Shapes<'a> = &'a [(&'a str, &'a [usize])];
    type Spelling = fn(&str) -> String;
    let cases: [(Shapes, Spelling); 4] = [
        (
            &[
                ("wte.weight", &[6, 4]),
                ("h.0.attn.c_attn.weight", &[4, 12]),
                ("ln_f.bias", &[4]),
            ],
            |name| format!("transformer.{name}"),
        ),
        (
            &[
                ("embeddings.LayerNorm.weight", &[4]),
                ("encoder.layer.0.attention.self.query.weight", &[4, 4]),
            ],
            |name| {
                format!(
                    "bert.{}",
                    name.replace("LayerNorm.weight", "LayerNorm.gamma")
                )
            },
        ),
        (
            &[
                ("model.layers.0.mlp.up_proj.weight", &[4, 4]),
                ("visual.blocks.0.attn.qkv.weight", &[4, 4]),
                (HEAD, &[6, 4]),
            ],
            |name| match name.strip_prefix("model.") {
                Some(rest) => format!("model.language_model.{rest}"),
                None if name.starts_with("visual") => format!("model.{name}"),
                None => name.to_owned(),
            },
        ),
        (
            &[
                ("language_model.model.layers.0.mlp.up_proj.weight", &[4, 4]),
                ("language_model.lm_head.weight", &[6, 4]),
                ("vision_tower.vision_model.x.weight", &[4]),
            ],
            |name| match name.strip_prefix("language_model.") {
                Some(rest) if rest.starts_with("lm_head") => rest.to_owned(),
                Some(rest) => rest.replacen("model.", "model.language_model.", 1),
                None => format!("model.{name}"),
            },
        ),
    ];
    for (shapes, spelling) in cases {
        let (base, other) = (tensors(shapes, 1), tensors(shapes, 7));
        let respelt = other.iter().map(|(name, t)| (spelling(name), t.clone()));
        world
            .add("base", &json!({}), &base)
            .add("a", &json!({}), &respelt.collect());
        let (out, notes) = world.merged(TIES);
        assert_eq!(
            out.names().collect::<Vec<_>>(),
            base.keys().collect::<Vec<_>>()
        );
        for (name, tensor) in &base {
            check_middle(&out, name, tensor, &other[name]);
        }
        assert!(notes.iter().any(|note| note.contains("spell")), "{notes:?}");
    }
}

#[test]
fn a_head_of_its_own_unties_the_output() {
    let world = World::new();
    let tied = json!({"tie_word_embeddings": true, "text_config": {"vocab_size": 6}});
    world
        .add("base", &tied, &llama(1, false, 1))
        .add("a", &json!({}), &llama(1, true, 2));
    let (out, notes) = world.merged(TIES);
    assert_eq!(config(&out)["tie_word_embeddings"], false);
    assert_eq!(config(&out)["text_config"]["tie_word_embeddings"], false);
    assert!(
        notes
            .iter()
            .any(|note| note.contains("tie_word_embeddings"))
    );
    check_middle(
        &out,
        HEAD,
        &llama(1, false, 1)[TABLE],
        &llama(1, true, 2)[HEAD],
    );
    // A head that repeats the table stays tied.
    let mut repeats = llama(1, false, 2);
    repeats.insert(HEAD.to_owned(), repeats[TABLE].clone());
    world.add("a", &tied, &repeats);
    let (out, _) = world.merged(TIES);
    assert_eq!(config(&out), tied_as_written(&tied));
    assert!(!out.contains(HEAD));
    // Where only the architecture ties them, the table is said to be taken.
    world.add("base", &json!({}), &llama(1, true, 1));
    world.add("a", &json!({}), &llama(1, false, 2));
    let (_, notes) = world.merged(TIES);
    assert!(
        notes
            .iter()
            .any(|n| n.contains("`a` has no `lm_head.weight`")),
        "{notes:?}"
    );
    // A table is not its head, unless the configuration says so.
    let mut bare = llama(1, true, 2);
    bare.remove(TABLE);
    world.add("a", &json!({}), &bare);
    assert!(world.refused(TIES).contains(TABLE));
    world.add("a", &json!({"tie_word_embeddings": true}), &bare);
    check_middle(
        &world.merged(TIES).0,
        TABLE,
        &llama(1, true, 1)[TABLE],
        &bare[HEAD],
    );
    // A head that the configuration promises and the file lacks is lost.
    world.add(
        "base",
        &json!({"tie_word_embeddings": false}),
        &llama(1, true, 1),
    );
    world.add(
        "a",
        &json!({"tie_word_embeddings": false}),
        &llama(1, false, 2),
    );
    let said = world.refused(TIES);
    assert!(said.contains(HEAD) && said.contains("`a`"), "{said}");
}

fn tied_as_written(config: &Value) -> Value {
    let mut config = config.clone();
    config["torch_dtype"] = json!("float32");
    config
}

#[test]
fn tied_tensors_of_other_families_stand_for_each_other() {
    let world = World::new();
    for (with, without) in [
        ("lm_head.weight", "shared.weight"),
        ("encoder.embed_tokens.weight", "shared.weight"),
        ("proj_out.weight", "model.decoder.embed_tokens.weight"),
        (
            "cls.predictions.decoder.weight",
            "bert.embeddings.word_embeddings.weight",
        ),
        ("cls.predictions.decoder.bias", "cls.predictions.bias"),
    ] {
        let base = tensors(
            &[
                (without, &[6, 4]),
                (with, &[6, 4]),
                ("encoder.layer.0.a.weight", &[4]),
            ],
            1,
        );
        let other = tensors(&[(without, &[6, 4]), ("encoder.layer.0.a.weight", &[4])], 9);
        world
            .add("base", &json!({}), &base)
            .add("a", &json!({}), &other);
        let (out, _) = world.merged(TIES);
        check_middle(&out, with, &base[with], &other[without]);
    }
}

#[test]
fn files_that_the_donor_needs_come_along() {
    let world = World::new();
    let named =
        json!({"auto_map": {"AutoModel": "modeling_x.X", "AutoConfig": "configuration_x.X"}});
    world
        .add("base", &named, &llama(1, true, 1))
        .add("a", &named, &llama(1, true, 2));
    let along = [
        "modeling_x.py",
        "parts/attention.py",
        "tokenization_x.py",
        "qwen.tiktoken",
        "tokenizer.model",
        "vocab.bpe",
        "merges.txt",
        "preprocessor_config.json",
        "chat_template.jinja",
        "additional_chat_templates/tool.jinja",
        "special_tokens_map.json",
    ];
    for file in along {
        world.file(&format!("base/{file}"), "from .parts.attention import A\n");
    }
    for file in ["README.md", "trainer_state.json", "other/x.py", "notes.txt"] {
        world.file(&format!("base/{file}"), "{}");
    }
    let (out, notes) = world.merged(TIES);
    let dir = out.location();
    for file in along {
        assert!(Path::new(&dir).join(file).is_file(), "{file}");
    }
    for file in ["README.md", "trainer_state.json", "other/x.py", "notes.txt"] {
        assert!(!Path::new(&dir).join(file).exists(), "{file}");
    }
    assert!(
        notes.iter().any(|note| note.contains("configuration_x.py")),
        "{notes:?}"
    );
}

#[test]
fn quantised_models_are_called_so() {
    let world = World::new();
    let packed = |name: &str| {
        let mut all = llama(1, true, 1);
        all.insert(name.to_owned(), tensor(&[4], 1));
        all
    };
    let method = |method: &str| json!({"quantization_config": {"quant_method": method, "load_in_4bit": true}});
    for (config, tensors, words) in [
        (
            method("bitsandbytes"),
            packed("model.layers.0.mlp.up_proj.weight.absmax"),
            "bitsandbytes",
        ),
        (
            method("gptq"),
            packed("model.layers.0.mlp.up_proj.qweight"),
            "gptq",
        ),
        (
            method("fp8"),
            packed("model.layers.0.mlp.up_proj.weight_scale_inv"),
            "fp8",
        ),
        (
            json!({}),
            packed("model.layers.0.mlp.up_proj.qzeros"),
            "qzeros",
        ),
    ] {
        world
            .add("base", &config, &tensors)
            .add("a", &json!({}), &llama(1, true, 2));
        for yaml in [TIES, "merge_method: passthrough\nmodels: [{model: base}]\n"] {
            let said = world.refused(yaml);
            assert!(
                said.contains("base: the weights are quantised") && said.contains(words),
                "{said}"
            );
        }
    }
    // Weights that are numbers may be packed by the program that loads them.
    world.add("base", &method("bitsandbytes"), &llama(1, true, 1));
    world.merged(TIES);
}

#[test]
fn tokens_in_another_order_are_said() {
    let world = World::new();
    world
        .add("base", &json!({}), &llama(1, true, 1))
        .add("a", &json!({}), &llama(1, true, 2))
        .tokenizer("base", &["t0", "t1", "t2", "t3", "t4", "t5"])
        .tokenizer("a", &["t0", "t2", "t1", "t3", "t4", "new"]);
    let (_, notes) = world.merged(TIES);
    let said = notes
        .iter()
        .find(|note| note.contains("3 numbers"))
        .expect("a note");
    assert!(
        said.contains("1 is `t1` and `t2`") && said.contains("union"),
        "{said}"
    );
    world.tokenizer("a", &["t0", "t1", "t2", "t3", "t4"]);
    assert_eq!(world.merged(TIES).1, [""; 0]);
}
