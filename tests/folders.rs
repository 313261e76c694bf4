//! Folders as people publish them: what a file in them says is what is computed.

mod support;

use std::fs;

use serde_json::{Value, json};
use support::published::{Copy, WEIGHTS, assert_near, items, pictured};
use support::{Tensors, fixtures, folder, folder_copy, run_in, status, stderr, stdout};
use support::{town_requests, write_requests};

#[test]
fn an_end_token_behind_every_text_is_no_part_of_prompt_or_answer() {
    let Some(copy) = Copy::of("llama2") else {
        return;
    };
    let generated = |copy: &Copy| {
        let dir = copy.dir.to_str().expect("UTF-8");
        let args = [
            "generate",
            "--raw",
            "--model",
            dir,
            "--prompt",
            "The nurse",
            "--json",
        ];
        stdout(&run_in(&copy.dir, &args))
    };
    let (right, text) = (copy.scored(&items(), &["--raw"]), generated(&copy));
    copy.edit("tokenizer.json", |tokenizer| {
        let end = json!({"SpecialToken": {"id": "</s>", "type_id": 0}});
        let template = &mut tokenizer["post_processor"];
        let single = template["single"].as_array_mut().expect("pieces");
        single.push(end);
        template["special_tokens"]["</s>"] = json!({"id": "</s>", "ids": [2], "tokens": ["</s>"]});
    });
    assert_eq!(copy.scored(&items(), &["--raw"]), right);
    assert_eq!(generated(&copy), text);
}

/// Text models whose configuration ties the head, and the names of head and table.
const TIED: [(&str, &str, &str); 6] = [
    ("gpt2", "lm_head.weight", "wte.weight"),
    ("gpt_neo", "lm_head.weight", "transformer.wte.weight"),
    ("opt", "lm_head.weight", "model.decoder.embed_tokens.weight"),
    (
        "opt_postnorm",
        "lm_head.weight",
        "decoder.embed_tokens.weight",
    ),
    ("llama3", "lm_head.weight", "model.embed_tokens.weight"),
    ("qwen2", "lm_head.weight", "model.embed_tokens.weight"),
];

impl Copy {
    /// Gives the file the head `head`: its table `times` over.
    fn put_head(&self, head: &str, table: &str, times: f32) {
        self.tensors(|tensors| {
            if tensors.header.contains_key(head) {
                tensors.remove(head);
            }
            let values = tensors.floats(table);
            let values = values
                .iter()
                .flat_map(|value| (value * times).to_le_bytes());
            let entry = json!({"dtype": "F32", "shape": tensors.header[table]["shape"]});
            tensors.put(head, entry, &values.collect::<Vec<u8>>());
        });
    }

    fn tie(&self, within: &str, tied: bool) {
        self.edit("config.json", |config| {
            let place = config.pointer_mut(within).expect("an object");
            place["tie_word_embeddings"] = json!(tied);
        });
    }
}

#[test]
fn the_head_in_the_file_is_used_though_the_configuration_ties_it() {
    for (case, head, table) in TIED {
        let Some(copy) = Copy::of(case) else { return };
        copy.tie("", true);
        let tied = copy.scored(&items(), &["--raw"]);
        assert_eq!(tied.1, "", "{case}");
        // A head that repeats the table is the table.
        copy.put_head(head, table, 1.0);
        assert_eq!(copy.scored(&items(), &["--raw"]), tied, "{case}");
        copy.put_head(head, table, 1.5);
        let (sums, said) = copy.scored(&items(), &["--raw"]);
        assert_eq!(said.lines().count(), 1, "{said}");
        assert!(
            said.contains(&format!("holds another `{head}`, which is used")),
            "{said}"
        );
        copy.tie("", false);
        let untied = copy.scored(&items(), &["--raw"]);
        assert_eq!((&sums, ""), (&untied.0, untied.1.as_str()), "{case}");
        assert!((sums[0] - tied.0[0]).abs() > 0.1, "{case}");
    }
}

#[test]
fn so_is_that_of_the_language_side() {
    for (case, within) in [
        ("llava", "/text_config"),
        ("llava", ""),
        ("internvl", ""),
        ("internvl_chat", "/llm_config"),
        ("internvl_chat_qwen2", "/llm_config"),
        ("blip2_llama", "/text_config"),
        ("glm4v_9b", ""),
    ] {
        let Some(copy) = Copy::of(case) else { return };
        let (untied, said) = copy.scored(&pictured(), &[]);
        assert_eq!(said, "", "{case}");
        copy.tie(within, true);
        let (sums, said) = copy.scored(&pictured(), &[]);
        assert_eq!(sums, untied, "{case}");
        assert!(said.contains("which is used"), "{case}: {said}");
    }
}

#[test]
fn a_saved_edit_of_a_table_that_the_file_holds_twice_is_in_both_places() {
    let copy = Copy::embedded("tiny-blip2");
    let (head, table) = (
        "language_model.lm_head.weight",
        "language_model.model.decoder.embed_tokens.weight",
    );
    copy.put_head(head, table, 1.0);
    let work = folder();
    // An external editor that adds one to the first value of the table.
    let mut before = Tensors::read(&copy.dir.join(WEIGHTS));
    let mut values = vec![0.0f32; before.floats(table).len()];
    values[0] = 1.0;
    let entry = json!({"dtype": "F32", "shape": before.header[table]["shape"]});
    let values = values.iter().flat_map(|value| value.to_le_bytes());
    let mut delta = Tensors::default();
    delta.put(table, entry, &values.collect::<Vec<u8>>());
    delta.write(&work.path().join("delta.safetensors"));
    fs::write(work.path().join("editor.sh"), ANSWERING).expect("writable");
    let requests = &town_requests("vqa_eval.json")[..1];
    let file = write_requests(work.path(), "vqa.json", requests);
    let file: Vec<&str> = file.iter().map(String::as_str).collect();
    let args = [
        "--model",
        copy.dir.to_str().expect("UTF-8"),
        "--command",
        "sh editor.sh",
        "--set",
        "filter.contexts=0",
        "--save",
        "saved",
    ];
    let output = run_in(work.path(), &[&["edit"], &file[..], &args].concat());
    assert_eq!(status(&output), 0, "{}", stderr(&output));
    let mut saved = Tensors::read(&work.path().join("saved").join(WEIGHTS));
    assert_eq!(saved.floats(head), saved.floats(table));
    assert_eq!(saved.floats(table)[0], before.floats(table)[0] + 1.0);
}

/// Answers every edit with the change in `delta.safetensors`.
const ANSWERING: &str = r#"while read -r line; do
  case "$line" in *'"op":"edit"'*)
    id=$(printf '%s' "$line" | sed 's/.*"op":"edit","id":"\([^"]*\)".*/\1/')
    printf '{"id":"%s","weights":"delta.safetensors"}\n' "$id" ;;
  esac
done"#;

#[test]
fn the_configuration_is_read_whole() {
    let Some(copy) = Copy::of("qwen2") else {
        return;
    };
    let plain = copy.scored(&items(), &["--raw"]);
    let windows = |first: usize, kinds: Value| {
        copy.edit("config.json", |config| {
            config["use_sliding_window"] = json!(true);
            config["sliding_window"] = json!(3);
            config["max_window_layers"] = json!(first);
            config["layer_types"] = kinds.clone();
        });
        copy.scored(&items(), &["--raw"])
    };
    let (full, sliding) = ("full_attention", "sliding_attention");
    let depth = Tensors::read(&copy.dir.join(WEIGHTS));
    let norms = depth.names();
    let depth = norms
        .iter()
        .filter(|n| n.ends_with("input_layernorm.weight"))
        .count();
    let kinds = |first: usize| (0..depth).map(move |i| if i < first { full } else { sliding });
    let second = windows(1, Value::Null);
    assert_ne!(second.0, plain.0);
    // The list goes before the number.
    assert_eq!(windows(9, kinds(1).collect()), second);
    assert_eq!(windows(0, kinds(depth).collect()), plain);
    for (kinds, said) in [
        (json!([full]), "names 1 layers"),
        (
            kinds(0).map(|_| "chunked_attention").collect(),
            "known: full_attention",
        ),
    ] {
        copy.edit("config.json", |config| {
            config["layer_types"] = kinds.clone()
        });
        let output = copy.score(&items(), &["--raw"]);
        assert_eq!(status(&output), 4);
        assert!(stderr(&output).contains(said), "{}", stderr(&output));
    }
}

#[test]
fn the_base_of_rotary_positions_may_stand_in_three_places() {
    for case in ["llama2", "qwen2"] {
        let Some(copy) = Copy::of(case) else { return };
        let scored = |fields: Value| {
            copy.edit("config.json", |config| {
                for field in ["rope_theta", "rope_scaling", "rope_parameters"] {
                    config[field] = fields[field].clone();
                }
            });
            copy.scored(&items(), &["--raw"])
        };
        let plain = scored(json!({"rope_theta": 555.0}));
        let linear = scored(json!({
            "rope_theta": 555.0, "rope_scaling": {"rope_type": "linear", "factor": 2.0}
        }));
        assert_ne!(plain.0, linear.0);
        let within = json!({"rope_type": "default", "rope_theta": 555.0});
        let stretched = json!({"type": "linear", "factor": 2.0, "rope_theta": 555.0});
        let other = json!({"rope_type": "default", "rope_theta": 9.0});
        for (fields, expected) in [
            (json!({"rope_parameters": within}), &plain),
            (json!({"rope_scaling": within}), &plain),
            (json!({"rope_scaling": within, "rope_theta": 9.0}), &plain),
            (
                json!({"rope_scaling": {}, "rope_parameters": within}),
                &plain,
            ),
            (
                json!({"rope_scaling": stretched, "rope_parameters": other}),
                &linear,
            ),
        ] {
            assert_eq!(&scored(fields.clone()), expected, "{case} {fields}");
        }
        copy.edit("config.json", |config| {
            config["rope_scaling"] = Value::Null;
            config["rope_parameters"] = json!({"full_attention": within});
        });
        let output = copy.score(&items(), &["--raw"]);
        assert_eq!(status(&output), 4);
        assert!(
            stderr(&output).contains("rope_parameters.full_attention"),
            "{}",
            stderr(&output)
        );
    }
}

#[test]
fn one_architecture_under_either_of_its_spellings_is_one_model() {
    for (case, prefix) in [
        ("llama2", "model."),
        ("llama3", "model."),
        ("qwen2", "model."),
        ("gpt_neo", "transformer."),
        ("opt", "model."),
    ] {
        let Some(copy) = Copy::of(case) else { return };
        let right = copy.scored(&items(), &["--raw"]);
        copy.tensors(|tensors| {
            for name in tensors.names() {
                if let Some(bare) = name.strip_prefix(prefix) {
                    let entry = tensors.header.remove(&name).expect("is there");
                    tensors.header.insert(bare.to_owned(), entry);
                }
            }
        });
        assert_eq!(copy.scored(&items(), &["--raw"]), right, "{case}");
    }
}

#[test]
fn values_of_64_bits_are_read() {
    let Some(copy) = Copy::of("llama2") else {
        return;
    };
    let (right, _) = copy.scored(&items(), &["--raw"]);
    copy.tensors(|tensors| {
        for name in tensors.names() {
            let values = tensors.floats(&name);
            let bytes = values
                .iter()
                .flat_map(|value| f64::from(*value).to_le_bytes());
            let entry = json!({"dtype": "F64", "shape": tensors.header[&name]["shape"]});
            tensors.remove(&name);
            tensors.put(&name, entry, &bytes.collect::<Vec<u8>>());
        }
    });
    assert_near(&copy.scored(&items(), &["--raw"]).0, &right, "F64");
}

#[test]
fn an_index_goes_before_a_stray_file() {
    let Some(copy) = Copy::of("blip2_opt") else {
        return;
    };
    let right = copy.scored(&pictured(), &[]);
    copy.write(WEIGHTS, "\u{2}\0\0\0\0\0\0\0{}");
    let (sums, said) = copy.scored(&pictured(), &[]);
    assert_eq!(sums, right.0);
    assert_eq!(said.lines().count(), 1, "{said}");
    assert!(said.contains("the shards of the index are read"), "{said}");
}

#[test]
fn the_pixels_settings_may_stand_in_the_processors_file() {
    for case in ["blip2_opt", "llava", "internvl"] {
        let Some(copy) = Copy::of(case) else { return };
        let right = copy.scored(&pictured(), &[]);
        let old = copy.dir.join("preprocessor_config.json");
        let settings: Value =
            serde_json::from_slice(&fs::read(&old).expect("is there")).expect("JSON");
        copy.write(
            "processor_config.json",
            &json!({"image_processor": settings}).to_string(),
        );
        // It goes before the older file, as in transformers.
        copy.write("preprocessor_config.json", "{}");
        assert_eq!(copy.scored(&pictured(), &[]), right, "{case}");
        fs::remove_file(old).expect("is there");
        assert_eq!(copy.scored(&pictured(), &[]), right, "{case}");
        copy.edit("processor_config.json", |whole| {
            whole["image_processor"]["resample"] = json!("x");
        });
        let output = copy.score(&pictured(), &[]);
        assert_eq!(status(&output), 4);
        assert!(
            stderr(&output).contains("processor_config.json: "),
            "{}",
            stderr(&output)
        );
        fs::remove_file(copy.dir.join("processor_config.json")).expect("is there");
        let output = copy.score(&pictured(), &[]);
        let said = stderr(&output);
        assert!(
            said.contains("preprocessor_config.json is missing"),
            "{said}"
        );
    }
}

#[test]
fn a_token_without_a_row_is_refused_where_a_line_has_it() {
    let Some(copy) = Copy::of("gpt2") else { return };
    let right = copy.scored(&items(), &["--raw"]);
    copy.edit("tokenizer.json", |tokenizer| {
        let added = tokenizer["added_tokens"].as_array_mut().expect("a list");
        added.push(json!({
            "id": 480, "content": "<spare>", "single_word": false, "lstrip": false,
            "rstrip": false, "normalized": false, "special": true
        }));
    });
    assert_eq!(copy.scored(&items(), &["--raw"]), right);
    let line = json!({"id": 1, "prompt": "Who <spare> is it?", "answer": "a nurse"});
    let said = stderr(&copy.score(&[line], &["--raw"]));
    assert!(
        said.contains("has the token `<spare>` of number 480"),
        "{said}"
    );
}

#[test]
fn sentence_encoders_of_newer_versions_embed_as_older_ones() {
    let Some(copy) = Copy::of("bert_sentence") else {
        return;
    };
    let Some(fixtures) = fixtures() else { return };
    let from = fixtures.join("bert_sentence/1_Pooling");
    folder_copy(&from, &copy.dir.join("1_Pooling"));
    let embed = |text: &str| {
        let dir = copy.dir.to_str().expect("UTF-8");
        let output = run_in(&copy.dir, &["embed", "--model", dir, "--text", text]);
        (status(&output), stdout(&output), stderr(&output))
    };
    let mode = |mode: Value| {
        copy.write(
            "1_Pooling/config.json",
            &json!({"pooling_mode": mode}).to_string(),
        );
        embed("She is tired.")
    };
    let old = |field: &str| {
        copy.write("1_Pooling/config.json", &json!({field: true}).to_string());
        embed("She is tired.")
    };
    let names = [
        ("mean", "pooling_mode_mean_tokens"),
        ("cls", "pooling_mode_cls_token"),
        ("max", "pooling_mode_max_tokens"),
    ];
    for (new, field) in names {
        let right = old(field);
        assert_eq!(right.0, 0, "{}", right.2);
        assert_eq!(mode(json!(new)), right, "{new}");
        assert_eq!(mode(json!([new])), right, "{new}");
    }
    for refused in [json!("lasttoken"), json!(["mean", "cls"])] {
        let (status, _, said) = mode(refused);
        assert_eq!(status, 4);
        assert!(
            said.contains("supported, each alone: cls, mean, max"),
            "{said}"
        );
    }
    mode(json!("mean"));
    let right = embed("passage: She is tired.");
    let prompts = json!({"prompts": {"passage": "passage: "}, "default_prompt_name": "passage"});
    copy.write("config_sentence_transformers.json", &prompts.to_string());
    assert_eq!(embed("She is tired."), right);
    copy.write(
        "config_sentence_transformers.json",
        r#"{"default_prompt_name": "query"}"#,
    );
    let (status, _, said) = embed("She is tired.");
    assert_eq!(status, 4);
    assert!(said.contains("`query` is none of `prompts`"), "{said}");
}
