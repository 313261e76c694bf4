//! RobustMerge's arithmetic on the factors of one module (arXiv:2502.17159, section 4, and the
//! authors' program).

use super::factors::{Factors, common_scale};
use crate::card::Values;

/// The parameters of `robust_merge`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Settings {
    keep: f64,
    att: f64,
    coef: f64,
    paper: bool,
}

impl Settings {
    pub(crate) fn of(shared: &Values) -> Self {
        Self {
            keep: shared.number("keep_ratio"),
            att: shared.number("att_ratio"),
            coef: shared.number("coef"),
            paper: shared.text("variant") == "paper",
        }
    }

    /// The rank that `adapters` of this rank are merged to.
    pub(crate) fn rank(self, rank: usize, adapters: usize) -> usize {
        if self.paper { rank * adapters } else { rank }
    }
}

/// Merges factors of one rank and shape; with them comes how many rows of `A` were pruned to
/// nothing. The scale is that of the first, or the first that is not 0.
pub(crate) fn merge(factors: &[Factors], settings: Settings) -> (Factors, usize) {
    let first = &factors[0];
    let scale = common_scale(factors.iter().map(|one| one.scale));
    let pruned: Vec<Pruned> = factors
        .iter()
        .map(|one| Pruned::of(one, settings, scale))
        .collect();
    let emptied = pruned.iter().flat_map(|one| &one.strength);
    let emptied = emptied.filter(|s| **s == 0.0).count();
    let (a, b) = if settings.paper {
        paper(&pruned, first)
    } else {
        released(&pruned, first, settings)
    };
    let merged = Factors {
        a,
        b,
        rank: settings.rank(first.rank, factors.len()),
        scale,
        layout: first.layout,
    };
    (merged, emptied)
}

/// One adapter's factors after pruning.
struct Pruned {
    a: Vec<f32>,
    b: Vec<f32>,
    /// `S` of every rank: how much of `A` there was for what is left of it; 0 where nothing is.
    strength: Vec<f64>,
}

impl Pruned {
    fn of(factors: &Factors, settings: Settings, scale: f64) -> Self {
        let rows = |values: &[f32]| -> Vec<f64> {
            let rows = values.chunks(factors.inputs());
            rows.map(|row| row.iter().map(|x| f64::from(x.abs())).sum())
                .collect()
        };
        let a = prune(&factors.a, settings.keep);
        let pairs = rows(&factors.a).into_iter().zip(rows(&a));
        let strength = pairs
            .map(|(before, after)| if after > 0.0 { before / after } else { 0.0 })
            .collect();
        Self {
            a,
            b: prune(&factors.rescaled(scale), settings.keep),
            strength,
        }
    }

    /// `S` clamped from below at its `1 - share` quantile.
    fn clamped(&self, share: f64) -> Vec<f64> {
        let mut sorted = self.strength.clone();
        sorted.sort_by(f64::total_cmp);
        let at = (sorted.len() as f64 * (1.0 - share)).floor() as usize;
        let bound = sorted[at.min(sorted.len() - 1)];
        self.strength.iter().map(|s| s.max(bound)).collect()
    }
}

/// Keeps what is at least as large as the `⌊n (1 - keep)⌋`-th smallest magnitude, counted from 1.
fn prune(values: &[f32], keep: f64) -> Vec<f32> {
    let dropped = (values.len() as f64 * (1.0 - keep)).floor() as usize;
    if dropped == 0 {
        return values.to_vec();
    }
    let mut sizes: Vec<f32> = values.iter().map(|x| x.abs()).collect();
    let (_, threshold, _) = sizes.select_nth_unstable_by(dropped - 1, f32::total_cmp);
    let threshold = *threshold;
    let kept = |x: &f32| if x.abs() >= threshold { *x } else { 0.0 };
    values.iter().map(kept).collect()
}

/// The authors' program: both factors are summed, `B` weighed by the clamped `S`.
fn released(pruned: &[Pruned], first: &Factors, settings: Settings) -> (Vec<f32>, Vec<f32>) {
    let clamped: Vec<_> = pruned.iter().map(|one| one.clamped(settings.att)).collect();
    let total = |r: usize| clamped.iter().map(|s| s[r]).sum::<f64>();
    let totals: Vec<f64> = (0..first.rank).map(total).collect();
    let a = (0..first.a.len()).map(|at| {
        let sum: f64 = pruned.iter().map(|one| f64::from(one.a[at])).sum();
        (settings.coef * sum) as f32
    });
    let b = (0..first.b.len()).map(|at| {
        let r = at % first.rank;
        let pairs = pruned.iter().zip(&clamped);
        let sum: f64 = pairs.map(|(one, s)| s[r] * f64::from(one.b[at])).sum();
        (settings.coef * share(sum, totals[r])) as f32
    });
    (a.collect(), b.collect())
}

/// The paper's sum of products, as one product of all ranks side by side.
fn paper(pruned: &[Pruned], first: &Factors) -> (Vec<f32>, Vec<f32>) {
    let total = |r: usize| pruned.iter().map(|one| one.strength[r]).sum::<f64>();
    let totals: Vec<f64> = (0..first.rank).map(total).collect();
    let a = pruned.iter().flat_map(|one| one.a.iter().copied());
    let mut b = Vec::with_capacity(pruned.len() * first.b.len());
    for row in 0..first.outputs() {
        for one in pruned {
            let values = &one.b[row * first.rank..][..first.rank];
            b.extend(
                values
                    .iter()
                    .enumerate()
                    .map(|(r, x)| (share(one.strength[r], totals[r]) * f64::from(*x)) as f32),
            );
        }
    }
    (a.collect(), b)
}

/// `part / total`, nothing of nothing.
fn share(part: f64, total: f64) -> f64 {
    if total > 0.0 { part / total } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::adapter::Layout;
    use debias_weights::Checkpoint;
    use std::path::PathBuf;

    const ROBUST: Settings = Settings {
        keep: 0.2,
        att: 0.2,
        coef: 2.0,
        paper: false,
    };

    fn factors(a: &[f32], b: &[f32], rank: usize, scale: f64) -> Factors {
        Factors {
            a: a.to_vec(),
            b: b.to_vec(),
            rank,
            scale,
            layout: Layout::Matrix { transposed: false },
        }
    }

    fn product(factors: &Factors) -> Vec<f32> {
        let change = factors
            .on(&[factors.outputs(), factors.inputs()])
            .expect("its own shape");
        let rows = change.b.chunks(change.rank);
        let row = |b: &[f32]| -> Vec<f32> {
            let column = |c: usize| {
                (0..change.rank)
                    .map(|r| b[r] * change.a[r * change.columns + c])
                    .sum()
            };
            (0..change.columns).map(column).collect()
        };
        rows.flat_map(row).collect()
    }

    fn near(got: &[f32], want: &[f32]) {
        assert_eq!(got.len(), want.len());
        for (got, want) in got.iter().zip(want) {
            assert!(
                (got - want).abs() <= 1e-6 + 1e-5 * want.abs(),
                "{got} for {want}"
            );
        }
    }

    #[test]
    fn the_reference_vectors_are_met() {
        let dir = std::env::var_os("DEBIAS_BENCH_FIXTURES").map(PathBuf::from);
        let file = dir.map(|dir| dir.join("merge/ref/robustmerge.safetensors"));
        let Some(file) = file.filter(|file| file.is_file()) else {
            assert!(
                std::env::var_os("CI").is_none(),
                "CI needs DEBIAS_BENCH_FIXTURES"
            );
            eprintln!("SKIPPED: the merge fixtures are not here");
            return;
        };
        let golden = Checkpoint::open_file(&file).expect("a reference file");
        let read = |name: &str| {
            let shape = golden.info(name).expect(name).shape.clone();
            golden.f32(name, &shape).expect(name)
        };
        let (a, b) = (read("A"), read("B"));
        let adapters: Vec<_> = (0..3)
            .map(|n| {
                factors(
                    &a[n * 8 * 48..][..8 * 48],
                    &b[n * 40 * 8..][..40 * 8],
                    8,
                    1.0,
                )
            })
            .collect();
        let pruned: Vec<_> = adapters
            .iter()
            .map(|one| Pruned::of(one, ROBUST, 1.0))
            .collect();
        let mask = |pruned: &[f32], name: &str, n: usize| {
            let mask = golden.raw(name).expect(name).bytes;
            let mask = &mask[n * pruned.len()..][..pruned.len()];
            let kept = pruned.iter().map(|x| u8::from(*x != 0.0));
            assert!(kept.eq(mask.iter().copied()), "{name} of adapter {n}");
        };
        let doubles = golden.raw("S").expect("S").bytes.as_chunks::<8>().0.iter();
        let strengths: Vec<f64> = doubles.map(|bytes| f64::from_le_bytes(*bytes)).collect();
        for (n, one) in pruned.iter().enumerate() {
            mask(&one.a, "mask_A", n);
            mask(&one.b, "mask_B", n);
            for (got, want) in one.strength.iter().zip(&strengths[n * 8..]) {
                assert!((got - want).abs() <= 1e-12 * want, "{got} for {want}");
            }
        }
        let empty = strengths.iter().filter(|s| **s == 0.0).count();
        assert!(
            empty > 0,
            "the reference has rows that are pruned to nothing"
        );

        let (released, emptied) = merge(&adapters, ROBUST);
        assert_eq!((released.rank, released.scale, emptied), (8, 1.0, empty));
        near(&released.a, &read("released_A"));
        near(&released.b, &read("released_B"));
        let (paper, emptied) = merge(
            &adapters,
            Settings {
                paper: true,
                ..ROBUST
            },
        );
        assert_eq!((paper.rank, emptied), (24, empty));
        near(&product(&paper), &read("paper_delta"));
    }

    #[test]
    fn scales_of_different_adapters_are_taken_into_account() {
        let (a, b) = ([1.0, -2.0, 3.0], [4.0, 5.0]);
        let all = Settings {
            keep: 1.0,
            paper: true,
            ..ROBUST
        };
        let alike = merge(&[factors(&a, &b, 1, 2.0), factors(&a, &b, 1, 2.0)], all).0;
        let doubled: Vec<f32> = b.iter().map(|x| 2.0 * x).collect();
        let unlike = merge(
            &[factors(&a, &doubled, 1, 1.0), factors(&a, &b, 1, 2.0)],
            all,
        )
        .0;
        near(&product(&alike), &product(&unlike));
        near(&product(&alike), &product(&factors(&a, &b, 1, 2.0)));
        // A scale of 0 is a product of nothing, and no scale to convert to.
        let silent = merge(&[factors(&a, &b, 1, 0.0), factors(&a, &b, 1, 2.0)], all).0;
        assert_eq!(silent.scale, 2.0);
        let half: Vec<f32> = product(&alike).iter().map(|x| x / 2.0).collect();
        near(&product(&silent), &half);
    }

    #[test]
    fn ranks_that_all_adapters_lose_give_zeros() {
        let a = [9.0, 8.0, 0.1, 0.2];
        let one = factors(&a, &[1.0, 1.0], 2, 1.0);
        for paper in [false, true] {
            let settings = Settings {
                keep: 0.25,
                att: 0.0,
                paper,
                ..ROBUST
            };
            let (merged, emptied) = merge(&[one.clone(), one.clone()], settings);
            assert_eq!(emptied, 2);
            assert!(merged.a.iter().chain(&merged.b).all(|x| x.is_finite()));
        }
    }
}
