//! How much of a device's memory records take: what batches are chosen by before any is computed.

use debias_core::{Record, Templates};
use debias_model::{ImageRef, Model, Question};

use crate::editor::Wording;

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
    /// Kept for as long as its [`RecordBatch`](super::RecordBatch) lives.
    pub kept: u64,
    /// Taken while it is scored.
    pub passing: u64,
}

impl Needs {
    /// Those of the longest of `records`. Records that `model` cannot read need nothing: they will be
    /// refused by name.
    pub fn of(model: &Model, records: &[Record], templates: &Templates) -> Self {
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
    fn of(model: &Model, record: &Record, templates: &Templates) -> Option<Self> {
        let picture = Some(ImageRef {
            index: 0,
            tiles: model.most_tiles(),
        });
        let picture = record.image.as_ref().and(picture);
        let wording = Wording::of(record, templates);
        let prompts = std::iter::once(&wording.prompt).chain(&wording.rephrase);
        let mut asked: Vec<Question> = prompts
            .flat_map(|prompt| {
                let answers = [&record.y_more, &record.y_less];
                answers.map(|answer| Question::new(picture, prompt, answer))
            })
            .collect();
        let item = |picture, item: &'_ Option<(String, String)>| {
            let (prompt, answer) = item.as_ref()?;
            Some((picture, prompt.clone(), answer.clone()))
        };
        let items = [
            item(picture, &wording.m_locality),
            item(None, &wording.t_locality),
        ];
        for (picture, prompt, answer) in items.iter().flatten() {
            asked.push(Question::new(*picture, prompt, answer));
        }
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
