//! The transform of a gradient's factors that MEND and MALMEN's kin share: one network per matrix
//! shape, a scale and a shift per matrix (Mitchell et al. 2022, section 3.1; Tan et al. 2024).

use std::collections::BTreeMap;

use burn::tensor::{Device, Tensor};
use debias_core::seed;
use debias_model::{Parameter, host};

use super::beside;
use super::factors::{Factors, Gathered};
use super::statistics::Running;
use crate::training::Values;

/// Blocks of a network (`n_hidden: 1`).
const BLOCKS: usize = 2;

/// How the blocks are made.
#[derive(Clone, Copy)]
pub(crate) struct BlockPlan {
    /// Tells the random streams of one editor from those of another.
    pub stream: &'static str,
    /// Rows of V, at most the joint width of a matrix.
    pub rank: usize,
    /// Whether factors are normalised by running mean and deviation.
    pub norm: bool,
    /// Largest size of a normalised value.
    pub bound: Option<f64>,
    /// Added to a deviation before it is divided by.
    pub epsilon: f64,
    /// What a block adds to its input, of `U V z + b`, scale and shift: `[n, d]` each.
    pub step: fn(Tensor<2>, Tensor<2>, Tensor<2>) -> Tensor<2>,
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

    /// The networks before they have learned anything, without normalisation: they leave factors
    /// as they are.
    pub fn unlearned(&self) -> Self {
        Self {
            plan: BlockPlan {
                norm: false,
                ..self.plan
            },
            groups: self.groups.iter().map(Group::unlearned).collect(),
            device: self.device.clone(),
            ..*self
        }
    }

    /// Published names of all matrices.
    pub fn sites(&self) -> impl Iterator<Item = &String> {
        self.groups.iter().flat_map(|group| &group.sites)
    }

    /// The parameters at the start: V normal, U and b zero, scales 1, shifts 0, so that a network
    /// is the identity.
    pub fn start(&self) -> Values {
        let mut values = Values::new();
        for group in &self.groups {
            let d = group.width();
            let r = self.plan.rank.min(d);
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
        }
        values
    }

    /// Takes notice of the factors of a training lesson.
    pub fn observe(&mut self, gathered: &Gathered) {
        for group in &mut self.groups {
            for factors in group.sites.iter().filter_map(|s| gathered.factors.get(s)) {
                group.x.add(&factors.x);
                group.delta.add(&factors.delta);
            }
            group.x.settle();
            group.delta.settle();
        }
    }

    /// What it noticed, as tensors that can be stored.
    pub fn statistics(&self) -> Values {
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

    /// Goes on from stored statistics.
    pub fn restore(&mut self, statistics: &Values) {
        for group in &mut self.groups {
            let of = |side: &str| {
                let stored = statistics.get(&format!("{}.{side}", group.name));
                stored.map(Running::from_stored).unwrap_or_default()
            };
            let (x, delta) = (of("x"), of("delta"));
            (group.x, group.delta) = (x, delta);
        }
    }

    /// The factors of every matrix that has any, with both sides transformed: `[n, d_in]` and
    /// `[n, d_out]`.
    pub fn transform<'g>(
        &self,
        values: &Values,
        gathered: &'g Gathered,
    ) -> Vec<(String, &'g Factors, [Tensor<2>; 2])> {
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
                let sides = [own(&x), own(&delta)];
                transformed.push((group.sites[row].clone(), factors, sides));
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
        if self.plan.norm {
            let bounded = |rows: Tensor<2>| match self.plan.bound {
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
    let plain = match x.is_autodiff() {
        true => x.clone().inner(),
        false => x.clone(),
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
