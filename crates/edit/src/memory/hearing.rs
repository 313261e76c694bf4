//! One record before a memory: which entry is about which question, and what is said then.

use std::collections::HashMap;

use burn::tensor::Tensor;
use debias_core::{ContextScore, LocalityScore};
use debias_model::{Batch, Mllm, Row, Seen, answer_scores, host, locality};

use super::gate::Gate;
use super::mix::{Spot, mixed_at};
use super::{Apparatus, Entry, Memory};
use crate::editor::Example;
use crate::embedding::cosine;
use crate::error::{Error, Result};
use crate::judge::Asked;

/// A question: its prompt, a candidate answer, and the place of its picture among those of the
/// record.
#[derive(Clone, Copy)]
struct Heard<'t> {
    prompt: &'t str,
    answer: &'t str,
    picture: Option<usize>,
}

/// The entry that is about a question, and how surely.
#[derive(Clone)]
struct Verdict<'m> {
    entry: &'m Entry,
    s: f64,
}

/// One record before the memory.
pub(super) struct Hearing<'m, 'c> {
    memory: &'m Memory,
    asked: &'m Asked<'c>,
    example: Example,
    /// Own, rephrased and locality picture, as each gate sees them.
    pictures: HashMap<(*const Apparatus, usize), Vec<f32>>,
    keys: HashMap<(*const Apparatus, String), Vec<f32>>,
}

impl<'m, 'c> Hearing<'m, 'c> {
    pub fn of(memory: &'m Memory, asked: &'m Asked<'c>) -> Self {
        Self {
            memory,
            asked,
            example: asked.example(),
            pictures: HashMap::new(),
            keys: HashMap::new(),
        }
    }

    /// The record's pictures: own, rephrased, locality.
    fn seen(&self, picture: usize) -> &Seen {
        match picture {
            0 => &self.example.request.seen,
            1 => &self.example.seen_rephrase,
            _ => &self.example.seen_mloc,
        }
    }

    /// The entry that is about the question; none when it is out of every scope.
    ///
    /// Of several entries whose scope it is in, the one with the likest picture is taken, else the
    /// nearest by text; equals are told apart by their content, never by the order of the entries.
    fn verdict(&mut self, heard: Heard) -> Result<Option<Verdict<'m>>> {
        let mut best: Option<(Rank, Verdict<'m>)> = None;
        for entry in &self.memory.entries {
            let Some(rank) = self.rank(entry, heard)? else {
                continue;
            };
            if best.as_ref().is_none_or(|(other, _)| rank.beats(other)) {
                let s = rank.s;
                best = Some((rank, Verdict { entry, s }));
            }
        }
        let verdict = best.map(|(_, verdict)| verdict);
        Ok(verdict.filter(|verdict| verdict.entry.apparatus.mix.matters(verdict.s)))
    }

    /// How well `entry` fits the question; none when its picture shows something else.
    fn rank(&mut self, entry: &'m Entry, heard: Heard) -> Result<Option<Rank>> {
        let apparatus = entry.apparatus.as_ref();
        let likeness = match (&apparatus.gate, &entry.kept.picture, heard.picture) {
            (Some(gate), Some(own), Some(other)) => {
                let other = self.picture(apparatus, gate, other)?;
                let likeness = cosine(own, &other);
                if !gate.lets_through(likeness) {
                    return Ok(None);
                }
                likeness
            }
            _ => 0.0,
        };
        let test = apparatus.scope_text.of(heard.prompt, heard.answer);
        let key = self.key(apparatus, &test)?;
        let kept = &entry.kept;
        let s = apparatus
            .scope
            .similarity((&kept.about, &kept.key), (&test, &key))?;
        if !s.is_finite() {
            return Err(Error::Model(debias_model::Error::NotFinite {
                what: "the distance of a question from a remembered request".into(),
            }));
        }
        Ok(Some(Rank {
            s,
            likeness,
            text: kept.text.text().to_owned(),
        }))
    }

    fn picture(&mut self, apparatus: &Apparatus, gate: &Gate, at: usize) -> Result<Vec<f32>> {
        let place = (std::ptr::from_ref(apparatus), at);
        if let Some(known) = self.pictures.get(&place) {
            return Ok(known.clone());
        }
        let key = gate.picture(self.asked.model(), self.seen(at))?;
        self.pictures.insert(place, key.clone());
        Ok(key)
    }

    fn key(&mut self, apparatus: &Apparatus, text: &str) -> Result<Vec<f32>> {
        let place = (std::ptr::from_ref(apparatus), text.to_owned());
        if let Some(known) = self.keys.get(&place) {
            return Ok(known.clone());
        }
        let key = apparatus.scope.key(text)?;
        self.keys.insert(place, key.clone());
        Ok(key)
    }

    /// The three contexts; none where no entry is about one.
    pub fn contexts(&mut self) -> Result<[Option<ContextScore>; 3]> {
        let example = self.example.clone();
        let record = &example.request.record;
        let questions = [
            (example.request.prompt.as_str(), 0),
            (example.rephrase.as_str(), 0),
            (example.request.prompt.as_str(), 1),
        ];
        let answers = [record.y_more.as_str(), record.y_less.as_str()];
        let mut verdicts = Vec::with_capacity(6);
        for (prompt, picture) in questions {
            for answer in answers {
                verdicts.push(self.verdict(Heard {
                    prompt,
                    answer,
                    picture: Some(picture),
                })?);
            }
        }
        if verdicts.iter().all(Option::is_none) {
            return Ok([None; 3]);
        }
        let model = self.asked.model();
        let pictures = Seen::join([self.seen(0).clone(), self.seen(1).clone()]);
        let pictures = pictures.unwrap_or_else(|| self.seen(0).clone());
        let (base_rows, logits) = self.asked.contexts();
        let shape = logits.dims();
        let [_, a, vocabulary] = shape;
        let mut mixed = logits.reshape([6 * a, vocabulary]);
        for (apparatus, of_it) in by_apparatus(&verdicts) {
            let mut rows = Vec::with_capacity(of_it.len());
            for (at, verdict) in &of_it {
                let (prompt, picture) = questions[at / 2];
                let sighting = Some(pictures.sighting(picture));
                let pair = verdict
                    .entry
                    .kept
                    .text
                    .rows(model, sighting, prompt, &answers);
                let mut row = pair
                    .map_err(|source| self.refused(source))?
                    .swap_remove(at % 2);
                // Answers end a row; both rows then count the same answer positions.
                row.answer_start = row.ids.len() - base_rows[*at].answer().len();
                rows.push(row);
            }
            let batch = Batch::with_pictures(rows.clone(), pictures.clone());
            let other = model.answer_logits(batch, &apparatus.counterfactual);
            let [n, width, _] = other.dims();
            let other = other.reshape([n * width, vocabulary]);
            let mut spots = Vec::new();
            for (place, ((at, _), row)) in of_it.iter().zip(&rows).enumerate() {
                let base = &base_rows[*at];
                let (shared, _) = apparatus.align.of(base, row);
                let answers = base.answer_positions().enumerate();
                spots.extend(
                    answers
                        .filter(|(_, p)| shared.contains(p))
                        .map(|(i, _)| Spot {
                            base: at * a + i,
                            other: place * width + i,
                            s: place,
                        }),
                );
            }
            let s = of_it.iter().map(|(_, verdict)| verdict.s);
            let s = column(s, model);
            mixed = mixed_at(mixed, other, &s, &spots, apparatus.mix);
        }
        let scores = answer_scores(&base_rows, mixed.reshape(shape))?;
        Ok([0, 1, 2].map(|context| {
            let [more, less] = [2 * context, 2 * context + 1];
            (verdicts[more].is_some() || verdicts[less].is_some()).then(|| ContextScore {
                y_more: scores[more],
                y_less: scores[less],
            })
        }))
    }

    pub fn t_locality(&mut self) -> Result<Option<LocalityScore>> {
        let example = self.example.clone();
        let heard = Heard {
            prompt: &example.loc_q,
            answer: &example.request.record.loc_a,
            picture: None,
        };
        let Some(verdict) = self.verdict(heard)? else {
            return Ok(None);
        };
        self.item(&verdict, heard, self.asked.t_locality())
            .map(Some)
    }

    pub fn m_locality(&mut self) -> Result<Option<LocalityScore>> {
        let example = self.example.clone();
        let heard = Heard {
            prompt: &example.mloc_q,
            answer: &example.request.record.mloc_a,
            picture: Some(2),
        };
        let Some(verdict) = self.verdict(heard)? else {
            return Ok(None);
        };
        self.item(&verdict, heard, self.asked.m_locality())
            .map(Some)
    }

    /// A locality item that an entry claims to be about.
    fn item(
        &self,
        verdict: &Verdict,
        heard: Heard,
        (base_row, base): (Row, Tensor<3>),
    ) -> Result<LocalityScore> {
        let model = self.asked.model();
        let seen = heard.picture.map(|picture| self.seen(picture));
        let sighting = seen.map(|seen| seen.sighting(0));
        let rows = verdict
            .entry
            .kept
            .text
            .rows(model, sighting, heard.prompt, &[heard.answer])
            .map_err(|source| self.refused(source))?;
        let apparatus = &verdict.entry.apparatus;
        let (shared, other_shared) = apparatus.align.of(&base_row, &rows[0]);
        let batch = match seen {
            Some(seen) => Batch::with_pictures(rows, seen.clone()),
            None => Batch::text(rows),
        };
        let other = model.logits(batch, &apparatus.counterfactual);
        let spots: Vec<Spot> = shared
            .zip(other_shared)
            .map(|(base, other)| Spot { base, other, s: 0 })
            .collect();
        let shape = base.dims();
        let edited = mixed_at(
            base.clone().reshape([shape[1], shape[2]]),
            other.squeeze_dim(0),
            &column([verdict.s], model),
            &spots,
            apparatus.mix,
        );
        let scores = locality(&[base_row], &base, edited.reshape(shape))?;
        Ok(scores[0])
    }

    fn refused(&self, source: debias_model::Error) -> Error {
        Error::Record {
            id: self.example.request.record.id.clone(),
            source,
        }
    }
}

/// The verdicts with their places, those of one apparatus together.
fn by_apparatus<'m, 'v>(
    verdicts: &'v [Option<Verdict<'m>>],
) -> Vec<(&'m Apparatus, Vec<(usize, &'v Verdict<'m>)>)> {
    let mut groups: Vec<(&Apparatus, Vec<(usize, &Verdict)>)> = Vec::new();
    for (at, verdict) in verdicts.iter().enumerate() {
        let Some(verdict) = verdict else { continue };
        let apparatus = verdict.entry.apparatus.as_ref();
        match groups
            .iter_mut()
            .find(|(known, _)| std::ptr::eq(*known, apparatus))
        {
            Some((_, group)) => group.push((at, verdict)),
            None => groups.push((apparatus, vec![(at, verdict)])),
        }
    }
    groups
}

/// Similarities as a column.
fn column(s: impl IntoIterator<Item = f64>, model: &Mllm) -> Tensor<2> {
    let s: Vec<f32> = s.into_iter().map(|s| s as f32).collect();
    let n = s.len();
    host::tensor(s, [n, 1], model.device())
}

/// How well an entry fits a question.
#[derive(Clone, Debug, PartialEq)]
struct Rank {
    s: f64,
    likeness: f64,
    text: String,
}

impl Rank {
    /// Whether it is preferred to `other`, whatever their order.
    fn beats(&self, other: &Rank) -> bool {
        let in_scope = |rank: &Rank| rank.s > 0.5;
        let order = in_scope(self)
            .cmp(&in_scope(other))
            .then(match in_scope(self) {
                true => self.likeness.total_cmp(&other.likeness),
                false => std::cmp::Ordering::Equal,
            });
        order
            .then(self.s.total_cmp(&other.s))
            .then_with(|| other.text.cmp(&self.text))
            .is_gt()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rank(s: f64, likeness: f64, text: &str) -> Rank {
        Rank {
            s,
            likeness,
            text: text.to_owned(),
        }
    }

    #[test]
    fn in_scope_the_likest_picture_wins_else_the_nearest_text() {
        assert!(rank(0.6, 0.9, "a").beats(&rank(0.99, 0.2, "b")));
        assert!(rank(0.6, 0.1, "a").beats(&rank(0.4, 0.9, "b")));
        assert!(rank(0.4, 0.1, "a").beats(&rank(0.3, 0.9, "b")));
        // Equals are told apart by their content, so that no order of entries matters.
        let (a, b) = (rank(0.9, 0.5, "a"), rank(0.9, 0.5, "b"));
        assert!(a.beats(&b) && !b.beats(&a) && !a.beats(&a));
    }
}
