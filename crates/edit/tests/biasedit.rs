//! What BiasEdit promises: one change for any number of requests, and words for what it
//! cannot use.

mod support;

use std::sync::Arc;

use debias_core::{Record, Split, Task};
use debias_edit::conformance::{Finding, Options, Verdict, check};
use debias_edit::{Ctx, Edit, Editor, Lessons, Nowhere, Prepared, RecordBatch, Settings, editors};
use debias_model::{Change, Delta, Model, host};
use support::{chunk, llama, model, opt, records, settings, world};

/// Rates at which a few steps on an untrained model of 24 columns show.
const SHORT: [(&str, &str); 7] = [
    ("steps", "40"),
    ("batch", "3"),
    ("val_every", "20"),
    ("rank", "8"),
    ("edit_lr", "1e-2"),
    ("lr", "1e-3"),
    ("lr_lr", "1e-3"),
];

fn biasedit() -> &'static dyn Editor {
    editors::find("biasedit").expect("built in")
}

fn short(more: &[(&str, &str)]) -> Settings {
    settings(biasedit(), &[&SHORT[..], more].concat())
}

/// Prepared on the records of `chunk`.
fn prepared<'m>(
    model: &'m Model,
    chunk: &RecordBatch,
    settings: &Settings,
) -> debias_edit::Result<Box<dyn Prepared + 'm>> {
    let lessons = Lessons {
        train: chunk,
        val: chunk,
        eval: chunk,
    };
    let ctx = Ctx {
        seed: 3,
        settings,
        store: &Nowhere,
    };
    biasedit().prepare(model, &lessons, &ctx)
}

/// The values of every matrix of an edit.
fn values(edit: &Edit) -> Vec<f32> {
    let change = edit.change().expect("it changes weights");
    let deltas = change.weights.values().map(Delta::dense).map(host::values);
    deltas.collect::<Vec<_>>().concat()
}

/// Records of text alone.
fn texts(count: usize) -> Vec<Record> {
    let text = |record: Record| Record {
        task: Task::Text,
        image: None,
        image_rephrase: None,
        m_locality: None,
        ..record
    };
    records(Split::Train, count).into_iter().map(text).collect()
}

#[test]
fn it_conforms() {
    for family in [opt, llama] {
        let model = model(family);
        let world = world(&model);
        let options = Options {
            seed: 3,
            ..Options::default()
        };
        let findings = check(biasedit(), &world, &short(&[]), &options).expect("it can be tested");
        // An untrained model holds both answers equally likely to begin with.
        let failed = |finding: &&Finding| finding.verdict.is_failed() && finding.id != "C7";
        let failed: Vec<&Finding> = findings.iter().filter(failed).collect();
        assert!(failed.is_empty(), "{failed:#?}");
        let applies = |id: &str| {
            let finding = findings.iter().find(|finding| finding.id == id);
            matches!(finding.expect("all twenty").verdict, Verdict::Passed(_))
        };
        for id in ["C3", "C8", "C10", "C16"] {
            assert!(applies(id), "{id}");
        }
        assert!(
            !applies("C19"),
            "no network leaves its gradients as they are"
        );
    }
}

#[test]
fn text_alone_is_edited_too() {
    for family in [opt, llama] {
        let model = model(family);
        let chunk = chunk(&model, texts(6));
        let prepared = prepared(&model, &chunk, &short(&[])).expect("learns");
        let edits = prepared.edit_each(&chunk.requests(), &Change::default());
        let edits = edits.expect("edits");
        assert_eq!(edits.len(), 6);
        for edit in &edits {
            let values = values(edit);
            assert!(values.iter().all(|value| value.is_finite()));
            assert!(values.iter().any(|value| *value != 0.0));
        }
        chunk.after(&edits).expect("scores");
    }
}

#[test]
fn a_rate_of_nothing_is_no_change() {
    let model = model(opt);
    let chunk = chunk(&model, records(Split::Train, 3));
    let still = biasedit().identity(&short(&[])).expect("it has one");
    let prepared = prepared(&model, &chunk, &still).expect("nothing to learn");
    let one = prepared
        .edit_each(&chunk.requests()[..1], &Change::default())
        .expect("an edit");
    assert!(values(&one[0]).iter().all(|value| *value == 0.0));
}

#[test]
fn requests_together_are_one_change_in_any_order() {
    let model = model(opt);
    let chunk = chunk(&model, records(Split::Train, 6));
    let prepared = prepared(&model, &chunk, &short(&[("joint", "true")])).expect("learns");
    let requests = chunk.requests();
    let turned: Vec<_> = requests.iter().rev().cloned().collect();
    let there = values(&prepared.edit_jointly(&requests).expect("an edit"));
    let back = values(&prepared.edit_jointly(&turned).expect("an edit"));
    let largest = there
        .iter()
        .fold(0.0_f32, |most, value| most.max(value.abs()));
    assert!(largest > 0.0);
    for (a, b) in there.iter().zip(&back) {
        assert!((a - b).abs() <= 1e-6 * largest.max(1.0), "{a} against {b}");
    }
    let alone = prepared.edit_each(&requests, &Change::default());
    let alone: Vec<Arc<Edit>> = alone.expect("edits");
    let sum = values(&Edit::joined(&alone).expect("one edit"));
    assert!(there != sum, "a compromise, not a sum");
    // One request together is that request alone.
    let single = values(&prepared.edit_jointly(&requests[..1]).expect("an edit"));
    for (a, b) in single.iter().zip(values(&alone[0])) {
        assert!((a - b).abs() <= 1e-6, "{a} against {b}");
    }
}

#[test]
fn only_the_second_matrix_of_a_layer_is_edited() {
    let model = model(llama);
    let chunk = chunk(&model, records(Split::Train, 3));
    let prepared = prepared(&model, &chunk, &short(&[("layers", "[-1]")])).expect("learns");
    let edits = prepared.edit_each(&chunk.requests(), &Change::default());
    for edit in edits.expect("edits") {
        let names = edit.parameters();
        assert!(
            names.len() == 1 && names[0].ends_with("layers.2.mlp.down_proj.weight"),
            "{names:?}"
        );
    }
}

#[test]
fn borrowed_answers_are_said_so_and_must_be_had() {
    let model = model(opt);
    let bare = |count: usize| -> Vec<Record> {
        let bare = |record: Record| Record {
            t_locality: None,
            ..record
        };
        texts(count).into_iter().map(bare).collect()
    };
    let some = chunk(&model, bare(3));
    let given = short(&[("steps", "1")]);
    let remarks = prepared(&model, &some, &given).expect("learns").remarks();
    assert_eq!(
        remarks,
        [
            "biasedit: the meaningless answer of 3 of 3 records is that of another record, because they have no unrelated item"
        ]
    );
    let with_items = chunk(&model, texts(3));
    let quiet = prepared(&model, &with_items, &given).expect("learns");
    assert!(quiet.remarks().is_empty());
    let one = chunk(&model, bare(1));
    let Err(refused) = prepared(&model, &one, &given) else {
        panic!("nothing means nothing there");
    };
    assert_eq!(
        refused.to_string(),
        "biasedit: record `train-0` has no unrelated item, and no other record lends it a meaningless answer"
    );
}

#[test]
fn whole_distributions_see_nothing_in_one_token() {
    let model = model(opt);
    let chunk = chunk(&model, records(Split::Train, 3));
    let Err(refused) = prepared(&model, &chunk, &short(&[("loss", "token")])) else {
        panic!("`clever` is one token");
    };
    let message = refused.to_string();
    assert!(message.contains("set biasedit.loss=scalar"), "{message}");
}
