//! Scores of many answers: rows that share a picture and the beginning of their text read it once.

use std::borrow::Borrow;
use std::collections::BTreeMap;
use std::ops::Range;

use burn::tensor::Tensor;

use crate::batch::{ImageFeatures, Row};
use crate::change::View;
use crate::error::Result;
use crate::host;
use crate::likelihood::{AnswerLikelihood, likelihoods};
use crate::model::Model;
use crate::parameter::Stage;
use crate::positions::KvCache;

/// Tokens that a beginning must spare, summed over the rows that share it, to be read apart.
const WORTHWHILE: usize = 24;

/// Rows that begin alike.
struct Family {
    /// Their indices.
    rows: Vec<usize>,
    /// How many tokens they share, short of the last prompt token of each.
    shared: usize,
}

/// Rows in the order of their families, read from where each parts from its family's beginning.
struct Branches {
    /// Index of each among the rows asked for.
    order: Vec<usize>,
    /// The rows, in that order.
    rows: Vec<Row>,
    /// First token of each that was read here.
    starts: Vec<usize>,
    /// Their residual stream in front of the head, `[b, t, d]`.
    x: Tensor<3>,
}

impl Branches {
    /// The residual stream at `positions[i]` of each row i, one after the other: `[n, d]`.
    fn at(&self, positions: impl Fn(usize) -> Range<usize>) -> Tensor<2> {
        let [b, t, d] = self.x.dims();
        let starts = self.starts.iter().enumerate();
        let places = starts.flat_map(|(i, start)| {
            let start = *start;
            positions(i).map(move |position| (i * t + position - start) as i64)
        });
        let index = host::indices(places.collect(), &self.x.device().inner());
        self.x.clone().reshape([b * t, d]).select(0, index)
    }
}

impl Model {
    /// The log-likelihood of each row's answer, token by token, in row order.
    ///
    /// All rows have a picture of `seen`, or none has.
    ///
    /// # Errors
    /// [`Error::NotFinite`](crate::Error::NotFinite) when a needed logit is NaN or infinite.
    pub fn score(
        &self,
        rows: &[Row],
        seen: Option<&ImageFeatures>,
        view: &View,
    ) -> Result<Vec<AnswerLikelihood>> {
        let scores = self.likelihoods(rows, seen, view, false).into_iter();
        scores.map(AnswerLikelihood::finite).collect()
    }

    /// [`Model::score`], not finite where a row's logits are not; with `apart`, every row is read from
    /// its beginning.
    pub(crate) fn likelihoods(
        &self,
        rows: &[Row],
        seen: Option<&ImageFeatures>,
        view: &View,
        apart: bool,
    ) -> Vec<AnswerLikelihood> {
        // The last token is never asked what follows it.
        let ends = |r: usize| rows[r].ids.len() - 1;
        let mut families = families(rows);
        if apart {
            families.iter_mut().for_each(|family| family.shared = 0);
        }
        let branches = self.branches(rows, &families, ends, seen, view);
        let x = branches.at(|i| branches.rows[i].answer_positions());
        let targets: Vec<u32> = branches
            .rows
            .iter()
            .flat_map(Row::answer)
            .copied()
            .collect();
        let tokens = likelihoods(&targets, |from, n| {
            let part = x.clone().narrow(0, from, n).unsqueeze::<3>();
            self.head(part, view)
        });
        let mut tokens = tokens.into_iter();
        let mut scores = vec![AnswerLikelihood::default(); rows.len()];
        for (at, row) in branches.order.iter().zip(&branches.rows) {
            scores[*at] = tokens.by_ref().take(row.answer().len()).collect();
        }
        scores
    }

    /// The logits at positions `wanted[r]` of each row r, `[wanted[r].len(), vocabulary]`, in row
    /// order. What rows have in common in front of those positions is read once.
    ///
    /// All rows have a picture of `seen`, or none has; every range lies within its row.
    pub fn logits_at(
        &self,
        rows: &[Row],
        seen: Option<&ImageFeatures>,
        wanted: &[Range<usize>],
        view: &View,
    ) -> Vec<Tensor<2>> {
        let ends = |r: usize| wanted[r].end;
        let branches = self.branches(rows, &kindred(rows, wanted), ends, seen, view);
        let x = branches.at(|i| wanted[branches.order[i]].clone());
        let logits = self.head(x.unsqueeze::<3>(), view).squeeze_dim::<2>(0);
        let mut found: Vec<(usize, Tensor<2>)> = Vec::with_capacity(rows.len());
        let mut from = 0;
        for at in branches.order {
            let n = wanted[at].len();
            found.push((at, logits.clone().narrow(0, from, n)));
            from += n;
        }
        found.sort_by_key(|(at, _)| *at);
        found.into_iter().map(|(_, logits)| logits).collect()
    }

    /// Reads the beginning of each family, and behind it the rest of its rows, up to, not
    /// including, `end(r)` of each row r.
    fn branches(
        &self,
        rows: &[Row],
        families: &[Family],
        end: impl Fn(usize) -> usize,
        seen: Option<&ImageFeatures>,
        view: &View,
    ) -> Branches {
        let vectors = seen.and_then(|seen| self.vectors(seen, view));
        let (order, family_of): (Vec<usize>, Vec<usize>) = families
            .iter()
            .enumerate()
            .flat_map(|(f, family)| family.rows.iter().map(move |row| (*row, f)))
            .unzip();
        let mut cache = match families.iter().any(|family| family.shared > 0) {
            true => {
                let trunks = self.read_trunks(rows, families, vectors.as_ref(), view);
                Some(trunks.of_rows(&family_of, self.device()))
            }
            false => None,
        };
        let branches: Vec<Row> = order.iter().map(|row| rows[*row].clone()).collect();
        let starts: Vec<usize> = family_of.iter().map(|f| families[*f].shared).collect();
        let widths = order
            .iter()
            .zip(&starts)
            .map(|(row, start)| end(*row) - start);
        let stretch = (starts.as_slice(), widths.max().unwrap_or(0));
        let cache = cache.as_mut();
        let x = self.read_from(
            &branches,
            stretch,
            vectors.as_ref(),
            cache,
            Stage::Head,
            view,
        );
        Branches {
            order,
            rows: branches,
            starts,
            x,
        }
    }

    /// Reads the beginning of each family.
    fn read_trunks(
        &self,
        rows: &[Row],
        families: &[Family],
        vectors: Option<&ImageFeatures>,
        view: &View,
    ) -> KvCache {
        let trunks: Vec<Row> = families
            .iter()
            .map(|family| beginning(&rows[family.rows[0]], family.shared))
            .collect();
        let width = trunks.iter().map(|row| row.ids.len()).max().unwrap_or(0);
        let mut cache = KvCache::new(self.decoder().outline().depth, trunks.len());
        let starts = vec![0; trunks.len()];
        // Nobody asks for their logits: only keys and values are needed of the last layer.
        let last = Stage::FeedForward(self.decoder().outline().depth.saturating_sub(1));
        let stretch = (starts.as_slice(), width);
        self.read_from(&trunks, stretch, vectors, Some(&mut cache), last, view);
        cache
    }
}

/// Groups rows of the same picture by their beginnings, in order of first appearance.
fn families<R: Borrow<Row>>(rows: &[R]) -> Vec<Family> {
    let mut prompts: BTreeMap<(Option<usize>, &[u32]), Family> = BTreeMap::new();
    for (r, row) in rows.iter().map(Borrow::borrow).enumerate() {
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

/// Groups rows whose beginnings, each up to its first wanted position, are the same for at least
/// half of their length, in order of first appearance. Where no two are, nothing is read apart.
fn kindred(rows: &[Row], wanted: &[Range<usize>]) -> Vec<Family> {
    let mut families: Vec<Family> = Vec::new();
    for (r, (row, wanted)) in rows.iter().zip(wanted).enumerate() {
        let found = families.iter_mut().find_map(|family| {
            let alike = alike(&rows[family.rows[0]], row);
            let shared = alike.min(wanted.start).min(family.shared);
            let much = 2 * shared >= wanted.start.max(family.shared);
            much.then_some((family, shared))
        });
        match found {
            Some((family, shared)) => {
                family.rows.push(r);
                family.shared = shared;
            }
            None => families.push(Family {
                rows: vec![r],
                shared: wanted.start,
            }),
        }
    }
    if families.len() == rows.len() {
        for family in &mut families {
            family.shared = 0;
        }
    }
    families
}

/// How many of their first tokens two rows have in common.
fn alike(a: &Row, b: &Row) -> usize {
    match a.image == b.image {
        true => a.ids.iter().zip(&b.ids).take_while(|(a, b)| a == b).count(),
        false => 0,
    }
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
pub(crate) fn batches(rows: &[&Row], budget: usize) -> Vec<Vec<usize>> {
    let length = |row: &usize| rows[*row].ids.len();
    let (apart, alike): (Vec<Family>, Vec<Family>) = families(rows)
        .into_iter()
        .partition(|family| family.shared == 0);
    // Rows with nothing in common need not stand together.
    let apart = apart.into_iter().flat_map(|family| family.rows);
    let alike = alike.into_iter().map(|family| family.rows);
    let mut together: Vec<Vec<usize>> = apart.map(|row| vec![row]).chain(alike).collect();
    together.sort_by_key(|rows| (rows.iter().map(length).max(), rows.first().copied()));
    let mut batches: Vec<Vec<usize>> = Vec::new();
    let mut longest = 0;
    for row in together.into_iter().flatten() {
        let wider = longest.max(length(&row));
        match batches.last_mut() {
            Some(batch) if (batch.len() + 1) * wider <= budget => {
                batch.push(row);
                longest = wider;
            }
            _ => {
                batches.push(vec![row]);
                longest = length(&row);
            }
        }
    }
    batches
}
