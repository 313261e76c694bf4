//! Checkpoints as people have them: tensors that only some of them have, two spellings, tied heads,
//! added tokens, code beside the weights.

mod support;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use debias_merge::{Error, Folders, Options, Planned, Recipe, Unwatched};
use debias_weights::{Checkpoint, Tensor, write_folder};
use serde_json::{Value, json};

const TABLE: &str = "model.embed_tokens.weight";
const HEAD: &str = "lm_head.weight";
const TIES: &str = "merge_method: task_arithmetic\nbase_model: base\nmodels:\n- model: a\n  parameters: {weight: 0.5}\n";

type Tensors = BTreeMap<String, Tensor>;

/// Reproducible numbers of a shape.
fn tensor(shape: &[usize], salt: usize) -> Tensor {
    let len = shape.iter().product::<usize>();
    let value = |i: usize| ((i * 37 + salt * 11) % 23) as f32 / 23.0 - 0.4;
    Tensor {
        shape: shape.to_vec(),
        values: (0..len).map(value).collect(),
    }
}

fn tensors(shapes: &[(&str, &[usize])], salt: usize) -> Tensors {
    let each = shapes.iter().enumerate();
    each.map(|(at, (name, shape))| ((*name).to_owned(), tensor(shape, salt + at)))
        .collect()
}

/// A small LLaMA of so many layers, with or without a head.
fn llama(layers: usize, head: bool, salt: usize) -> Tensors {
    let mut all = tensors(&[(TABLE, &[6, 4]), ("model.norm.weight", &[4])], salt);
    if head {
        all.insert(HEAD.to_owned(), tensor(&[6, 4], salt + 5));
    }
    for layer in 0..layers {
        for part in ["mlp.up_proj", "self_attn.q_proj"] {
            let name = format!("model.layers.{layer}.{part}.weight");
            all.insert(name, tensor(&[4, 4], salt + layer));
        }
    }
    all
}

/// A folder of models.
struct World(tempfile::TempDir);

impl World {
    fn new() -> Self {
        Self(tempfile::tempdir().expect("a folder"))
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    fn add(&self, name: &str, config: &Value, tensors: &Tensors) -> &Self {
        let dir = self.path().join(name);
        let _ = fs::remove_dir_all(&dir);
        let config = ("config.json".to_owned(), config.to_string().into_bytes());
        write_folder(&dir, &[config], tensors, false).expect("a checkpoint");
        self
    }

    fn file(&self, path: &str, content: &str) -> &Self {
        let path = self.path().join(path);
        fs::create_dir_all(path.parent().expect("a folder")).expect("made");
        fs::write(path, content).expect("written");
        self
    }

    fn tokenizer(&self, model: &str, tokens: &[&str]) -> &Self {
        let ids: BTreeMap<_, _> = tokens.iter().enumerate().map(|(id, t)| (*t, id)).collect();
        let file = json!({"added_tokens": [], "model": {"type": "WordLevel", "vocab": ids}});
        self.file(&format!("{model}/tokenizer.json"), &file.to_string())
    }

    fn adapter(&self, name: &str, tensors: &Tensors) -> &Self {
        let config = json!({"peft_type": "LORA", "r": 2, "lora_alpha": 4});
        let _ = fs::remove_dir_all(self.path().join(name));
        support::adapter(&self.path().join(name), &config, tensors);
        self
    }

    /// The merged folder, and what was said.
    fn merge(&self, yaml: &str) -> Result<(Checkpoint, Vec<String>), Error> {
        let library = Folders::below([self.path().to_owned()]);
        let recipe = Recipe::parse(yaml, "recipe.yaml", &|name| library.has(name))?;
        let planned = Planned::new(recipe, &library, Options::default())?;
        let out = tempfile::tempdir_in(self.path()).expect("a folder").keep();
        let out = out.join("merged");
        planned.write(&out, false, &Unwatched)?;
        let notes = planned.notes().map(str::to_owned).collect();
        Ok((Checkpoint::open(&out).expect("our own folder"), notes))
    }

    fn merged(&self, yaml: &str) -> (Checkpoint, Vec<String>) {
        self.merge(yaml)
            .unwrap_or_else(|error| panic!("{yaml}: {error}"))
    }

    fn refused(&self, yaml: &str) -> String {
        let error = self.merge(yaml).err().unwrap_or_else(|| panic!("{yaml}"));
        let error = error.to_string();
        assert!(!error.contains('\n'), "{error}");
        error
    }
}

fn values(checkpoint: &Checkpoint, name: &str) -> Vec<f32> {
    let shape = checkpoint.info(name).expect(name).shape.clone();
    checkpoint.f32(name, &shape).expect(name)
}

fn config(checkpoint: &Checkpoint) -> Value {
    checkpoint.json("config.json").expect("a configuration")
}

/// The tensor half way from one to another.
fn check_middle(out: &Checkpoint, name: &str, base: &Tensor, other: &Tensor) {
    let got = values(out, name);
    let want = base
        .values
        .iter()
        .zip(&other.values)
        .map(|(b, a)| b + 0.5 * (a - b));
    for (got, want) in got.iter().zip(want) {
        assert!((got - want).abs() < 1e-6, "{name}: {got} for {want}");
    }
}

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
    type Spelling = fn(&str) -> String;
    let cases: [(&[(&str, &[usize])], Spelling); 4] = [
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
        let product: f32 = (0..2)
            .map(|r| b.values[row * 2 + r] * a.values[r * 4 + column])
            .sum();
        let want = base[TABLE].values[at] + 2.0 * product;
        assert!((got - want).abs() < 1e-5, "{got} for {want}");
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
    // The base beside it has other rows; a union of tokenizers gives both the same.
    let with_base = format!(
        "base_model: base\n{}",
        yaml.replace("linear", "task_arithmetic")
    );
    let error = world
        .merge(&with_base)
        .err()
        .expect("other rows")
        .to_string();
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
