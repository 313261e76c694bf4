//! The transform of the factors: one network per matrix shape, a scale and a shift per matrix.

use std::collections::BTreeMap;

use burn::tensor::{Device, Tensor};
use debias_core::seed;
use debias_model::{Parameter, host};

use super::Config;
use super::statistics::Running;
use crate::editor::Request;
use crate::error::Result;
use crate::hyper::{Factors, Gathered, HyperNetwork, Sides};
use crate::training::Values;

/// Blocks of a network (`n_hidden: 1`).
const BLOCKS: usize = 2;

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

/// All networks.
pub(super) struct Network {
    groups: Vec<Group>,
    rank: usize,
    norm: bool,
    bound: Option<f64>,
    descent: bool,
    edit_lr: f64,
    lr: f64,
    lr_lr: f64,
    seed: u64,
    device: Device,
}

impl Network {
    pub fn new(config: &Config, sites: &[&Parameter], seed: u64, device: &Device) -> Self {
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
            groups: groups.into_iter().map(group).collect(),
            rank: config.rank,
            norm: config.norm,
            bound: config.bound,
            descent: config.descent,
            edit_lr: config.edit_lr,
            lr: config.lr,
            lr_lr: match config.dead_edit_lr {
                true => config.lr,
                false => config.lr_lr,
            },
            seed,
            device: device.clone(),
        }
    }

    /// The network before it has learned anything, without normalisation and with rates of 1: its
    /// answer is the gradient itself.
    pub fn unlearned(&self) -> (Self, Values) {
        let plain = Self {
            norm: false,
            descent: false,
            edit_lr: 1.0,
            device: self.device.clone(),
            groups: self.groups.iter().map(Group::unlearned).collect(),
            ..*self
        };
        let values = plain.start();
        (plain, values)
    }

    /// Both sides of every matrix of `group`, transformed: `[n, d_in]` and `[n, d_out]`.
    fn transform(
        &self,
        group: &Group,
        values: &Values,
        factors: &[(usize, &Factors)],
    ) -> (Tensor<2>, Tensor<2>) {
        let join = |pick: fn(&Factors) -> &Tensor<2>| {
            Tensor::cat(factors.iter().map(|(_, f)| pick(f).clone()).collect(), 0)
        };
        let (mut x, mut delta) = (join(|f| &f.x), join(|f| &f.delta));
        if self.norm {
            let bounded = |rows: Tensor<2>| match self.bound {
                Some(bound) => rows.clamp(-bound, bound),
                None => rows,
            };
            x = bounded(group.x.normalise(x));
            delta = bounded(group.delta.normalise(delta));
        }
        let mut z = Tensor::cat(vec![x, delta], 1);
        let parameter = |block: usize, part: &str| &values[&group.parameter(block, part)];
        if parameter(0, "u").is_autodiff() {
            z = z.autodiff();
        }
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
            z = z + open_clamp(outer * scale + shift);
        }
        let n = z.dims()[0];
        (
            z.clone().slice([0..n, 0..group.d_in]),
            z.slice([0..n, group.d_in..group.d_in + group.d_out]),
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

/// The learned rate of a matrix.
fn rate_of(site: &str) -> String {
    format!("edit_lr.{site}")
}

/// `max(0, x)` whose derivative at 0 is 1.
///
/// With U = 0 the first pre-activation is exactly 0; with a derivative of 0 there, U would never
/// move and the network would stay dead (`spec/editors.md` 3.5).
pub(super) fn open_clamp(x: Tensor<2>) -> Tensor<2> {
    let plain = match x.is_autodiff() {
        true => x.clone().inner(),
        false => x.clone(),
    };
    let open = plain.greater_equal_elem(0.0).float();
    let open = crate::hyper::beside(&open, &x);
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

impl HyperNetwork for Network {
    type Condition = ();

    fn start(&self) -> Values {
        let mut values = Values::new();
        for group in &self.groups {
            let d = group.width();
            let r = self.rank.min(d);
            let k = group.sites.len();
            for block in 0..BLOCKS {
                let mut stream =
                    seed::stream(self.seed, &["mend", &group.name, &block.to_string()]);
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
            for site in &group.sites {
                let rate = Tensor::full([1, 1], self.edit_lr as f32, &self.device);
                values.insert(rate_of(site), rate);
            }
        }
        values
    }

    fn rate(&self, parameter: &str) -> f64 {
        match parameter.starts_with("edit_lr.") {
            true => self.lr_lr,
            false => self.lr,
        }
    }

    fn condition(&self, _: &[&Request]) -> Result<()> {
        Ok(())
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

    fn propose(&self, values: &Values, gathered: &Gathered, _: &()) -> Sides {
        let mut sides = Sides::new();
        for group in &self.groups {
            let found = group.sites.iter().enumerate().filter_map(|(row, site)| {
                let factors = gathered.factors.get(site)?;
                (!factors.is_empty()).then_some((row, factors))
            });
            let found: Vec<(usize, &Factors)> = found.collect();
            if found.is_empty() {
                continue;
            }
            let (x, delta) = self.transform(group, values, &found);
            let mut first = 0;
            for (row, factors) in found {
                let site = &group.sites[row];
                let n = factors.x.dims()[0];
                let own = |rows: &Tensor<2>| rows.clone().narrow(0, first, n);
                let rate = values[&rate_of(site)].clone();
                let sign = if self.descent { -1.0 } else { 1.0 };
                let step = own(&delta) * rate.mul_scalar(sign);
                sides.insert(site.clone(), factors.sides(own(&x), step));
                first += n;
            }
        }
        sides
    }
}
