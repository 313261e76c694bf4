//! An answered safetensors file as a change of the model's weights.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Read;
use std::path::Path;

use debias_model::{Change, Delta, Model, Orientation, Parameter, Parameters, host};
use debias_weights::Checkpoint;

const A: &str = ".lora_A";
const B: &str = ".lora_B";

/// What a header may add to the numbers.
const HEADER: u64 = 64 << 20;

/// Reads the file at `path`, which the command calls `name`: dense deltas `NAME` in the published
/// shape, or factors `NAME.lora_A` `[r, in]` and `NAME.lora_B` `[out, r]`.
///
/// The file is read whole before the next question: the command may write it again.
///
/// # Errors
/// What is wrong with it, naming the tensor.
pub(super) fn read(path: &Path, name: &str, model: &Model) -> Result<Change, String> {
    let parameters: usize = model
        .parameters()
        .iter()
        .map(|site| site.shape.iter().product::<usize>())
        .sum();
    // Twice every parameter in f32: more is no delta.
    let limit = HEADER + 8 * parameters as u64;
    let unreadable = |error: std::io::Error| format!("`{name}` cannot be read: {error}");
    if fs::metadata(path).map_err(unreadable)?.len() > limit {
        return Err(format!("`{name}` is larger than the model"));
    }
    let mut bytes = Vec::new();
    File::open(path)
        .and_then(|file| file.take(limit + 1).read_to_end(&mut bytes))
        .map_err(unreadable)?;
    let file = Checkpoint::from_bytes(name, bytes).map_err(|error| error.to_string())?;
    change(&file.allow_nan(true), model)
}

fn change(file: &Checkpoint, model: &Model) -> Result<Change, String> {
    let mut weights = BTreeMap::new();
    for tensor in file.names() {
        let parameter = match (tensor.strip_suffix(A), tensor.strip_suffix(B)) {
            (Some(parameter), _) | (_, Some(parameter)) => parameter,
            (None, None) => tensor,
        };
        let site = model
            .parameter(parameter)
            .map_err(|error| error.to_string())?;
        if parameter != tensor && file.contains(parameter) {
            return Err(format!("`{parameter}` has a dense delta and factors"));
        }
        if weights.contains_key(parameter) {
            continue;
        }
        let delta = match parameter == tensor {
            true => dense(file, site, model)?,
            false => factors(file, site, model)?,
        };
        weights.insert(parameter.to_owned(), delta);
    }
    Ok(Change { weights })
}

fn dense(file: &Checkpoint, site: &Parameter, model: &Model) -> Result<Delta, String> {
    let found = shape(file, &site.name)?;
    if found != site.shape {
        return Err(format!(
            "the delta of `{}` has shape {found:?}, the parameter has {:?}",
            site.name, site.shape
        ));
    }
    let values = values(file, &site.name, &found)?;
    Ok(Delta::Dense(host::tensor(
        values,
        site.matrix_shape(),
        model.device(),
    )))
}

fn factors(file: &Checkpoint, site: &Parameter, model: &Model) -> Result<Delta, String> {
    let (name_a, name_b) = (format!("{}{A}", site.name), format!("{}{B}", site.name));
    let (shape_a, shape_b) = (shape(file, &name_a)?, shape(file, &name_b)?);
    let [rows, columns] = site.matrix_shape();
    let transposed = site.linear == Some(Orientation::InOut);
    let [out, input] = match transposed {
        true => [columns, rows],
        false => [rows, columns],
    };
    let rank = match (shape_a.as_slice(), shape_b.as_slice()) {
        ([r, a], [b, s]) if r == s && *a == input && *b == out && *r > 0 => *r,
        _ => {
            return Err(format!(
                "the factors of `{}` have shapes {shape_a:?} and {shape_b:?}, expected [r, {input}] and [{out}, r]",
                site.name
            ));
        }
    };
    let a = host::tensor(
        values(file, &name_a, &shape_a)?,
        [rank, input],
        model.device(),
    );
    let b = host::tensor(
        values(file, &name_b, &shape_b)?,
        [out, rank],
        model.device(),
    );
    Ok(match transposed {
        true => Delta::LowRank {
            a: b.transpose(),
            b: a.transpose(),
        },
        false => Delta::LowRank { a, b },
    })
}

fn shape(file: &Checkpoint, name: &str) -> Result<Vec<usize>, String> {
    let info = file.info(name);
    let info = info.ok_or_else(|| format!("`{name}` is missing; factors come in pairs"))?;
    Ok(info.shape.clone())
}

fn values(file: &Checkpoint, name: &str, shape: &[usize]) -> Result<Vec<f32>, String> {
    let values = file.f32(name, shape).map_err(|error| error.to_string())?;
    match values.iter().position(|value| !value.is_finite()) {
        None => Ok(values),
        Some(at) => Err(format!("`{name}` holds {} at flat index {at}", values[at])),
    }
}
