//! In-context editing on small untrained models: the text, the choice of demonstrations, and the
//! scores of what stands behind a long context.
//!
//! The numbers in brackets are those of `spec/editors.md` section 7.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use burn::tensor::{Device, Tensor};
use debias_core::{Picture, Preset, Record, RecordScores, Split, TargetRule, Task, Templates};
use debias_edit::{
    Chunk, Context, Ctx, Edit, Editor, Error, Example, Examples, Lessons, Nowhere, Prepared,
    Request, Settings, TextEmbedding, Touches, cosine, editors,
};
use debias_model::{
    Batch, Change, Fresh, Mllm, Question, Row, Seen, Sighting, View, answer_scores,
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

fn model(family: Family, positions: usize) -> Mllm {
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
    Mllm::assemble(&folder, &Fresh { seed: 7 }, &Device::flex()).expect("assembles")
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

fn chunk(model: &Mllm, records: Vec<Record>) -> Chunk<'_> {
    let picture = |i: usize| {
        let rgb = (0..16 * 16 * 3).map(|p| (p * (i + 3) * 7 % 251) as u8);
        Picture::new(16, 16, rgb.collect()).expect("the right length")
    };
    let pictures: Vec<Picture> = (0..3 * records.len()).map(picture).collect();
    let pictures: Vec<&Picture> = pictures.iter().collect();
    Chunk::new(model, records, &pictures, &Templates::default()).expect("scored")
}

/// The records of a chunk as something to learn from.
struct Taught<'a>(&'a Chunk<'a>);

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
    model: &'m Mllm,
    train: &Chunk,
    changes: &[(&str, &str)],
) -> Box<dyn Prepared + 'm> {
    let settings = settings(changes);
    let ctx = Ctx {
        seed: 3,
        settings: &settings,
        workshop: &Nowhere,
    };
    let taught = Taught(train);
    let lessons = Lessons {
        train: &taught,
        val: &taught,
        eval: &taught,
    };
    ike().prepare(model, &lessons, &ctx).expect("prepares")
}

fn edits(prepared: &dyn Prepared, chunk: &Chunk) -> Vec<Arc<Edit>> {
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

#[test]
fn the_whole_input_reads_as_specified() {
    let model = model(opt, 512);
    let mut taught = record("north", 0);
    taught.prompt = "is this person rich or poor".into();
    taught.y_less = "poor".into();
    let train = chunk(&model, vec![taught]);
    let mut asked = record("eval", 0);
    asked.prompt = "is this person rich or poor".into();
    asked.y_less = "poor".into();
    let eval = chunk(&model, vec![asked]);
    let edit = &edits(prepared(&model, &train, &[("k", "1")]).as_ref(), &eval)[0];
    // The copy sentence of the training record says the same, so nothing is nearer.
    let expected = "New Fact: Question: is this person rich or poor Short answer: poor\n\
                    Prompt: Question: is this person rich or poor Short answer: poor\n\n\
                    New Fact: Question: is this person rich or poor Short answer: poor\n\
                    Prompt: Question: is this person rich or poor Short answer: poor\n\n\
                    New Fact: Question: is this person rich or poor Short answer: poor\n\
                    Prompt: who keeps the bridge";
    assert_eq!(said(edit, "who keeps the bridge"), expected);
    assert_eq!(edit.touches(), Touches::Input);
    assert_eq!(edit.bytes(), expected.len() - "who keeps the bridge".len());
}

#[test]
fn demonstrations_stand_in_the_order_of_either_variant() {
    let model = model(llama, 512);
    let train = chunk(&model, records("north", 4));
    let eval = chunk(&model, records("eval", 2));
    let embedding = TextEmbedding::of(&model, None).expect("the model's own words");
    let near = |texts: &[String], query: &str| -> Vec<usize> {
        let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
        let vectors = embedding.embed(&texts).expect("embedded");
        let query = embedding.one(query).expect("embedded");
        let mut order: Vec<usize> = (0..texts.len()).collect();
        order.sort_by(|a, b| {
            let (a, b) = (cosine(&vectors[*a], &query), cosine(&vectors[*b], &query));
            b.total_cmp(&a)
        });
        order
    };
    let all: Vec<String> = train.records().iter().flat_map(sentences).collect();
    let copies: Vec<String> = all.iter().step_by(3).cloned().collect();
    let easyedit = prepared(&model, &train, &[("k", "5")]);
    let original = prepared(&model, &train, &[("k", "3"), ("variant", "original")]);
    let (easyedit, original) = (edits(&*easyedit, &eval), edits(&*original, &eval));
    for (at, record) in eval.records().iter().enumerate() {
        let [own, ..] = sentences(record);
        let order = near(&all, &own);
        let shown: String = order[..5].iter().map(|i| all[*i].as_str()).collect();
        let end = format!("{own}{}", own.split("Question").next().expect("a start"));
        assert!(said(&easyedit[at], "x").starts_with(&format!("{shown}{end}")));

        let shown = said(&original[at], "x");
        let blocks: Vec<&str> = shown.split_inclusive("\n\n").collect();
        assert_eq!(blocks.len(), 5);
        let order = near(&copies, &own);
        for (block, nearest) in blocks[..3].iter().rev().zip(order) {
            assert!(all[3 * nearest..3 * nearest + 3].contains(&(*block).to_owned()));
        }
        assert_eq!(blocks[3], own);
    }
}

#[test]
fn no_demonstration_and_no_fact_are_the_identity() {
    // [C3]
    for family in FAMILIES {
        let model = model(family, 512);
        let (train, eval) = (
            chunk(&model, records("north", 2)),
            chunk(&model, records("eval", 3)),
        );
        let none = prepared(&model, &train, &[("k", "0"), ("fact", "false")]);
        let edits = edits(&*none, &eval);
        assert!(edits.iter().all(|edit| edit.touches() == Touches::Nothing));
        assert!(edits.iter().all(|edit| said(edit, "x") == "x"));
        assert_eq!(eval.after(&edits).expect("scores"), eval.before());
        let settings = ike().identity(&settings(&[])).expect("a setting");
        assert_eq!(settings, self::settings(&[("k", "0"), ("fact", "false")]));
    }
}

/// The pictures of a record as one batch: own, rephrased, elsewhere.
fn seen(example: &Example) -> Seen {
    Seen::join([
        example.request.seen.clone(),
        example.seen_rephrase.clone(),
        example.seen_mloc.clone(),
    ])
    .expect("three pictures")
}

fn sight(index: usize) -> Sighting {
    Sighting { index, tiles: 1 }
}

/// The six answers of `example`, each prompt replaced by what `said` makes of it, every row read
/// as a whole and alone.
fn plainly(model: &Mllm, example: &Example, said: impl Fn(&str) -> String) -> Vec<f64> {
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

#[test]
fn reading_what_rows_share_once_changes_no_score() {
    for family in FAMILIES {
        let model = model(family, 512);
        let (train, eval) = (
            chunk(&model, records("north", 4)),
            chunk(&model, records("eval", 3)),
        );
        let edits = edits(&*prepared(&model, &train, &[("k", "4")]), &eval);
        let after = eval.after(&edits).expect("scores");
        for (at, (edit, after)) in edits.iter().zip(&after).enumerate() {
            let example = eval.example(at);
            let expected = plainly(&model, &example, |prompt| said(edit, prompt));
            assert_near(&sums(after), &expected);
            assert_ne!(sums(after), sums(&eval.before()[at]));
        }
    }
}

#[test]
fn locality_compares_the_end_that_both_rows_share() {
    for family in FAMILIES {
        let model = model(family, 512);
        let (train, eval) = (
            chunk(&model, records("north", 2)),
            chunk(&model, records("eval", 2)),
        );
        let edits = edits(&*prepared(&model, &train, &[("k", "2")]), &eval);
        let after = eval.after(&edits).expect("scores");
        for (at, edit) in edits.iter().enumerate() {
            let example = eval.example(at);
            let record = &example.request.record;
            let read = |prompt: &str, picture: Option<Sighting>, answer| -> (Row, Tensor<2>) {
                let question = Question::new(picture, prompt, answer);
                let rows = model.rows(&[question]).expect("fits");
                let batch = match picture {
                    Some(_) => Batch::with_pictures(rows.clone(), seen(&example)),
                    None => Batch::text(rows.clone()),
                };
                let logits = model.logits(batch, &View::base()).squeeze_dim(0);
                (rows[0].clone(), logits)
            };
            for (picture, prompt, answer, found) in [
                (None, &example.loc_q, &record.loc_a, after[at].t_locality),
                (
                    Some(sight(2)),
                    &example.mloc_q,
                    &record.mloc_a,
                    after[at].m_locality,
                ),
            ] {
                let (base, before) = read(prompt, picture, answer);
                let (edited, behind) = read(&said(edit, prompt), picture, answer);
                // The first word has a blank in front of it only behind the context.
                let text = base.ids.len() - picture.map_or(0, |_| 4);
                let common = (0..text)
                    .rev()
                    .take_while(|i| {
                        let from_end = text - i;
                        base.ids[base.ids.len() - from_end]
                            == edited.ids[edited.ids.len() - from_end]
                    })
                    .count();
                assert!(common >= 4 && common < text, "{common} of {text}");
                let last = |logits: Tensor<2>| {
                    let n = logits.dims()[0];
                    logits.narrow(0, n - common, common)
                };
                let answers = base.answer().len();
                let answers = common - 1 - answers..common - 1;
                let (before, behind) = (last(before), last(behind));
                let expected = locality_of_pairs(before, behind, answers, base.answer());
                let expected = expected.expect("finite");
                assert_eq!(found.positions, common);
                assert_eq!(found.answer_positions, expected.answer_positions);
                assert_eq!(found.answer_correct, expected.answer_correct);
                assert_eq!(found.top1_kept, expected.top1_kept);
                assert_eq!(found.answer_top10_shared, expected.answer_top10_shared);
                assert!((found.kl - expected.kl).abs() < 1e-5 * expected.kl);
                assert!((found.answer_kl - expected.answer_kl).abs() < 1e-5 * expected.answer_kl);
                assert!(found.kl > 0.0);
            }
        }
    }
}

#[test]
fn demonstrations_that_do_not_fit_are_left_out_from_the_front() {
    for family in FAMILIES {
        let model = model(family, 160);
        let (train, eval) = (
            chunk(&model, records("north", 4)),
            chunk(&model, records("eval", 2)),
        );
        let ready = prepared(&model, &train, &[("k", "12")]);
        let edits = edits(&*ready, &eval);
        let after = eval.after(&edits).expect("scores");
        for (at, (edit, after)) in edits.iter().zip(&after).enumerate() {
            let example = eval.example(at);
            let record = &example.request.record;
            let shortened = |prompt: &str| -> String {
                let whole = said(edit, prompt);
                let blocks: Vec<&str> = whole.split_inclusive("\n\n").collect();
                let fits = |text: &String| {
                    let answers = [record.y_more.as_str(), record.y_less.as_str()];
                    model.row_pair(sight(0), text, answers).is_ok()
                };
                let mut texts = (0..blocks.len()).map(|from| blocks[from..].concat());
                texts.find(fits).expect("one fits")
            };
            assert!(shortened(&example.request.prompt).len() < said(edit, &example.rephrase).len());
            assert_near(&sums(after), &plainly(&model, &example, shortened));
        }
        let remarks = ready.remarks().join("\n");
        assert!(
            remarks.contains("in 10 of 10 prompts the first "),
            "{remarks}"
        );
        // Scoring again counts nothing twice.
        eval.after(&edits).expect("scores");
        assert_eq!(ready.remarks().join("\n"), remarks);
    }
}

#[test]
fn a_cap_leaves_out_demonstrations_but_never_the_fact() {
    let model = model(opt, 512);
    let (train, eval) = (
        chunk(&model, records("north", 4)),
        chunk(&model, records("eval", 1)),
    );
    let ready = prepared(&model, &train, &[("k", "12"), ("cap", "1")]);
    let capped = eval.after(&edits(&*ready, &eval)).expect("scores");
    let example = eval.example(0);
    let bare = |prompt: &str| {
        let fact = format!(
            "{} {}",
            example.request.prompt, example.request.record.y_less
        );
        format!("New Fact: {fact}\nPrompt: {prompt}")
    };
    assert_near(&sums(&capped[0]), &plainly(&model, &example, bare));
    let remarks = ready.remarks().join("\n");
    assert!(
        remarks.contains("in 5 of 5 prompts the first 13 "),
        "{remarks}"
    );
}

#[test]
fn a_record_whose_bare_fact_does_not_fit_is_named() {
    // [C2]
    let model = model(opt, 96);
    let mut long = record("eval", 0);
    let tokens = |text: &str| model.text().encode(text, false).expect("tokens").len();
    while tokens(&long.prompt) < 60 {
        long.prompt.push_str(" very");
    }
    let (train, eval) = (
        chunk(&model, records("north", 2)),
        chunk(&model, vec![long]),
    );
    let edits = edits(&*prepared(&model, &train, &[("k", "2")]), &eval);
    let refused = eval.after(&edits).expect_err("too long");
    assert!(matches!(&refused, Error::Record { id, .. } if id == "eval-0"));
    let message = refused.to_string();
    assert!(
        message.contains("`eval-0`") && message.contains("96"),
        "{message}"
    );
}

#[test]
fn the_edit_does_not_know_which_answer_is_scored() {
    // [C15]
    let model = model(llama, 512);
    let train = chunk(&model, records("north", 4));
    let ready = prepared(&model, &train, &[("k", "4")]);
    let scored = |y_more: &str| {
        let mut asked = record("eval", 1);
        asked.y_more = y_more.into();
        let eval = chunk(&model, vec![asked]);
        let edits = edits(&*ready, &eval);
        let text = said(&edits[0], "x");
        (text, eval.after(&edits).expect("scores")[0])
    };
    let ((text, scores), (other_text, other)) = (scored("rich"), scored("a clever one"));
    assert_eq!(text, other_text);
    assert_near(
        &scores.contexts().map(|context| context.y_less.sum),
        &other.contexts().map(|context| context.y_less.sum),
    );
    assert_ne!(scores.prompt.y_more, other.prompt.y_more);
}

#[test]
fn demonstrations_of_the_same_group_are_not_shown() {
    // [C18]
    let model = model(opt, 512);
    let mut taught = records("north", 4);
    taught[1].group = "eval-group-0".into();
    taught[1].loc_a = "red ball".into();
    let (train, eval) = (chunk(&model, taught), chunk(&model, records("eval", 2)));
    for variant in ["easyedit", "original"] {
        let ready = prepared(&model, &train, &[("k", "32"), ("variant", variant)]);
        let edits = edits(&*ready, &eval);
        let facts = |edit: &Edit| said(edit, "x").matches("north person rich").count();
        assert_eq!(facts(&edits[0]), 0, "{variant}");
        assert!(facts(&edits[1]) > 0, "{variant}");
    }
}

#[test]
fn a_prompt_is_asked_behind_the_nearest_of_several_facts() {
    let model = model(opt, 512);
    let (train, eval) = (
        chunk(&model, records("north", 4)),
        chunk(&model, records("eval", 3)),
    );
    let nearest = prepared(&model, &train, &[("k", "2")]);
    let alone = edits(&*nearest, &eval);
    let joint = nearest.edit_jointly(&eval.requests()).expect("joined");
    for (at, alone) in alone.iter().enumerate() {
        let prompt = &eval.request(at).prompt;
        assert_eq!(said(&joint, prompt), said(alone, prompt));
    }
    // [C11] A record is scored as if its edit were alone, up to the facts its prompts choose.
    let together = Arc::new(joint);
    let both = eval.after(&vec![together; 3]).expect("scores");
    let apart = eval.after(&alone).expect("scores");
    for (both, apart) in both.iter().zip(&apart) {
        assert_eq!(both.prompt, apart.prompt);
        assert_eq!(both.image_rephrase, apart.image_rephrase);
    }

    let all = prepared(&model, &train, &[("k", "2"), ("multi", "concat_all")]);
    let alone = edits(&*all, &eval);
    let joint = all.edit_jointly(&eval.requests()).expect("joined");
    for (at, alone) in alone.iter().enumerate() {
        let prompt = &eval.request(at).prompt;
        let text = said(&joint, prompt);
        assert!(text.ends_with(&said(alone, prompt)));
        for record in eval.records() {
            assert!(text.contains(&sentences(record)[0]));
        }
    }
}

#[test]
fn of_equally_near_facts_the_earlier_is_stated() {
    let model = model(opt, 512);
    let train = chunk(&model, records("north", 2));
    let mut asked = records("eval", 2);
    asked[1].prompt = asked[0].prompt.clone();
    let eval = chunk(&model, asked);
    let ready = prepared(&model, &train, &[("k", "0")]);
    let joint = ready.edit_jointly(&eval.requests()).expect("joined");
    let prompt = &eval.request(1).prompt;
    assert_eq!(
        said(&joint, prompt),
        said(&edits(&*ready, &eval)[0], prompt)
    );
}

#[test]
fn a_prefix_from_elsewhere_stands_in_front_as_it_is() {
    let model = model(opt, 512);
    let eval = chunk(&model, records("eval", 1));
    let prefix = |text: &str| Edit::Context(Context::prefix(text.into()));
    let edit = Arc::new(prefix("the person is very dull "));
    let after = eval.after(std::slice::from_ref(&edit)).expect("scores");
    let expected = plainly(&model, &eval.example(0), |prompt| {
        format!("the person is very dull {prompt}")
    });
    assert_near(&sums(&after[0]), &expected);
    let joined = Edit::joined(&[edit, Arc::new(prefix("or not "))]).expect("of one kind");
    assert_eq!(said(&joined, "x"), "the person is very dull or not x");
    // Nothing in front of anything is the identity.
    let nothing = Arc::new(prefix(""));
    assert_eq!(eval.after(&[nothing]).expect("scores"), eval.before());
}

#[test]
fn the_same_seed_gives_the_same_bits() {
    // [C4]
    let model = model(llama, 512);
    let (train, eval) = (
        chunk(&model, records("north", 4)),
        chunk(&model, records("eval", 2)),
    );
    let run = |variant: &str| {
        let ready = prepared(&model, &train, &[("k", "4"), ("variant", variant)]);
        let edits = edits(&*ready, &eval);
        let texts: Vec<String> = edits.iter().map(|edit| said(edit, "x")).collect();
        (texts, eval.after(&edits).expect("scores"))
    };
    for variant in ["easyedit", "original"] {
        assert_eq!(run(variant), run(variant));
    }
    // [C9] A record alone and among others.
    let ready = prepared(&model, &train, &[("k", "4")]);
    let only = chunk(&model, records("eval", 1));
    let alone = only.after(&edits(&*ready, &only)).expect("scores");
    assert_near(&sums(&alone[0]), &sums(&run("easyedit").1[0]));
}

#[test]
fn without_an_encoder_the_result_says_so() {
    let model = model(opt, 512);
    let train = chunk(&model, records("north", 1));
    let remarks = prepared(&model, &train, &[("k", "1")]).remarks();
    assert!(
        remarks
            .iter()
            .any(|r| r.starts_with("ike: no sentence encoder given"))
    );
    assert!(
        remarks
            .iter()
            .any(|r| r.contains("the edit target stands in every prompt"))
    );
    let embedding = TextEmbedding::of(&model, None).expect("the model's own words");
    assert_eq!(embedding.width(), 24);
    let vectors = embedding
        .embed(&["red ball", "", "red ball"])
        .expect("embedded");
    assert!((cosine(&vectors[0], &vectors[2]) - 1.0).abs() < 1e-6);
    assert_eq!(vectors[1], vec![0.0; 24]);
}

/// Nothing to learn from.
struct Nobody;

impl Examples for Nobody {
    fn records(&self) -> &[Record] {
        &[]
    }

    fn request(&self, at: usize) -> debias_edit::Result<Request> {
        unreachable!("there is no record {at}")
    }

    fn example(&self, at: usize) -> debias_edit::Result<Example> {
        unreachable!("there is no record {at}")
    }
}

#[test]
fn an_empty_corpus_is_refused() {
    let model = model(opt, 512);
    let settings = settings(&[]);
    let ctx = Ctx {
        seed: 3,
        settings: &settings,
        workshop: &Nowhere,
    };
    let lessons = Lessons {
        train: &Nobody,
        val: &Nobody,
        eval: &Nobody,
    };
    let refused = ike()
        .prepare(&model, &lessons, &ctx)
        .err()
        .expect("refused");
    assert!(matches!(refused, Error::NothingToLearn { editor: "ike" }));
}

/// A folder of the fixtures; `None` where they are not on this machine.
fn fixture(name: &str) -> Option<PathBuf> {
    let folder = std::env::var_os("DEBIAS_BENCH_FIXTURES").map(PathBuf::from);
    let folder = folder.map(|root| root.join("models").join(name));
    let found = folder.filter(|folder| folder.is_dir());
    if found.is_none() {
        assert!(
            std::env::var("CI").as_deref() != Ok("true"),
            "DEBIAS_BENCH_FIXTURES holds no models/{name}"
        );
        eprintln!("SKIPPED: DEBIAS_BENCH_FIXTURES holds no models/{name}");
    }
    found
}

#[test]
fn a_sentence_encoder_is_used_where_one_is_given() {
    let Some(folder) = fixture("bert_sentence") else {
        return;
    };
    let model = model(opt, 512);
    let (train, eval) = (
        chunk(&model, records("north", 4)),
        chunk(&model, records("eval", 2)),
    );
    let path = folder.display().to_string();
    let given = [("k", "4"), ("encoder", path.as_str())];
    assert_eq!(ike().inputs(&settings(&given)).expect("a path"), [folder]);
    ike().check(&model, &settings(&given)).expect("an encoder");
    let ready = prepared(&model, &train, &given);
    assert!(!ready.remarks().join("\n").contains("no sentence encoder"));
    let with = edits(&*ready, &eval);
    eval.after(&with).expect("scores");
    let without = edits(&*prepared(&model, &train, &[("k", "4")]), &eval);
    assert_eq!(
        said(&with[0], "x").matches("\n\n").count(),
        said(&without[0], "x").matches("\n\n").count()
    );
}

#[test]
fn a_folder_without_an_encoder_is_refused_before_any_work() {
    let Some(folder) = fixture("opt") else {
        return;
    };
    let model = model(opt, 512);
    let path = folder.display().to_string();
    let refused = ike().check(&model, &settings(&[("encoder", path.as_str())]));
    let message = refused.expect_err("a decoder").to_string();
    assert!(
        message.contains("ike.encoder") && message.contains("holds no encoder"),
        "{message}"
    );
}
