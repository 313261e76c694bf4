//! Items of a benchmark put to a respondent: whatever is asked, of whatever variant of a model.

use std::collections::BTreeMap;

use debias_core::{Answer, Answers, Ask, Choice, Decoding, Framing, Item, Named, Probe};
use debias_model::engine::{Asked, Joining, Reading, Wanted};
use debias_model::{AnswerLikelihood, Model, Style, host};

use crate::error::{Error, Result};
use crate::respondent::{self, Each, Respondent};

/// What was answered to an item.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Answered {
    /// The answers, by probe.
    pub answers: Answers,
    /// The most tokens of a prompt that were left out for want of positions.
    pub cut: usize,
    /// Choices that alone are longer than the model's positions, and have no score.
    pub unread: usize,
}

impl Answered {
    /// The answer to one probe.
    fn one(probe: &Probe, answer: Answer) -> Self {
        Self {
            answers: [(probe.name.as_str(), answer)].into_iter().collect(),
            ..Self::default()
        }
    }
}

/// Puts every probe of `items` to `respondent`; items in their order.
///
/// What is compared with a reference model is compared with `reference`.
///
/// # Errors
/// Of an item: what the respondent refuses, a comparison without a reference. Of all: a lost device.
pub fn answers(
    respondent: &dyn Respondent,
    reference: Option<&dyn Respondent>,
    items: &[Item],
) -> Each<Answered> {
    let mut found: Vec<BTreeMap<usize, Result<Answered>>> =
        items.iter().map(|_| BTreeMap::new()).collect();
    let probes = || {
        let items = items.iter().enumerate();
        items.flat_map(|(at, item)| {
            let probes = item.probes.iter().enumerate();
            probes.map(move |(place, probe)| ((at, place), item, probe))
        })
    };
    // Choices of all items together: they share batches.
    let mut asked = Vec::new();
    let mut wanted: Vec<((usize, usize), &Probe, &[Choice])> = Vec::new();
    for (place, item, probe) in probes() {
        if let Ask::Choose(choices) = &probe.ask {
            let texts = choices.iter().map(|choice| choice.text.clone()).collect();
            asked.push(put(item, probe, texts));
            wanted.push((place, probe, choices));
        }
    }
    for ((place, probe, choices), scores) in wanted.into_iter().zip(respondent.choices(&asked)?) {
        let answered = scores.map(|scores| chosen(probe, choices, scores));
        found[place.0].insert(place.1, answered);
    }
    // Continuations that are written alike share batches too.
    let mut writing: Vec<(&Decoding, Vec<_>, Vec<Asked>)> = Vec::new();
    for (place, item, probe) in probes() {
        if let Ask::Write(how) = &probe.ask {
            let asked = put(item, probe, Vec::new());
            match writing.iter_mut().find(|(other, ..)| *other == how) {
                Some((_, places, all)) => {
                    places.push((place, probe));
                    all.push(asked);
                }
                None => writing.push((how, vec![(place, probe)], vec![asked])),
            }
        }
    }
    for (how, places, asked) in writing {
        for ((place, probe), written) in places.into_iter().zip(respondent.write(&asked, how)?) {
            let answered = written.map(|written| {
                let texts = written.into_iter().map(|written| written.text).collect();
                Answered::one(probe, Answer::Text(texts))
            });
            found[place.0].insert(place.1, answered);
        }
    }
    for (place, item, probe) in probes() {
        let answer = match &probe.ask {
            Ask::Choose(_) | Ask::Write(_) => continue,
            Ask::Next(groups) => next(respondent, put(item, probe, Vec::new()), groups)?,
            Ask::Compare(answer) => {
                let asked = put(item, probe, vec![answer.clone()]);
                compared(respondent, reference, asked)?
            }
        };
        let answered = answer.map(|answer| Answered::one(probe, answer));
        found[place.0].insert(place.1, answered);
    }
    Ok(found.into_iter().map(joined).collect())
}

/// The answers to all probes of an item, or the first error.
fn joined(probes: BTreeMap<usize, Result<Answered>>) -> Result<Answered> {
    let mut all = Vec::new();
    let (mut cut, mut unread) = (0, 0);
    for answered in probes.into_values() {
        let answered = answered?;
        cut = cut.max(answered.cut);
        unread += answered.unread;
        let answers = answered.answers.iter();
        all.extend(answers.map(|(name, answer)| (name.to_owned(), answer.clone())));
    }
    Ok(Answered {
        answers: all.into_iter().collect(),
        cut,
        unread,
    })
}

fn put(item: &Item, probe: &Probe, choices: Vec<String>) -> Asked {
    Asked {
        name: item.id.clone(),
        prompt: probe.prompt.clone(),
        image: probe.image.clone(),
        choices,
        join: probe.join.clone(),
        style: match probe.framing {
            Framing::Bare => Style::Raw,
            Framing::Model => Style::Framed,
        },
        joining: match (probe.framing, &probe.ask) {
            (Framing::Bare, _) => Joining::Harness,
            (Framing::Model, Ask::Choose(_)) => Joining::Common,
            (Framing::Model, _) => Joining::Own,
        },
    }
}

fn chosen(probe: &Probe, choices: &[Choice], scores: Vec<Option<AnswerLikelihood>>) -> Answered {
    let cut = scores.iter().flatten().map(|score| score.cut).max();
    let unread = scores.iter().filter(|score| score.is_none()).count();
    let named = choices.iter().zip(scores);
    let named: Named<_> = named
        .map(|(choice, score)| (choice.name.clone(), score.map(|score| score.score())))
        .collect();
    let answer = Answer::Choices(named);
    Answered {
        answers: [(probe.name.as_str(), answer)].into_iter().collect(),
        cut: cut.unwrap_or(0),
        unread,
    }
}

/// The one answer to one question.
fn only<T>(found: Vec<Result<T>>) -> Result<T> {
    found.into_iter().next().ok_or(Error::EmptyEdit)?
}

/// The mass of each group of words at the next position: the sum over those words of the group that
/// are one token for the model.
fn next(
    respondent: &dyn Respondent,
    asked: Asked,
    groups: &[Vec<String>],
) -> Result<Result<Answer>> {
    let readings = only(respondent.logits(&[(asked, Wanted::Answers)])?);
    Ok(readings.and_then(|readings| {
        let reading = readings.into_iter().next().ok_or(Error::EmptyEdit)?;
        let mass = probabilities(reading);
        let model = respondent.model();
        let of_group = |group: &Vec<String>| -> Result<f64> {
            let ids = one_token_each(model, group)?;
            Ok(ids
                .iter()
                .map(|id| mass.get(*id).copied().unwrap_or(0.0))
                .sum())
        };
        let masses = groups.iter().map(of_group).collect::<Result<Vec<f64>>>()?;
        Ok(Answer::Next(masses))
    }))
}

/// The ids of the words that are one token, each once.
fn one_token_each(model: &Model, words: &[String]) -> Result<Vec<usize>> {
    let mut ids = Vec::new();
    for word in words {
        if let [id] = model.text().encode(word, false)?[..]
            && !ids.contains(&(id as usize))
        {
            ids.push(id as usize);
        }
    }
    Ok(ids)
}

/// Softmax of the last position that was read, in f64.
fn probabilities(reading: Reading) -> Vec<f64> {
    let [n, vocabulary] = reading.logits.dims();
    let logits = host::values(reading.logits.narrow(0, n - 1, 1));
    let peak = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let weights: Vec<f64> = logits.iter().map(|x| f64::from(x - peak).exp()).collect();
    let whole: f64 = weights.iter().sum();
    debug_assert_eq!(weights.len(), vocabulary);
    weights.into_iter().map(|weight| weight / whole).collect()
}

/// How far the respondent's distributions over a whole row are from the reference's.
fn compared(
    respondent: &dyn Respondent,
    reference: Option<&dyn Respondent>,
    asked: Asked,
) -> Result<Result<Answer>> {
    let Some(reference) = reference else {
        return Ok(Err(Error::Elsewhere {
            editor: "comparison",
            problem: "there is no reference model to compare with".to_owned(),
        }));
    };
    let asked = [(asked, Wanted::Whole)];
    let own = only(respondent.logits(&asked)?);
    let base = only(reference.logits(&asked)?);
    Ok(own.and_then(|own| {
        let base = base?;
        let (Some(own), Some(base)) = (own.into_iter().next(), base.into_iter().next()) else {
            return Err(Error::EmptyEdit);
        };
        if own.row != base.row {
            return Err(Error::OtherTokens {
                model: respondent.model().name().to_owned(),
            });
        }
        Ok(Answer::Drift(respondent::compared(&base, own)?))
    }))
}
