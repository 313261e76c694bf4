//! In-context editing on small untrained models: the text, the choice of demonstrations, and the
//! scores of what stands behind a long context.
//!
//! The numbers in brackets are those of `spec/editors.md` section 7.

mod choice;
mod scores;
mod text;

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::sync::Arc;

use burn::tensor::{Device, Tensor};
use debias_core::{
    Picture, Preset, Record, RecordScores, Split, TargetRule, Task, Templates, Unrelated,
};
use debias_edit::{
    Context, Ctx, Edit, Editor, Error, Example, Lessons, Nowhere, Prepared, RecordBatch, Settings,
    TextEmbedding, Touches, cosine, editors,
};
use debias_model::{
    Batch, Change, Fresh, ImageFeatures, ImageRef, Model, Question, Row, View, answer_scores,
    locality_of_pairs, train_byte_level_bpe,
};
use debias_weights::{Checkpoint, write_folder};
use serde_json::{Value, json};

const WORDS: &str = "New Fact: Prompt: a photo of the person clever dull rich poor very is this \
                     what Question Short answer: who keeps north bridge Mara Quill colour ball \
                     red blue one or";

/// The decoder of a tiny model: its vocabulary and its positions given.
type Family = fn(usize, usize) -> Value;

const FAMILIES: [Family; 2] = [opt, llama];

fn opt(vocabulary: usize, positions: usize) -> Value {
    json!({"model_type": "opt", "hidden_size": 24, "ffn_dim": 48, "num_hidden_layers": 3,
        "num_attention_heads": 2, "vocab_size": vocabulary, "max_position_embeddings": positions})
}

fn llama(vocabulary: usize, positions: usize) -> Value {
    json!({"model_type": "llama", "hidden_size": 24, "intermediate_size": 40,
        "num_hidden_layers": 3, "num_attention_heads": 4, "num_key_value_heads": 2,
        "vocab_size": vocabulary, "max_position_embeddings": positions})
}

fn model(family: Family, positions: usize) -> Model {
    let tokenizer = train_byte_level_bpe([WORDS.to_owned()].into_iter(), 400).expect("a tokenizer");
    let text = debias_model::Text::from_bytes(&tokenizer, "test").expect("readable");
    let config = json!({
        "model_type": "blip-2", "num_query_tokens": 4,
        "vision_config": {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1,
            "num_attention_heads": 2, "image_size": 16, "patch_size": 8},
        "qformer_config": {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2,
            "intermediate_size": 32, "encoder_hidden_size": 16},
        "text_config": family(text.vocab_size(), positions),
    });
    let pixels = json!({"do_resize": true, "do_rescale": true, "do_normalize": true, "resample": 3,
        "rescale_factor": 1.0 / 255.0, "image_mean": [0.5, 0.5, 0.5], "image_std": [0.5, 0.5, 0.5],
        "size": {"height": 16, "width": 16}});
    let bytes = |value: &Value| serde_json::to_vec(value).expect("JSON");
    let files = [
        ("config.json".to_owned(), bytes(&config)),
        ("preprocessor_config.json".to_owned(), bytes(&pixels)),
        ("tokenizer.json".to_owned(), tokenizer),
    ];
    let root = tempfile::tempdir().expect("a folder");
    let dir = root.path().join("untrained");
    write_folder(&dir, &files, &BTreeMap::new(), false).expect("written");
    let folder = Checkpoint::open(&dir).expect("opens");
    Model::assemble(&folder, &Fresh { seed: 7 }, &Device::flex()).expect("assembles")
}

fn record(split: &str, index: usize) -> Record {
    let (more, less) = [
        ("clever", "dull"),
        ("rich", "very poor"),
        ("a red ball", "blue"),
    ][index % 3];
    let picture = |which: usize| Some((3 * index + which).to_string());
    Record {
        id: format!("{split}-{index}"),
        task: Task::Vqa,
        bias_type: "age".into(),
        image: picture(0),
        prompt: format!("is this {split} person {more} or {less}"),
        y_more: more.into(),
        y_less: less.into(),
        prompt_rephrase: Some(format!("what is this person {less} or {more}")),
        image_rephrase: picture(1),
        t_locality: Some(Unrelated {
            image: None,
            question: format!("who keeps the {split} bridge"),
            answer: "Mara Quill".into(),
        }),
        m_locality: Some(Unrelated {
            image: picture(2),
            question: "what colour is the ball".into(),
            answer: "red".into(),
        }),
        group: format!("{split}-group-{index}"),
        split: Split::Eval,
        target: TargetRule::Given,
    }
}

fn records(split: &str, count: usize) -> Vec<Record> {
    (0..count).map(|index| record(split, index)).collect()
}

fn chunk(model: &Model, records: Vec<Record>) -> RecordBatch<'_> {
    let picture = |key: &String| {
        let i: usize = key.parse().expect("a number");
        let rgb = (0..16 * 16 * 3).map(|p| (p * (i + 3) * 7 % 251) as u8);
        Picture::new(16, 16, rgb.collect()).expect("the right length")
    };
    let keys = records.iter().flat_map(Record::images);
    let pictures: HashMap<String, Picture> =
        keys.map(|(_, key)| (key.clone(), picture(key))).collect();
    RecordBatch::new(model, records, &pictures, &Templates::default()).expect("scored")
}

fn ike() -> &'static dyn Editor {
    editors::find("ike").expect("a built-in editor")
}

fn settings(changes: &[(&str, &str)]) -> Settings {
    let mut settings = ike().defaults(Preset::Project);
    for (key, value) in changes {
        settings.set("ike", key, value).expect("a known key");
    }
    settings
}

fn prepared<'m>(
    model: &'m Model,
    train: &RecordBatch,
    changes: &[(&str, &str)],
) -> Box<dyn Prepared + 'm> {
    let settings = settings(changes);
    let ctx = Ctx {
        seed: 3,
        settings: &settings,
        store: &Nowhere,
    };
    let lessons = Lessons {
        train,
        val: train,
        eval: train,
    };
    ike().prepare(model, &lessons, &ctx).expect("prepares")
}

fn edits(prepared: &dyn Prepared, chunk: &RecordBatch) -> Vec<Arc<Edit>> {
    prepared
        .edit_each(&chunk.requests(), &Change::default())
        .expect("edits")
}

fn context(edit: &Edit) -> &Context {
    edit.wrapped().expect("a context")
}

fn said(edit: &Edit, prompt: &str) -> String {
    context(edit).applied(prompt).expect("said")
}

/// The three sentences of a record, written out.
fn sentences(record: &Record) -> [String; 3] {
    let prompt = format!("Question: {} Short answer:", record.prompt);
    let rephrase = record.prompt_rephrase.as_ref().expect("it has one");
    let rephrase = format!("Question: {rephrase} Short answer:");
    let item = record.t_locality.as_ref().expect("it has one");
    let (loc_q, loc_a, y) = (&item.question, &item.answer, &record.y_less);
    [
        format!("New Fact: {prompt} {y}\nPrompt: {prompt} {y}\n\n"),
        format!("New Fact: {prompt} {y}\nPrompt: {rephrase} {y}\n\n"),
        format!("New Fact: {prompt} {y}\nPrompt: {loc_q} {loc_a}\n\n"),
    ]
}

/// The pictures of a record as one batch: own, rephrased, elsewhere.
fn seen(example: &Example) -> ImageFeatures {
    let elsewhere = example
        .m_locality
        .as_ref()
        .and_then(|item| item.image.as_ref());
    let of_each = [
        example.request.image.as_ref(),
        example.image_rephrase.as_ref(),
        elsewhere,
    ];
    ImageFeatures::join(of_each.map(|seen| seen.expect("it has a picture").clone()))
        .expect("three pictures")
}

/// The prompt of a record in other words, in its template.
fn rephrase(example: &Example) -> &String {
    example.rephrase.as_ref().expect("it has one")
}

fn sight(index: usize) -> ImageRef {
    ImageRef { index, tiles: 1 }
}

/// The six answers of `example`, each prompt replaced by what `said` makes of it, every row read
/// as a whole and alone.
fn plainly(model: &Model, example: &Example, said: impl Fn(&str) -> String) -> Vec<f64> {
    let record = &example.request.record;
    let prompts = [
        (0, &example.request.prompt),
        (0, rephrase(example)),
        (1, &example.request.prompt),
    ];
    let mut sums = Vec::new();
    for (picture, prompt) in prompts {
        let answers = [record.y_more.as_str(), record.y_less.as_str()];
        let pair = model.row_pair(Some(sight(picture)), &said(prompt), answers);
        for row in pair.expect("fits") {
            let batch = Batch::with_pictures(vec![row.clone()], seen(example));
            let logits = model.answer_logits(batch, &View::base());
            sums.push(answer_scores(&[row], logits).expect("finite")[0].sum);
        }
    }
    sums
}

fn sums(scores: &RecordScores) -> Vec<f64> {
    let contexts = scores.contexts().into_iter();
    contexts
        .flat_map(|context| [context.y_more.sum, context.y_less.sum])
        .collect()
}

fn assert_near(found: &[f64], expected: &[f64]) {
    assert_eq!(found.len(), expected.len());
    for (found, expected) in found.iter().zip(expected) {
        let off = (found - expected).abs() / expected.abs();
        assert!(off < 1e-5, "{found} is not {expected}");
    }
}
