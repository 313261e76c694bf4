//! What headers already tell: shapes, number formats, whole-number buffers.

use debias_weights::{Dtype, TensorInfo};

use super::jobs::{Job, Tensor, Work};
use super::open::Opened;
use super::tied;
use crate::error::{Error, Result};
use crate::stream::number::width;

/// Most lines about shapes.
const LISTED: usize = 8;

/// A job whose inputs fit each other.
pub(crate) struct Checked {
    pub job: Job,
    /// Of the output.
    pub info: TensorInfo,
}

/// Rows that vocabulary tensors are given by a union of tokenizers.
pub(crate) type NewRows = Option<usize>;

/// Checks all jobs; `dtype` is the output's, where the recipe names one.
pub(crate) fn check(
    jobs: Vec<Job>,
    models: &[Opened],
    dtype: Option<Dtype>,
    rows: NewRows,
    difference: &dyn Fn(usize, usize) -> Option<String>,
) -> Result<Vec<Checked>> {
    let mut problems = Vec::new();
    let mut hint = None;
    let mut checked = Vec::with_capacity(jobs.len());
    for job in jobs {
        match &job.work {
            Work::Copy { model, tensor } => {
                let mut info = info(models, *model, tensor)?.clone();
                if let (Some(rows), true, Some(first)) =
                    (rows, tied::is_vocabulary(&job.name), info.shape.first_mut())
                {
                    *first = rows;
                }
                let info = TensorInfo {
                    dtype: written(info.dtype, dtype),
                    ..info
                };
                checked.push(Checked { job, info });
            }
            Work::Merge { inputs, .. } => {
                let fitting = fitting(&job.name, inputs, models, rows)?;
                let Fit::Fits(shape) = fitting else {
                    if let (Fit::Differs(line), true) = (fitting, problems.len() < LISTED) {
                        if tied::is_vocabulary(&job.name) && hint.is_none() {
                            hint = differing(inputs, models).and_then(|(a, b)| difference(a, b));
                        }
                        problems.push(line);
                    }
                    continue;
                };
                let dtype = merged_dtype(&job.name, inputs, models, dtype)?;
                checked.push(Checked {
                    job,
                    info: TensorInfo { dtype, shape },
                });
            }
        }
    }
    match problems.is_empty() {
        true => checked.into_iter().map(|c| settled(c, models)).collect(),
        false => {
            problems.push(
                hint.unwrap_or_else(|| "merge models of one architecture and size".to_owned()),
            );
            Err(Error::Shapes { problems })
        }
    }
}

enum Fit {
    Fits(Vec<usize>),
    Differs(String),
}

fn info<'a>(models: &'a [Opened], model: usize, tensor: &str) -> Result<&'a TensorInfo> {
    models[model]
        .info(tensor)
        .ok_or_else(|| Error::MissingTensor {
            tensor: tensor.to_owned(),
            model: models[model].label.clone(),
        })
}

fn fitting(name: &str, inputs: &[Tensor], models: &[Opened], rows: NewRows) -> Result<Fit> {
    let mut shapes = Vec::with_capacity(inputs.len());
    for input in inputs {
        let mut shape = info(models, input.model, &input.name)?.shape.clone();
        if let (Some(rows), true, Some(first)) =
            (rows, tied::is_vocabulary(name), shape.first_mut())
        {
            *first = rows;
        }
        shapes.push(shape);
    }
    let first = shapes.first().cloned().unwrap_or_default();
    if shapes.iter().all(|shape| *shape == first) {
        return Ok(Fit::Fits(first));
    }
    let each: Vec<_> = inputs
        .iter()
        .zip(&shapes)
        .map(|(input, shape)| format!("{shape:?} in `{}`", models[input.model].label))
        .collect();
    Ok(Fit::Differs(format!(
        "tensor `{name}` has shape {}",
        each.join(", ")
    )))
}

/// Two models whose tensors differ in shape.
fn differing(inputs: &[Tensor], models: &[Opened]) -> Option<(usize, usize)> {
    let shape = |input: &Tensor| models[input.model].info(&input.name).map(|i| &i.shape);
    let first = inputs.first()?;
    let other = inputs.iter().find(|input| shape(input) != shape(first))?;
    Some((first.model, other.model))
}

/// The output's number format: as asked, else the one that holds all inputs.
pub(super) fn merged_dtype(
    name: &str,
    inputs: &[Tensor],
    models: &[Opened],
    asked: Option<Dtype>,
) -> Result<Dtype> {
    let mut found: Option<Dtype> = None;
    for input in inputs {
        let dtype = info(models, input.model, &input.name)?.dtype;
        found = Some(match found {
            None => dtype,
            Some(first) if first == dtype => first,
            Some(first) if width(first).is_some() && width(dtype).is_some() => Dtype::F32,
            Some(_) => {
                return Err(Error::NonFloatDiffers {
                    tensor: name.to_owned(),
                    first: models[inputs[0].model].label.clone(),
                    second: models[input.model].label.clone(),
                });
            }
        });
    }
    Ok(written(found.unwrap_or(Dtype::F32), asked))
}

/// The number format in which numbers of format `found` are written: as asked, else as they are;
/// what is computed in f32 holds no more bits.
fn written(found: Dtype, asked: Option<Dtype>) -> Dtype {
    match width(found) {
        None => found,
        Some(_) => asked.unwrap_or(if found == Dtype::F64 {
            Dtype::F32
        } else {
            found
        }),
    }
}

/// Buffers of whole numbers are copied when they are the same everywhere; other floats are refused.
fn settled(checked: Checked, models: &[Opened]) -> Result<Checked> {
    let Work::Merge { inputs, .. } = &checked.job.work else {
        return Ok(checked);
    };
    let Some(first) = inputs.first() else {
        return Ok(checked);
    };
    let dtype = info(models, first.model, &first.name)?.dtype;
    if width(dtype).is_some() {
        return Ok(checked);
    }
    let whole = matches!(
        dtype,
        Dtype::BOOL
            | Dtype::U8
            | Dtype::I8
            | Dtype::U16
            | Dtype::I16
            | Dtype::U32
            | Dtype::I32
            | Dtype::U64
            | Dtype::I64
    );
    if !whole {
        return Err(Error::Dtype {
            tensor: checked.job.name,
            model: models[first.model].label.clone(),
            found: dtype,
        });
    }
    let bytes = models[first.model].bytes(&first.name)?;
    for input in &inputs[1..] {
        if models[input.model].bytes(&input.name)? != bytes {
            return Err(Error::NonFloatDiffers {
                tensor: checked.job.name.clone(),
                first: models[first.model].label.clone(),
                second: models[input.model].label.clone(),
            });
        }
    }
    let work = Work::Copy {
        model: first.model,
        tensor: first.name.clone(),
    };
    Ok(Checked {
        job: Job {
            name: checked.job.name,
            work,
        },
        info: checked.info,
    })
}
