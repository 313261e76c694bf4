//! How far a merge moved, which shows a weight that does not act.

use debias_core::Moved;
use debias_model::in_order;
use debias_weights::Checkpoint;

/// Distances of `merged` from `base` over the tensors that all models have in one shape, against
/// the norm of `base` and, where there is one, the distance of `towards`.
///
/// # Errors
/// A tensor that cannot be read.
pub fn moved(
    base: &Checkpoint,
    merged: &Checkpoint,
    towards: Option<&Checkpoint>,
    threads: usize,
) -> debias_weights::Result<Moved> {
    let others = || [Some(merged), towards].into_iter().flatten();
    let common: Vec<(&str, &[usize])> = base
        .names()
        .filter_map(|name| {
            let shape = base.info(name)?.shape.as_slice();
            let alike = |model: &Checkpoint| {
                let info = model.info(name);
                info.is_some_and(|info| info.shape == shape)
            };
            others().all(alike).then_some((name, shape))
        })
        .collect();
    let sums = in_order(common.len(), threads, |at| {
        let (name, shape) = common[at];
        let base = base.f32(name, shape)?;
        let apart = |model: &Checkpoint| -> debias_weights::Result<f64> {
            let model = model.f32(name, shape)?;
            let pairs = model.iter().zip(&base);
            Ok(pairs
                .map(|(m, b)| square(f64::from(*m) - f64::from(*b)))
                .sum())
        };
        let towards = match towards {
            None => 0.0,
            Some(towards) => apart(towards)?,
        };
        let norm = base.iter().map(|b| square(f64::from(*b))).sum::<f64>();
        debias_weights::Result::Ok([norm, apart(merged)?, towards])
    })?;
    let norm = |of: usize| {
        sums.iter()
            .map(|sum: &[f64; 3]| sum[of])
            .sum::<f64>()
            .sqrt()
    };
    let share = |of: f64| if of > 0.0 { norm(1) / of } else { 0.0 };
    Ok(Moved {
        relative: share(norm(0)),
        ratio: towards.map(|_| share(norm(2))),
    })
}

fn square(x: f64) -> f64 {
    x * x
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use debias_weights::{Tensor, write_folder};

    use super::*;

    fn model(dir: &std::path::Path, name: &str, values: &[f32]) -> Checkpoint {
        let tensor = |values: &[f32]| Tensor {
            shape: vec![values.len()],
            values: values.to_vec(),
        };
        let mut tensors = BTreeMap::from([
            ("a".to_owned(), tensor(&values[..1])),
            ("b".to_owned(), tensor(&values[1..])),
        ]);
        // A tensor of one model alone is no part of any distance.
        tensors.insert(name.to_owned(), tensor(&[1000.0]));
        let folder = dir.join(name);
        write_folder(&folder, &[], &tensors, false).expect("written");
        Checkpoint::open(&folder).expect("opened")
    }

    #[test]
    fn distances_are_worked_by_hand() {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let base = model(dir.path(), "base", &[3.0, 0.0, 4.0]);
        let merged = model(dir.path(), "merged", &[3.0, 1.0, 4.0]);
        let other = model(dir.path(), "other", &[3.0, 4.0, 4.0]);
        for threads in [1, 2] {
            let found = moved(&base, &merged, Some(&other), threads).expect("read");
            assert_eq!((found.relative, found.ratio), (0.2, Some(0.25)));
        }
        let alone = moved(&base, &base, None, 1).expect("read");
        assert_eq!((alone.relative, alone.ratio), (0.0, None));
        let nowhere = moved(&base, &merged, Some(&base), 1).expect("read");
        assert_eq!(nowhere.ratio, Some(0.0));
    }
}
