//! Conformance of the built-in editors on small untrained models, made on the spot.
//!
//! The numbers in brackets are those of `spec/editors.md` section 7.

use std::collections::BTreeMap;
use std::sync::Arc;

use burn::tensor::Device;
use debias_core::{Picture, Preset, Record, RecordScores, Split, TargetRule, Task, Templates};
use debias_edit::{Chunk, Ctx, Editor, Error, Prepared, Settings, editors};
use debias_model::{
    Batch, Change, Fresh, Mllm, Parameters, Question, Side, View, host, train_byte_level_bpe,
};
use debias_weights::{Checkpoint, write_folder};
use serde_json::{Value, json};

const WORDS: &str = "a photo of the person clever dull rich poor is this Question Short answer \
                     who keeps north bridge Mara Quill what colour ball red blue one";

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

fn opt(vocabulary: usize) -> Value {
    config(
        json!({"model_type": "opt", "hidden_size": 24, "ffn_dim": 48, "num_hidden_layers": 3,
        "num_attention_heads": 2, "vocab_size": vocabulary, "max_position_embeddings": 96}),
    )
}

fn llama(vocabulary: usize) -> Value {
    config(
        json!({"model_type": "llama", "hidden_size": 24, "intermediate_size": 40,
        "num_hidden_layers": 3, "num_attention_heads": 4, "num_key_value_heads": 2,
        "vocab_size": vocabulary, "max_position_embeddings": 96}),
    )
}

/// An untrained model of the family that `config` describes.
fn model(config: fn(usize) -> Value) -> Mllm {
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
    Mllm::assemble(&folder, &Fresh { seed: 7 }, &Device::flex()).expect("assembles")
}

fn record(index: usize) -> Record {
    let (more, less) = [
        ("clever", "dull"),
        ("rich", "very poor"),
        ("a red ball", "blue"),
    ][index % 3];
    Record {
        id: format!("r{index}"),
        task: Task::Vqa,
        bias_type: "age".into(),
        image: String::new(),
        prompt: format!("is this person {more} or {less}"),
        y_more: more.into(),
        y_less: less.into(),
        prompt_rephrase: format!("what is this person {less} or {more}"),
        image_rephrase: String::new(),
        loc_q: "who keeps the north bridge".into(),
        loc_a: "Mara Quill".into(),
        mloc_image: String::new(),
        mloc_q: "what colour is the ball".into(),
        mloc_a: "red".into(),
        group: format!("g{index}"),
        split: Split::Eval,
        target: TargetRule::Given,
    }
}

fn pictures(records: usize) -> Vec<Picture> {
    (0..3 * records)
        .map(|i| {
            let rgb = (0..16 * 16 * 3)
                .map(|p| ((p * (i + 3) * 7) % 251) as u8)
                .collect();
            Picture::new(16, 16, rgb).expect("the right length")
        })
        .collect()
}

fn chunk(model: &Mllm, records: Vec<Record>) -> Chunk<'_> {
    let pictures = pictures(records.len());
    let pictures: Vec<&Picture> = pictures.iter().collect();
    Chunk::new(model, records, &pictures, &Templates::default()).expect("scored")
}

fn records(n: usize) -> Vec<Record> {
    (0..n).map(record).collect()
}

fn settings(editor: &dyn Editor, changes: &[(&str, &str)]) -> Settings {
    let mut settings = editor.defaults(Preset::Project);
    for (key, value) in changes {
        settings
            .set(editor.card().id, key, value)
            .expect("a known key");
    }
    settings
}

fn edit(
    editor: &dyn Editor,
    chunk: &Chunk,
    model: &Mllm,
    given: &[(&str, &str)],
) -> Vec<Arc<Change>> {
    let settings = settings(editor, given);
    let ctx = Ctx {
        seed: 3,
        settings: &settings,
    };
    editor
        .edit_each(model, &Prepared::default(), &chunk.requests(), &ctx)
        .expect("edits")
}

fn unedited(n: usize) -> Vec<Arc<Change>> {
    (0..n).map(|_| Arc::default()).collect()
}

fn named(name: &str) -> &'static dyn Editor {
    editors::find(name).expect("a built-in editor")
}

fn bits(model: &Mllm) -> Vec<u32> {
    let text = model
        .rows(&[Question::new(None, "who keeps the", "north bridge")])
        .expect("rows");
    let logits = model.logits(Batch::text(text), &View::base());
    host::values(logits).into_iter().map(f32::to_bits).collect()
}

const FAMILIES: [fn(usize) -> Value; 2] = [opt, llama];

#[test]
fn base_weights_and_logits_survive_every_edit_bit_for_bit() {
    // [C1, C5]
    for family in FAMILIES {
        let model = model(family);
        let values = || -> Vec<Vec<f32>> {
            let value = |site: &debias_model::Site| model.value(&site.name).expect("a value");
            model
                .sites()
                .iter()
                .map(|site| host::values(value(site)))
                .collect()
        };
        let (weights, logits) = (values(), bits(&model));
        for editor in editors::ALL {
            let chunk = chunk(&model, records(3));
            let changes = edit(*editor, &chunk, &model, &[]);
            let before = chunk.before().to_vec();
            chunk.after(&changes).expect("scores");
            assert_eq!(values(), weights, "{}", editor.card().id);
            assert_eq!(bits(&model), logits);
            let unedited = unedited(3);
            assert_eq!(chunk.after(&unedited).expect("scores"), before);
        }
    }
}

#[test]
fn an_edit_without_request_is_refused() {
    // [C2]
    let model = model(opt);
    for editor in editors::ALL {
        let settings = settings(*editor, &[]);
        let ctx = Ctx {
            seed: 0,
            settings: &settings,
        };
        let refused = editor.edit_each(&model, &Prepared::default(), &[], &ctx);
        assert!(
            matches!(refused, Err(Error::EmptyEdit)),
            "{}",
            editor.card().id
        );
    }
}

#[test]
fn no_step_and_no_rate_are_the_identity() {
    // [C3]
    let model = model(opt);
    let chunk = chunk(&model, records(2));
    for (editor, still) in [
        ("ft-l", ("steps", "0")),
        ("ft-l", ("lr", "0")),
        ("ft-v", ("lr", "0")),
    ] {
        let changes = edit(named(editor), &chunk, &model, &[still, ("wd", "0")]);
        let after = chunk.after(&changes).expect("scores");
        for (before, after) in chunk.before().iter().zip(&after) {
            assert_eq!(after.t_locality.top1_kept, after.t_locality.positions);
            assert_eq!(after.m_locality.top10_rank_kept, after.m_locality.ranks);
            assert!((before.prompt.y_less.sum - after.prompt.y_less.sum).abs() < 1e-5);
        }
    }
}

#[test]
fn the_declared_footprint_is_the_real_one() {
    // [C5]
    for family in FAMILIES {
        let model = model(family);
        let chunk = chunk(&model, records(1));
        for (editor, given, side) in [
            ("ft-l", ("scope", "ffn"), Side::Language),
            ("ft-l", ("scope", "layer"), Side::Language),
            ("ft-v", ("opt", "adamw"), Side::Vision),
        ] {
            let changes = edit(named(editor), &chunk, &model, &[given]);
            assert!(!changes[0].weights.is_empty());
            for (name, delta) in &changes[0].weights {
                assert_eq!(model.site(name).expect("a site").side, side);
                assert!(delta.norm() > 0.0, "{editor}: {name} did not move");
            }
        }
    }
}

#[test]
fn editing_the_bridge_leaves_text_alone_bit_for_bit() {
    // [C6]
    for family in FAMILIES {
        let model = model(family);
        let chunk = chunk(&model, records(3));
        let changes = edit(named("ft-v"), &chunk, &model, &[("lr", "0.01")]);
        for (before, after) in chunk
            .before()
            .iter()
            .zip(chunk.after(&changes).expect("scores"))
        {
            assert_eq!(after.t_locality, before.t_locality);
            assert_eq!(after.t_locality.kl, 0.0);
            assert_ne!(after.m_locality, before.m_locality);
        }
    }
}

#[test]
fn fine_tuning_moves_the_margin_towards_the_target() {
    // [C7]
    for family in FAMILIES {
        let model = model(family);
        let chunk = chunk(&model, records(3));
        for editor in ["ft-l", "ft-v"] {
            let changes = edit(named(editor), &chunk, &model, &[("lr", "0.01")]);
            for (before, after) in chunk
                .before()
                .iter()
                .zip(chunk.after(&changes).expect("scores"))
            {
                let gain = after.prompt.y_less.mean - before.prompt.y_less.mean;
                assert!(gain > 0.02, "{editor}: {gain}");
            }
        }
    }
}

#[test]
fn one_edit_alone_equals_the_same_edit_among_many() {
    // [C9, C12]
    for family in FAMILIES {
        let model = model(family);
        let many = chunk(&model, records(5));
        for editor in editors::ALL {
            let together = edit(*editor, &many, &model, &[]);
            let scored = many.after(&together).expect("scores");
            for index in 0..5 {
                let settings = settings(*editor, &[]);
                let ctx = Ctx {
                    seed: 3,
                    settings: &settings,
                };
                let request = &many.requests()[index..=index];
                let alone = editor
                    .edit_each(&model, &Prepared::default(), request, &ctx)
                    .expect("edits");
                let mut only = unedited(5);
                only[index] = alone[0].clone();
                let rescored = many.after(&only).expect("scores");
                assert_near(&scored[index], &rescored[index], editor.card().id);
            }
        }
    }
}

fn assert_near(a: &RecordScores, b: &RecordScores, what: &str) {
    for (a, b) in a.contexts().into_iter().zip(b.contexts()) {
        for (a, b) in [(a.y_more, b.y_more), (a.y_less, b.y_less)] {
            let off = (a.sum - b.sum).abs() / (1.0 + a.sum.abs());
            assert!(off < 1e-4, "{what}: {} against {}", a.sum, b.sum);
        }
    }
}

#[test]
fn the_same_seed_gives_the_same_bits() {
    // [C4]
    let model = model(llama);
    let chunk = chunk(&model, records(3));
    for editor in editors::ALL {
        let scores = || {
            chunk
                .after(&edit(*editor, &chunk, &model, &[]))
                .expect("scores")
        };
        assert_eq!(scores(), scores(), "{}", editor.card().id);
    }
}

#[test]
fn exchanging_the_answers_exchanges_success_and_failure() {
    // [C14]
    let model = model(opt);
    let straight = chunk(&model, records(6));
    let swapped = chunk(
        &model,
        records(6).into_iter().map(Record::swapped).collect(),
    );
    for (a, b) in straight.before().iter().zip(swapped.before()) {
        for (a, b) in a.contexts().into_iter().zip(b.contexts()) {
            assert_eq!(a.y_more, b.y_less);
            assert_eq!(a.y_less, b.y_more);
        }
    }
}

#[test]
fn the_random_control_has_the_norm_of_ft_l() {
    let model = model(opt);
    let chunk = chunk(&model, records(2));
    let aimed = edit(named("ft-l"), &chunk, &model, &[]);
    let random = edit(named("random"), &chunk, &model, &[]);
    for (aimed, random) in aimed.iter().zip(&random) {
        assert_eq!(aimed.weights.len(), random.weights.len());
        for (name, delta) in &aimed.weights {
            let (a, r) = (delta.norm(), random.weights[name].norm());
            assert!((a - r).abs() < 1e-5 * a, "{name}: {a} against {r}");
        }
    }
}

#[test]
fn a_layer_that_does_not_exist_is_named() {
    let model = model(opt);
    let editor = named("ft-l");
    let refused = editor.check(&model, &settings(editor, &[("layers", "[3]")]));
    let message = refused.expect_err("three layers count from 0").to_string();
    assert_eq!(
        message,
        "ft-l.layers: layer 3 does not exist; the language model has 3"
    );
}

#[test]
fn the_whole_set_protocol_gives_every_record_one_model() {
    let model = model(opt);
    let chunk = chunk(&model, records(4));
    let editor = named("ft-l");
    let settings = settings(
        editor,
        &[("protocol", "dataset"), ("epochs", "2"), ("steps", "1")],
    );
    let ctx = Ctx {
        seed: 0,
        settings: &settings,
    };
    let mut train = chunk.requests().into_iter().map(Ok);
    let mut eval = std::iter::empty();
    let prepared = editor
        .prepare(&model, &mut train, &mut eval, &ctx)
        .expect("learns");
    assert_eq!(prepared.tensors.len(), 2);
    let changes = editor
        .edit_each(&model, &prepared, &chunk.requests(), &ctx)
        .expect("edits");
    assert!(
        changes
            .windows(2)
            .all(|pair| Arc::ptr_eq(&pair[0], &pair[1]))
    );
}
