//! Greedy continuation with remembered keys and values.

use burn::tensor::Tensor;
use debias_weights::Checkpoint;
use serde_json::Value;

use crate::batch::{ImageFeatures, Row};
use crate::change::View;
use crate::error::{Error, Result};
use crate::host;
use crate::logits::argmax;
use crate::model::Model;
use crate::parameter::Stage;
use crate::positions::{KvCache, Pass, Positions};
use crate::text::Text;

/// When a continuation ends.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Most tokens added.
    pub max_tokens: usize,
    /// Tokens that end it; kept as its last.
    pub stops: Vec<u32>,
}

/// The tokens that end a text, as a folder names them: in `generation_config.json`, else in
/// `config.json` (at the top or with the decoder), else the tokenizer's own.
///
/// # Errors
/// A malformed file.
pub fn end_tokens(folder: &Checkpoint) -> Result<Vec<u32>> {
    let written =
        |file: &str| -> Result<Value> { Ok(folder.json_if_present(file)?.unwrap_or(Value::Null)) };
    let config = written("config.json")?;
    let places = [
        &written("generation_config.json")?,
        &config["text_config"],
        &config["llm_config"],
        &config,
    ]
    .map(|place| ids(&place["eos_token_id"]));
    match places.into_iter().find(|ids| !ids.is_empty()) {
        Some(ids) => Ok(ids),
        None => Ok(Text::open(folder)?.end_of_text().into_iter().collect()),
    }
}

/// One id, or a list of them.
fn ids(value: &Value) -> Vec<u32> {
    let one = |value: &Value| value.as_u64().and_then(|id| u32::try_from(id).ok());
    match value {
        Value::Array(list) => list.iter().filter_map(one).collect(),
        other => one(other).into_iter().collect(),
    }
}

impl Model {
    /// Continues each of `rows` greedily: the tokens added, the stop token included.
    ///
    /// All rows have a picture of `seen`, or none has. At equal logits the lower id is taken.
    ///
    /// # Errors
    /// [`Error::TooLong`] when a row would leave the model's positions, [`Error::NotFinite`] when
    /// logits are not finite.
    pub fn generate(
        &self,
        rows: &[Row],
        seen: Option<&ImageFeatures>,
        limits: &Limits,
        view: &View,
    ) -> Result<Vec<Vec<u32>>> {
        let mut added: Vec<Vec<u32>> = vec![Vec::new(); rows.len()];
        if rows.is_empty() || limits.max_tokens == 0 {
            return Ok(added);
        }
        self.check_room(rows, limits)?;
        let mut cache = KvCache::new(self.decoder().outline().depth, rows.len());
        let vectors = seen.and_then(|seen| self.vectors(seen, view));
        let mut state = self.read(rows, vectors.as_ref(), &mut cache, view);
        let mut open: Vec<usize> = (0..rows.len()).collect();
        for step in 0..limits.max_tokens {
            let next = self.greedy(state, view)?;
            for (row, id) in open.iter().zip(&next) {
                added[*row].push(*id);
            }
            let going: Vec<usize> = (0..open.len())
                .filter(|i| !limits.stops.contains(&next[*i]))
                .collect();
            if going.is_empty() || step + 1 == limits.max_tokens {
                break;
            }
            if going.len() < open.len() {
                cache = cache.of_rows(&going, self.device());
                open = going.iter().map(|i| open[*i]).collect();
            }
            let ids: Vec<i64> = going.iter().map(|i| i64::from(next[*i])).collect();
            let open_rows: Vec<&Row> = open.iter().map(|row| &rows[*row]).collect();
            state = self.step(&ids, &open_rows, step, &mut cache, view);
        }
        Ok(added)
    }

    fn check_room(&self, rows: &[Row], limits: &Limits) -> Result<()> {
        let limit = self.decoder().outline().max_positions;
        let longest = rows.iter().map(|row| row.ids.len()).max().unwrap_or(0);
        match longest + limits.max_tokens > limit + 1 {
            true => Err(Error::TooLong {
                text: "prompt and continuation".into(),
                length: longest + limits.max_tokens,
                limit,
            }),
            false => Ok(()),
        }
    }

    /// Reads whole rows into `cache`; the residual stream at each row's last token, `[b, 1, d]`.
    fn read(
        &self,
        rows: &[Row],
        vectors: Option<&ImageFeatures>,
        cache: &mut KvCache,
        view: &View,
    ) -> Tensor<3> {
        let width = rows.iter().map(|row| row.ids.len()).max().unwrap_or(0);
        let starts = vec![0; rows.len()];
        let stretch = (starts.as_slice(), width);
        let x = self.read_from(rows, stretch, vectors, Some(cache), Stage::Head, view);
        let last: Vec<i64> = rows
            .iter()
            .enumerate()
            .map(|(r, row)| (r * width + row.ids.len() - 1) as i64)
            .collect();
        let d = x.dims()[2];
        x.reshape([rows.len() * width, d])
            .select(0, host::indices(last, self.device()))
            .unsqueeze_dim(1)
    }

    /// Reads the tokens `starts[r] ..` of each row r, padded to `width`, behind what `cache`
    /// holds and into it; their residual stream in front of `to`, `[b, width, d]`.
    pub(crate) fn read_from(
        &self,
        rows: &[Row],
        (starts, width): (&[usize], usize),
        vectors: Option<&ImageFeatures>,
        cache: Option<&mut KvCache>,
        to: Stage,
        view: &View,
    ) -> Tensor<3> {
        let places = Positions::stretch(rows, starts, width, self.image_positions());
        let x = self.embed(rows, starts, width, vectors, view);
        self.through(x, &places, cache, to, view)
    }

    /// One more token of each open row.
    fn step(
        &self,
        ids: &[i64],
        rows: &[&Row],
        step: usize,
        cache: &mut KvCache,
        view: &View,
    ) -> Tensor<3> {
        let places = Positions::next(rows, step, self.image_positions());
        let ids: Vec<Row> = ids.iter().map(|id| Row::of_token(*id as u32)).collect();
        let x = self.embed(&ids, &vec![0; ids.len()], 1, None, view);
        self.through(x, &places, Some(cache), Stage::Head, view)
    }

    fn through(
        &self,
        x: Tensor<3>,
        places: &Positions,
        cache: Option<&mut KvCache>,
        to: Stage,
        view: &View,
    ) -> Tensor<3> {
        let decoder = self.decoder();
        let x = decoder.place(x, places, view);
        let from = Stage::Attention(0);
        match cache {
            None => decoder.advance(x, &mut Pass::alone(places), from, to, view),
            Some(cache) => {
                let mut pass = Pass::remembering(places, cache);
                let x = decoder.advance(x, &mut pass, from, to, view);
                cache.keep(places);
                x
            }
        }
    }

    /// The likeliest next tokens after states `[b, 1, d]`.
    fn greedy(&self, state: Tensor<3>, view: &View) -> Result<Vec<u32>> {
        let logits = self.head(state, view);
        let vocabulary = logits.dims()[2];
        let values = host::values(logits);
        values
            .chunks(vocabulary)
            .map(|row| match row.iter().all(|value| value.is_finite()) {
                true => Ok(argmax(row) as u32),
                false => Err(Error::NotFinite {
                    what: "a logit of the next token".into(),
                }),
            })
            .collect()
    }
}
