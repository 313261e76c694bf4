//! The memory that batches are chosen by is an upper bound of what they take, and not a wild one.
//!
//! One test alone: the allocator counts for the whole program.

mod support;

use debias_core::{Record, Split, Templates};
use debias_edit::{Ctx, Lessons, Needs, Nowhere};
use debias_model::{Change, Model};
use peak_alloc::PeakAlloc;
use serde_json::{Value, json};
use support::{chunk, fine_tuning, model, records, settings};

#[global_allocator]
static MEMORY: PeakAlloc = PeakAlloc;

/// Wide enough that tensors are what memory goes to.
fn wide(text: Value) -> Value {
    json!({
        "model_type": "blip-2", "num_query_tokens": 16,
        "vision_config": {"hidden_size": 64, "intermediate_size": 256, "num_hidden_layers": 1,
            "num_attention_heads": 2, "image_size": 16, "patch_size": 4},
        "qformer_config": {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2,
            "intermediate_size": 128, "encoder_hidden_size": 64},
        "text_config": text,
    })
}

fn wide_opt(_vocabulary: usize) -> Value {
    wide(
        json!({"model_type": "opt", "hidden_size": 256, "ffn_dim": 1024, "num_hidden_layers": 2,
        "num_attention_heads": 4, "vocab_size": 4096, "max_position_embeddings": 96}),
    )
}

fn wide_llama(_vocabulary: usize) -> Value {
    wide(
        json!({"model_type": "llama", "hidden_size": 256, "intermediate_size": 704,
        "num_hidden_layers": 2, "num_attention_heads": 4, "vocab_size": 4096,
        "max_position_embeddings": 96}),
    )
}

/// The most bytes that `work` takes beyond what was taken before it, and what its result keeps.
fn measured<T>(work: impl FnOnce() -> T) -> (usize, usize) {
    let before = MEMORY.current_usage();
    MEMORY.reset_peak_usage();
    let made = work();
    let (peak, after) = (MEMORY.peak_usage(), MEMORY.current_usage());
    drop(made);
    (peak - before, after.saturating_sub(before))
}

/// What one record more takes at the peak, and keeps.
fn of_one_more<T>(work: impl Fn(usize) -> T) -> (u64, u64) {
    let (few, many) = (4, 16);
    // Buffers of threads are made once.
    work(many);
    let ((low, kept_low), (high, kept_high)) = (measured(|| work(few)), measured(|| work(many)));
    let each = |low: usize, high: usize| (high.saturating_sub(low) / (many - few)) as u64;
    (each(low, high), each(kept_low, kept_high))
}

/// Makes edits of so many records and scores through them.
fn edited(model: &Model, records: Vec<Record>) -> u64 {
    let chunk = chunk(model, records);
    let editor = fine_tuning();
    let settings = settings(editor, &[("steps", "2")]);
    let ctx = Ctx {
        seed: 3,
        settings: &settings,
        store: &Nowhere,
    };
    let prepared = editor
        .prepare(model, &Lessons::none(), &ctx)
        .expect("ready");
    let start = Change::default();
    let edits = prepared
        .edit_each(&chunk.requests(), &start)
        .expect("edits");
    chunk.after(&edits).expect("scores");
    prepared.footprint()
}

#[test]
fn records_take_no_more_memory_than_is_reckoned_and_not_far_less() {
    for family in [wide_opt, wide_llama] {
        let model = model(family);
        let needs = Needs::of(&model, &records(Split::Eval, 16), &Templates::default());
        let (peak, kept) = of_one_more(|n| chunk(&model, records(Split::Eval, n)));
        let bounds = |reckoned: u64, measured: u64| {
            let within = measured <= reckoned && reckoned <= 5 * measured;
            assert!(within, "reckoned {reckoned}, measured {measured}");
        };
        bounds(needs.kept, kept);
        bounds(needs.kept + needs.passing, peak);
        let (peak, _) = of_one_more(|n| edited(&model, records(Split::Eval, n)));
        let own = edited(&model, records(Split::Eval, 1));
        bounds(needs.kept + needs.passing + own, peak);
        // It is the edit that counts here.
        assert!(peak > own / 2, "an edit was reckoned {own} bytes of {peak}");
    }
}
