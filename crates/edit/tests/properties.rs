//! Conformance of the built-in editors on small untrained models, made on the spot, and what is
//! particular to some of them.

mod support;

use std::sync::Arc;

use debias_core::Split;
use debias_edit::conformance::{Finding, Options, Verdict, check};
use debias_edit::{Ctx, Edit, Editor, Lessons, Nowhere, editors};
use debias_model::{Change, Model, Parameters, Side};
use support::{FAMILIES, Family, llama, model, opt, settings, world};

fn named(name: &str) -> &'static dyn Editor {
    editors::find(name).expect("a built-in editor")
}

/// What the kit finds; panics with every failure.
fn conforms(editor: &dyn Editor, family: Family, given: &[(&str, &str)]) -> Vec<Finding> {
    let model = model(family);
    let world = world(&model);
    let settings = settings(editor, given);
    let options = Options {
        seed: 3,
        ..Options::default()
    };
    let findings = check(editor, &world, &settings, &options).expect("it can be tested");
    let failed: Vec<&Finding> = findings.iter().filter(|f| f.verdict.is_failed()).collect();
    assert!(failed.is_empty(), "{}: {failed:#?}", editor.card().id);
    findings
}

fn applies(findings: &[Finding], id: &str) -> bool {
    let finding = findings.iter().find(|finding| finding.id == id);
    let verdict = &finding.expect("all twenty").verdict;
    matches!(verdict, Verdict::Passed(_))
}

#[test]
fn the_controls_conform() {
    for family in FAMILIES {
        for name in ["nothing", "random"] {
            let findings = conforms(named(name), family, &[]);
            assert_eq!(findings.len(), 20);
            assert!(!applies(&findings, "C7"), "{name} is a control");
        }
    }
}

#[test]
fn fine_tuning_of_the_language_side_conforms() {
    for family in FAMILIES {
        for scope in ["ffn", "layer"] {
            let findings = conforms(named("ft-l"), family, &[("scope", scope), ("lr", "0.01")]);
            assert!(applies(&findings, "C3") && applies(&findings, "C7"));
            assert!(!applies(&findings, "C6"), "it edits the language side");
        }
    }
}

#[test]
fn fine_tuning_of_the_bridge_conforms() {
    for family in FAMILIES {
        let findings = conforms(named("ft-v"), family, &[("lr", "0.01")]);
        assert!(applies(&findings, "C6"), "text never passes the bridge");
    }
}

#[test]
fn one_model_for_the_whole_set_conforms() {
    let given = [("protocol", "dataset"), ("steps", "4"), ("lr", "0.01")];
    for name in ["ft-l", "ft-v"] {
        conforms(named(name), llama, &given);
    }
}

/// The edits of the world's evaluation records.
fn edits(editor: &dyn Editor, model: &Model, given: &[(&str, &str)]) -> Vec<Arc<Edit>> {
    let settings = settings(editor, given);
    let chunk = support::chunk(model, support::records(Split::Eval, 3));
    let lessons = Lessons {
        train: &chunk,
        val: &chunk,
        eval: &chunk,
    };
    let ctx = Ctx {
        seed: 3,
        settings: &settings,
        store: &Nowhere,
    };
    editor
        .prepare(model, &lessons, &ctx)
        .and_then(|prepared| prepared.edit_each(&chunk.requests(), &Change::default()))
        .expect("edits")
}

fn change(edit: &Edit) -> &Change {
    edit.change().expect("it changes weights")
}

#[test]
fn each_side_has_its_own_parameters() {
    for family in FAMILIES {
        let model = model(family);
        for (editor, given, side) in [
            ("ft-l", ("scope", "ffn"), Side::Language),
            ("ft-l", ("scope", "layer"), Side::Language),
            ("ft-v", ("opt", "adamw"), Side::Vision),
        ] {
            for edit in edits(named(editor), &model, &[given]) {
                for name in change(&edit).weights.keys() {
                    assert_eq!(model.parameter(name).expect("a site").side, side);
                }
            }
        }
    }
}

#[test]
fn the_random_control_has_the_norm_of_ft_l() {
    let model = model(opt);
    let aimed = edits(named("ft-l"), &model, &[]);
    let random = edits(named("random"), &model, &[]);
    for (aimed, random) in aimed.iter().zip(&random) {
        let (aimed, random) = (&change(aimed).weights, &change(random).weights);
        assert_eq!(aimed.len(), random.len());
        for (name, delta) in aimed {
            let (a, r) = (delta.norm(), random[name].norm());
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
    let given = [("protocol", "dataset"), ("epochs", "2"), ("steps", "1")];
    let edits = edits(named("ft-l"), &model, &given);
    assert_eq!(change(&edits[0]).weights.len(), 2);
    assert!(edits.windows(2).all(|pair| Arc::ptr_eq(&pair[0], &pair[1])));
}
