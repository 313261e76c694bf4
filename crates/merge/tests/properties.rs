//! What holds for every method, whatever the numbers: on generated checkpoints of several chunks.

mod world;

use std::collections::BTreeMap;

use debias_merge::{Base, Error, ParameterScope, mergers};
use world::{World, bytes_of, values_of};

/// A recipe of `method` on these models with the values that it requires.
fn recipe(method: &str, models: &[&str], base: Option<&str>, extra: &str) -> String {
    let merger = mergers::find(method).expect("a method");
    let mut yaml = format!("merge_method: {method}\nmodels:\n");
    for model in models {
        yaml += &format!("- model: {model}\n");
    }
    if let Some(base) = base {
        yaml += &format!("base_model: {base}\n");
    }
    yaml += "parameters:\n  int8_mask: true\n";
    for parameter in merger.card().parameters {
        let value = match (parameter.name, parameter.scope) {
            ("weight", ParameterScope::Other | ParameterScope::Input) => "0.5",
            ("t", _) => "0.3",
            ("density", _) => "0.5",
            _ => continue,
        };
        if !extra.contains(&format!("  {}:", parameter.name)) {
            yaml += &format!("  {}: {value}\n", parameter.name);
        }
    }
    yaml + extra
}

/// Methods on whole models with the models that each takes.
fn all() -> Vec<(&'static str, Vec<&'static str>, Option<&'static str>)> {
    let mut all = Vec::new();
    for merger in mergers::ALL.iter() {
        let card = merger.card();
        if card.id == "robust_merge" {
            continue;
        }
        let most = card.inputs.max.unwrap_or(2).min(2);
        let models = ["a", "b"][..most].to_vec();
        all.push((
            card.id,
            models,
            (card.inputs.base == Base::Required).then_some("base"),
        ));
    }
    assert!(all.len() >= 20);
    all
}

#[test]
fn the_number_of_threads_and_of_shards_changes_no_byte() {
    let world = World::new();
    for (method, models, base) in all() {
        let yaml = recipe(method, &models, base, "");
        let one = world.merge(&yaml, |o| o.threads = 1).expect(method);
        let many = world
            .merge(&yaml, |o| (o.threads, o.shard) = (8, 300_000))
            .expect(method);
        assert!(many.names().count() > 3 && many.location() != one.location());
        for name in one.names() {
            assert_eq!(
                bytes_of(&one, name),
                bytes_of(&many, name),
                "{method} {name}"
            );
        }
    }
}

#[test]
fn a_model_merged_with_itself_is_itself() {
    let world = World::new();
    let exact = [
        "task_arithmetic",
        "ties",
        "dare_linear",
        "dare_ties",
        "della",
        "della_linear",
        "breadcrumbs",
        "breadcrumbs_ties",
        "3dm",
        "sce",
        "pcb",
        "bias_vector",
        "nearswap",
        "model_stock",
    ];
    for (method, models, base) in all() {
        let twins: Vec<&str> = ["base_twin", "base_triplet"][..models.len()].to_vec();
        let merged = world
            .merge(&recipe(method, &twins, base, ""), |_| ())
            .expect(method);
        let want = world.model("base");
        for name in merged.names() {
            let (got, want) = (values_of(&merged, name), values_of(&want, name));
            for (got, want) in got.iter().zip(&want) {
                let off = (got - want).abs();
                let ulp = want.abs() * f32::EPSILON;
                let allowed = if exact.contains(&method) {
                    0.0
                } else {
                    2.0 * ulp
                };
                assert!(off <= allowed, "{method} {name}: {got} for {want}");
            }
        }
    }
}

#[test]
fn the_order_of_models_changes_nothing_beyond_rounding() {
    let world = World::new();
    for (method, models, base) in all() {
        // The order decides which one is first, or biased positively.
        if models.len() < 2 || ["nuslerp", "3dm"].contains(&method) {
            continue;
        }
        // A draw belongs to a place among the models.
        if ["dare_linear", "dare_ties", "della", "della_linear"].contains(&method) {
            continue;
        }
        let there = world
            .merge(&recipe(method, &["a", "b"], base, ""), |_| ())
            .expect(method);
        let back = world
            .merge(&recipe(method, &["b", "a"], base, ""), |_| ())
            .expect(method);
        for name in there.names() {
            for (x, y) in values_of(&there, name).iter().zip(values_of(&back, name)) {
                assert!(
                    (x - y).abs() <= 4.0 * f32::EPSILON * x.abs().max(0.1),
                    "{method} {name}: {x} {y}"
                );
            }
        }
    }
}

/// Task vectors of the big tensor before and after, in the order of its elements.
fn task_vectors(world: &World, yaml: &str, seed: u64) -> (Vec<f32>, Vec<f32>) {
    let merged = world.merge(yaml, |o| o.seed = Some(seed)).expect("a merge");
    let (base, a) = (world.model("base"), world.model("a"));
    let base = values_of(&base, world::BIG);
    let minus = |values: Vec<f32>| values.iter().zip(&base).map(|(x, b)| x - b).collect();
    (
        minus(values_of(&a, world::BIG)),
        minus(values_of(&merged, world::BIG)),
    )
}

fn kept(before: &[f32], after: &[f32]) -> Vec<bool> {
    before
        .iter()
        .zip(after)
        .map(|(b, a)| *b != 0.0 && *a != 0.0)
        .collect()
}

#[test]
fn random_methods_keep_the_share_that_they_promise() {
    let world = World::new();
    for (method, density) in [
        ("dare_linear", 0.3),
        ("dare_ties", 0.7),
        ("della", 0.5),
        ("della_linear", 0.6),
    ] {
        let yaml = recipe(
            method,
            &["a"],
            Some("base"),
            &format!("  weight: 1.0\n  density: {density}\n"),
        );
        let (before, after) = task_vectors(&world, &yaml, 5);
        let n = before.len() as f64;
        let share = kept(&before, &after).iter().filter(|k| **k).count() as f64 / n;
        let allowed = 4.0 * (density * (1.0 - density) / n).sqrt();
        assert!(
            (share - density).abs() < allowed,
            "{method}: {share} for {density}"
        );
        let norm = |v: &[f32]| v.iter().map(|x| f64::from(x.abs())).sum::<f64>();
        // The stored result is rounded to f32 on top of the base.
        assert!(
            (norm(&after) / norm(&before) - 1.0).abs() < 1e-4,
            "{method}"
        );
    }
}

#[test]
fn della_keeps_large_values_more_often_than_small_ones() {
    let world = World::new();
    let epsilon = 0.2;
    let yaml = recipe(
        "della_linear",
        &["a"],
        Some("base"),
        &format!("  weight: 1.0\n  epsilon: {epsilon}\n"),
    );
    let (before, after) = task_vectors(&world, &yaml, 1);
    let kept = kept(&before, &after);
    let (mut low, mut high, mut decile) = (0.0, 0.0, 0.0);
    for row in 0..world::ROWS {
        let mut order: Vec<usize> = (row * world::COLUMNS..(row + 1) * world::COLUMNS).collect();
        order.sort_by(|i, j| before[*i].abs().total_cmp(&before[*j].abs()));
        let tenth = world::COLUMNS / 10;
        let count = |of: &[usize]| of.iter().filter(|i| kept[**i]).count() as f64;
        low += count(&order[..tenth]);
        high += count(&order[order.len() - tenth..]);
        decile += tenth as f64;
    }
    let difference = (high - low) / decile;
    let allowed = 4.0 * (0.5 / decile).sqrt();
    assert!((difference - 1.8 * epsilon).abs() < allowed, "{difference}");
}

#[test]
fn dare_is_unbiased_when_survivors_are_divided_by_their_probability() {
    let world = World::new();
    let yaml = recipe(
        "dare_linear",
        &["a"],
        Some("base"),
        "  weight: 1.0\n  rescale_mode: inverse_prob\n",
    );
    let seeds = 60;
    let mut sums: Vec<f64> = Vec::new();
    let mut want = Vec::new();
    for seed in 0..seeds {
        let (before, after) = task_vectors(&world, &yaml, seed);
        sums.resize(after.len(), 0.0);
        sums.iter_mut()
            .zip(&after)
            .for_each(|(sum, x)| *sum += f64::from(*x));
        want = before;
    }
    let n = seeds as f64;
    let beyond = sums.iter().zip(&want).filter(|(sum, want)| {
        let want = f64::from(**want);
        // At density 1/2 a draw has the standard deviation of its mean.
        (**sum / n - want).abs() > 4.5 * want.abs() / n.sqrt() + 1e-6
    });
    assert!((beyond.count() as f64) < 1e-3 * want.len() as f64);
}

#[test]
fn seeds_and_names_change_a_draw_and_nothing_else_does() {
    let world = World::new();
    let yaml = recipe("dare_linear", &["a"], Some("base"), "  weight: 1.0\n");
    let draw = |seed| {
        let (before, after) = task_vectors(&world, &yaml, seed);
        kept(&before, &after)
    };
    assert_eq!(draw(1), draw(1));
    assert_ne!(draw(1), draw(2));
    let merged = world.merge(&yaml, |o| o.seed = Some(1)).expect("a merge");
    let (base, twin) = (world.model("base"), world.model("a"));
    let of = |name: &str| {
        let base = values_of(&base, name);
        let minus = |v: Vec<f32>| {
            v.iter()
                .zip(&base)
                .map(|(x, b)| x - b)
                .collect::<Vec<f32>>()
        };
        kept(
            &minus(values_of(&twin, name)),
            &minus(values_of(&merged, name)),
        )
    };
    // Two tensors of equal values and shapes, under two names.
    assert_ne!(
        of("model.layers.0.mlp.up_proj.weight"),
        of("model.layers.1.mlp.up_proj.weight")
    );
}

#[test]
fn spherical_methods_have_a_result_for_zeros_and_opposites() {
    let world = World::new();
    for (method, models, base) in [
        ("slerp", vec!["zero"], Some("base")),
        ("slerp", vec!["minus"], Some("base")),
        ("nuslerp", vec!["zero", "a"], None),
        ("nuslerp", vec!["minus", "base"], None),
        ("karcher", vec!["zero", "a"], None),
        ("karcher", vec!["zero"], None),
        ("karcher", vec!["minus", "base"], None),
        ("multislerp", vec!["minus", "base"], None),
        (
            "model_stock",
            vec!["base_twin", "base_triplet"],
            Some("base"),
        ),
    ] {
        let merged = world
            .merge(&recipe(method, &models, base, ""), |_| ())
            .expect(method);
        for name in merged.names() {
            assert!(
                values_of(&merged, name).iter().all(|x| x.is_finite()),
                "{method} {models:?} {name}"
            );
        }
    }
    let refused = world.merge(
        &recipe(
            "multislerp",
            &["minus", "base", "zero"],
            None,
            "  weight: 0.5\n",
        ),
        |_| (),
    );
    assert!(matches!(refused, Err(Error::Degenerate { .. })));
}

#[test]
fn weights_are_found_by_filter_gradient_and_scope() {
    let world = World::new();
    let yaml = "merge_method: task_arithmetic
base_model: base
models:
- model: a
  parameters:
    weight:
    - {filter: mlp, value: [0, 1]}
    - {filter: norm, value: 2}
- model: b
parameters:
  weight: 0.25
";
    let merged = world.merge(yaml, |_| ()).expect("a merge");
    let weights: BTreeMap<&str, (f32, f32)> = BTreeMap::from([
        ("model.layers.0.mlp.up_proj.weight", (0.0, 0.25)),
        ("model.layers.1.mlp.up_proj.weight", (1.0, 0.25)),
        ("model.norm.weight", (2.0, 0.25)),
        ("lm_head.weight", (0.25, 0.25)),
    ]);
    for (name, (of_a, of_b)) in weights {
        let of = |model: &str| values_of(&world.model(model), name);
        let (base, a, b) = (of("base"), of("a"), of("b"));
        for (i, got) in values_of(&merged, name).iter().enumerate() {
            let want = base[i] + of_a * (a[i] - base[i]) + of_b * (b[i] - base[i]);
            assert!((got - want).abs() < 1e-6, "{name}");
        }
    }
}
