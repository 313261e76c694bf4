//! Spherical interpolation between the base and one other model.

use rayon::prelude::*;

use crate::card::{Base, Contract, Fallback, Kind, MergerCard, Parameter, ParameterScope, word};
use crate::combine::{Combination, Gram, Products};
use crate::error::Result;
use crate::merger::{Facts, Merger};
use crate::target::Target;

static CARD: MergerCard = MergerCard {
    id: "slerp",
    version: 1,
    title: "Spherical interpolation between two models",
    summary: "Walks from the base (t = 0) to the other model (t = 1) along the arc between the two flattened tensors. Fine-tunes close to their base are nearly parallel to it; there it is linear interpolation.",
    paper: "Shoemake, Animating rotation with quaternion curves, SIGGRAPH 1985; mergekit, arXiv:2403.13257",
    equation: "r = [sin((1-t) ω) a + sin(t ω) b] / sin ω, cos ω = a·b / (|a| |b|); linear where |cos ω| > 0.9995",
    inputs: Contract {
        base: Base::Required,
        min: 1,
        max: Some(1),
    },
    parameters: &[
        Parameter {
            name: "t",
            scope: ParameterScope::Shared,
            kind: Kind::Number,
            default: Fallback::Required,
            help: "0 is the base, 1 the other model; values outside extrapolate",
        },
        word(
            "scope",
            &["tensor", "model"],
            "whether each tensor has an angle of its own (as mergekit) or the whole model has one",
        ),
    ],
    degenerate: "A zero tensor counts as orthogonal; parallel and antiparallel tensors are interpolated linearly; two zero tensors give zeros.",
};

/// Cosines beyond this are interpolated linearly.
const PARALLEL: f64 = 0.9995;

/// Norms up to this are not divided by.
const VANISHING: f64 = 1e-8;

pub(super) struct Slerp;

impl Merger for Slerp {
    fn card(&self) -> &MergerCard {
        &CARD
    }

    fn passes(&self) -> usize {
        2
    }

    /// The angle of the whole model, for the tensors that ask for it.
    fn survey(&self, targets: &[&Target]) -> Result<Facts> {
        let asking: Vec<_> = targets
            .iter()
            .filter(|t| t.text("scope") == "model")
            .collect();
        let each: Result<Vec<_>> = asking.par_iter().map(|target| products(target)).collect();
        let each = each?
            .into_iter()
            .map(|p| vec![p.of(0, 0), p.of(0, 1), 0.0, p.of(1, 1)]);
        let whole = Products::sum(2, each.collect());
        Ok(Facts {
            numbers: vec![cosine(&whole)],
            ..Facts::default()
        })
    }

    fn merge(&self, target: &Target, facts: &Facts) -> Result<()> {
        let cosine = match target.text("scope") {
            "model" => facts.numbers[0],
            _ => cosine(&products(target)?),
        };
        let ends = coefficients(cosine, target.number("t"));
        target.each(target.base_first(), &Combination::of(ends))
    }
}

fn products(target: &Target) -> Result<Products> {
    let parts = target.fold(target.base_first(), &Gram(2))?;
    Ok(Products::sum(2, parts))
}

fn cosine(products: &Products) -> f64 {
    let divisor = |norm: f64| if norm > VANISHING { norm } else { 1.0 };
    let norms = divisor(products.norm(0)) * divisor(products.norm(1));
    (products.of(0, 1) / norms).clamp(-1.0, 1.0)
}

fn coefficients(cosine: f64, t: f64) -> [f64; 2] {
    if cosine.abs() > PARALLEL {
        return [1.0 - t, t];
    }
    let angle = cosine.acos();
    let sine = angle.sin();
    [((1.0 - t) * angle).sin() / sine, (t * angle).sin() / sine]
}
