//! What the training of an editor's own parts promises: every part learns, the best is kept,
//! patience ends it.

mod support;

use std::collections::BTreeMap;
use std::sync::Mutex;

use debias_core::Split;
use debias_edit::{
    Ctx, Editor, History, Lessons, Losses, Matrix, Parts, Result, Settings, TrainingStore, editors,
};
use debias_model::host;
use support::{chunk, model, opt, records, settings};

/// Remembers what a training leaves.
#[derive(Default)]
struct Notebook {
    finished: Mutex<Option<(Parts, Parts, History)>>,
    steps: Mutex<Vec<Losses>>,
}

impl TrainingStore for Notebook {
    fn finish(&self, best: &Parts, last: &Parts, history: &History) -> Result<()> {
        *self.finished.lock().expect("alone") = Some((best.clone(), last.clone(), history.clone()));
        Ok(())
    }

    fn step(&self, losses: &Losses, _of: usize) -> Result<()> {
        self.steps.lock().expect("alone").push(*losses);
        Ok(())
    }
}

/// Trains `editor` on a few records of an untrained model.
fn trained(editor: &dyn Editor, settings: &Settings) -> (Parts, Parts, History) {
    let model = model(opt);
    let train = chunk(&model, records(Split::Train, 6));
    let val = chunk(&model, records(Split::Val, 3));
    let notebook = Notebook::default();
    let ctx = Ctx {
        seed: 3,
        settings,
        store: &notebook,
    };
    let lessons = Lessons {
        train: &train,
        val: &val,
        eval: &val,
    };
    editor.prepare(&model, &lessons, &ctx).expect("learns");
    let steps = notebook.steps.into_inner().expect("alone");
    let finished = notebook.finished.into_inner().expect("alone");
    let (best, last, history) = finished.expect("it came to an end");
    assert_eq!(steps, history.train);
    (best, last, history)
}

const SHORT: [(&str, &str); 5] = [
    ("steps", "6"),
    ("batch", "2"),
    ("accumulate", "2"),
    ("val_every", "2"),
    ("val_records", "3"),
];

fn short(name: &str, more: &[(&str, &str)]) -> Settings {
    let editor = editors::find(name).expect("built in");
    settings(editor, &[&SHORT[..], more].concat())
}

/// Names of the tensors of `after` that are as they were in `before`.
fn unmoved(before: &BTreeMap<String, Matrix>, after: &BTreeMap<String, Matrix>) -> Vec<String> {
    after
        .iter()
        .filter(|(name, _)| !name.starts_with("statistics."))
        .filter(|(name, tensor)| {
            let old = before.get(*name).map(|tensor| host::values(tensor.clone()));
            old == Some(host::values((*tensor).clone()))
        })
        .map(|(name, _)| name.clone())
        .collect()
}

#[test]
fn every_part_of_a_hyper_network_learns() {
    // A network that is dead from the start shows the same headline figures.
    for (name, given) in [
        ("mend", &[("lr", "1e-3"), ("lr_lr", "1e-3")][..]),
        ("ke", &[("lr", "1e-3"), ("h", "8"), ("c", "8")][..]),
        ("serac", &[("lr", "1e-3"), ("calibrate", "false")][..]),
        (
            "biasedit",
            &[("lr", "1e-3"), ("lr_lr", "1e-3"), ("edit_lr", "1e-2")][..],
        ),
    ] {
        let editor = editors::find(name).expect("built in");
        let (start, _, _) = trained(editor, &short(name, &[given, &[("steps", "0")]].concat()));
        let (_, last, history) = trained(editor, &short(name, given));
        assert_eq!(history.train.len(), 6, "{name}");
        let dead = unmoved(&start.tensors, &last.tensors);
        assert!(dead.is_empty(), "{name}: {dead:?} did not move");
        if name == "mend" {
            let norm = |parts: &Parts, part: &str| -> f64 {
                let of = parts
                    .tensors
                    .iter()
                    .filter(|(name, _)| name.ends_with(part));
                let values = of.flat_map(|(_, tensor)| host::values(tensor.clone()));
                values.map(|v| f64::from(v).powi(2)).sum()
            };
            assert_eq!(norm(&start, ".u"), 0.0);
            assert!(norm(&last, ".u") > 0.0, "U grew from nothing");
        }
    }
}

#[test]
fn the_best_by_validation_is_kept_beside_the_last() {
    let editor = editors::find("mend").expect("built in");
    // A rate so high that the objective goes up and down.
    let wild = [("lr", "0.03"), ("lr_lr", "0.3"), ("val_every", "1")];
    let (best, last, history) = trained(editor, &short("mend", &wild));
    assert_eq!(history.val.len(), 7, "the start and every step");
    let totals = history.val.iter().map(|v| v.total);
    let lowest = totals.fold(f64::INFINITY, f64::min);
    let kept = history.val.iter().find(|v| v.step == history.best);
    assert_eq!(kept.expect("validated").total, lowest);
    let parameters = best
        .tensors
        .keys()
        .filter(|name| !name.starts_with("statistics."));
    let moved = unmoved(&best.tensors, &last.tensors).len() < parameters.count();
    assert_eq!(moved, history.best < 6, "{history:?}");
}

#[test]
fn patience_ends_a_training() {
    let editor = editors::find("mend").expect("built in");
    let still = [
        ("lr", "0"),
        ("lr_lr", "0"),
        ("norm", "false"),
        ("steps", "40"),
        ("patience", "4"),
    ];
    let (_, _, history) = trained(editor, &short("mend", &still));
    assert_eq!(history.train.len(), 4, "{}", history.end);
    assert!(history.end.contains("no better validation for 4 steps"));
}

#[test]
fn without_training_records_there_is_nothing_to_learn() {
    let model = model(opt);
    for name in ["mend", "ke", "serac", "biasedit", "ike"] {
        let editor = editors::find(name).expect("built in");
        let settings = editor.defaults(debias_core::Preset::Project);
        let ctx = Ctx {
            seed: 0,
            settings: &settings,
            store: &debias_edit::Nowhere,
        };
        let refused = editor.prepare(&model, &Lessons::none(), &ctx).err();
        let message = refused.expect("refused").to_string();
        assert!(message.contains("there is no training record"), "{message}");
    }
}
