//! Agreement of the encoders with transformers: hidden states, embeddings, logits, gradients.
//!
//! The cases lie in the folder named by `DEBIAS_BENCH_FIXTURES` (`models/<case>/`), with their
//! tolerances in `case.json`. Without it the tests say so and pass; under CI they fail. The real
//! all-MiniLM-L6-v2 is the user's own folder, named by `DEBIAS_BENCH_MINILM`.

use std::collections::BTreeMap;
use std::path::PathBuf;

use burn::tensor::activation::{log_softmax, softmax};
use burn::tensor::{Device, Int, Tensor, TensorData};
use debias_model::{
    Change, DType, Delta, Encoder, Hidden, Parameters, Recorder, Tokens, View, host,
};
use debias_weights::Checkpoint;
use serde_json::Value;

/// Says that a case is skipped; not `eprintln!`, which the test harness swallows.
fn skipped(case: &str, why: &str) {
    let line = format!("SKIPPED 1 case: {case}: {why}\n");
    let _ = std::io::Write::write_all(&mut std::io::stderr(), line.as_bytes());
}

/// The folder of fixture `name`, or `None` after saying so.
fn fixture(name: &str) -> Option<PathBuf> {
    let Some(root) = std::env::var_os("DEBIAS_BENCH_FIXTURES") else {
        assert!(
            std::env::var_os("CI").is_none(),
            "DEBIAS_BENCH_FIXTURES must be set under CI"
        );
        skipped(name, "DEBIAS_BENCH_FIXTURES is not set");
        return None;
    };
    Some(PathBuf::from(root).join("models").join(name))
}

fn read(path: PathBuf) -> Value {
    let text = std::fs::read_to_string(&path).expect("a fixture file");
    serde_json::from_str(&text).expect("JSON")
}

fn texts(list: &Value) -> Vec<&str> {
    let list = list.as_array().expect("a list").iter();
    list.map(|text| text.as_str().expect("a text")).collect()
}

fn open(dir: &std::path::Path) -> Encoder {
    let checkpoint = Checkpoint::open(dir).expect("the folder opens");
    Encoder::open(&checkpoint, &Device::flex()).expect("the encoder loads")
}

struct Case {
    encoder: Encoder,
    golden: Checkpoint,
    settings: Value,
    dir: PathBuf,
}

fn case(name: &str) -> Option<Case> {
    let dir = fixture(name)?;
    Some(Case {
        encoder: open(&dir),
        golden: Checkpoint::open_file(&dir.join("golden.safetensors")).expect("golden opens"),
        settings: read(dir.join("case.json")),
        dir,
    })
}

fn floats(golden: &Checkpoint, name: &str) -> (Vec<f32>, Vec<usize>) {
    let shape = golden.info(name).expect("in the golden file").shape.clone();
    (golden.f32(name, &shape).expect("readable"), shape)
}

fn ints(golden: &Checkpoint, name: &str) -> (Vec<i64>, Vec<usize>) {
    let raw = golden.raw(name).expect("in the golden file");
    let eight = raw.bytes.chunks_exact(8);
    let values = eight.map(|b| i64::from_le_bytes(b.try_into().expect("eight bytes")));
    (values.collect(), raw.shape.to_vec())
}

/// The rows of a golden batch without their padding.
fn rows(golden: &Checkpoint) -> Vec<Tokens> {
    let (ids, shape) = ints(golden, "input_ids");
    let (mask, _) = ints(golden, "attention_mask");
    let types = match golden.contains("token_type_ids") {
        true => ints(golden, "token_type_ids").0,
        false => vec![0; ids.len()],
    };
    (0..shape[0])
        .map(|row| {
            let start = row * shape[1];
            let length = mask[start..][..shape[1]].iter().sum::<i64>() as usize;
            let cut = |values: &[i64]| {
                values[start..][..length]
                    .iter()
                    .map(|v| *v as u32)
                    .collect()
            };
            Tokens {
                ids: cut(&ids),
                types: cut(&types),
            }
        })
        .collect()
}

fn largest(found: &[f32], expected: &[f32]) -> f64 {
    assert_eq!(found.len(), expected.len());
    let off = found.iter().zip(expected);
    off.map(|(a, b)| f64::from((a - b).abs()))
        .fold(0.0, f64::max)
}

fn assert_close(what: &str, found: &[f32], expected: &[f32], tolerance: f64) {
    let worst = largest(found, expected);
    assert!(
        worst <= tolerance,
        "{what}: off by {worst:e}, allowed {tolerance:e}"
    );
    println!("{what}: {worst:e}");
}

impl Case {
    fn tolerance(&self, key: &str) -> f64 {
        self.settings["tolerance"][key]
            .as_f64()
            .expect("a tolerance")
    }

    fn assert_values<const D: usize>(&self, name: &str, found: Tensor<D>, tolerance: &str) {
        let (expected, shape) = floats(&self.golden, name);
        assert_eq!(found.dims().to_vec(), shape, "{name}");
        let tolerance = self.tolerance(tolerance);
        assert_close(name, &host::values(found), &expected, tolerance);
    }

    /// Compares the last hidden states of real tokens.
    fn assert_states(&self, rows: &[Tokens], hidden: &Hidden) {
        let [_, t, d] = hidden.states().dims();
        let found = host::values(hidden.states().clone());
        let (expected, shape) = floats(&self.golden, "last_hidden_state");
        for (r, row) in rows.iter().enumerate() {
            let n = row.ids.len() * d;
            assert_close(
                &format!("last_hidden_state[{r}]"),
                &found[r * t * d..][..n],
                &expected[r * shape[1] * d..][..n],
                self.tolerance("hidden_f32"),
            );
        }
    }

    /// Mean cross-entropy of the golden labels, and its gradients.
    fn assert_loss(&self, rows: &[Tokens]) {
        let names = self.golden.names();
        let names: Vec<String> = names
            .filter_map(|name| name.strip_prefix("grad.").map(str::to_owned))
            .collect();
        assert!(!names.is_empty());
        let leaf = |name: &String| {
            let value = self.encoder.value(name).expect("a parameter");
            let leaf = value.unsqueeze::<3>().autodiff().require_grad();
            (name.clone(), leaf)
        };
        let leaves: BTreeMap<String, Tensor<3>> = names.iter().map(leaf).collect();
        let view = View::replacing(leaves.clone(), true);
        let hidden = self.encoder.hidden(rows, &view).expect("valid rows");
        let logits = self.encoder.logits(&hidden, &view).expect("a classifier");
        let (labels, shape) = ints(&self.golden, "labels");
        let labels = TensorData::new(labels, [shape[0], 1]);
        let labels = Tensor::<2, Int>::from_data(labels, &Device::flex());
        let loss = log_softmax(logits, 1).gather(1, labels).mean().neg();
        self.assert_values("loss", loss.clone().inner(), "loss_f32");
        let gradients = loss.backward();
        for (name, leaf) in leaves {
            let found = host::values(leaf.grad(&gradients).expect("a gradient"));
            let (expected, _) = floats(&self.golden, &format!("grad.{name}"));
            let top = expected.iter().fold(0f64, |m, v| m.max(f64::from(v.abs())));
            let allowed = self.tolerance("grad_rel") * top + self.tolerance("grad_abs");
            assert_close(&name, &found, &expected, allowed);
        }
    }

    /// Ids with and without special tokens, decoded text, and ids of pairs.
    fn assert_tokens(&self) {
        let text = self.encoder.text();
        let cases = read(self.dir.join("tokenizer_cases.json"));
        let ids = |value: &Value| -> Vec<u32> {
            let ids = value.as_array().expect("ids").iter();
            ids.map(|id| id.as_u64().expect("an id") as u32).collect()
        };
        for case in cases.as_array().expect("cases") {
            let given = case["text"].as_str().expect("a text");
            let encode = |special| text.encode(given, special).expect("tokenised");
            assert_eq!(encode(true), ids(&case["ids"]), "{given}");
            assert_eq!(encode(false), ids(&case["ids_no_special"]), "{given}");
            let decoded = text.decode(&ids(&case["ids"]), false).expect("decoded");
            assert_eq!(decoded, case["decoded"].as_str().expect("a text"));
        }
        let pairs = read(self.dir.join("pair_cases.json"));
        for pair in pairs.as_array().expect("pairs") {
            let text = |key: &str| pair[key].as_str().expect("a text");
            let found = self.encoder.whole(text("a"), Some(text("b")));
            let expected = Tokens {
                ids: ids(&pair["ids"]),
                types: ids(&pair["type_ids"]),
            };
            assert_eq!(found.expect("tokenised"), expected);
        }
    }
}

/// All pairs' dot products.
fn cosines(vectors: &[Vec<f32>]) -> Vec<f32> {
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| a * b).sum();
    let row = |a: &Vec<f32>| vectors.iter().map(|b| dot(a, b)).collect::<Vec<f32>>();
    vectors.iter().flat_map(row).collect()
}

#[test]
fn a_bert_sentence_encoder_agrees_with_transformers() {
    let Some(case) = case("bert_sentence") else {
        return;
    };
    let (encoder, view) = (&case.encoder, View::base());
    let rows = rows(&case.golden);
    let hidden = encoder.hidden(&rows, &view).expect("valid rows");
    case.assert_states(&rows, &hidden);
    case.assert_values("mean_pooled", encoder.pool(&hidden, &view), "hidden_f32");
    let sentences = encoder.sentences(&hidden, &view);
    case.assert_values("sentence_embedding", sentences, "hidden_f32");
    let summary = encoder.summary(&hidden, &view).expect("a pooler");
    case.assert_values("pooler_output", summary, "hidden_f32");

    assert_eq!((encoder.longest(), encoder.width()), (32, 48));
    let texts = texts(&case.settings["texts"]);
    let tokens: Vec<Tokens> = texts
        .iter()
        .map(|text| encoder.tokens(text).expect("tokenised"))
        .collect();
    assert_eq!(tokens, rows);
    let found = encoder.embed(&texts, &view).expect("embedded");
    let (expected, _) = floats(&case.golden, "sentence_embedding");
    assert_close("embed", &found.concat(), &expected, 1e-5);
    let (expected, _) = floats(&case.golden, "cosine");
    assert_close("cosine", &cosines(&found), &expected, 1e-5);
    case.assert_tokens();
    assert!(encoder.labels().is_empty());
    let error = encoder
        .classify(&[("Yes.", None)])
        .expect_err("no classifier");
    assert!(error.to_string().contains("classifier.weight"), "{error}");
}

#[test]
fn a_bert_classifier_agrees_with_transformers() {
    let Some(case) = case("bert_classifier") else {
        return;
    };
    let (encoder, view) = (&case.encoder, View::base());
    let rows = rows(&case.golden);
    let hidden = encoder.hidden(&rows, &view).expect("valid rows");
    let logits = encoder.logits(&hidden, &view).expect("a classifier");
    case.assert_values("logits", logits.clone(), "logits_f32");
    case.assert_values("probabilities", softmax(logits, 1), "logits_f32");
    case.assert_loss(&rows);
    assert_eq!(
        encoder.labels(),
        ["negative", "neutral", "other", "positive"]
    );
    let texts = texts(&case.settings["texts"]);
    let inputs: Vec<_> = texts.iter().map(|text| (*text, None)).collect();
    let found = encoder.classify(&inputs).expect("classified").concat();
    assert_close("classify", &found, &floats(&case.golden, "logits").0, 1e-4);
    case.assert_tokens();
}

#[test]
fn a_distilbert_classifier_agrees_with_transformers() {
    let Some(case) = case("distilbert_classifier") else {
        return;
    };
    let (encoder, view) = (&case.encoder, View::base());
    let rows = rows(&case.golden);
    let hidden = encoder.hidden(&rows, &view).expect("valid rows");
    case.assert_states(&rows, &hidden);
    let logits = encoder.logits(&hidden, &view).expect("a classifier");
    case.assert_values("logits", logits.clone(), "logits_f32");
    case.assert_values("probabilities", softmax(logits, 1), "logits_f32");
    case.assert_loss(&rows);
    assert_eq!(encoder.labels(), ["LABEL_0", "LABEL_1"]);
    // `pair` of case.json: text i with text n - 1 - i.
    let texts = texts(&case.settings["texts"]);
    let pairs = texts.iter().zip(texts.iter().rev());
    let pairs: Vec<_> = pairs.map(|(a, b)| (*a, Some(*b))).collect();
    let whole = |(a, b): &(&str, Option<&str>)| encoder.whole(a, *b).expect("tokenised").ids;
    let ids: Vec<_> = pairs.iter().map(whole).collect();
    assert_eq!(
        ids,
        rows.iter().map(|row| row.ids.clone()).collect::<Vec<_>>()
    );
    let found = encoder.classify(&pairs).expect("classified").concat();
    assert_close("classify", &found, &floats(&case.golden, "logits").0, 1e-4);
    case.assert_tokens();
}

#[test]
fn a_batch_gives_what_its_rows_give_alone() {
    let Some(case) = case("bert_sentence") else {
        return;
    };
    let long = "the doctor is reading a book ".repeat(20);
    let mut texts = vec!["", "Yes.", "She works as a nurse.", &long];
    texts.extend(["A photo of a cat sleeping on the sofa, then it goes home."; 90]);
    let embed = |texts: &[&str]| case.encoder.embed(texts, &View::base()).expect("embedded");
    let together = embed(&texts);
    assert_eq!(together, embed(&texts), "not deterministic");
    for (text, found) in texts.iter().zip(&together).take(6) {
        let length: f32 = found.iter().map(|v| v * v).sum();
        assert!((length - 1.0).abs() < 1e-5, "{length}");
        assert_close(text, found, &embed(&[text])[0], 1e-6);
    }
    assert_eq!(case.encoder.tokens(&long).expect("tokenised").ids.len(), 32);
    assert!(embed(&[]).is_empty());
}

#[test]
fn changes_reach_an_encoder_through_views() {
    let Some(case) = case("bert_classifier") else {
        return;
    };
    let site = "bert.encoder.layer.1.output.dense.weight";
    let rows = rows(&case.golden);
    let value = case.encoder.value(site).expect("an edit site");
    let change = Change {
        weights: [(site.to_owned(), Delta::Dense(value.mul_scalar(0.5)))].into(),
    };
    let recorder = std::sync::Arc::new(Recorder::of_sites([site.to_owned()]).with_notes());
    let view = case.encoder.view(&[&change]).expect("a view");
    let view = view.watched(recorder.clone());
    let states = |view: &View| {
        let hidden = case.encoder.hidden(&rows, view).expect("valid rows");
        host::values(hidden.states().clone())
    };
    assert!(largest(&states(&view), &states(&View::base())) > 1e-3);
    let input = recorder.input_of(site).expect("watched");
    assert_eq!(input.dims(), [4, 17, 112]);
    assert!(recorder.notes().contains_key("hidden.layer2"));
}

#[test]
fn half_precision_gives_nearly_the_same_vectors() {
    let Some(case) = case("bert_sentence") else {
        return;
    };
    let texts = texts(&case.settings["texts"]);
    let embed = |dtype: DType| {
        let view = View::base().computing_in(dtype);
        case.encoder
            .embed(&texts, &view)
            .expect("embedded")
            .concat()
    };
    let exact = embed(DType::F32);
    for (dtype, allowed) in [(DType::BF16, 0.02), (DType::F16, 0.003)] {
        let off = largest(&embed(dtype), &exact);
        assert!(off > 0.0 && off < allowed, "{dtype:?}: {off}");
    }
}

#[test]
fn rows_that_do_not_fit_are_refused() {
    let Some(case) = case("bert_sentence") else {
        return;
    };
    let hidden = |ids: Vec<u32>, types: Vec<u32>| {
        let rows = [Tokens { ids, types }];
        let error = case.encoder.hidden(&rows, &View::base());
        error.expect_err("unusable").to_string()
    };
    let text = hidden(vec![420], vec![0]);
    assert!(text.contains("id 420 is beyond the 420 rows"), "{text}");
    let text = hidden(vec![5], vec![2]);
    assert!(
        text.contains("text number 2 is beyond the 2 rows"),
        "{text}"
    );
    assert!(hidden(vec![], vec![]).contains("from 1 to 64"));
    assert!(hidden(vec![1; 65], vec![0; 65]).contains("from 1 to 64"));
    let long = "doctor ".repeat(80);
    let error = case.encoder.whole(&long, Some("no")).expect_err("too long");
    assert!(error.to_string().contains("the model has 64"), "{error}");
}

/// The folder of the real all-MiniLM-L6-v2, or `None` after saying so.
fn minilm() -> Option<PathBuf> {
    let named = ["DEBIAS_BENCH_MINILM", "STEERING_MINILM_DIR"];
    let dir = named.into_iter().find_map(std::env::var_os);
    if dir.is_none() {
        skipped(
            "minilm_real",
            "DEBIAS_BENCH_MINILM names no folder of all-MiniLM-L6-v2",
        );
    }
    dir.map(PathBuf::from)
}

#[test]
fn the_real_minilm_gives_the_published_embeddings() {
    let (Some(fixture), Some(dir)) = (fixture("minilm_real"), minilm()) else {
        return;
    };
    let settings = read(fixture.join("case.json"));
    let golden = Checkpoint::open_file(&fixture.join("golden.safetensors")).expect("golden opens");
    let encoder = open(&dir);
    let texts = texts(&settings["texts"]);
    assert_eq!(
        Some(encoder.longest() as u64),
        settings["max_length"].as_u64()
    );
    let rows = rows(&golden);
    for (text, row) in texts.iter().zip(&rows) {
        assert_eq!(&encoder.tokens(text).expect("tokenised"), row, "{text}");
    }
    let view = View::base();
    let hidden = encoder.hidden(&rows, &view).expect("valid rows");
    let check = |what: &str, found: &[f32], tolerance: f64| {
        assert_close(what, found, &floats(&golden, what).0, tolerance);
    };
    let first = hidden.states().clone().narrow(1, 0, 1);
    check("first_token_hidden", &host::values(first), 1e-4);
    check(
        "mean_pooled",
        &host::values(encoder.pool(&hidden, &view)),
        1e-4,
    );
    let tolerance = |key: &str| settings["tolerance"][key].as_f64().expect("a tolerance");
    let found = encoder.embed(&texts, &view).expect("embedded");
    let allowed = tolerance("sentence_embedding_max_abs");
    check("sentence_embedding", &found.concat(), allowed);
    check("cosine", &cosines(&found), tolerance("cosine_max_abs"));
    let (expected, _) = floats(&golden, "sentence_embedding");
    for (found, expected) in found.iter().zip(expected.chunks(encoder.width())) {
        let cosine: f32 = found.iter().zip(expected).map(|(a, b)| a * b).sum();
        assert!(cosine >= 0.9999, "{cosine}");
    }
}
