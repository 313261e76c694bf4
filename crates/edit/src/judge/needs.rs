//! How much of a device's memory records take: what batches are chosen by before any is computed.

use debias_core::{Record, Templates};
use debias_model::{Mllm, Question, Sighting};

/// Context rows of a record: three contexts with two answers each.
const CONTEXTS: usize = 6;

/// Locality items of a record.
const ITEMS: usize = 2;

/// Rows of a record.
const ROWS: usize = CONTEXTS + ITEMS;

/// Places at which all rows of a record are kept: in front of the last feed-forward block, and of one
/// more where an edit begins.
const PLACES: u64 = 2;

/// Bytes that one record takes beside the weights, at most.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Needs {
    /// Kept for as long as its [`Chunk`](super::Chunk) lives.
    pub kept: u64,
    /// Taken while it is scored.
    pub passing: u64,
}

impl Needs {
    /// Those of the longest of `records`. Records that `model` cannot read need nothing: they will be
    /// refused by name.
    pub fn of(model: &Mllm, records: &[Record], templates: &Templates) -> Self {
        let widths = records
            .iter()
            .filter_map(|record| Widths::of(model, record, templates));
        let widest = widths.fold(Widths::default(), Widths::or);
        let (row, shapes) = (widest.row, model.footprint());
        let scored = (CONTEXTS * widest.answer).max(ITEMS * row);
        // They take their memory one after the other.
        let tower = shapes.pictures(super::PICTURES);
        let decoder = shapes.rows(ROWS, row);
        let scores = shapes.stream(ROWS, row) + shapes.logits(scored);
        // In front of the head only the locality items are whole.
        let places = PLACES * shapes.stream(ROWS, row) + shapes.stream(ITEMS, row);
        Self {
            kept: shapes.features(super::PICTURES) + places,
            passing: tower.max(decoder).max(scores),
        }
    }
}

/// Tokens of the longest row and of the longest answer.
#[derive(Clone, Copy, Debug, Default)]
struct Widths {
    row: usize,
    answer: usize,
}

impl Widths {
    fn of(model: &Mllm, record: &Record, templates: &Templates) -> Option<Self> {
        let picture = Some(Sighting {
            index: 0,
            tiles: model.most_tiles(),
        });
        let context = |prompt: &str| templates.of(record.task).apply(prompt);
        let (prompt, rephrase) = (context(&record.prompt), context(&record.prompt_rephrase));
        let (tloc, mloc) = (
            templates.tloc.apply(&record.loc_q),
            templates.mloc.apply(&record.mloc_q),
        );
        let asked = [
            Question::new(picture, &prompt, &record.y_more),
            Question::new(picture, &prompt, &record.y_less),
            Question::new(picture, &rephrase, &record.y_more),
            Question::new(picture, &rephrase, &record.y_less),
            Question::new(picture, &mloc, &record.mloc_a),
            Question::new(None, &tloc, &record.loc_a),
        ];
        let rows = model.rows(&asked).ok()?;
        let widths = rows.iter().map(|row| Self {
            row: row.ids.len(),
            answer: row.answer().len(),
        });
        Some(widths.fold(Self::default(), Self::or))
    }

    fn or(self, other: Self) -> Self {
        Self {
            row: self.row.max(other.row),
            answer: self.answer.max(other.answer),
        }
    }
}
