//! SERAC on small untrained models: what is remembered, what it is about, and what is left alone.
//!
//! The numbers in brackets are those of `spec/editors.md` section 7.

mod support;

use std::sync::{Arc, Mutex};

use debias_core::{Record, RecordScores, Split};
use debias_edit::{
    Ctx, Edit, Editor, Error, History, Lessons, Memory, Nowhere, Parts, Prepared, RecordBatch,
    Settings, Touches, TrainingStore, editors,
};
use debias_model::{Change, Model};

use support::{FAMILIES, chunk, model, opt, record, records, settings};

fn serac() -> &'static dyn Editor {
    editors::find("serac").expect("a built-in editor")
}

/// A training of a few seconds that is long enough to move every part.
fn quick(more: &[(&str, &str)]) -> Settings {
    let mut changes = vec![
        ("lr", "0.01"),
        ("scope_lr", "0.01"),
        ("steps", "6"),
        ("batch", "3"),
        ("val_every", "3"),
        ("image_gate", "false"),
    ];
    changes.extend_from_slice(more);
    settings(serac(), &changes)
}

fn prepared<'m>(
    model: &'m Model,
    settings: &Settings,
    store: &dyn TrainingStore,
) -> Box<dyn Prepared + 'm> {
    let train = chunk(model, records(Split::Train, 6));
    let val = chunk(model, records(Split::Val, 3));
    let lessons = Lessons {
        train: &train,
        val: &val,
        eval: &val,
    };
    let ctx = Ctx {
        seed: 3,
        settings,
        store,
    };
    serac().prepare(model, &lessons, &ctx).expect("learns")
}

fn edits(prepared: &dyn Prepared, chunk: &RecordBatch) -> Vec<Arc<Edit>> {
    let edits = prepared.edit_each(&chunk.requests(), &Change::default());
    edits.expect("edits")
}

fn memory(edit: &Edit) -> Memory {
    edit.wrapped::<Memory>().expect("SERAC remembers").clone()
}

fn through(chunk: &RecordBatch, edit: Edit) -> Vec<RecordScores> {
    let edit = Arc::new(edit);
    let edits: Vec<Arc<Edit>> = chunk.records().iter().map(|_| edit.clone()).collect();
    chunk.after(&edits).expect("scores")
}

#[test]
fn an_empty_memory_is_the_base_model_bit_for_bit() {
    // [C1, C3]
    for family in FAMILIES {
        let model = model(family);
        let chunk = chunk(&model, records(Split::Eval, 3));
        let before = chunk.before().to_vec();
        assert_eq!(through(&chunk, Edit::from(Memory::default())), before);
        let prepared = prepared(&model, &quick(&[]), &Nowhere);
        let edit = edits(prepared.as_ref(), &chunk);
        assert_eq!(edit[0].touches(), Touches::Output);
        assert!(edit[0].bytes() > 0);
        assert_ne!(through(&chunk, edit[0].as_ref().clone()), before);
        let popped = memory(&edit[0]).without(0);
        assert_eq!(through(&chunk, Edit::from(popped)), before);
    }
}

#[test]
fn the_order_of_requests_does_not_matter_and_a_dropped_one_leaves_no_trace() {
    // [C8, C11]
    let model = model(opt);
    let chunk = chunk(&model, records(Split::Eval, 3));
    for gate in ["false", "true"] {
        let prepared = prepared(&model, &quick(&[("image_gate", gate)]), &Nowhere);
        let [a, b, c] = edits(prepared.as_ref(), &chunk)
            .try_into()
            .expect("three requests");
        let joined = |edits: &[&Arc<Edit>]| {
            let edits: Vec<Arc<Edit>> = edits.iter().map(|edit| (*edit).clone()).collect();
            Edit::joined(&edits).expect("of one kind")
        };
        let all = joined(&[&a, &b, &c]);
        let scores = through(&chunk, all.clone());
        assert_eq!(through(&chunk, joined(&[&c, &a, &b])), scores);
        let dropped = Edit::from(memory(&all).without(1));
        assert_eq!(through(&chunk, dropped), through(&chunk, joined(&[&a, &c])));
    }
}

#[test]
fn a_question_out_of_scope_keeps_the_bits_of_the_base_model() {
    // A scale beyond every distance leaves in scope only what is worded alike.
    let model = model(opt);
    let chunk = chunk(&model, records(Split::Eval, 3));
    let strict = quick(&[("scale", "1e9"), ("calibrate", "false")]);
    let prepared = prepared(&model, &strict, &Nowhere);
    for (index, edit) in edits(prepared.as_ref(), &chunk).into_iter().enumerate() {
        let after = through(&chunk, edit.as_ref().clone());
        for (at, (after, before)) in after.iter().zip(chunk.before()).enumerate() {
            assert_eq!(after.rephrase, before.rephrase);
            assert_eq!(after.t_locality, before.t_locality);
            assert_eq!(after.m_locality, before.m_locality);
            match at == index {
                true => assert_ne!(after.prompt, before.prompt),
                false => assert_eq!(after, before),
            }
        }
    }
}

#[test]
fn the_decision_does_not_depend_on_the_candidate() {
    // [C15] The other candidate is another text; what is said of the target stays.
    let model = model(opt);
    let prepared = prepared(&model, &quick(&[]), &Nowhere);
    let with = |y_more: &str| {
        let record = Record {
            y_more: y_more.into(),
            ..record(Split::Eval, 0)
        };
        let chunk = chunk(&model, vec![record]);
        let edits = edits(prepared.as_ref(), &chunk);
        chunk.after(&edits).expect("scores")[0]
    };
    let (one, other) = (with("clever"), with("very rich"));
    for (one, other) in one.contexts().into_iter().zip(other.contexts()) {
        assert!((one.y_less.sum - other.y_less.sum).abs() < 1e-5 * one.y_less.sum.abs());
    }
    assert_eq!(one.t_locality, other.t_locality);
}

#[test]
fn training_moves_the_margin_towards_the_target() {
    // [C7]
    for family in FAMILIES {
        let model = model(family);
        let taught = chunk(&model, records(Split::Train, 6));
        for training in ["supervised", "unsupervised"] {
            let settings = quick(&[("training", training), ("steps", "40"), ("cedit", "1")]);
            let prepared = prepared(&model, &settings, &Nowhere);
            let after = taught.after(&edits(prepared.as_ref(), &taught));
            for (before, after) in taught.before().iter().zip(after.expect("scores")) {
                let gain = after.prompt.y_less.mean - before.prompt.y_less.mean;
                assert!(gain > 0.1, "{training}: {gain}");
            }
        }
    }
}

/// Keeps trained parts.
#[derive(Default)]
struct Shelf(Mutex<Option<Parts>>);

impl TrainingStore for Shelf {
    fn finished(&self) -> debias_edit::Result<Option<Parts>> {
        Ok(self.0.lock().expect("no panic").clone())
    }

    fn finish(&self, best: &Parts, _: &Parts, history: &History) -> debias_edit::Result<()> {
        assert!(!history.train.is_empty() && !history.val.is_empty());
        *self.0.lock().expect("no panic") = Some(best.clone());
        Ok(())
    }
}

#[test]
fn stored_parts_make_the_same_edit() {
    // [C4, C16]
    let model = model(opt);
    let chunk = chunk(&model, records(Split::Eval, 3));
    let shelf = Shelf::default();
    let settings = quick(&[("image_gate", "true")]);
    let scores = |store: &dyn TrainingStore| {
        let prepared = prepared(&model, &settings, store);
        let scores = chunk.after(&edits(prepared.as_ref(), &chunk));
        (scores.expect("scores"), prepared.remarks())
    };
    let trained = scores(&shelf);
    let parts = shelf.finished().expect("kept").expect("trained");
    assert!(parts.tensors.keys().any(|name| name.contains("gate")));
    assert!(parts.tensors.contains_key("scope.projection.weight"));
    assert_eq!(scores(&shelf), trained, "from the shelf");
    assert_eq!(scores(&Nowhere), trained, "trained again");
}

#[test]
fn words_of_a_long_request_are_left_out_and_what_cannot_fit_is_named() {
    let model = model(opt);
    let prepared = prepared(&model, &quick(&[]), &Nowhere);
    let score = |prompt: String| {
        let record = Record {
            prompt,
            ..record(Split::Eval, 0)
        };
        let chunk = chunk(&model, vec![record]);
        chunk
            .after(&edits(prepared.as_ref(), &chunk))
            .map(|scores| scores[0])
    };
    // Of 96 positions one prompt takes more than half, so request and question need a cut.
    let long = format!("is this person {} dull", "clever or ".repeat(20));
    assert!(score(long).expect("fits after a cut").is_finite());
    let settings = quick(&[("mode", "cross")]);
    let refused = serac().check(&model, &settings).expect_err("no classifier");
    assert!(
        refused.to_string().contains("serac.classifier"),
        "{refused}"
    );
    let none = prepared.edit_each(&[], &Change::default());
    assert!(matches!(none, Err(Error::EmptyEdit)));
}
