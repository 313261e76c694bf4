//! Reader and conditioner against values computed densely elsewhere (`tests/golden/hyper.py`).

use burn::tensor::{Device, Tensor};
use debias_model::{Orientation, host};
use serde_json::Value;

use super::network::{Matrix, gated, gates};
use super::reader::{Reader, Texts};
use crate::hyper::Factors;
use crate::training::Values;

fn matrix(value: &Value) -> Tensor<2> {
    let rows: Vec<Vec<f32>> = serde_json::from_value(value.clone()).expect("rows");
    let shape = [rows.len(), rows[0].len()];
    host::tensor(rows.concat(), shape, &Device::flex())
}

#[test]
fn the_update_is_that_of_the_paper() {
    let text = include_str!("../../../tests/golden/hyper.json");
    let all: Value = serde_json::from_str(text).expect("JSON");
    let golden = &all["ke"];
    let mut values = Values::new();
    for way in ["forward", "backward"] {
        for part in ["input", "hidden", "input_bias", "hidden_bias"] {
            values.insert(format!("reader.{way}.{part}"), matrix(&golden[way][part]));
        }
    }
    for part in ["out", "out_bias"] {
        values.insert(format!("reader.{part}"), matrix(&golden[part]));
    }
    for layer in ["inner", "outer"] {
        for part in ["v", "g", "b"] {
            values.insert(format!("w.{layer}.{part}"), matrix(&golden[layer][part]));
        }
    }
    let reader = Reader { d: 3, h: 2, c: 4 };
    let texts = Texts {
        ids: serde_json::from_value(golden["texts"].clone()).expect("ids"),
    };
    let conditions = reader.read(&values, &matrix(&golden["table"]), &texts);
    let max_scale = golden["max_scale"].as_f64().expect("a number");
    let of = Matrix {
        name: "w".to_owned(),
        d_in: 3,
        d_out: 2,
    };
    let factors = Factors {
        x: matrix(&golden["x"]),
        delta: matrix(&golden["delta"]),
        tokens: serde_json::from_value(golden["tokens"].clone()).expect("counts"),
        orientation: Orientation::OutIn,
    };
    let (a, b) = gated(&factors, &gates(&values, &of, conditions, max_scale));
    assert_eq!(a.dims(), [2, 3, 3], "two tokens at most, and the offset");
    let updates = b.matmul(a);
    for request in 0..2 {
        let update = host::values(updates.clone().narrow(0, request, 1));
        let expected = host::values(matrix(&golden["updates"][request.to_string()]));
        for (found, expected) in update.iter().zip(&expected) {
            let off = (found - expected).abs() / expected.abs().max(1e-3);
            assert!(off < 1e-4, "request {request}: {found} against {expected}");
        }
    }
}
