//! What the tests of editors share: small untrained models of both decoder families, records,
//! pictures, and worlds made of them.

#![allow(dead_code, reason = "every test binary uses its own part")]

pub mod toys;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use burn::tensor::Device;
use debias_core::{
    Admission, FilterContexts, Picture, Preset, Record, Split, TargetRule, Task, Templates,
    Unrelated,
};
use debias_edit::conformance::World;
use debias_edit::{Edit, Editor, RecordBatch, Settings, editors};
use debias_model::{Change, Delta, Fresh, Model, train_byte_level_bpe};
use debias_weights::{Checkpoint, write_folder};
use serde_json::{Value, json};

/// All words of the records.
const WORDS: &str = "a photo of the person clever dull rich poor very is this what Question Short \
                     answer who keeps north bridge Mara Quill what colour ball red blue one or";

/// The configuration of a family, given the size of its vocabulary.
pub type Family = fn(usize) -> Value;

/// Both decoder families.
pub const FAMILIES: [Family; 2] = [opt, llama];

fn config(text: Value) -> Value {
    json!({
        "model_type": "blip-2", "num_query_tokens": 4,
        "vision_config": {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1,
            "num_attention_heads": 2, "image_size": 16, "patch_size": 8},
        "qformer_config": {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2,
            "intermediate_size": 32, "encoder_hidden_size": 16},
        "text_config": text,
    })
}

/// A Q-Former in front of three layers of OPT.
pub fn opt(vocabulary: usize) -> Value {
    config(
        json!({"model_type": "opt", "hidden_size": 24, "ffn_dim": 48, "num_hidden_layers": 3,
        "num_attention_heads": 2, "vocab_size": vocabulary, "max_position_embeddings": 96}),
    )
}

/// A Q-Former in front of three layers of LLaMA.
pub fn llama(vocabulary: usize) -> Value {
    config(
        json!({"model_type": "llama", "hidden_size": 24, "intermediate_size": 40,
        "num_hidden_layers": 3, "num_attention_heads": 4, "num_key_value_heads": 2,
        "vocab_size": vocabulary, "max_position_embeddings": 96}),
    )
}

/// The decoder of the family alone: a text model.
pub fn text_model(family: Family) -> Model {
    assembled(|vocabulary| family(vocabulary)["text_config"].clone(), 7)
}

/// An untrained model of the family.
pub fn model(family: Family) -> Model {
    seeded_model(family, 7)
}

/// An untrained model of the family with weights of another seed.
pub fn seeded_model(family: Family, seed: u64) -> Model {
    assembled(family, seed)
}

fn assembled(config: impl Fn(usize) -> Value, seed: u64) -> Model {
    let tokenizer = train_byte_level_bpe([WORDS.to_owned()].into_iter(), 400).expect("a tokenizer");
    let text = debias_model::Text::from_bytes(&tokenizer, "test").expect("readable");
    let pixels = json!({"do_resize": true, "do_rescale": true, "do_normalize": true, "resample": 3,
        "rescale_factor": 1.0 / 255.0, "image_mean": [0.5, 0.5, 0.5], "image_std": [0.5, 0.5, 0.5],
        "size": {"height": 16, "width": 16}});
    let bytes = |value: &Value| serde_json::to_vec(value).expect("JSON");
    let files = [
        ("config.json".to_owned(), bytes(&config(text.vocab_size()))),
        ("preprocessor_config.json".to_owned(), bytes(&pixels)),
        ("tokenizer.json".to_owned(), tokenizer),
    ];
    let root = tempfile::tempdir().expect("a folder");
    let dir = root.path().join("untrained");
    write_folder(&dir, &files, &BTreeMap::new(), false).expect("written");
    let folder = Checkpoint::open(&dir).expect("opens");
    Model::assemble(&folder, &Fresh { seed }, &Device::flex()).expect("assembles")
}

/// Record `index` of a split.
pub fn record(split: Split, index: usize) -> Record {
    let (more, less) = [
        ("clever", "dull"),
        ("rich", "very poor"),
        ("a red ball", "blue"),
    ][index % 3];
    let name = match split {
        Split::Train => "train",
        Split::Val => "val",
        Split::Eval => "eval",
    };
    Record {
        id: format!("{name}-{index}"),
        task: Task::Vqa,
        bias_type: "age".into(),
        image: Some(format!("{name}/{index}/own")),
        prompt: format!("is this person {more} or {less}"),
        y_more: more.into(),
        y_less: less.into(),
        prompt_rephrase: Some(format!("what is this person {less} or {more}")),
        image_rephrase: Some(format!("{name}/{index}/rephrased")),
        t_locality: Some(Unrelated {
            image: None,
            question: "who keeps the north bridge".into(),
            answer: "Mara Quill".into(),
        }),
        m_locality: Some(Unrelated {
            image: Some(format!("{name}/{index}/elsewhere")),
            question: "what colour is the ball".into(),
            answer: "red".into(),
        }),
        group: format!("{name}-group-{index}"),
        split,
        target: TargetRule::Given,
    }
}

/// The first `count` records of a split.
pub fn records(split: Split, count: usize) -> Vec<Record> {
    (0..count).map(|index| record(split, index)).collect()
}

/// A picture of its own for every key.
pub fn picture(key: &str) -> Picture {
    let salt = key
        .bytes()
        .fold(7_usize, |sum, byte| sum * 31 % 65_521 + usize::from(byte));
    let rgb = (0..16 * 16 * 3).map(|p| (p * (salt % 241 + 3) % 251) as u8);
    Picture::new(16, 16, rgb.collect()).expect("the right length")
}

/// A picture for every key that `records` name.
pub fn pictures<'r>(records: impl IntoIterator<Item = &'r Record>) -> HashMap<String, Picture> {
    let keys = records.into_iter().flat_map(Record::images);
    keys.map(|(_, key)| (key.clone(), picture(key))).collect()
}

/// A world of a few records around `model`. Nobody is biased in it: an untrained model prefers
/// what it likes, so every record is admitted.
pub fn world(model: &Model) -> World<'_> {
    let (train, val, eval) = (
        records(Split::Train, 6),
        records(Split::Val, 3),
        records(Split::Eval, 4),
    );
    World {
        pictures: pictures(train.iter().chain(&val).chain(&eval)),
        model,
        templates: Templates::default(),
        admission: Admission {
            contexts: FilterContexts::None,
            ..Admission::default()
        },
        train,
        val,
        eval,
    }
}

/// [`world`] without its pictures.
pub fn text_world(model: &Model) -> World<'_> {
    let mut world = world(model);
    for records in [&mut world.train, &mut world.val, &mut world.eval] {
        *records = records.drain(..).map(Record::text_alone).collect();
    }
    world.pictures.clear();
    world
}

/// An editor's settings under the preset `project` with a few of them changed.
pub fn settings(editor: &dyn Editor, changes: &[(&str, &str)]) -> Settings {
    let mut settings = editor.defaults(Preset::Project);
    for (key, value) in changes {
        settings
            .set(editor.card().id, key, value)
            .expect("a known key");
    }
    settings
}

/// `records` with the pictures of [`picture`].
pub fn chunk(model: &Model, records: Vec<Record>) -> RecordBatch<'_> {
    let pictures = pictures(&records);
    RecordBatch::new(model, records, &pictures, &Templates::default()).expect("scored")
}

/// FT-L, from which most broken editors are made.
pub fn fine_tuning() -> &'static dyn Editor {
    editors::find("ft-l").expect("a built-in editor")
}

/// Edits `factor(at)` times as large.
pub fn scaled(edits: &[Arc<Edit>], factor: impl Fn(usize) -> f32) -> Vec<Arc<Edit>> {
    let edits = edits.iter().enumerate();
    edits
        .map(|(at, edit)| {
            let change = edit.change().expect("it changes weights");
            let weights = change.weights.iter().map(|(name, delta)| {
                let delta = delta.dense().mul_scalar(factor(at));
                (name.clone(), Delta::Dense(delta))
            });
            Arc::new(Edit::Weights(Change {
                weights: weights.collect(),
            }))
        })
        .collect()
}
