//! The transform of a gradient's factors that MEND and MALMEN's kin share: one network per matrix
//! shape, a scale and a shift per matrix (Mitchell et al. 2022, section 3.1; Tan et al. 2024).

use std::collections::BTreeMap;

use burn::tensor::{Device, Tensor};
use debias_core::seed;
use debias_model::{Parameter, host};
use serde::{Deserialize, Serialize};

use super::factors::{Factors, Gathered};
use super::statistics::Running;
use super::{LearnedParts, beside};
use crate::card::Setting;
use crate::training::Values;

/// Blocks of a network (`n_hidden: 1`).
const BLOCKS: usize = 2;

/// In front of the names of the rates.
const RATE: &str = "edit_lr";

/// Settings of the networks and their rates.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct BlockSettings {
    /// Rows of V, at most the joint width of a matrix.
    pub rank: usize,
    /// Whether factors are normalised by running mean and deviation.
    pub norm: bool,
    /// Largest size of a normalised value.
    pub bound: Option<f64>,
    /// The rate of every matrix at the start.
    pub edit_lr: f64,
    /// Adam's rate for the networks.
    pub lr: f64,
    /// Adam's rate for what every matrix has of its own.
    pub lr_lr: f64,
}

impl BlockSettings {
    /// The settings with their meaning.
    pub const SETTINGS: &[Setting] = &[
        ("rank", "rows of V, at most the joint width of a matrix"),
        (
            "norm",
            "normalise the factors by running mean and deviation",
        ),
        (
            "bound",
            "largest size of a normalised value; null as published, where a unit that hardly ever fired in training makes an edit thousands of times too large",
        ),
        ("edit_lr", "the rate of every matrix at the start"),
        ("lr", "Adam's rate for U, V, b, s, t"),
        ("lr_lr", "Adam's rate for the rates of the matrices"),
    ];
}

/// How the blocks are made.
#[derive(Clone, Copy)]
pub(crate) struct BlockPlan {
    /// Tells the random streams of one editor from those of another.
    pub stream: &'static str,
    /// Sizes and rates.
    pub settings: BlockSettings,
    /// Added to a deviation before it is divided by.
    pub epsilon: f64,
    /// Numbers that every matrix has beside its rate, with their values at the start.
    pub scalars: &'static [(&'static str, f64)],
    /// What a block adds to its input, of `U V z + b`, scale and shift: `[n, d]` each.
    pub step: fn(Tensor<2>, Tensor<2>, Tensor<2>) -> Tensor<2>,
}

/// A matrix whose factors were transformed.
pub(crate) struct Transformed<'g> {
    /// Its published name.
    pub site: String,
    /// Its factors as they were.
    pub factors: &'g Factors,
    /// Their inputs, transformed: `[n, d_in]`.
    pub x: Tensor<2>,
    /// Their gradients, transformed: `[n, d_out]`.
    pub delta: Tensor<2>,
    /// Its learned rate, `[1, 1]`.
    pub rate: Tensor<2>,
}

/// Matrices of one shape share a network.
struct Group {
    /// Name in parameters: `{d_out}x{d_in}`.
    name: String,
    d_in: usize,
    d_out: usize,
    /// Published names, in the order of the edit sites; the place is the row of scale and shift.
    sites: Vec<String>,
    x: Running,
    delta: Running,
}

/// The networks of all shapes.
pub(crate) struct Blocks {
    plan: BlockPlan,
    groups: Vec<Group>,
    seed: u64,
    device: Device,
}

impl Blocks {
    pub fn new(plan: BlockPlan, sites: &[&Parameter], seed: u64, device: &Device) -> Self {
        let mut groups: BTreeMap<[usize; 2], Vec<String>> = BTreeMap::new();
        for site in sites {
            groups
                .entry(site.linear_shape())
                .or_default()
                .push(site.name.clone());
        }
        let group = |([d_out, d_in], sites): ([usize; 2], Vec<String>)| Group {
            name: format!("{d_out}x{d_in}"),
            d_in,
            d_out,
            sites,
            x: Running::default(),
            delta: Running::default(),
        };
        Self {
            plan,
            groups: groups.into_iter().map(group).collect(),
            seed,
            device: device.clone(),
        }
    }

    /// The networks before they have learned anything, without normalisation and with rates of 1:
    /// they leave factors as they are.
    pub fn unlearned(&self) -> Self {
        let settings = BlockSettings {
            norm: false,
            edit_lr: 1.0,
            ..self.plan.settings
        };
        Self {
            plan: BlockPlan {
                settings,
                ..self.plan
            },
            groups: self.groups.iter().map(Group::unlearned).collect(),
            device: self.device.clone(),
            ..*self
        }
    }

    /// The factors of every matrix that has any, with both sides transformed.
    pub fn transform<'g>(&self, values: &Values, gathered: &'g Gathered) -> Vec<Transformed<'g>> {
        let mut transformed = Vec::new();
        for group in &self.groups {
            let found = group.sites.iter().enumerate().filter_map(|(row, site)| {
                let factors = gathered.factors.get(site)?;
                (!factors.is_empty()).then_some((row, factors))
            });
            let found: Vec<(usize, &Factors)> = found.collect();
            if found.is_empty() {
                continue;
            }
            let (x, delta) = self.of_group(group, values, &found);
            let mut first = 0;
            for (row, factors) in found {
                let n = factors.x.dims()[0];
                let own = |rows: &Tensor<2>| rows.clone().narrow(0, first, n);
                let site = group.sites[row].clone();
                transformed.push(Transformed {
                    rate: values[&format!("{RATE}.{site}")].clone(),
                    site,
                    factors,
                    x: own(&x),
                    delta: own(&delta),
                });
                first += n;
            }
        }
        transformed
    }

    /// Both sides of every matrix of `group`, one matrix behind the other.
    fn of_group(
        &self,
        group: &Group,
        values: &Values,
        factors: &[(usize, &Factors)],
    ) -> (Tensor<2>, Tensor<2>) {
        let join = |pick: fn(&Factors) -> &Tensor<2>| {
            Tensor::cat(factors.iter().map(|(_, f)| pick(f).clone()).collect(), 0)
        };
        let (mut x, mut delta) = (join(|f| &f.x), join(|f| &f.delta));
        let BlockSettings { norm, bound, .. } = self.plan.settings;
        if norm {
            let bounded = |rows: Tensor<2>| match bound {
                Some(bound) => rows.clamp(-bound, bound),
                None => rows,
            };
            x = bounded(group.x.normalise(x, self.plan.epsilon));
            delta = bounded(group.delta.normalise(delta, self.plan.epsilon));
        }
        let parameter = |block: usize, part: &str| &values[&group.parameter(block, part)];
        let mut z = beside(&Tensor::cat(vec![x, delta], 1), parameter(0, "u"));
        // Row numbers of scale and shift: the matrix that a token belongs to.
        let owners: Vec<(usize, usize)> = factors
            .iter()
            .map(|(row, f)| (*row, f.x.dims()[0]))
            .collect();
        for block in 0..BLOCKS {
            let inner = z.clone().matmul(parameter(block, "v").clone().transpose());
            let outer = inner.matmul(parameter(block, "u").clone().transpose())
                + parameter(block, "b").clone();
            let scale = of_owners(parameter(block, "s"), &owners);
            let shift = of_owners(parameter(block, "t"), &owners);
            z = z + (self.plan.step)(outer, scale, shift);
        }
        let n = z.dims()[0];
        (
            z.clone().slice([0..n, 0..group.d_in]),
            z.slice([0..n, group.d_in..group.width()]),
        )
    }
}

impl LearnedParts for Blocks {
    /// The parameters at the start: V normal, U and b zero, scales 1, shifts 0, so that a network
    /// is the identity.
    fn start(&self) -> Values {
        let mut values = Values::new();
        for group in &self.groups {
            let d = group.width();
            let r = self.plan.settings.rank.min(d);
            let k = group.sites.len();
            for block in 0..BLOCKS {
                let parts = [self.plan.stream, &group.name, &block.to_string()];
                let mut stream = seed::stream(self.seed, &parts);
                let normal = (0..r * d)
                    .map(|_| seed::normal(&mut stream) as f32)
                    .collect();
                let filled =
                    |rows, columns, value: f32| Tensor::full([rows, columns], value, &self.device);
                let parts = [
                    ("v", host::tensor(normal, [r, d], &self.device)),
                    ("u", filled(d, r, 0.0)),
                    ("b", filled(1, d, 0.0)),
                    ("s", filled(k, d, 1.0)),
                    ("t", filled(k, d, 0.0)),
                ];
                values.extend(parts.map(|(part, value)| (group.parameter(block, part), value)));
            }
            let rate = [(RATE, self.plan.settings.edit_lr)];
            for (scalar, value) in rate.iter().chain(self.plan.scalars) {
                let one = |site| (format!("{scalar}.{site}"), *value as f32);
                let named = group.sites.iter().map(one);
                values.extend(named.map(|(name, v)| (name, Tensor::full([1, 1], v, &self.device))));
            }
        }
        values
    }

    fn rate(&self, parameter: &str) -> f64 {
        let mut scalars = self
            .plan
            .scalars
            .iter()
            .map(|(scalar, _)| *scalar)
            .chain([RATE]);
        let of_matrix = |name: &str| {
            parameter
                .strip_prefix(name)
                .is_some_and(|p| p.starts_with('.'))
        };
        if scalars.any(of_matrix) {
            self.plan.settings.lr_lr
        } else {
            self.plan.settings.lr
        }
    }

    fn observe(&mut self, gathered: &Gathered) {
        for group in &mut self.groups {
            for factors in group.sites.iter().filter_map(|s| gathered.factors.get(s)) {
                group.x.add(&factors.x);
                group.delta.add(&factors.delta);
            }
            group.x.settle();
            group.delta.settle();
        }
    }

    fn statistics(&self) -> Values {
        let seen = self
            .groups
            .iter()
            .filter(|group| group.x != Running::default());
        seen.flat_map(|group| {
            [("x", &group.x), ("delta", &group.delta)]
                .map(|(side, running)| (format!("{}.{side}", group.name), running.stored()))
        })
        .collect()
    }

    fn restore(&mut self, statistics: &Values) {
        for group in &mut self.groups {
            let of = |side: &str| {
                let stored = statistics.get(&format!("{}.{side}", group.name));
                stored.map(Running::from_stored).unwrap_or_default()
            };
            let (x, delta) = (of("x"), of("delta"));
            (group.x, group.delta) = (x, delta);
        }
    }
}

impl Group {
    fn unlearned(&self) -> Self {
        Self {
            name: self.name.clone(),
            sites: self.sites.clone(),
            x: Running::default(),
            delta: Running::default(),
            ..*self
        }
    }

    fn width(&self) -> usize {
        self.d_in + self.d_out
    }

    fn parameter(&self, block: usize, part: &str) -> String {
        format!("{}.{block}.{part}", self.name)
    }
}

/// `max(0, x)` whose derivative at 0 is 1.
///
/// With U = 0 the first pre-activation is exactly 0; with a derivative of 0 there, U would never
/// move and the network would stay dead (`spec/editors.md` 3.5).
pub(crate) fn open_clamp(x: Tensor<2>) -> Tensor<2> {
    let plain = if x.is_autodiff() {
        x.clone().inner()
    } else {
        x.clone()
    };
    let open = plain.greater_equal_elem(0.0).float();
    let open = beside(&open, &x);
    x * open
}

/// Rows of `table`, each for as many tokens as its owner has: `[n, d]`.
fn of_owners(table: &Tensor<2>, owners: &[(usize, usize)]) -> Tensor<2> {
    let d = table.dims()[1];
    let rows = owners
        .iter()
        .map(|(at, count)| table.clone().narrow(0, *at, 1).expand([*count, d]));
    Tensor::cat(rows.collect(), 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_clamp_lets_gradients_through_at_zero() {
        let device = Device::flex();
        let x: Tensor<2> = host::tensor(vec![-1.0, 0.0, 2.0], [1, 3], &device);
        let x = x.autodiff().require_grad();
        let y = open_clamp(x.clone());
        assert_eq!(host::values(y.clone().inner()), [0.0, 0.0, 2.0]);
        let mut gradients = y.sum().backward();
        let gradient = x.grad_remove(&mut gradients).expect("a gradient");
        assert_eq!(host::values(gradient), [0.0, 1.0, 1.0]);
    }
}
