//! Cells and record lines for the unit tests of this crate.

use std::collections::BTreeMap;

use debias_core::{
    AnswerScore, BenchmarkIdentity, Cell, ContextScore, EditorIdentity, FORMAT_MAJOR, Identity,
    ItemLine, LocalityScore, Preset, Protocol, RecordScores, Task, Variant,
};

/// A cell of `editor` on tiny-blip2 and VQA.
pub(crate) fn cell(editor: &str) -> Cell {
    let identity = |id: &str| Identity {
        id: id.to_owned(),
        digest: debias_core::sha256_hex(id.as_bytes()),
    };
    Cell {
        format: FORMAT_MAJOR,
        suite: Some("debias-edit".to_owned()),
        edition: Some("2026.1".to_owned()),
        model: identity("tiny-blip2"),
        benchmark: BenchmarkIdentity::editing(Task::Vqa),
        dataset: identity("toytown"),
        variant: Variant::Edit {
            editor: EditorIdentity {
                id: editor.to_owned(),
                version: 1,
                settings: serde_json::json!({}),
            },
            batch: 1,
            mode: None,
            gap: None,
            requests: None,
        },
        preset: Preset::Project,
        protocol: Protocol::default(),
        train_bias: None,
        eval_bias: None,
        side: None,
        seed: 0,
        dtype: "f32".to_owned(),
        device: "cpu".to_owned(),
        limit: None,
        chunk: 16,
        max_memory: None,
        template: None,
    }
}

/// Scores with the given margin in every context and `kept` of 10 ranks per position.
pub(crate) fn scores(margin: f64, kept: usize) -> RecordScores {
    let answer = |sum| AnswerScore {
        sum,
        mean: sum,
        tokens: 1,
        correct: 1,
    };
    let context = ContextScore {
        y_more: answer(-2.0),
        y_less: answer(-2.0 + margin),
    };
    let item = LocalityScore {
        positions: 2,
        top1_kept: kept.min(2),
        top10_rank_kept: kept,
        ranks: 10,
        answer_positions: 1,
        answer_top1_kept: 1,
        answer_correct: Some(1),
        answer_top10_shared: 10,
        answer_ranks: 10,
        kl: 0.0,
        answer_kl: 0.0,
    };
    RecordScores {
        prompt: context,
        rephrase: Some(context),
        image_rephrase: Some(context),
        t_locality: Some(item),
        m_locality: Some(item),
    }
}

/// Four records, of which three flip.
pub(crate) fn lines() -> Vec<ItemLine> {
    [0.5, 1.0, 1.5, -0.5]
        .into_iter()
        .enumerate()
        .map(|(at, margin)| ItemLine {
            id: format!("r{at}"),
            tags: BTreeMap::from([("bias_type".to_owned(), "gender".to_owned())]),
            before: Some(scores(-1.0, 10).into()),
            after: Some(scores(margin, 5).into()),
            ..ItemLine::default()
        })
        .collect()
}
