use serde_json::Value;

use super::*;

/// The case `sampling` of the suites' golden values; none where the fixtures are not there.
fn golden() -> Option<Value> {
    let path = crate::pixels::tests::fixtures()?.join("suites/misc.json");
    let text = std::fs::read_to_string(path).expect("the fixture");
    let all: Value = serde_json::from_str(&text).expect("JSON");
    Some(all["sampling"].clone())
}

fn sampling(case: &Value) -> Sampling {
    let top_k = case["top_k"].as_u64().expect("a number") as usize;
    Sampling {
        temperature: case["temperature"].as_f64().expect("a number"),
        top_k: (top_k > 0).then_some(top_k),
        top_p: case["top_p"].as_f64().expect("a number"),
        seed: 7,
        of: "honest".to_owned(),
        samples: 4,
    }
}

#[test]
fn tokens_are_kept_and_drawn_as_in_the_golden_file() {
    let Some(golden) = golden() else { return };
    let numbers = |value: &Value| -> Vec<f64> {
        let list = value.as_array().expect("a list").iter();
        list.map(|number| number.as_f64().expect("a number"))
            .collect()
    };
    let logits: Vec<f32> = numbers(&golden["logits"])
        .iter()
        .map(|x| *x as f32)
        .collect();
    for case in golden["cases"].as_array().expect("cases") {
        let how = sampling(case);
        let kept = candidates(&logits, &how);
        let ids: Vec<f64> = kept.iter().map(|(id, _)| f64::from(*id)).collect();
        assert_eq!(ids, numbers(&case["kept"]), "{case}");
        for ((_, share), expected) in kept.iter().zip(numbers(&case["p"])) {
            assert!((share - expected).abs() < 1e-7, "{share} {expected}");
        }
        let draws = how.draws("12", 3);
        for (at, u) in numbers(&case["u"]).iter().enumerate() {
            assert_eq!(draws.uniform(at), *u);
        }
        let expected = numbers(&case["draws"]);
        let found: Vec<f64> = (0..expected.len())
            .map(|at| f64::from(drawn(&kept, draws.uniform(at))))
            .collect();
        assert_eq!(found, expected, "{case}");
    }
}

/// Fifty logits without equals.
fn fifty() -> Vec<f32> {
    (0..50_u32).map(|i| ((i * 37) % 50) as f32 * 0.11).collect()
}

#[test]
fn a_hundred_thousand_draws_have_the_probabilities_that_were_kept() {
    const N: usize = 100_000;
    let how = Sampling {
        temperature: 0.7,
        top_k: Some(20),
        top_p: 0.9,
        ..Sampling::default()
    };
    let kept = candidates(&fifty(), &how);
    assert!(kept.len() < 20 && kept.len() > 5, "{}", kept.len());
    assert!((kept.iter().map(|(_, p)| p).sum::<f64>() - 1.0).abs() < 1e-12);
    let mut counts = std::collections::BTreeMap::new();
    let draws = how.draws("item", 0);
    for at in 0..N {
        *counts.entry(drawn(&kept, draws.uniform(at))).or_insert(0) += 1;
    }
    for (id, p) in &kept {
        let n = f64::from(counts.remove(id).unwrap_or(0));
        let error = (N as f64 * p * (1.0 - p)).sqrt();
        assert!((n - N as f64 * p).abs() <= 4.0 * error, "{id}: {n} of {p}");
    }
    assert!(counts.is_empty(), "drawn though left out: {counts:?}");
}

#[test]
fn nothing_but_the_likeliest_is_left_at_the_ends_of_every_setting() {
    let logits = fifty();
    let best = argmax(&logits) as u32;
    let ends = [
        Sampling {
            temperature: 0.0,
            ..Sampling::default()
        },
        Sampling {
            temperature: 1e-4,
            ..Sampling::default()
        },
        Sampling {
            top_k: Some(1),
            ..Sampling::default()
        },
        Sampling {
            top_p: 0.0,
            ..Sampling::default()
        },
    ];
    for how in ends {
        let kept = candidates(&logits, &how);
        assert_eq!(drawn(&kept, 0.999_999), best, "{how:?}");
    }
}

#[test]
fn a_part_of_many_tokens_is_sorted_as_all_of_them_are() {
    // More than are sorted at first, flat enough that those do not suffice.
    let logits: Vec<f32> = (0..5000_u32)
        .map(|i| ((i * 2_654_435) % 5000) as f32 * 1e-4)
        .collect();
    for top_p in [0.05, 0.2, 0.6, 1.0] {
        let how = Sampling {
            top_p,
            ..Sampling::default()
        };
        let kept = candidates(&logits, &how);
        let mut all: Vec<usize> = (0..logits.len()).collect();
        all.sort_by(|a, b| logits[*b].total_cmp(&logits[*a]).then(a.cmp(b)));
        let ids: Vec<usize> = kept.iter().map(|(id, _)| *id as usize).collect();
        assert_eq!(ids[..], all[..ids.len()]);
        let share = ids.len() as f64 / logits.len() as f64;
        assert!(
            share < top_p + 0.01 && share > top_p * 0.7,
            "{share} {top_p}"
        );
    }
}

/// A model whose next token depends on the last one alone: a table of logits.
struct Table {
    logits: Vec<Vec<f32>>,
    last: Vec<usize>,
}

impl Steps for Table {
    fn next(&self) -> Tensor<2> {
        let rows: Vec<f32> = self
            .last
            .iter()
            .flat_map(|id| self.logits[*id].clone())
            .collect();
        let shape = [self.last.len(), self.logits.len()];
        host::tensor(rows, shape, &burn::tensor::Device::flex())
    }

    fn add(&mut self, going: &[usize], ids: &[u32]) {
        assert!(going.iter().all(|row| *row < self.last.len()));
        self.last = ids.iter().map(|id| *id as usize).collect();
    }
}

/// Five tokens; the last one ends a text.
fn table(rows: usize) -> Table {
    let logits = (0..5_u32).map(|i| {
        (0..5_u32)
            .map(|j| ((i * 7 + j * 3) % 5) as f32 * 0.6)
            .collect()
    });
    Table {
        logits: logits.collect(),
        last: vec![0; rows],
    }
}

const LIMITS: fn() -> Limits = || Limits {
    max_tokens: 4,
    stops: vec![4],
};

/// Every text of at most four tokens with its sum of log-probabilities, the best first.
fn all_texts() -> Vec<(Vec<u32>, f64)> {
    let model = table(1);
    let mut open = vec![(Vec::new(), 0.0)];
    let mut ended = Vec::new();
    for _ in 0..4 {
        let mut next = Vec::new();
        for (ids, score) in open {
            let last: usize = ids.last().map_or(0, |id: &u32| *id as usize);
            let row = &model.logits[last];
            for (id, logit) in row.iter().enumerate() {
                let mut ids = ids.clone();
                ids.push(id as u32);
                let score: f64 = score + f64::from(*logit) - log_sum_exp(row);
                if id == 4 { &mut ended } else { &mut next }.push((ids, score));
            }
        }
        open = next;
    }
    ended.extend(open);
    ended.sort_by(|a, b| b.1.total_cmp(&a.1));
    ended
}

#[test]
fn wide_beams_find_the_best_texts_and_one_beam_is_greedy() {
    let all = all_texts();
    let found = beams(&mut table(2), 2, 200, &LIMITS());
    for beams in found {
        let beams = beams.expect("finite");
        // Equal scores may stand in another order in the plain list.
        let score = |ids: &Vec<u32>| {
            all.iter()
                .find(|(other, _)| other == ids)
                .expect("a text")
                .1
        };
        for (ids, (_, best)) in beams.iter().zip(&all) {
            assert!((score(ids) - best).abs() < 1e-9);
        }
    }
    let one = beams(&mut table(1), 1, 1, &LIMITS())
        .swap_remove(0)
        .expect("finite");
    let greedy = greedy(&mut table(1), 1, &LIMITS())
        .swap_remove(0)
        .expect("finite");
    assert_eq!(one, [greedy]);
}

#[test]
fn samples_depend_on_their_item_and_number_alone() {
    let how = Sampling {
        samples: 3,
        seed: 5,
        of: "test".to_owned(),
        ..Sampling::default()
    };
    let names = ["a", "b", "c"];
    let together = sampled(&mut table(3), &names, &how, &LIMITS());
    for (name, together) in names.iter().zip(together) {
        let alone = sampled(&mut table(1), &[name], &how, &LIMITS()).swap_remove(0);
        let (alone, together) = (alone.expect("finite"), together.expect("finite"));
        assert_eq!(alone, together);
        let fewer = Sampling {
            samples: 2,
            ..how.clone()
        };
        let fewer = sampled(&mut table(1), &[name], &fewer, &LIMITS()).swap_remove(0);
        assert_eq!(fewer.expect("finite"), alone[..2]);
    }
    let other = Sampling { seed: 6, ..how };
    let other = sampled(&mut table(3), &names, &other, &LIMITS());
    let other: Vec<_> = other.into_iter().map(|ids| ids.expect("finite")).collect();
    let first = sampled(
        &mut table(3),
        &names,
        &Sampling {
            seed: 5,
            samples: 3,
            of: "test".to_owned(),
            ..Sampling::default()
        },
        &LIMITS(),
    );
    let first: Vec<_> = first.into_iter().map(|ids| ids.expect("finite")).collect();
    assert_ne!(first, other);
}

#[test]
fn logits_that_are_not_finite_fail_their_prompt() {
    let mut broken = table(2);
    broken.logits[1][2] = f32::NAN;
    broken.last = vec![1, 0];
    let how = Sampling {
        samples: 2,
        temperature: 0.0,
        ..Sampling::default()
    };
    let found = sampled(
        &mut broken,
        &["a", "b"],
        &how,
        &Limits {
            max_tokens: 1,
            stops: vec![],
        },
    );
    assert!(found[0].is_err() && found[1].is_ok());
}
