//! The transform against values computed densely elsewhere (`tests/golden/hyper.py`).

use burn::tensor::{Device, Tensor};
use debias_core::Preset;
use debias_model::{Orientation, Parameter, Side, Stage, host};
use serde_json::Value;

use super::network::Network;
use super::{Own, preset};
use crate::hyper::{Factors, Gathered, HyperNetwork};
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

fn network(change: impl FnOnce(&mut Own)) -> Network {
    let mut config = preset(Preset::Project).own;
    config.rank = 4;
    change(&mut config);
    let sites = sites();
    Network::of(
        &config,
        &sites.iter().collect::<Vec<_>>(),
        0,
        &Device::flex(),
    )
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
    let mut network = network(|_| ());
    let seen = Factors {
        x: matrix(&golden["seen_x"]),
        delta: matrix(&golden["seen_delta"]),
        tokens: vec![9],
        orientation: Orientation::OutIn,
    };
    network.observe(&Gathered {
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
    let sides = network.propose(&values, &gathered(&golden, "x", "delta"), &());
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
    let (plain, values) = network(|_| ()).unlearned();
    let gathered = gathered(&golden, "x", "delta");
    let sides = plain.propose(&values, &gathered, &());
    for (name, factors) in &gathered.factors {
        let (a, b) = sides[name].clone();
        let gradient = factors.delta.clone().transpose().matmul(factors.x.clone());
        assert_eq!(host::values(b.matmul(a)), host::values(gradient));
    }
}

#[test]
fn the_reference_adds_and_its_rates_move_with_the_network() {
    let reference = preset(Preset::RefEasyedit).own;
    assert!(!reference.descent && reference.dead_edit_lr);
    let rates = |dead: bool| {
        let network = network(|config| config.dead_edit_lr = dead);
        [network.rate("edit_lr.0"), network.rate("2x3.0.u")]
    };
    assert_eq!(rates(false), [1e-4, 1e-6]);
    assert_eq!(rates(true), [1e-6, 1e-6]);
    let golden = golden();
    let gathered = gathered(&golden, "x", "delta");
    let update = |descent: bool| {
        let network = network(|config| config.descent = descent);
        let sides = network.propose(&network.start(), &gathered, &());
        let (a, b) = sides["0"].clone();
        host::values(b.matmul(a))
    };
    let negated: Vec<f32> = update(true).iter().map(|v| -v).collect();
    assert_eq!(update(false), negated);
}
