//! The matrices that mergekit 0.1.5 wrote.

use std::io::Write as _;
use std::path::PathBuf;

use super::*;
use crate::stream::{Input, Stored, VocabularyRows};

/// The folder of golden merges; `None`, and a message, without it.
fn fixtures(test: &str) -> Option<PathBuf> {
    let root =
        std::env::var_os("DEBIAS_BENCH_FIXTURES").map(|root| PathBuf::from(root).join("merge"));
    match root.filter(|root| root.is_dir()) {
        Some(root) => Some(root),
        None => {
            let ci = std::env::var_os("CI").is_some_and(|ci| ci == "true");
            assert!(!ci, "CI needs DEBIAS_BENCH_FIXTURES");
            let message =
                format!("SKIPPED: {test}: DEBIAS_BENCH_FIXTURES names no folder with merge/\n");
            std::io::stderr()
                .write_all(message.as_bytes())
                .expect("stderr");
            None
        }
    }
}

/// Half of each model, added up.
fn check(case: &str, source: TokenSource, models: [&str; 2], base: Option<usize>) {
    let Some(root) = fixtures(case) else {
        return;
    };
    let open = |name: &str| Checkpoint::open(&root.join("inputs").join(name)).expect("an input");
    let inputs = models.map(open);
    let rows = |input: &Checkpoint| input.info("lm_head.weight").expect("a head").shape[0];
    let speakers: Vec<Speaker> = models
        .iter()
        .zip(&inputs)
        .map(|(label, checkpoint)| Speaker {
            label,
            checkpoint,
            rows: rows(checkpoint),
        })
        .collect();
    let found = unite(&setting(source), &speakers, base, None).expect("a vocabulary");
    let expected = root.join("expected").join(case).join("model.safetensors");
    let expected = Checkpoint::open_file(&expected).expect("expected tensors");
    let matrices = ["model.embed_tokens.weight", "lm_head.weight"];
    let matrices = matrices.map(|name| Some((name, &expected.info(name)?.shape)));
    assert!(
        matrices[0].is_some(),
        "{case}: there are expected embeddings"
    );
    for (name, shape) in matrices.into_iter().flatten() {
        let raw = inputs
            .each_ref()
            .map(|input| input.raw(name).expect("a matrix"));
        let stored = raw.map(|raw| Stored::new(raw.dtype, raw.bytes).expect("floats"));
        assert_eq!(shape[0], found.size, "{case} {name}");
        let want = expected.f32(name, shape).expect("expected values");
        let mut got = vec![0.0; want.len()];
        for (own, rows) in stored.iter().zip(&found.rows) {
            let input = match rows {
                None => Input::Stored(*own),
                Some(rows) => Input::Rows(
                    *own,
                    VocabularyRows {
                        rows: rows.clone(),
                        others: Arc::new(stored.to_vec()),
                        columns: shape[1],
                        padding: Arc::default(),
                    },
                ),
            };
            let mut values = vec![0.0; want.len()];
            assert!(input.read(0, &mut values), "{case} {name}: finite");
            got.iter_mut()
                .zip(&values)
                .for_each(|(got, x)| *got += 0.5 * x);
        }
        for (at, (got, want)) in got.iter().zip(&want).enumerate() {
            let bound = 5e-7 + 1e-6 * want.abs();
            assert!(
                (got - want).abs() <= bound,
                "{case} {name} [{at}]: {got} against {want}"
            );
        }
    }
}

#[test]
fn a_union_is_mergekits() {
    check("tok_union", TokenSource::Union, ["ft_a", "ft_tok"], None);
}

#[test]
fn the_bases_tokens_are_mergekits() {
    check(
        "tok_source_base",
        TokenSource::Base,
        ["base", "ft_tok"],
        Some(0),
    );
}
