//! The embedded models: reference logits by transformers, and cards that say what is true.

use debias_bench::models::{Embedded, ModelSource, embedded};
use debias_bench::{planner, recipe, training};
use debias_core::Picture;
use debias_model::{Batch, Mllm, Question, View, host};
use serde_json::Value;

fn open(model: &Embedded) -> Mllm {
    let source = ModelSource::resolve(model.name()).expect("an embedded model");
    planner::open(&source).expect("it loads")
}

/// The picture of `tests/golden/tiny_logits.py`: a formula, already of the model's size.
fn formula() -> Picture {
    let side = 64u32;
    let rgb = (0..side * side * 3)
        .map(|i| {
            let (y, x, c) = (i / 3 / side, i / 3 % side, i % 3);
            ((7 * x + 13 * y + 29 * c + x * y) % 256) as u8
        })
        .collect();
    Picture::new(side, side, rgb).expect("the right length")
}

#[test]
fn logits_agree_with_transformers() {
    for (name, text) in [
        ("tiny-blip2", include_str!("golden/tiny-blip2.json")),
        ("tiny-minigpt4", include_str!("golden/tiny-minigpt4.json")),
    ] {
        let golden: Value = serde_json::from_str(text).expect("the golden file");
        let tolerance = golden["tolerance"].as_f64().expect("a tolerance");
        let model = embedded()
            .iter()
            .find(|model| model.name() == name)
            .map(open)
            .expect("embedded");
        let base = View::base();
        let seen = model.see(&[&formula()], &base).expect("it has sight");
        for case in golden["cases"].as_array().expect("cases") {
            let question = Question::new(
                (case["pictured"] == true).then(|| seen.sighting(0)),
                case["prompt"].as_str().expect("a prompt"),
                case["answer"].as_str().expect("an answer"),
            );
            let rows = model.rows(&[question]).expect("rows");
            let batch = match case["pictured"] == true {
                true => Batch::with_pictures(rows, seen.clone()),
                false => Batch::text(rows),
            };
            let found = host::values(model.answer_logits(batch, &base));
            let expected: Vec<f64> = case["logits"]
                .as_array()
                .expect("positions")
                .iter()
                .flat_map(|row| row.as_array().expect("logits"))
                .map(|logit| logit.as_f64().expect("a number"))
                .collect();
            assert_eq!(found.len(), expected.len(), "{name}: {}", case["prompt"]);
            for (found, expected) in found.iter().zip(&expected) {
                let off = (f64::from(*found) - expected).abs();
                assert!(off <= tolerance, "{name}: {found} against {expected}");
            }
        }
    }
}

#[test]
fn a_card_says_what_the_model_does_on_scenes_it_never_saw() {
    for model in embedded() {
        let card = model.card().expect("a card");
        let recipe = recipe::find(model.name()).expect("a recipe");
        let again = training::card(&recipe, &open(model)).expect("measured");
        assert_eq!(card, again, "{}", model.name());
        assert!(card.measured.neutral >= 0.99, "{}", card.measured.neutral);
        assert!(card.measured.facts >= 0.99, "{}", card.measured.facts);
        assert_eq!(card.measured.stated.len(), 4);
        for facts in &card.measured.stated {
            assert!(facts.preferred >= 0.95, "{facts:?}");
        }
        assert_eq!(card.measured.stereotype.len(), 8);
        for preference in &card.measured.stereotype {
            assert!(preference.share >= 0.90, "{preference:?}");
        }
    }
}

#[test]
fn an_embedded_folder_fits_eight_megabytes() {
    for model in embedded() {
        assert!(
            model.bytes() <= 8_000_000,
            "{}: {}",
            model.name(),
            model.bytes()
        );
    }
}
