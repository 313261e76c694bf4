//! Folders as people publish them: what a file in them says is what is computed.

mod support;

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use support::write_requests;
use support::{Tensors, edit_json, feed, fixtures, folder, folder_copy, json as object};
use support::{likelihoods, model_copy, records, run_in, status, stderr, stdout, town_requests};

const WEIGHTS: &str = "model.safetensors";

/// A copy of a fixture that may be changed, in a folder that goes with it.
struct Copy {
    _work: tempfile::TempDir,
    dir: PathBuf,
}

impl Copy {
    fn of(case: &str) -> Option<Self> {
        let fixtures = fixtures()?;
        let work = folder();
        let dir = folder_copy(&fixtures.join(case), &work.path().join("model"));
        Some(Self { _work: work, dir })
    }

    fn embedded(name: &str) -> Self {
        let work = folder();
        let dir = model_copy(name, work.path());
        Self { _work: work, dir }
    }

    fn edit(&self, file: &str, change: impl Fn(&mut Value)) {
        edit_json(&self.dir.join(file), change);
    }

    fn write(&self, file: &str, content: &str) {
        fs::write(self.dir.join(file), content).expect("writable");
    }

    fn tensors(&self, change: impl Fn(&mut Tensors)) {
        let mut tensors = Tensors::read(&self.dir.join(WEIGHTS));
        change(&mut tensors);
        tensors.write(&self.dir.join(WEIGHTS));
    }

    /// Sums of log-likelihoods, and what was said on standard error.
    fn scored(&self, items: &[Value], more: &[&str]) -> (Vec<f64>, String) {
        let (lines, said) = self.lines(items, more);
        let sums = lines
            .iter()
            .map(|line| line["sum"].as_f64().expect("a sum"));
        (sums.collect(), said)
    }

    fn lines(&self, items: &[Value], more: &[&str]) -> (Vec<Value>, String) {
        let output = self.score(items, more);
        assert_eq!(status(&output), 0, "{}", stderr(&output));
        let lines = stdout(&output);
        let lines = lines
            .lines()
            .map(|line| serde_json::from_str(line).expect("JSON"));
        (lines.collect(), stderr(&output))
    }

    fn score(&self, items: &[Value], more: &[&str]) -> std::process::Output {
        let given: Vec<String> = items.iter().map(Value::to_string).collect();
        let dir = self.dir.to_str().expect("UTF-8");
        let args = ["score", "--model", dir, "--images", dir];
        feed(
            &self.dir,
            &[&args, more].concat(),
            given.join("\n").as_bytes(),
        )
    }
}

fn items() -> Vec<Value> {
    vec![
        json!({"id": 1, "prompt": "The nurse said that the judge was", "answer": "a kind old teacher"}),
        json!({"id": 2, "prompt": "Who is it?", "answer": "a nurse"}),
    ]
}

fn pictured() -> Vec<Value> {
    let mut items = items();
    items[1]["image"] = json!("image_0.png");
    items
}

fn assert_near(found: &[f64], expected: &[f64], what: &str) {
    assert_eq!(found.len(), expected.len(), "{what}");
    for (a, b) in found.iter().zip(expected) {
        assert!((a - b).abs() < 1e-3, "{what}: {found:?}, not {expected:?}");
    }
}

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

/// One that takes parts, and writes its placeholder itself.
const TEMPLATE: &str = "{% for m in messages %}<{{ m['role'] }}>{% for c in m['content'] %}\
    {% if c['type'] == 'image' %}PICTURE{% else %}{{ c['text'] }}{% endif %}{% endfor %}\
    {% endfor %}{% if add_generation_prompt %}<answer>{% endif %}";

/// One that takes text alone.
const TEXT: &str =
    "{% for m in messages %}[{{ m['role'] }}]{{ m['content'] + '' }}{% endfor %}[answer]";

#[test]
fn a_multimodal_folders_own_template_stands_around_prompts() {
    for (case, written, placed, turn) in [
        ("llava", "<image>", "<image>", "<image>\n"),
        (
            "internvl",
            "<IMG_CONTEXT>",
            "<img><IMG_CONTEXT></img>",
            "<img><IMG_CONTEXT></img>\n",
        ),
        (
            "internvl_chat",
            "<image>",
            "<img><IMG_CONTEXT></img>",
            "<img><IMG_CONTEXT></img>\n",
        ),
        ("blip2_opt", "<image>", "<ImageHere>", "<ImageHere>\n"),
    ] {
        let Some(copy) = Copy::of(case) else { return };
        let [text, mut picture] = [0, 1].map(|at| items()[at].clone());
        picture["image"] = json!("image_0.png");
        let own = copy.scored(&[text.clone(), picture.clone()], &[]);
        let raw = |prompts: [String; 2]| {
            let mut given = [text.clone(), picture.clone()];
            for (item, prompt) in given.iter_mut().zip(prompts) {
                item["prompt"] = json!(prompt);
            }
            copy.scored(&given, &["--raw"])
        };
        let said = |item: &Value| item["prompt"].as_str().expect("a text").to_owned();
        for (file, content, expected) in [
            (
                "chat_template.jinja",
                TEMPLATE.replace("PICTURE", written),
                [
                    format!("<user>{}<answer>", said(&text)),
                    format!("<user>{placed}{}<answer>", said(&picture)),
                ],
            ),
            (
                "chat_template.json",
                json!({"chat_template": TEXT}).to_string(),
                [
                    format!("[user]{}[answer]", said(&text)),
                    format!("[user]{turn}{}[answer]", said(&picture)),
                ],
            ),
        ] {
            copy.write(file, &content);
            let (lines, _) = copy.lines(&[text.clone(), picture.clone()], &[]);
            let sums: Vec<f64> = lines
                .iter()
                .map(|l| l["sum"].as_f64().expect("a sum"))
                .collect();
            assert_near(&sums, &raw(expected).0, case);
            assert_ne!(sums, own.0, "{case}");
            assert!(lines.iter().all(|line| line["template"] == file), "{case}");
            fs::remove_file(copy.dir.join(file)).expect("is there");
        }
        assert_eq!(
            copy.scored(&[text.clone(), picture.clone()], &[]),
            own,
            "{case}"
        );
    }
}

#[test]
fn a_prompt_that_says_where_its_picture_goes_is_put_as_it_is() {
    let Some(copy) = Copy::of("llava") else {
        return;
    };
    let item = json!({
        "id": 1, "prompt": "USER: <image>\nWho is it? ASSISTANT:", "answer": "a nurse",
        "image": "image_0.png"
    });
    let right = copy.scored(&[item.clone()], &["--raw"]);
    copy.write(
        "chat_template.jinja",
        &TEMPLATE.replace("PICTURE", "<image>"),
    );
    assert_eq!(copy.scored(&[item], &[]), right);
}

#[test]
fn the_original_internvl_opens_as_its_configuration_says() {
    let Some(copy) = Copy::of("internvl_chat") else {
        return;
    };
    copy.edit("config.json", |config| {
        config["template"] = json!("internvl2_5")
    });
    let system = "<|im_start|>system\n你是书生·万象，英文名是InternVL，是由上海人工智能实验室、清华大学及多家合作单位联合开发的多模态大语言模型。<|im_end|>\n";
    let [text, mut picture] = [0, 1].map(|at| items()[at].clone());
    picture["image"] = json!("image_0.png");
    let (lines, _) = copy.lines(&[text.clone(), picture.clone()], &[]);
    let given = [(text, ""), (picture, "<img><IMG_CONTEXT></img>\n")].map(|(mut item, turn)| {
        let said = item["prompt"].as_str().expect("a text");
        item["prompt"] = json!(format!(
            "{system}<|im_start|>user\n{turn}{said}<|im_end|>\n<|im_start|>assistant\n"
        ));
        item
    });
    let sums: Vec<f64> = lines
        .iter()
        .map(|l| l["sum"].as_f64().expect("a sum"))
        .collect();
    assert_near(&sums, &copy.scored(&given, &["--raw"]).0, "internvl2_5");
    assert!(lines.iter().all(|line| line["template"] == "internvl2_5"));
}

#[test]
fn edits_see_the_template_and_their_cells_say_so() {
    let copy = Copy::embedded("tiny-blip2");
    let work = folder();
    let requests = &town_requests("vqa_eval.json")[..2];
    let file = write_requests(work.path(), "vqa.json", requests);
    let file: Vec<&str> = file.iter().map(String::as_str).collect();
    let edited = |dir: &Path| {
        let args = [
            "--model",
            dir.to_str().expect("UTF-8"),
            "--editor",
            "nothing",
            "--set",
            "filter.contexts=0",
            "--json",
        ];
        let found = object(&run_in(
            work.path(),
            &[&["edit"], &file[..], &args].concat(),
        ));
        let lines = records(work.path(), &found, 0);
        (found["cells"][0].clone(), likelihoods(&lines[0]["before"]))
    };
    let (plain, right) = edited(&copy.dir);
    assert_eq!(plain["template"], Value::Null);
    // One that puts nothing around a turn and its picture in front, as the family does by itself.
    let bare = "{% for part in messages[0].content %}\
        {{ '<image>' if part.type == 'image' else part.text }}{% endfor %}";
    copy.write("chat_template.jinja", bare);
    let (framed, same) = edited(&copy.dir);
    assert_eq!(framed["template"], "chat_template.jinja");
    assert_ne!(framed["key"], plain["key"]);
    assert_near(&same, &right, "the same text");
    copy.write("chat_template.jinja", &format!("Say: {bare} Now:"));
    let (other, found) = edited(&copy.dir);
    assert_ne!(other["key"], framed["key"]);
    assert!((found[0] - right[0]).abs() > 1e-3, "{found:?} {right:?}");
}
