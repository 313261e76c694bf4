//! Editing without pictures: the properties of every editor with a language side, on text models and on
//! multimodal ones, and what the unedited model says by itself.

mod support;

use std::collections::HashMap;

use debias_core::{Record, Split, TargetRule, Templates};
use debias_edit::conformance::{Finding, Options, Verdict, check};
use debias_edit::{Error, RecordBatch, answer_by_itself, editors};
use debias_model::Model;
use support::{FAMILIES, llama, model, opt, record, settings, text_model, text_world};

/// Every editor with a language side, and a training of a few seconds.
const EDITORS: [(&str, &[(&str, &str)]); 8] = [
    ("nothing", &[]),
    ("random", &[]),
    ("ft-l", &[("lr", "0.01")]),
    ("ike", &[("k", "2")]),
    ("serac", &[("lr", "0.01"), ("scope_lr", "0.01")]),
    ("ke", &[("h", "8"), ("c", "8")]),
    ("mend", &[("lr", "1e-3")]),
    ("biasedit", &[]),
];

fn conforms(name: &str, given: &[(&str, &str)], model: &Model) {
    let editor = editors::find(name).expect("a built-in editor");
    let world = text_world(model);
    let settings = editor.rehearsal(&settings(editor, given));
    let options = Options {
        seed: 3,
        ..Options::default()
    };
    let findings = check(editor, &world, &settings, &options).expect("it can be tested");
    // A context moves a model that has learned to read, and a network that has learned for seconds need not
    // move these at all; `bench check-editor` holds them to C7 on trained models.
    let learns = ["ike", "ke", "mend", "biasedit"].contains(&name);
    let expected = |f: &&Finding| !(learns && f.id == "C7");
    let failed = findings.iter().filter(|f| f.verdict.is_failed());
    let failed: Vec<&Finding> = failed.filter(expected).collect();
    assert!(failed.is_empty(), "{name} on {}: {failed:#?}", model.name());
    let of = |id: &str| {
        &findings
            .iter()
            .find(|f| f.id == id)
            .expect("all twenty")
            .verdict
    };
    assert!(
        matches!(of("C6"), Verdict::NotApplicable(_)),
        "{name}: {:?}",
        of("C6")
    );
    assert!(
        matches!(of("C13"), Verdict::Passed(_)),
        "{name}: {:?}",
        of("C13")
    );
}

#[test]
fn every_editor_conforms_on_text_models() {
    for family in FAMILIES {
        let model = text_model(family);
        assert!(!model.has_sight());
        for (name, given) in EDITORS {
            conforms(name, given, &model);
        }
    }
}

#[test]
fn every_editor_conforms_on_the_language_side_of_a_multimodal_model() {
    let model = model(llama);
    for (name, given) in EDITORS {
        conforms(name, given, &model);
    }
}

#[test]
fn records_may_ask_different_things() {
    let model = text_model(opt);
    let whole = record(Split::Eval, 0).text_alone();
    let bare = Record {
        prompt_rephrase: None,
        t_locality: None,
        ..record(Split::Eval, 1).text_alone()
    };
    let templates = Templates::default();
    let batch = |records: Vec<Record>| {
        RecordBatch::new(&model, records, &HashMap::new(), &templates).expect("scored")
    };
    let both = batch(vec![whole.clone(), bare.clone()]);
    let [first, second] = both.before() else {
        panic!("two records")
    };
    assert!(first.rephrase.is_some() && first.t_locality.is_some());
    assert!(second.rephrase.is_none() && second.t_locality.is_none());
    for (record, scores) in [(whole, first), (bare, second)] {
        let alone = batch(vec![record]).before()[0];
        let near = |a: f64, b: f64| (a - b).abs() < 1e-5 * a.abs();
        assert!(near(alone.prompt.y_less.sum, scores.prompt.y_less.sum));
        assert!(near(alone.prompt.y_more.sum, scores.prompt.y_more.sum));
    }
}

#[test]
fn a_model_says_its_own_answer_alone_as_in_company() {
    for family in FAMILIES {
        let model = text_model(family);
        let templates = Templates::default();
        let asked = |index: usize| Record {
            y_more: String::new(),
            target: TargetRule::Own,
            ..record(Split::Eval, index).text_alone()
        };
        let given = record(Split::Eval, 0).text_alone();
        let mut records = vec![asked(0), given.clone(), asked(1)];
        answer_by_itself(&model, &mut records, &templates).expect("it says something");
        assert_eq!(records[1], given, "what is given stays");
        let said: Vec<String> = records.iter().map(|record| record.y_more.clone()).collect();
        assert!(
            said.iter()
                .all(|text| !text.is_empty() && text.trim() == text),
            "{said:?}"
        );
        // Alone as in company, and the same again.
        let mut alone = vec![asked(1)];
        answer_by_itself(&model, &mut alone, &templates).expect("it says something");
        assert_eq!(alone[0].y_more, said[2]);

        let mut long = vec![Record {
            prompt: "who keeps the bridge ".repeat(40),
            ..asked(2)
        }];
        let refused = answer_by_itself(&model, &mut long, &templates).expect_err("too long");
        assert!(
            matches!(&refused, Error::Record { id, .. } if id == "eval-2"),
            "{refused}"
        );
    }
}
