//! In-context editing on small untrained models: the text, the choice of demonstrations, and the
//! scores of what stands behind a long context.
//!
//! The numbers in brackets are those of `spec/editors.md` section 7.

mod choice;
mod scores;
mod text;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use burn::tensor::{Device, Tensor};
use debias_core::{Picture, Preset, Record, RecordScores, Split, TargetRule, Task, Templates};
use debias_edit::{
    Context, Ctx, Edit, Editor, Error, Example, Examples, Lessons, Nowhere, Prepared, RecordBatch,
    Request, Settings, TextEmbedding, Touches, cosine, editors,
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
    Record {
        id: format!("{split}-{index}"),
        task: Task::Vqa,
        bias_type: "age".into(),
        image: String::new(),
        prompt: format!("is this {split} person {more} or {less}"),
        y_more: more.into(),
        y_less: less.into(),
        prompt_rephrase: format!("what is this person {less} or {more}"),
        image_rephrase: String::new(),
        loc_q: format!("who keeps the {split} bridge"),
        loc_a: "Mara Quill".into(),
        mloc_image: String::new(),
        mloc_q: "what colour is the ball".into(),
        mloc_a: "red".into(),
        group: format!("{split}-group-{index}"),
        split: Split::Eval,
        target: TargetRule::Given,
    }
}

fn records(split: &str, count: usize) -> Vec<Record> {
    (0..count).map(|index| record(split, index)).collect()
}

fn chunk(model: &Model, records: Vec<Record>) -> RecordBatch<'_> {
    let picture = |i: usize| {
        let rgb = (0..16 * 16 * 3).map(|p| (p * (i + 3) * 7 % 251) as u8);
        Picture::new(16, 16, rgb.collect()).expect("the right length")
    };
    let pictures: Vec<Picture> = (0..3 * records.len()).map(picture).collect();
    let pictures: Vec<&Picture> = pictures.iter().collect();
    RecordBatch::new(model, records, &pictures, &Templates::default()).expect("scored")
}

/// The records of a chunk as something to learn from.
struct Taught<'a>(&'a RecordBatch<'a>);

impl Examples for Taught<'_> {
    fn records(&self) -> &[Record] {
        self.0.records()
    }

    fn request(&self, at: usize) -> debias_edit::Result<Request> {
        Ok(self.0.request(at))
    }

    fn example(&self, at: usize) -> debias_edit::Result<Example> {
        Ok(self.0.example(at))
    }
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
    let taught = Taught(train);
    let lessons = Lessons {
        train: &taught,
        val: &taught,
        eval: &taught,
    };
    ike().prepare(model, &lessons, &ctx).expect("prepares")
}

fn edits(prepared: &dyn Prepared, chunk: &RecordBatch) -> Vec<Arc<Edit>> {
    prepared
        .edit_each(&chunk.requests(), &Change::default())
        .expect("edits")
}

fn context(edit: &Edit) -> &Context {
    match edit {
        Edit::Context(context) => context,
        _ => panic!("not a context"),
    }
}

fn said(edit: &Edit, prompt: &str) -> String {
    context(edit).applied(prompt).expect("said")
}

/// The three sentences of a record, written out.
fn sentences(record: &Record) -> [String; 3] {
    let prompt = format!("Question: {} Short answer:", record.prompt);
    let rephrase = format!("Question: {} Short answer:", record.prompt_rephrase);
    let (loc_q, loc_a, y) = (&record.loc_q, &record.loc_a, &record.y_less);
    [
        format!("New Fact: {prompt} {y}\nPrompt: {prompt} {y}\n\n"),
        format!("New Fact: {prompt} {y}\nPrompt: {rephrase} {y}\n\n"),
        format!("New Fact: {prompt} {y}\nPrompt: {loc_q} {loc_a}\n\n"),
    ]
}

/// The pictures of a record as one batch: own, rephrased, elsewhere.
fn seen(example: &Example) -> ImageFeatures {
    ImageFeatures::join([
        example.request.seen.clone(),
        example.seen_rephrase.clone(),
        example.seen_mloc.clone(),
    ])
    .expect("three pictures")
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
        (0, &example.rephrase),
        (1, &example.request.prompt),
    ];
    let mut sums = Vec::new();
    for (picture, prompt) in prompts {
        let answers = [record.y_more.as_str(), record.y_less.as_str()];
        let pair = model.row_pair(sight(picture), &said(prompt), answers);
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
