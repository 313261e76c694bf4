//! Scores of many answers: rows that share a picture and the beginning of their text read it once.

use std::collections::BTreeMap;

use burn::tensor::Tensor;

use crate::batch::{Row, Seen};
use crate::change::View;
use crate::error::Result;
use crate::host;
use crate::likelihood::{AnswerLikelihood, likelihoods};
use crate::mllm::Mllm;
use crate::places::Memory;

/// Tokens that a beginning must spare, summed over the rows that share it, to be read apart.
const WORTHWHILE: usize = 24;

/// Rows that begin alike.
struct Family {
    /// Their indices.
    rows: Vec<usize>,
    /// How many tokens they share, short of the last prompt token of each.
    shared: usize,
}

impl Mllm {
    /// The log-likelihood of each row's answer, token by token, in row order.
    ///
    /// All rows have a picture of `seen`, or none has.
    ///
    /// # Errors
    /// [`Error::NotFinite`](crate::Error::NotFinite) when a needed logit is NaN or infinite.
    pub fn score(
        &self,
        rows: &[Row],
        seen: Option<&Seen>,
        view: &View,
    ) -> Result<Vec<AnswerLikelihood>> {
        let vectors = seen.and_then(|seen| self.vectors(seen, view));
        let families = families(rows);
        let shares = families.iter().any(|family| family.shared > 0);
        let (order, family_of): (Vec<usize>, Vec<usize>) = families
            .iter()
            .enumerate()
            .flat_map(|(f, family)| family.rows.iter().map(move |row| (*row, f)))
            .unzip();
        let mut memory = match shares {
            true => {
                let trunks = self.read_trunks(rows, &families, vectors.as_ref(), view);
                Some(trunks.of_rows(&family_of, self.device()))
            }
            false => None,
        };
        let branches: Vec<Row> = order.iter().map(|row| rows[*row].clone()).collect();
        let starts: Vec<usize> = family_of.iter().map(|f| families[*f].shared).collect();
        // The last token is never asked what follows it.
        let ends = branches.iter().zip(&starts);
        let width = ends.map(|(row, start)| row.ids.len() - 1 - start).max();
        let stretch = (starts.as_slice(), width.unwrap_or(0));
        let x = self.read_from(&branches, stretch, vectors.as_ref(), memory.as_mut(), view);
        let found = self.likelihoods(x, &branches, &starts, view)?;
        let mut scores = vec![AnswerLikelihood::default(); rows.len()];
        for (row, likelihood) in order.into_iter().zip(found) {
            scores[row] = likelihood;
        }
        Ok(scores)
    }

    /// Reads the beginning of each family.
    fn read_trunks(
        &self,
        rows: &[Row],
        families: &[Family],
        vectors: Option<&Seen>,
        view: &View,
    ) -> Memory {
        let trunks: Vec<Row> = families
            .iter()
            .map(|family| beginning(&rows[family.rows[0]], family.shared))
            .collect();
        let width = trunks.iter().map(|row| row.ids.len()).max().unwrap_or(0);
        let mut memory = Memory::new(self.decoder().outline().depth, trunks.len());
        let starts = vec![0; trunks.len()];
        self.read_from(&trunks, (&starts, width), vectors, Some(&mut memory), view);
        memory
    }

    /// Likelihoods from the residual stream `[b, t, d]` of the tokens `starts[r] ..` of each row.
    fn likelihoods(
        &self,
        x: Tensor<3>,
        rows: &[Row],
        starts: &[usize],
        view: &View,
    ) -> Result<Vec<AnswerLikelihood>> {
        let [b, t, d] = x.dims();
        let mut places = Vec::new();
        let mut targets = Vec::new();
        for (r, (row, start)) in rows.iter().zip(starts).enumerate() {
            let positions = row.answer_positions();
            places.extend(positions.map(|i| (r * t + i - start) as i64));
            targets.extend_from_slice(row.answer());
        }
        let x = x
            .reshape([b * t, d])
            .select(0, host::indices(places, self.device()));
        let tokens = likelihoods(&targets, |from, n| {
            let part = x.clone().narrow(0, from, n).unsqueeze::<3>();
            self.head(part, view)
        })?;
        let mut tokens = tokens.into_iter();
        Ok(rows
            .iter()
            .map(|row| tokens.by_ref().take(row.answer().len()).collect())
            .collect())
    }
}

/// Groups rows of the same picture by their beginnings, in order of first appearance.
fn families(rows: &[Row]) -> Vec<Family> {
    let mut prompts: BTreeMap<(Option<usize>, &[u32]), Family> = BTreeMap::new();
    for (r, row) in rows.iter().enumerate() {
        let picture = row.image.map(|span| span.picture);
        let prompt = &row.ids[..row.answer_start - 1];
        let family = prompts.entry((picture, prompt)).or_insert_with(|| Family {
            rows: Vec::new(),
            shared: prompt.len(),
        });
        family.rows.push(r);
    }
    let mut families: Vec<Family> = prompts.into_values().collect();
    families.sort_by_key(|family| family.rows[0]);
    for family in &mut families {
        if family.shared * (family.rows.len() - 1) < WORTHWHILE {
            family.shared = 0;
        }
    }
    families
}

/// The first `n` tokens of `row`.
fn beginning(row: &Row, n: usize) -> Row {
    Row {
        ids: row.ids[..n].to_vec(),
        image: row.image,
        answer_start: n,
    }
}

/// Cuts rows into batches of at most `budget` tokens, padding included (one row at least): rows
/// that begin alike stay together, and those of like length stand together, so that little is
/// padded. The batches hold indices into `rows`.
pub fn batches(rows: &[Row], budget: usize) -> Vec<Vec<usize>> {
    let mut families = families(rows);
    let length = |family: &Family| {
        let lengths = family.rows.iter().map(|row| rows[*row].ids.len());
        lengths.max().unwrap_or(0)
    };
    families.sort_by_key(length);
    let mut batches: Vec<Vec<usize>> = Vec::new();
    let mut longest = 0;
    for row in families.into_iter().flat_map(|family| family.rows) {
        let wider = longest.max(rows[row].ids.len());
        match batches.last_mut() {
            Some(batch) if (batch.len() + 1) * wider <= budget => {
                batch.push(row);
                longest = wider;
            }
            _ => {
                batches.push(vec![row]);
                longest = rows[row].ids.len();
            }
        }
    }
    batches
}
