//! How the multimodal families turn prompts into rows, and under which names they load: what
//! `golden.rs` does not compare.
//!
//! The cases lie in the folder named by `DEBIAS_BENCH_FIXTURES` (`models/<case>/`). Without it the
//! tests say so and pass; under CI they fail.

use std::path::PathBuf;

use burn::tensor::{Device, TensorData};
use debias_core::Picture;
use debias_model::{
    Batch, ImageRef, Model, Parameters, Question, Result, Row, Style, View, Weights, host,
    open_folder,
};
use debias_weights::Checkpoint;
use serde_json::{Value, json};
use tempfile::TempDir;

const MULTIMODAL: [&str; 8] = [
    "blip2_llama",
    "blip2_opt",
    "glm4v_9b",
    "internvl",
    "internvl_chat",
    "internvl_chat_qwen2",
    "llava",
    "minigpt4",
];

/// The folder of case `name`, or a report why it is skipped.
fn folder(name: &str) -> Option<PathBuf> {
    let Some(root) = std::env::var_os("DEBIAS_BENCH_FIXTURES") else {
        assert!(
            std::env::var_os("CI").is_none(),
            "DEBIAS_BENCH_FIXTURES must be set under CI"
        );
        // Not eprintln!: the test harness swallows it, and a skipped case must be seen.
        let _ = std::io::Write::write_all(
            &mut std::io::stderr(),
            format!("SKIPPED 1 case: {name}: DEBIAS_BENCH_FIXTURES is not set\n").as_bytes(),
        );
        return None;
    };
    Some(PathBuf::from(root).join("models").join(name))
}

struct Case {
    dir: PathBuf,
    settings: Value,
}

impl Case {
    fn open(name: &str) -> Option<Self> {
        let dir = folder(name)?;
        let settings = std::fs::read_to_string(dir.join("case.json")).expect("case.json");
        let settings = serde_json::from_str(&settings).expect("case.json parses");
        Some(Self { dir, settings })
    }

    fn checkpoint(&self) -> Checkpoint {
        open_folder(&self.dir).expect("the folder opens")
    }

    fn model(&self) -> Model {
        Model::open(&self.checkpoint(), &Device::flex()).expect("the model loads")
    }

    fn prompts(&self) -> impl Iterator<Item = &Value> {
        self.settings["prompts"].as_array().expect("prompts").iter()
    }

    fn picture(&self, prompt: &Value) -> Picture {
        let file = self.dir.join(prompt["image"].as_str().expect("an image"));
        let image = image::open(file).expect("a PNG").to_rgb8();
        let (w, h) = image.dimensions();
        Picture::new(w, h, image.into_raw()).expect("a picture")
    }

    fn id(&self, field: &str) -> Option<u32> {
        Some(self.settings[field].as_u64()? as u32)
    }
}

impl Case {
    /// A copy of the folder with another `config.json`.
    fn configured(&self, change: impl FnOnce(&mut Value)) -> TempDir {
        let copy = tempfile::tempdir().expect("a folder");
        for file in [
            "tokenizer.json",
            "preprocessor_config.json",
            "model.safetensors",
        ] {
            std::fs::copy(self.dir.join(file), copy.path().join(file)).expect("a copy");
        }
        let config = std::fs::read(self.dir.join("config.json")).expect("config.json");
        let mut config: Value = serde_json::from_slice(&config).expect("JSON");
        change(&mut config);
        std::fs::write(copy.path().join("config.json"), config.to_string()).expect("written");
        copy
    }

    /// The row of the first prompt alone, and its logits.
    fn row_and_logits(&self, model: &Model) -> (Row, Vec<f32>) {
        let prompt = self.prompts().next().expect("a prompt");
        let view = View::base();
        let seen = model.see(&[&self.picture(prompt)], &view).expect("it sees");
        let question = Question {
            style: Style::Raw,
            answer: None,
            ..Question::new(
                Some(seen.image_ref(0)),
                prompt["prompt"].as_str().expect("a prompt"),
                "",
            )
        };
        let rows = model.rows(&[question]).expect("a row");
        let batch = Batch::with_pictures(rows.clone(), seen);
        (rows[0].clone(), host::values(model.logits(batch, &view)))
    }
}

fn numbers(value: &Value) -> Vec<u32> {
    let ids = value.as_array().expect("ids").iter();
    ids.map(|id| id.as_u64().expect("an id") as u32).collect()
}

/// The ids as a reference writes them: its image token at each of the vectors' places, or the
/// three ids that GLM-4V replaces.
fn written(ids: &[u32], at: usize, len: usize, case: &Case) -> Vec<u32> {
    let image = match (case.id("image_token_id"), case.id("boi_token_id")) {
        (Some(image), _) => vec![image; len],
        (None, Some(begin)) => {
            let end = case.id("eoi_token_id").expect("an end");
            vec![begin, case.id("pad_token_id").expect("a pad"), end]
        }
        (None, None) => Vec::new(),
    };
    [&ids[..at], &image, &ids[at + len..]].concat()
}

#[test]
fn prompts_become_the_ids_of_the_reference() {
    for name in MULTIMODAL {
        let Some(case) = Case::open(name) else { return };
        let model = case.model();
        for prompt in case.prompts() {
            let (_, tiles) = model.pixels(&[&case.picture(prompt)]).expect("it sees");
            let question = Question {
                picture: Some(ImageRef {
                    index: 0,
                    tiles: tiles[0],
                }),
                prompt: prompt["prompt"].as_str().expect("a prompt"),
                answer: None,
                join: "",
                style: Style::Raw,
            };
            let rows = model.rows(std::slice::from_ref(&question)).expect("a row");
            let span = rows[0].image.expect("a picture");
            let found = written(&rows[0].ids, span.at, span.len, &case);
            assert_eq!(found, numbers(&prompt["prompt_ids"]), "{name}");
            assert_eq!(rows[0].answer_start, rows[0].ids.len());

            let answered = Question {
                answer: prompt["answer"].as_str(),
                ..question
            };
            let answered = model.rows(&[answered]).expect("a row");
            assert_eq!(answered[0].image, rows[0].image, "{name}");
            assert_eq!(answered[0].answer_start, rows[0].ids.len(), "{name}");
        }
    }
}

#[test]
fn a_prompt_has_one_place_for_its_picture() {
    for name in ["llava", "minigpt4"] {
        let Some(case) = Case::open(name) else { return };
        let prompt = case.prompts().next().expect("a prompt");
        let twice = prompt["prompt"].as_str().expect("a prompt").repeat(2);
        let picture = Some(ImageRef { index: 0, tiles: 1 });
        let question = Question::new(picture, &twice, "yes");
        let refused = case.model().rows(&[question]).expect_err("two places");
        assert!(
            refused.to_string().contains("more than one place"),
            "{refused}"
        );
    }
}

#[test]
fn every_edit_site_of_the_cases_is_a_linear_layer() {
    for name in MULTIMODAL {
        let Some(case) = Case::open(name) else { return };
        let model = case.model();
        let sites = case.settings["edit_sites"].as_array().expect("sites");
        assert!(!sites.is_empty());
        for site in sites {
            let site = model
                .parameter(site.as_str().expect("a name"))
                .expect("a site");
            assert!(site.linear.is_some(), "{name}: {}", site.name);
        }
    }
}

/// Weights under other names.
struct Renamed<'a> {
    weights: &'a Checkpoint,
    name: fn(&str) -> String,
}

impl Weights for Renamed<'_> {
    fn has(&self, name: &str) -> bool {
        self.weights.has(&(self.name)(name))
    }

    fn tensor(&self, name: &str, shape: &[usize]) -> Result<TensorData> {
        self.weights.tensor(&(self.name)(name), shape)
    }
}

#[test]
fn llava_is_read_under_its_newer_names() {
    let Some(case) = Case::open("llava") else {
        return;
    };
    let folder = case.checkpoint();
    let expected = case.row_and_logits(&case.model());
    let newer = Checkpoint::open(&case.dir.join("alt_names")).expect("the folder opens");
    let bare = Renamed {
        weights: &newer,
        // What is published without `vision_model` is asked for without it.
        name: |name| match name.strip_prefix("model.vision_tower.") {
            Some(rest) if !rest.starts_with("vision_model.") => {
                format!("model.vision_tower.vision_model.{rest}")
            }
            Some(_) => "absent".to_owned(),
            None => name.to_owned(),
        },
    };
    for (weights, site) in [
        (
            &newer as &dyn Weights,
            "model.vision_tower.vision_model.pre_layrnorm.weight",
        ),
        (&bare, "model.vision_tower.pre_layrnorm.weight"),
    ] {
        let model = Model::assemble(&folder, weights, &Device::flex()).expect("the model loads");
        assert_eq!(case.row_and_logits(&model), expected);
        model.parameter(site).expect("its published name");
        model
            .parameter("model.language_model.layers.2.mlp.down_proj.weight")
            .expect("too");
        model.parameter("lm_head.weight").expect("too");
    }
}

#[test]
fn native_internvl_is_read_under_its_newer_names() {
    let Some(case) = Case::open("internvl") else {
        return;
    };
    let folder = case.checkpoint();
    let newer = Renamed {
        weights: &folder,
        name: |name| match (name, name.strip_prefix("model.")) {
            ("lm_head.weight", _) => "language_model.lm_head.weight".to_owned(),
            (_, Some(rest)) => match rest.strip_prefix("language_model.") {
                Some(rest) => format!("language_model.model.{rest}"),
                None => rest.to_owned(),
            },
            (_, None) => "absent".to_owned(),
        },
    };
    let model = Model::assemble(&folder, &newer, &Device::flex()).expect("the model loads");
    assert_eq!(
        case.row_and_logits(&model),
        case.row_and_logits(&case.model())
    );
}

#[test]
fn an_image_token_that_the_tokenizer_does_not_write_cuts_the_prompt() {
    let Some(case) = Case::open("llava") else {
        return;
    };
    let other = case.configured(|config| config["image_token_index"] = json!(511));
    let other = open_folder(other.path()).expect("the folder opens");
    let other = Model::open(&other, &Device::flex()).expect("the model loads");
    assert_eq!(
        case.row_and_logits(&other),
        case.row_and_logits(&case.model())
    );
}

#[test]
fn whole_features_keep_the_class_token() {
    let Some(case) = Case::open("llava") else {
        return;
    };
    let field = "vision_feature_select_strategy";
    let whole = case.configured(|config| config[field] = json!("full"));
    let whole = open_folder(whole.path()).expect("the folder opens");
    let whole = Model::open(&whole, &Device::flex()).expect("the model loads");
    let len = |model: &Model| case.row_and_logits(model).0.image.map(|span| span.len);
    assert_eq!((len(&case.model()), len(&whole)), (Some(9), Some(10)));
}

#[test]
fn chatglm_without_a_vision_side_is_the_text_model() {
    let Some(case) = Case::open("glm4v_9b") else {
        return;
    };
    let text = case.configured(|config| config["vision_config"] = Value::Null);
    let text = open_folder(text.path()).expect("the folder opens");
    let refused = Model::open(&text, &Device::flex())
        .err()
        .expect("vision tensors");
    assert!(
        refused.to_string().contains("transformer.vision.boi"),
        "{refused}"
    );
    let model = Model::assemble(&text, &text, &Device::flex()).expect("the model loads");
    assert!(!model.has_sight() && case.model().has_sight());
}

#[test]
fn configurations_that_cannot_be_honoured_are_refused_by_field() {
    let set = |field: &'static str, value: Value| {
        move |config: &mut Value| *config.pointer_mut(field).expect("a field") = value
    };
    for (name, field, value, said) in [
        (
            "llava",
            "/vision_feature_layer",
            json!(-9),
            "there is no feature layer -9",
        ),
        (
            "llava",
            "/vision_feature_select_strategy",
            json!("cls"),
            "`vision_feature_select_strategy`",
        ),
        (
            "internvl",
            "/downsample_ratio",
            json!(0.3),
            "`downsample_ratio` is 0.3",
        ),
        (
            "internvl",
            "/image_token_id",
            json!(3),
            "`image_token_id` is 3",
        ),
        (
            "internvl",
            "/vision_config/norm_type",
            json!("batch"),
            "`vision_config.norm_type`",
        ),
        (
            "internvl",
            "/vision_config/image_size",
            json!([56, 42]),
            "only squares",
        ),
        (
            "internvl_chat",
            "/ps_version",
            json!("v1"),
            "`ps_version` is `v1`",
        ),
        (
            "internvl_chat",
            "/force_image_size",
            json!(448),
            "`force_image_size`",
        ),
        (
            "internvl_chat",
            "/max_dynamic_patch",
            json!(0),
            "`max_dynamic_patch`",
        ),
        ("glm4v_9b", "/boi_token_id", json!(3), "`boi_token_id` is 3"),
        (
            "glm4v_9b",
            "/vision_config/scaling_factor",
            json!(0),
            "`vision_config.scaling_factor`",
        ),
        (
            "glm4v_9b",
            "/model_type",
            json!("glm4v"),
            "known: blip-2, chatglm",
        ),
    ] {
        let Some(case) = Case::open(name) else { return };
        let folder = case.configured(set(field, value));
        let folder = open_folder(folder.path()).expect("the folder opens");
        let refused = Model::open(&folder, &Device::flex())
            .err()
            .expect("refused");
        assert!(refused.to_string().contains(said), "{refused}");
    }
}
