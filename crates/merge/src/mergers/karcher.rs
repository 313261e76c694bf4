//! The Karcher mean on the sphere (arXiv:2603.04972), on inner products alone.
//!
//! Every iterate lies in the span of the inputs, so the iteration runs on the Gram matrix: one pass
//! reads it, one pass combines, whatever the number of inputs and iterations.

use crate::card::{
    Base, Contract, Fallback, Kind, MergerCard, Parameter, ParameterScope, Values, number,
};
use crate::combine::{Combination, Gram, Products};
use crate::error::Result;
use crate::merger::{Facts, Merger};
use crate::target::Target;

static CARD: MergerCard = MergerCard {
    id: "karcher",
    version: 1,
    title: "Mean of directions on the sphere, with the mean norm",
    summary: "The point of the unit sphere with the least squared distance along arcs to all inputs' directions, scaled to the mean of their norms. Of two models it is the midpoint of the arc.",
    paper: "Karcher mean merging, arXiv:2603.04972; Karcher, Comm. Pure Appl. Math. 30, 1977",
    equation: "u = exp_u(Σ a_i log_u(u_i)) until the step is below tol; r = (Σ a_i |θ_i|) u",
    inputs: Contract {
        base: Base::Ignored,
        min: 1,
        max: None,
    },
    parameters: &[
        Parameter {
            name: "max_iter",
            scope: ParameterScope::Shared,
            kind: Kind::Whole,
            default: Fallback::Number(10.0),
            help: "most steps",
        },
        number("tol", 1e-5, "steps and norms below this count as zero"),
        Parameter {
            name: "weight",
            scope: ParameterScope::Input,
            kind: Kind::Number,
            default: Fallback::Number(1.0),
            help: "share of this model, normalized over all (an extension: mergekit takes all alike)",
        },
    ],
    degenerate: "Zero tensors have no direction but count in the mean norm; all zero gives zeros; an antiparallel pair gives the first one's direction; one input is returned.",
};

/// Sines below this carry no direction.
const ANTIPODE: f64 = 1e-12;

pub(super) struct Karcher;

impl Merger for Karcher {
    fn card(&self) -> &MergerCard {
        &CARD
    }

    fn check(
        &self,
        _shared: &Values,
        inputs: &[&Values],
    ) -> std::result::Result<(), (&'static str, String)> {
        let weights = inputs.iter().map(|values| values.number("weight"));
        let (total, negative) =
            weights.fold((0.0, false), |(sum, any), w| (sum + w, any || w < 0.0));
        if negative || total <= 0.0 {
            Err((
                "weight",
                "a mean of directions needs weights of at least 0, not all of them 0".to_owned(),
            ))
        } else {
            Ok(())
        }
    }

    fn passes(&self) -> usize {
        2
    }

    fn merge(&self, target: &Target, _facts: &Facts) -> Result<()> {
        let reading = target.values();
        let n = reading.inputs.len();
        if n == 1 {
            return target.each(reading, &Combination::of([1.0]));
        }
        let products = Products::sum(n, target.fold(reading, &Gram(n))?);
        let weights = target.of_all("weight");
        let steps = target.number("max_iter") as usize;
        let mean = mean(&products, &weights, steps, target.number("tol"));
        target.each(reading, &Combination::of(mean))
    }
}

/// Coefficients of the inputs in the scaled mean.
fn mean(products: &Products, weights: &[f64], steps: usize, tol: f64) -> Vec<f64> {
    let n = products.len();
    let total: f64 = weights.iter().sum();
    let norms: Vec<f64> = (0..n).map(|i| products.norm(i)).collect();
    let valid: Vec<bool> = norms.iter().map(|norm| *norm > tol).collect();
    let valid_total: f64 = (0..n).filter(|i| valid[*i]).map(|i| weights[i]).sum();
    let Some(first) = (0..n).find(|i| valid[*i] && valid_total > 0.0) else {
        return vec![0.0; n];
    };
    // The unit vectors and everything below in coordinates of the inputs themselves.
    let unit = |i: usize| {
        let mut unit = vec![0.0; n];
        unit[i] = 1.0 / norms[i];
        unit
    };
    let share = |i: usize| weights[i] / valid_total;
    let mut mean = vec![0.0; n];
    for i in (0..n).filter(|i| valid[*i]) {
        mean[i] = share(i) / norms[i];
    }
    let length = products.between(&mean, &mean).max(0.0).sqrt();
    if length < tol {
        mean = unit(first)
    } else {
        mean.iter_mut().for_each(|c| *c /= length)
    }
    for _ in 0..steps {
        let mut tangent = vec![0.0; n];
        for i in (0..n).filter(|i| valid[*i]) {
            let cosine = products.between(&mean, &unit(i)).clamp(-1.0, 1.0);
            let (angle, sine) = (cosine.acos(), cosine.acos().sin());
            if angle < tol || sine < ANTIPODE {
                continue;
            }
            let factor = share(i) * angle / sine;
            tangent[i] += factor / norms[i];
            for (t, m) in tangent.iter_mut().zip(&mean) {
                *t -= factor * cosine * m;
            }
        }
        let length = products.between(&tangent, &tangent).max(0.0).sqrt();
        if length < tol {
            break;
        }
        for (m, t) in mean.iter_mut().zip(&tangent) {
            *m = length.cos() * *m + length.sin() * t / length;
        }
        let norm = products.between(&mean, &mean).max(0.0).sqrt();
        if norm > tol {
            mean.iter_mut().for_each(|m| *m /= norm);
        }
    }
    let scale: f64 = (0..n).map(|i| weights[i] / total * norms[i]).sum();
    mean.iter().map(|c| c * scale).collect()
}
