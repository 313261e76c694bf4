//! C19: where gradients are turned by a hyper-network, they are gradients to begin with.

use std::collections::BTreeMap;

use burn::tensor::Tensor;
use debias_model::{Batch, Change, Delta, Parameters, Question, View, answer_nll, host};

use super::Verdict;
use super::trial::Trial;
use crate::editor::{GradientProbe, Request};
use crate::error::{Error, Result};

/// Relative error allowed, in the Frobenius norm.
const GRADIENT: f64 = 1e-4;
/// Part of an edit's norm that may lie beyond its declared rank: rounding.
const BEYOND: f64 = 1e-4;

/// C19. The update without its learned part equals the gradient of automatic differentiation, and
/// no edit has a larger rank than tokens survive.
pub(super) fn gradient(trial: &Trial) -> Result<Verdict> {
    let prepared = trial.fresh()?;
    let mut problems = Vec::new();
    let (mut worst, mut sites) = (0.0_f64, 0);
    for request in trial.few() {
        let Some(probe) = prepared.gradient_probe(request)? else {
            return Ok(Verdict::NotApplicable(
                "it turns no gradients by a hyper-network".to_owned(),
            ));
        };
        let id = &request.record.id;
        for (site, truth) in differentiated(trial, request, &probe)? {
            let found = host::values(probe.gradient.weights[&site].dense());
            let off = distance(&found, &truth) / norm(&truth).max(f64::MIN_POSITIVE);
            worst = worst.max(off);
            sites += 1;
            if off > GRADIENT || off.is_nan() {
                problems.push(format!(
                    "record `{id}`: at `{site}` the probe is {off:.1e} from the gradient, {GRADIENT:.0e} is allowed"
                ));
            }
        }
        let edits = prepared.edit_each(std::slice::from_ref(request), &Change::default())?;
        for change in edits.iter().filter_map(|edit| edit.change()) {
            problems.extend(above_rank(id, change, &probe.ranks));
        }
    }
    if sites == 0 {
        problems.push("the probe holds no parameter".to_owned());
    }
    Ok(Verdict::of(
        problems,
        format!("{sites} gradients within {worst:.1e}, ranks as declared"),
    ))
}

/// The gradient of the token-mean loss of `request` at each parameter of `probe`.
fn differentiated(
    trial: &Trial,
    request: &Request,
    probe: &GradientProbe,
) -> Result<BTreeMap<String, Vec<f32>>> {
    let model = trial.world.model;
    let mut leaves: BTreeMap<String, Tensor<3>> = BTreeMap::new();
    for name in probe.gradient.weights.keys() {
        model.parameter(name)?;
        if let Some(value) = model.value(name) {
            let leaf = value.unsqueeze::<3>().autodiff().require_grad();
            leaves.insert(name.clone(), leaf);
        }
    }
    let picture = request.image_ref();
    let question = Question::new(picture, &request.prompt, &request.record.y_less);
    let rows = model.rows(&[question])?;
    let batch = Batch::over(rows.clone(), request.image.clone());
    let view = View::replacing(leaves.clone(), true);
    let loss = answer_nll(&rows, model.answer_logits(batch, &view)).sum();
    let mut gradients = loss.div_scalar(rows[0].answer().len() as f64).backward();
    let taken = leaves.into_iter().map(|(site, leaf)| {
        let gradient = leaf.grad_remove(&mut gradients).map(host::values);
        let missing = Error::NoGradient {
            editor: trial.editor.card().id,
            site: site.clone(),
        };
        Ok((site, gradient.ok_or(missing)?))
    });
    taken.collect()
}

/// Parameters at which a change has a larger rank than it may.
fn above_rank(id: &str, change: &Change, ranks: &BTreeMap<String, usize>) -> Vec<String> {
    let mut problems = Vec::new();
    for (site, delta) in &change.weights {
        let Some(limit) = ranks.get(site) else {
            problems.push(format!("record `{id}`: no rank is declared for `{site}`"));
            continue;
        };
        let beyond = match delta {
            Delta::LowRank { a, .. } if a.dims()[0] <= *limit => 0.0,
            _ => beyond_rank(host::values(delta.dense()), delta.shape()[1], *limit),
        };
        if beyond > BEYOND {
            problems.push(format!(
                "record `{id}`: at `{site}` {beyond:.1e} of the edit's norm lies beyond rank {limit}"
            ));
        }
    }
    problems
}

/// The part of a matrix' Frobenius norm that is left when its `rank` largest rows, each made
/// orthogonal to those before it, are projected out: 0 for a matrix of that rank.
fn beyond_rank(values: Vec<f32>, columns: usize, rank: usize) -> f64 {
    let mut rows: Vec<Vec<f64>> = values
        .chunks(columns.max(1))
        .map(|row| row.iter().map(|x| f64::from(*x)).collect())
        .collect();
    let square = |row: &[f64]| row.iter().map(|x| x * x).sum::<f64>();
    let total: f64 = rows.iter().map(|row| square(row)).sum();
    for _ in 0..rank {
        let largest = rows.iter().max_by(|a, b| square(a).total_cmp(&square(b)));
        let Some(pivot) = largest.cloned() else {
            break;
        };
        let length = square(&pivot);
        if length == 0.0 {
            break;
        }
        for row in &mut rows {
            let along = row.iter().zip(&pivot).map(|(x, p)| x * p).sum::<f64>() / length;
            for (x, p) in row.iter_mut().zip(&pivot) {
                *x -= along * p;
            }
        }
    }
    let left: f64 = rows.iter().map(|row| square(row)).sum();
    (left / total.max(f64::MIN_POSITIVE)).sqrt()
}

fn norm(values: &[f32]) -> f64 {
    let squares = values.iter().map(|x| f64::from(*x) * f64::from(*x));
    squares.sum::<f64>().sqrt()
}

fn distance(a: &[f32], b: &[f32]) -> f64 {
    let squares = a
        .iter()
        .zip(b)
        .map(|(a, b)| (f64::from(*a) - f64::from(*b)).powi(2));
    squares.sum::<f64>().sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_lies_beyond_a_rank() {
        // (1,0,0)ᵀ(3,0) + (0,1,0)ᵀ(0,4): rank 2, and 3 of 5 beyond rank 1.
        let matrix = || vec![3.0, 0.0, 0.0, 4.0, 0.0, 0.0];
        assert_eq!(beyond_rank(matrix(), 2, 2), 0.0);
        assert!((beyond_rank(matrix(), 2, 1) - 0.6).abs() < 1e-12);
        assert_eq!(beyond_rank(vec![0.0; 6], 2, 0), 0.0);
    }
}
