//! The engine against the LM evaluation harness 0.4.13, run on two fixture checkpoints
//! (`suites/lm_eval.json`): tokens, cuts from the left, log-likelihoods; and against itself in other
//! batches.
//!
//! The cases lie in the folder named by `DEBIAS_BENCH_FIXTURES`. Without it the tests say so and pass;
//! under CI they fail.

use std::path::PathBuf;

use burn::tensor::Device;
use debias_model::engine::{Asked, Batching, Engine, Joining, NoPictures, Wanted, Watch};
use debias_model::{Model, Parameters, Style, open_folder};
use serde_json::Value;

/// A continuation takes this much; its share of its own size comes on top.
const ABSOLUTE: f64 = 1e-4;
const RELATIVE: f64 = 1e-5;

struct Quiet;

impl Watch for Quiet {
    fn halved(&self, what: &'static str, n: usize) {
        panic!("there is room for more than {n} {what}");
    }
}

/// The fixtures' folder and what the harness found, or a report why the test is skipped.
fn fixtures(test: &str) -> Option<(PathBuf, Value)> {
    let Some(root) = std::env::var_os("DEBIAS_BENCH_FIXTURES") else {
        assert!(
            std::env::var_os("CI").is_none(),
            "DEBIAS_BENCH_FIXTURES must be set under CI"
        );
        // Not eprintln!: the test harness swallows it, and a skipped case must be seen.
        let _ = std::io::Write::write_all(
            &mut std::io::stderr(),
            format!("SKIPPED 1 case: engine {test}: DEBIAS_BENCH_FIXTURES is not set\n").as_bytes(),
        );
        return None;
    };
    let root = PathBuf::from(root);
    let file = std::fs::read_to_string(root.join("suites/lm_eval.json")).expect("a fixture");
    // Python writes metrics that are not defined as no JSON does.
    let file = file.replace(": NaN", ": null");
    Some((root, serde_json::from_str(&file).expect("json")))
}

fn open(root: &std::path::Path, name: &str) -> Model {
    let folder = open_folder(&root.join("models").join(name)).expect("the folder opens");
    Model::open(&folder, &Device::flex()).expect("the model loads")
}

fn engine(model: &Model, tokens: Option<usize>) -> Engine<'_> {
    Engine {
        model,
        view: model.base(),
        pictures: &NoPictures,
        batching: Batching {
            tokens,
            ..Batching::default()
        },
        watch: &Quiet,
    }
}

fn asked(prompt: String, join: &str, choices: Vec<String>) -> Asked {
    Asked {
        prompt,
        choices,
        join: join.to_owned(),
        style: Style::Raw,
        joining: Joining::Harness,
        ..Asked::default()
    }
}

fn text<'v>(item: &'v Value, field: &str) -> &'v str {
    item[field].as_str().expect("a text")
}

/// What the harness asks of an item (`spec/bias_benchmarks.md` 2.1 and 5).
fn harness(task: &str, item: &Value) -> Asked {
    let of = |field| text(item, field);
    let (prompt, choices): (String, Vec<String>) = match task {
        "boolq" => (
            format!("{}\nQuestion: {}?\nAnswer:", of("passage"), of("question")),
            vec!["no".into(), "yes".into()],
        ),
        "cb" => (
            format!(
                "{}\nQuestion: {}. True, False, or Neither?\nAnswer:",
                of("premise"),
                of("hypothesis")
            ),
            ["True", "False", "Neither"].map(str::to_owned).to_vec(),
        ),
        "copa" => {
            let premise = of("premise").trim();
            let cut = premise.char_indices().next_back().expect("a premise").0;
            let connector = if of("question") == "cause" {
                "because"
            } else {
                "therefore"
            };
            let small = |choice: &str| {
                let (first, rest) = choice.split_at(1);
                format!(" {}{rest}", first.to_lowercase())
            };
            (
                format!("{} {connector}", &premise[..cut]),
                vec![small(of("choice1")), small(of("choice2"))],
            )
        }
        "multirc" => {
            let ending = |word| format!("{}\nIs the answer correct? {word}", of("answer"));
            (
                format!("{}\nQuestion: {}\nAnswer:", of("paragraph"), of("question")),
                vec![ending("yes"), ending("no")],
            )
        }
        "sglue_rte" => (
            format!(
                "{}\nQuestion: {} True or False?\nAnswer:",
                of("premise"),
                of("hypothesis")
            ),
            vec!["True".into(), "False".into()],
        ),
        "bbq" => (
            format!("{}\n\nQ: {}\nA:", of("context"), of("question")),
            bbq_choices(item),
        ),
        other => panic!("no task {other}"),
    };
    asked(prompt, " ", choices)
}

fn bbq_choices(item: &Value) -> Vec<String> {
    const UNKNOWN: [&str; 10] = [
        "Unknown",
        "Cannot answer",
        "Can't be determined",
        "Cannot be determined",
        "Can't answer",
        "Not known",
        "Not enough info",
        "Not enough information",
        "Not answerable",
        "Undetermined",
    ];
    let known = ["ans0", "ans1", "ans2"].map(|field| text(item, field));
    let known = known.into_iter().filter(|option| {
        let same = |unknown: &&str| unknown.to_lowercase() == option.to_lowercase();
        !UNKNOWN.iter().any(same)
    });
    known.chain(UNKNOWN).map(str::to_owned).collect()
}

#[test]
fn requests_have_the_ids_of_the_harness() {
    let Some((root, found)) = fixtures("ids") else {
        return;
    };
    for name in ["gpt2", "llama3"] {
        let model = open(&root, name);
        for request in found["models"][name]["sample_requests"]
            .as_array()
            .expect("some")
        {
            let asked = asked(
                text(request, "context").into(),
                "",
                vec![text(request, "cont").into()],
            );
            let read = engine(&model, None).logits(&[(asked, Wanted::Last(1))]);
            let reading = read.expect("a device").remove(0).expect("a row").remove(0);
            let row = &reading.row;
            assert_eq!(
                Some(row.answer_start as u64),
                request["context_ids"].as_u64()
            );
            assert_eq!(serde_json::json!(row.answer()), request["cont_ids"]);
            assert_eq!(serde_json::json!(row.ids[..3]), request["first"]);
        }
    }
}

#[test]
fn likelihoods_are_those_of_the_harness_and_do_not_depend_on_batches() {
    let Some((root, found)) = fixtures("likelihoods") else {
        return;
    };
    for name in ["gpt2", "llama3"] {
        let model = open(&root, name);
        for task in ["boolq", "cb", "copa", "multirc", "sglue_rte", "bbq"] {
            let items = found["data"][task].as_array().expect("items");
            let asked: Vec<Asked> = items.iter().map(|item| harness(task, item)).collect();
            let together = engine(&model, None).choices(&asked).expect("a device");
            let alone = engine(&model, Some(1)).choices(&asked).expect("a device");
            let golden = found["models"][name]["tasks"][task]["items"].as_array();
            for (at, golden) in golden.expect("items").iter().enumerate() {
                let golden = golden["ll"].as_array().expect("numbers").iter();
                let golden: Vec<f64> = golden.map(|ll| ll.as_f64().expect("a number")).collect();
                let sums = |scored: &debias_model::Result<Vec<Option<_>>>| -> Vec<f64> {
                    let scored: &Vec<Option<debias_model::AnswerLikelihood>> =
                        scored.as_ref().expect("an answer");
                    scored
                        .iter()
                        .map(|choice| choice.as_ref().expect("fits").sum())
                        .collect()
                };
                let (together, alone) = (sums(&together[at]), sums(&alone[at]));
                assert_eq!(golden.len(), together.len(), "{name} {task} {at}");
                for (i, golden) in golden.iter().enumerate() {
                    let off = (together[i] - golden).abs();
                    let allowed = ABSOLUTE + RELATIVE * golden.abs();
                    assert!(
                        off < allowed,
                        "{name} {task} {at}: {} for {golden}",
                        together[i]
                    );
                    assert!((together[i] - alone[i]).abs() < 1e-4, "{name} {task} {at}");
                }
                let best = |sums: &[f64]| {
                    let greatest = sums.iter().copied().fold(f64::NEG_INFINITY, f64::max);
                    sums.iter().position(|sum| *sum == greatest)
                };
                assert_eq!(best(&together), best(&golden), "{name} {task} {at}");
            }
        }
    }
}

#[test]
fn an_item_that_cannot_be_asked_costs_no_other_its_answer() {
    let Some((root, _)) = fixtures("errors") else {
        return;
    };
    let model = open(&root, "gpt2");
    let good = asked(
        "The nurse said".into(),
        " ",
        vec!["that".into(), "no".into()],
    );
    let long = " word".repeat(200);
    let mut pictured = good.clone();
    pictured.image = Some("a.png".to_owned());
    let all = [
        good.clone(),
        asked("The nurse said".into(), "", vec![String::new()]),
        pictured,
        asked(
            "The nurse said".into(),
            "",
            vec![long.clone(), " no".into()],
        ),
        Asked {
            joining: Joining::Own,
            ..asked(long.clone(), " ", vec!["yes".into()])
        },
        asked(long, " ", vec!["yes".into()]),
        asked(String::new(), "", vec!["The nurse".into()]),
        good,
    ];
    let found = engine(&model, None).choices(&all).expect("a device");
    let refused = |at: usize| found[at].as_ref().expect_err("refused").to_string();
    assert_eq!(
        found[0].as_ref().expect("scored"),
        found[7].as_ref().expect("scored")
    );
    assert!(refused(1).contains("no token of its own"), "{}", refused(1));
    assert!(
        refused(2).contains("cannot look at pictures"),
        "{}",
        refused(2)
    );
    // An answer that alone is too long has no score; the other choice has one.
    let choices = found[3].as_ref().expect("scored");
    assert!(choices[0].is_none() && choices[1].is_some());
    assert!(refused(4).contains("96"), "{}", refused(4));
    let cut = found[5].as_ref().expect("cut")[0].as_ref().expect("scored");
    assert!(cut.cut > 100 && cut.tokens.len() < 10);
    // An empty prompt is the token that begins a text.
    let begun = engine(&model, None).logits(&[(all[6].clone(), Wanted::Whole)]);
    let begun = begun.expect("a device").remove(0).expect("a row").remove(0);
    assert_eq!((begun.row.ids[0], begun.row.answer_start), (479, 1));
    let score = found[6].as_ref().expect("scored")[0]
        .as_ref()
        .expect("scored");
    assert_eq!(score.tokens.len(), begun.row.ids.len() - 1);
}
