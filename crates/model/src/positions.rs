//! Where the tokens of a batch stand, what they may see, and what is remembered of earlier ones.
//!
//! Rows are padded on the right inside this crate, whatever side a caller thinks in: a padded
//! token is never seen by a real one, so only the order within a row counts.

use std::collections::HashMap;

use burn::tensor::{Bool, Device, Tensor, TensorData};

use crate::batch::Row;
use crate::change::View;
use crate::host;
use crate::layers::{Matrix, Visible};

/// Order of a padded token.
const PADDING: i32 = -1;

/// How the vectors of one picture are counted by positional encodings.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ImagePositions {
    /// Like tokens.
    #[default]
    Counted,
    /// First vector p, all inner ones p + 1, the last p + 2 (GLM-4V).
    Shared,
}

impl ImagePositions {
    /// The position of the token at index `i` of `row`.
    pub(crate) fn of(self, row: &Row, i: usize) -> i64 {
        let Some(span) = row.image.filter(|span| self == Self::Shared && i > span.at) else {
            return i as i64;
        };
        match i < span.at + span.len - 1 {
            true => span.at as i64 + 1,
            // Behind the inner vectors everything moves up, because they share one position.
            false => i as i64 - span.len as i64 + 3,
        }
    }
}

/// Order and position of every token of a batch `[b, t]`.
#[derive(Clone, Debug)]
pub struct Positions {
    rows: usize,
    width: usize,
    order: Vec<i32>,
    positions: Vec<i64>,
    plain: bool,
}

impl Positions {
    /// Of whole rows, padded on the right to `width`.
    pub fn of(rows: &[Row], width: usize, image: ImagePositions) -> Self {
        Self::stretch(rows, &vec![0; rows.len()], width, image)
    }

    /// Of the tokens `starts[r] ..` of each row r, padded on the right to `width`.
    pub fn stretch(rows: &[Row], starts: &[usize], width: usize, image: ImagePositions) -> Self {
        let shared = image == ImagePositions::Shared && rows.iter().any(|row| row.image.is_some());
        let mut order = Vec::with_capacity(rows.len() * width);
        let mut positions = Vec::with_capacity(rows.len() * width);
        for (row, start) in rows.iter().zip(starts) {
            let length = row.ids.len();
            for i in *start..start + width {
                order.push(if i < length { i as i32 } else { PADDING });
                positions.push(image.of(row, i));
            }
        }
        Self {
            rows: rows.len(),
            width,
            order,
            positions,
            plain: !shared && starts.iter().all(|start| *start == 0),
        }
    }

    /// Of one more token behind each of `rows`, the `step`-th that is added to it.
    pub fn next(rows: &[&Row], step: usize, image: ImagePositions) -> Self {
        let index = |row: &&Row| row.ids.len() + step;
        Self {
            rows: rows.len(),
            width: 1,
            order: rows.iter().map(|row| index(row) as i32).collect(),
            positions: rows.iter().map(|row| image.of(row, index(row))).collect(),
            plain: false,
        }
    }

    /// Positions of all rows, `[b * t]`; of the first row alone where all rows have the same.
    pub fn positions(&self) -> &[i64] {
        match self.plain {
            true => &self.positions[..self.width.min(self.positions.len())],
            false => &self.positions,
        }
    }

    /// Whether every row counts 0, 1, 2, … from its first token.
    pub fn plain(&self) -> bool {
        self.plain
    }

    /// `x + table[position + offset]` for x `[b, t, d]`.
    pub(crate) fn add_rows(
        &self,
        x: Tensor<3>,
        table: &Matrix,
        offset: usize,
        view: &View,
    ) -> Tensor<3> {
        let rows = match self.plain {
            true => table.shared(view).narrow(0, offset, self.width).unsqueeze(),
            false => {
                let highest = table.shape()[0].saturating_sub(1) as i64;
                let ids = self.positions.iter();
                let ids = ids.map(|p| (p + offset as i64).min(highest)).collect();
                let device = x.device().inner();
                let rows = table.select(host::indices(ids, &device), view);
                rows.reshape(x.dims())
            }
        };
        x + rows
    }
}

/// Keys and values of tokens already passed, by layer, and the order of each.
#[derive(Clone, Debug)]
pub struct KvCache {
    layers: Vec<Option<(Tensor<4>, Tensor<4>)>>,
    /// `[b, t]` of the remembered tokens.
    order: Vec<Vec<i32>>,
}

impl KvCache {
    /// Nothing remembered, for a decoder of `depth` layers and `rows` rows.
    pub fn new(depth: usize, rows: usize) -> Self {
        Self {
            layers: vec![None; depth],
            order: vec![Vec::new(); rows],
        }
    }

    /// The cache of row `rows[i]` as row i.
    #[must_use]
    pub fn of_rows(&self, rows: &[usize], device: &Device) -> Self {
        let index: Vec<i64> = rows.iter().map(|row| *row as i64).collect();
        let index = host::indices(index, device);
        Self {
            layers: self
                .layers
                .iter()
                .map(|pair| {
                    let (k, v) = pair.clone()?;
                    Some((k.select(0, index.clone()), v.select(0, index.clone())))
                })
                .collect(),
            order: rows.iter().map(|row| self.order[*row].clone()).collect(),
        }
    }

    /// Counts the tokens of a finished pass as remembered.
    pub fn keep(&mut self, places: &Positions) {
        for (row, orders) in self.order.iter_mut().zip(places.order.chunks(places.width)) {
            row.extend(orders);
        }
    }
}

/// One pass of some tokens through the layers.
pub struct Pass<'a> {
    places: &'a Positions,
    cache: Option<&'a mut KvCache>,
    visible: HashMap<Option<usize>, Visible>,
}

impl<'a> Pass<'a> {
    /// Tokens that see only each other.
    pub fn alone(places: &'a Positions) -> Self {
        Self {
            places,
            cache: None,
            visible: HashMap::new(),
        }
    }

    /// Tokens that also see what `cache` holds, and are remembered there.
    pub fn remembering(places: &'a Positions, cache: &'a mut KvCache) -> Self {
        Self {
            places,
            cache: Some(cache),
            visible: HashMap::new(),
        }
    }

    /// Where the tokens stand.
    pub fn places(&self) -> &Positions {
        self.places
    }

    /// Keys and values of `layer` with the remembered ones in front, `[b, heads, t, d]` each.
    pub(crate) fn remember(
        &mut self,
        layer: usize,
        k: Tensor<4>,
        v: Tensor<4>,
    ) -> (Tensor<4>, Tensor<4>) {
        let Some(cache) = self.cache.as_deref_mut() else {
            return (k, v);
        };
        let joined = match cache.layers[layer].take() {
            Some((past_k, past_v)) => (
                Tensor::cat(vec![past_k, k], 2),
                Tensor::cat(vec![past_v, v], 2),
            ),
            None => (k, v),
        };
        cache.layers[layer] = Some(joined.clone());
        joined
    }

    /// What each token may see: the tokens of its row up to itself, of these only the last
    /// `window` where a window is given.
    pub(crate) fn visible(&mut self, window: Option<usize>, device: &Device) -> Visible {
        let past = self
            .cache
            .as_deref()
            .map_or(0, |cache| cache.order.first().map_or(0, Vec::len));
        // Padding stands behind every real token, so the causal order hides it.
        if past == 0 && window.is_none_or(|window| window >= self.places.width) {
            return Visible::Causal;
        }
        if let Some(known) = self.visible.get(&window) {
            return known.clone();
        }
        let mask = self.mask(past, window);
        let (b, t) = (self.places.rows, self.places.width);
        let data = TensorData::new(mask, [b, 1, t, past + t]);
        let mask = Visible::Unmasked(Tensor::<4, Bool>::from_data(data, device));
        self.visible.insert(window, mask.clone());
        mask
    }

    fn mask(&self, past: usize, window: Option<usize>) -> Vec<bool> {
        let t = self.places.width;
        let mut mask = Vec::with_capacity(self.places.rows * t * (past + t));
        for (r, order) in self.places.order.chunks(t).enumerate() {
            let before: &[i32] = match self.cache.as_deref() {
                Some(cache) => &cache.order[r],
                None => &[],
            };
            for own in order {
                let keys = before.iter().chain(order);
                let start = mask.len();
                mask.extend(keys.map(|key| {
                    let far = window.is_some_and(|window| own - key >= window as i32);
                    *key == PADDING || key > own || far
                }));
                // A padded query sees nothing; any finite value will do for it.
                if *own == PADDING {
                    mask[start] = false;
                }
            }
        }
        mask
    }
}
