//! One record before a memory: which entry is about which question, and what is said then.

use std::collections::HashMap;

use burn::tensor::Tensor;
use debias_core::{ContextScore, LocalityScore};
use debias_model::{Batch, ImageFeatures, Model, Row, answer_scores, host, locality};

use super::gate::Gate;
use super::mix::{Spot, mixed_at};
use super::{Entry, Memory, SeracParts};
use crate::editor::{Example, Posed};
use crate::embedding::cosine;
use crate::error::{Error, Result};
use crate::judge::Asked;

/// A question: its prompt, a candidate answer, and its picture with its place among those of the
/// record.
#[derive(Clone, Copy)]
struct Heard<'t> {
    prompt: &'t str,
    answer: &'t str,
    picture: Option<(usize, &'t ImageFeatures)>,
}

/// Places of a record's pictures: its own, the rephrased one, that of the locality item.
const OWN: usize = 0;
const REPHRASED: usize = 1;
const ELSEWHERE: usize = 2;

/// The entry that is about a question, and how surely.
#[derive(Clone)]
struct Verdict<'m> {
    entry: &'m Entry,
    s: f64,
}

/// One record before the memory.
pub(super) struct MemoryScoring<'m, 'c> {
    memory: &'m Memory,
    asked: &'m Asked<'c>,
    example: Example,
    /// Own, rephrased and locality picture, as each gate sees them.
    pictures: HashMap<(*const SeracParts, usize), Vec<f32>>,
    keys: HashMap<(*const SeracParts, String), Vec<f32>>,
}

impl<'m, 'c> MemoryScoring<'m, 'c> {
    pub fn of(memory: &'m Memory, asked: &'m Asked<'c>) -> Self {
        Self {
            memory,
            asked,
            example: asked.example(),
            pictures: HashMap::new(),
            keys: HashMap::new(),
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
        Ok(verdict.filter(|verdict| verdict.entry.parts.mix.matters(verdict.s)))
    }

    /// How well `entry` fits the question; none when its picture shows something else.
    fn rank(&mut self, entry: &'m Entry, heard: Heard) -> Result<Option<Rank>> {
        let parts = entry.parts.as_ref();
        let likeness = match (&parts.gate, &entry.kept.picture, heard.picture) {
            (Some(gate), Some(own), Some(other)) => {
                let other = self.picture(parts, gate, other)?;
                let likeness = cosine(own, &other);
                if !gate.lets_through(likeness) {
                    return Ok(None);
                }
                likeness
            }
            _ => 0.0,
        };
        let test = parts.scope_text.of(heard.prompt, heard.answer);
        let key = self.key(parts, &test)?;
        let kept = &entry.kept;
        let s = parts
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

    fn picture(
        &mut self,
        parts: &SeracParts,
        gate: &Gate,
        (at, image): (usize, &ImageFeatures),
    ) -> Result<Vec<f32>> {
        let place = (std::ptr::from_ref(parts), at);
        if let Some(known) = self.pictures.get(&place) {
            return Ok(known.clone());
        }
        let key = gate.picture(self.asked.model(), image)?;
        self.pictures.insert(place, key.clone());
        Ok(key)
    }

    fn key(&mut self, parts: &SeracParts, text: &str) -> Result<Vec<f32>> {
        let place = (std::ptr::from_ref(parts), text.to_owned());
        if let Some(known) = self.keys.get(&place) {
            return Ok(known.clone());
        }
        let key = parts.scope.key(text)?;
        self.keys.insert(place, key.clone());
        Ok(key)
    }

    /// The contexts in the order of [`Example::contexts`]; none where no entry is about one.
    pub fn contexts(&mut self) -> Result<Vec<Option<ContextScore>>> {
        let example = self.example.clone();
        let record = &example.request.record;
        let questions = example.contexts();
        let place = |at: usize| match questions[at].name {
            "image_rephrase" => REPHRASED,
            _ => OWN,
        };
        let answers = [record.y_more.as_str(), record.y_less.as_str()];
        let mut verdicts = Vec::with_capacity(2 * questions.len());
        for (at, question) in questions.iter().enumerate() {
            for answer in answers {
                verdicts.push(self.verdict(Heard {
                    prompt: question.prompt,
                    answer,
                    picture: question.image.map(|image| (place(at), image)),
                })?);
            }
        }
        if verdicts.iter().all(Option::is_none) {
            return Ok(vec![None; questions.len()]);
        }
        let model = self.asked.model();
        let own = [&example.request.image, &example.image_rephrase];
        let pictures = ImageFeatures::join(own.into_iter().flatten().cloned());
        let (base_rows, logits) = self.asked.contexts();
        let shape = logits.dims();
        let [_, a, vocabulary] = shape;
        let mut mixed = logits.reshape([base_rows.len() * a, vocabulary]);
        for (parts, of_it) in by_parts(&verdicts) {
            let mut rows = Vec::with_capacity(of_it.len());
            for (at, verdict) in &of_it {
                let question = questions[at / 2];
                let own = question.image.and(pictures.as_ref());
                let picture = own.map(|pictures| pictures.image_ref(place(at / 2)));
                let text = &verdict.entry.kept.text;
                let pair = text.rows(model, picture, question.prompt, &answers);
                let mut row = pair
                    .map_err(|source| self.refused(source))?
                    .swap_remove(at % 2);
                // Answers end a row; both rows then count the same answer positions.
                row.answer_start = row.ids.len() - base_rows[*at].answer().len();
                rows.push(row);
            }
            let batch = Batch::over(rows.clone(), pictures.clone());
            let other = model.answer_logits(batch, &parts.counterfactual);
            let [n, width, _] = other.dims();
            let other = other.reshape([n * width, vocabulary]);
            let mut spots = Vec::new();
            for (place, ((at, _), row)) in of_it.iter().zip(&rows).enumerate() {
                let base = &base_rows[*at];
                let (shared, _) = parts.align.of(base, row);
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
            mixed = mixed_at(mixed, other, &s, &spots, parts.mix);
        }
        let scores = answer_scores(&base_rows, mixed.reshape(shape))?;
        let contexts = (0..questions.len()).map(|context| {
            let [more, less] = [2 * context, 2 * context + 1];
            (verdicts[more].is_some() || verdicts[less].is_some()).then(|| ContextScore {
                y_more: scores[more],
                y_less: scores[less],
            })
        });
        Ok(contexts.collect())
    }

    /// The text-locality item; none where it is not asked, or no entry is about it.
    pub fn t_locality(&mut self) -> Result<Option<LocalityScore>> {
        let item = self.example.t_locality.clone();
        self.unrelated(item, self.asked.t_locality())
    }

    /// The multimodal-locality item, likewise.
    pub fn m_locality(&mut self) -> Result<Option<LocalityScore>> {
        let item = self.example.m_locality.clone();
        self.unrelated(item, self.asked.m_locality())
    }

    fn unrelated(
        &mut self,
        item: Option<Posed>,
        base: Option<(Row, Tensor<3>)>,
    ) -> Result<Option<LocalityScore>> {
        let Some((posed, base)) = item.as_ref().zip(base) else {
            return Ok(None);
        };
        let heard = Heard {
            prompt: &posed.prompt,
            answer: &posed.answer,
            picture: posed.image.as_ref().map(|image| (ELSEWHERE, image)),
        };
        let verdict = self.verdict(heard)?;
        verdict
            .map(|verdict| self.item(&verdict, heard, base))
            .transpose()
    }

    /// A locality item that an entry claims to be about.
    fn item(
        &self,
        verdict: &Verdict,
        heard: Heard,
        (base_row, base): (Row, Tensor<3>),
    ) -> Result<LocalityScore> {
        let model = self.asked.model();
        let image = heard.picture.map(|(_, image)| image);
        let text = &verdict.entry.kept.text;
        let picture = image.map(|image| image.image_ref(0));
        let rows = text
            .rows(model, picture, heard.prompt, &[heard.answer])
            .map_err(|source| self.refused(source))?;
        let parts = &verdict.entry.parts;
        let (shared, other_shared) = parts.align.of(&base_row, &rows[0]);
        let batch = Batch::over(rows, image.cloned());
        let other = model.logits(batch, &parts.counterfactual);
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
            parts.mix,
        );
        let scores = locality(&[base_row], &base, edited.reshape(shape))?;
        Ok(scores[0])
    }

    fn refused(&self, source: debias_model::Error) -> Error {
        self.example.request.refused(source)
    }
}

/// The verdicts with their places, those of the same parts together.
fn by_parts<'m, 'v>(
    verdicts: &'v [Option<Verdict<'m>>],
) -> Vec<(&'m SeracParts, Vec<(usize, &'v Verdict<'m>)>)> {
    let mut groups: Vec<(&SeracParts, Vec<(usize, &Verdict)>)> = Vec::new();
    for (at, verdict) in verdicts.iter().enumerate() {
        let Some(verdict) = verdict else { continue };
        let parts = verdict.entry.parts.as_ref();
        match groups
            .iter_mut()
            .find(|(known, _)| std::ptr::eq(*known, parts))
        {
            Some((_, group)) => group.push((at, verdict)),
            None => groups.push((parts, vec![(at, verdict)])),
        }
    }
    groups
}

/// Similarities as a column.
fn column(s: impl IntoIterator<Item = f64>, model: &Model) -> Tensor<2> {
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
