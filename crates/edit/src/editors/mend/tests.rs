//! The transform against values computed densely elsewhere (`tests/golden/hyper.py`).

use burn::tensor::{Device, Tensor};
use debias_core::Preset;
use debias_model::{Orientation, Parameter, Side, Stage, host};
use serde_json::Value;

use super::Mend;
use crate::hyper::{Blocks, Factors, Gathered, HyperNetwork, LearnedParts};
use crate::training::Values;

fn golden() -> Value {
    let text = include_str!("../../../tests/golden/hyper.json");
    let all: Value = serde_json::from_str(text).expect("JSON");
    all["mend"].clone()
}

/// A list of rows.
fn matrix(value: &Value) -> Tensor<2> {
    let rows: Vec<Vec<f32>> = serde_json::from_value(value.clone()).expect("rows");
    let shape = [rows.len(), rows[0].len()];
    host::tensor(rows.concat(), shape, &Device::flex())
}

fn sites() -> Vec<Parameter> {
    let site = |name: &str| Parameter {
        name: name.to_owned(),
        shape: vec![2, 3],
        side: Side::Language,
        stage: Stage::FeedForward(0),
        linear: Some(Orientation::OutIn),
    };
    vec![site("0"), site("1")]
}

fn network(change: impl FnOnce(&mut Mend)) -> (Mend, Blocks) {
    let mut mend = Mend::preset(Preset::Project).network;
    mend.blocks.rank = 4;
    change(&mut mend);
    let sites = sites();
    let sites: Vec<&Parameter> = sites.iter().collect();
    (mend, mend.blocks(&sites, 0, &Device::flex()))
}

fn gathered(golden: &Value, x: &str, delta: &str) -> Gathered {
    let factors = |name: &str| Factors {
        x: matrix(&golden[x][name]),
        delta: matrix(&golden[delta][name]),
        tokens: vec![golden[x][name].as_array().map_or(0, Vec::len)],
        orientation: Orientation::OutIn,
    };
    Gathered {
        factors: ["0", "1"]
            .map(|name| (name.to_owned(), factors(name)))
            .into(),
    }
}

#[test]
fn the_transform_is_that_of_the_paper() {
    let golden = golden();
    let (mend, mut blocks) = network(|_| ());
    let seen = Factors {
        x: matrix(&golden["seen_x"]),
        delta: matrix(&golden["seen_delta"]),
        tokens: vec![9],
        orientation: Orientation::OutIn,
    };
    blocks.observe(&Gathered {
        factors: [("0".to_owned(), seen)].into(),
    });
    let mut values = Values::new();
    for block in 0..2 {
        for part in ["u", "v", "b", "s", "t"] {
            let value = matrix(&golden["blocks"][block][part]);
            values.insert(format!("2x3.{block}.{part}"), value);
        }
    }
    for (at, rate) in golden["rates"]
        .as_array()
        .expect("rates")
        .iter()
        .enumerate()
    {
        let rate = rate.as_f64().expect("a rate") as f32;
        let rate: Tensor<2> = Tensor::full([1, 1], rate, &Device::flex());
        values.insert(format!("edit_lr.{at}"), rate);
    }
    let sides = mend.propose(&blocks, &values, &gathered(&golden, "x", "delta"), &());
    for name in ["0", "1"] {
        let (a, b) = sides[name].clone();
        let update = host::values(b.matmul(a));
        let expected = host::values(matrix(&golden["updates"][name]));
        for (found, expected) in update.iter().zip(&expected) {
            let off = (found - expected).abs() / expected.abs().max(1e-3);
            assert!(off < 1e-4, "{name}: {found} against {expected}");
        }
    }
}

#[test]
fn an_unlearned_network_gives_the_gradient() {
    let golden = golden();
    let (mend, blocks) = network(|_| ());
    let gathered = gathered(&golden, "x", "delta");
    let (sides, more) = mend.probe(&blocks, &gathered).expect("a probe");
    assert_eq!(more, 0);
    for (name, factors) in &gathered.factors {
        let (a, b) = sides[name].clone();
        let gradient = factors.delta.clone().transpose().matmul(factors.x.clone());
        assert_eq!(host::values(b.matmul(a)), host::values(gradient));
    }
}

#[test]
fn the_reference_adds_and_its_rates_move_with_the_network() {
    let reference = Mend::preset(Preset::RefEasyedit).network;
    assert!(!reference.descent && reference.dead_edit_lr);
    let rates = |dead: bool| {
        let (_, blocks) = network(|mend| mend.dead_edit_lr = dead);
        [blocks.rate("edit_lr.0"), blocks.rate("2x3.0.u")]
    };
    assert_eq!(rates(false), [1e-4, 1e-6]);
    assert_eq!(rates(true), [1e-6, 1e-6]);
    let golden = golden();
    let gathered = gathered(&golden, "x", "delta");
    let update = |descent: bool| {
        let (mend, blocks) = network(|mend| mend.descent = descent);
        let sides = mend.propose(&blocks, &blocks.start(), &gathered, &());
        let (a, b) = sides["0"].clone();
        host::values(b.matmul(a))
    };
    let negated: Vec<f32> = update(true).iter().map(|v| -v).collect();
    assert_eq!(update(false), negated);
}
