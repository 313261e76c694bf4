//! What SERAC learns from: records with their questions behind remembered requests, and the pairs that
//! tell what a request is about.

use std::ops::Range;

use debias_core::Record;
use debias_model::{Batch, ImageFeatures, Model, Parameters, Question, Row, Stage, engine};

use super::config::{Config, Training};
use super::scopes::Scopes;
use crate::editor::{Example, Posed, Wording};
use crate::error::{Error, Result};
use crate::memory::ask::Remembered;
use crate::memory::scope::{Pairs, Reader};

/// Some records, prepared.
pub(super) struct TrainingBatch {
    pub(super) rephrase: Item,
    pub(super) image: Option<Item>,
    pub(super) text_item: Option<Item>,
    pub(super) image_item: Option<Item>,
    pub(super) pairs: Pairs,
    pub(super) layout: Layout,
}

/// Which of the pairs are what.
pub(super) struct Layout {
    pub(super) rephrase: Range<usize>,
    pub(super) image: Range<usize>,
    pub(super) text_item: Range<usize>,
    pub(super) image_item: Range<usize>,
    /// Everything out of scope: the two before, and the prompts of other records.
    pub(super) outside: Range<usize>,
}

/// Questions behind remembered requests, in front of the last layer.
pub(super) struct Item {
    /// As the counterfactual model reads them.
    pub(super) rows: Vec<Row>,
    pub(super) batch: Batch,
    /// As the base model reads and answers them; not needed where the two are trained apart.
    pub(super) base: Option<Base>,
}

pub(super) struct Base {
    pub(super) rows: Vec<Row>,
    pub(super) batch: Batch,
}

/// A record with its prompts in their templates.
pub(super) struct Words<'r> {
    pub(super) record: &'r Record,
    pub(super) wording: Wording,
}

impl<'r> Words<'r> {
    fn in_example(example: &'r Example) -> Self {
        let texts = |item: &Option<Posed>| {
            let item = item.as_ref()?;
            Some((item.prompt.clone(), item.answer.clone()))
        };
        Self {
            record: &example.request.record,
            wording: Wording {
                prompt: example.request.prompt.clone(),
                rephrase: example.rephrase.clone(),
                t_locality: texts(&example.t_locality),
                m_locality: texts(&example.m_locality),
            },
        }
    }
}

impl Words<'_> {
    /// The prompt in other words, or as it is where there are none.
    fn reworded(&self) -> &str {
        self.wording
            .rephrase
            .as_ref()
            .unwrap_or(&self.wording.prompt)
    }
}

/// A question with its answer and picture.
pub(super) struct Asked<'e> {
    pub(super) image: Option<&'e ImageFeatures>,
    pub(super) prompt: &'e str,
    pub(super) answer: &'e str,
}

impl<'e> Asked<'e> {
    /// The question as the engine is asked it.
    fn question(&self) -> engine::Asked {
        engine::Asked {
            prompt: self.prompt.to_owned(),
            choices: vec![self.answer.to_owned()],
            join: " ".to_owned(),
            ..engine::Asked::default()
        }
    }

    fn of(posed: &'e Posed) -> Option<Self> {
        Some(Self {
            image: posed.image.as_ref(),
            prompt: &posed.prompt,
            answer: &posed.answer,
        })
    }
}

/// What lessons are made with.
pub(super) struct Material<'s> {
    pub(super) model: &'s Model,
    pub(super) config: &'s Config,
    pub(super) reader: &'s Reader,
    pub(super) scopes: &'s Scopes,
}

impl TrainingBatch {
    /// Bytes that it holds.
    pub(super) fn bytes(&self) -> usize {
        let others = [&self.image, &self.text_item, &self.image_item];
        let items = std::iter::once(&self.rephrase).chain(others.into_iter().flatten());
        items
            .map(|item| {
                let base = item.base.as_ref().map_or(0, |base| base.batch.bytes());
                item.batch.bytes() + base
            })
            .sum()
    }
}

impl Material<'_> {
    /// The lesson that `examples` are.
    ///
    /// # Errors
    /// A record that cannot be tokenised.
    pub(super) fn batch(&self, examples: &[Example]) -> Result<TrainingBatch> {
        let whole = self.config.training == Training::Unsupervised;
        let rephrase = self.item(examples, whole, |e| {
            Some(Asked {
                image: e.request.image.as_ref(),
                prompt: e.rephrase.as_ref().unwrap_or(&e.request.prompt),
                answer: &e.request.record.y_less,
            })
        })?;
        let image = self.item(examples, whole, |e| {
            Some(Asked {
                image: Some(e.image_rephrase.as_ref()?),
                prompt: &e.request.prompt,
                answer: &e.request.record.y_less,
            })
        })?;
        let text_item = match whole {
            true => self.item(examples, true, |e| Asked::of(e.t_locality.as_ref()?))?,
            false => None,
        };
        let image_item = match whole && self.config.mloc {
            true => self.item(examples, true, |e| Asked::of(e.m_locality.as_ref()?))?,
            false => None,
        };
        let words: Vec<Words> = examples.iter().map(Words::in_example).collect();
        let (pairs, layout) = self.pairs(&words)?;
        Ok(TrainingBatch {
            rephrase: rephrase.ok_or(Error::EmptyEdit)?,
            image,
            text_item,
            image_item,
            pairs,
            layout,
        })
    }

    /// One question per example, behind its own request; none where an example has no such question.
    fn item<'e>(
        &self,
        examples: &'e [Example],
        with_base: bool,
        ask: impl Fn(&'e Example) -> Option<Asked<'e>>,
    ) -> Result<Option<Item>> {
        let Some(asked) = examples.iter().map(ask).collect::<Option<Vec<Asked>>>() else {
            return Ok(None);
        };
        let seen = ImageFeatures::join(asked.iter().filter_map(|asked| asked.image.cloned()));
        let (mut rows, mut base_rows) = (Vec::new(), Vec::new());
        for (at, (example, asked)) in examples.iter().zip(&asked).enumerate() {
            let record = &example.request.record;
            let refused = |source| Error::Record {
                id: record.id.clone(),
                source,
            };
            let sighting = asked
                .image
                .and(seen.as_ref())
                .map(|seen| seen.image_ref(at));
            let question = Question::new(sighting, asked.prompt, asked.answer);
            let base = self.model.rows(&[question]).map_err(refused)?;
            let remembered = Remembered::new(&example.request.prompt, &record.y_less);
            let own = remembered
                .rows(self.model, sighting, &asked.question(), 0)
                .map_err(refused)?;
            for mut row in own {
                row.answer_start = row.ids.len() - base[0].answer().len();
                rows.push(row);
            }
            base_rows.extend(base);
        }
        let last = self.model.decoder().outline().depth.saturating_sub(1);
        let batch = |rows: Vec<Row>, to| {
            let batch = Batch::over(rows, seen.clone());
            self.model.run(batch, to, &self.model.base())
        };
        Ok(Some(Item {
            batch: batch(rows.clone(), Stage::Attention(last)),
            rows,
            base: with_base.then(|| Base {
                batch: batch(base_rows.clone(), Stage::Head),
                rows: base_rows,
            }),
        }))
    }

    /// All pairs of a lesson: what a request is about, and what it is not.
    pub(super) fn pairs(&self, examples: &[Words]) -> Result<(Pairs, Layout)> {
        let kind = self.config.scope_text;
        let target = |example: &Words| example.record.y_less.clone();
        let abouts: Vec<String> = examples
            .iter()
            .map(|example| kind.of(&example.wording.prompt, &target(example)))
            .collect();
        let mut pairs: Vec<(usize, String)> = Vec::new();
        let mut add = |texts: Vec<(usize, String)>| {
            let from = pairs.len();
            pairs.extend(texts);
            from..pairs.len()
        };
        let each = |text: &dyn Fn(&Words) -> String| {
            let texts = examples.iter().map(text);
            texts.enumerate().collect::<Vec<_>>()
        };
        let item = |of: fn(&Wording) -> &Option<(String, String)>| {
            let items = examples.iter().enumerate();
            let texts = items.filter_map(|(at, example)| {
                let (question, answer) = of(&example.wording).as_ref()?;
                Some((at, kind.of(question, answer)))
            });
            texts.collect::<Vec<_>>()
        };
        let rephrase = add(each(&|e| kind.of(e.reworded(), &target(e))));
        let image = add(each(&|e| kind.of(&e.wording.prompt, &target(e))));
        let text_item = add(item(|wording| &wording.t_locality));
        let image_item = match self.config.mloc {
            true => add(item(|wording| &wording.m_locality)),
            false => add(Vec::new()),
        };
        let mut others = Vec::new();
        if self.config.training == Training::Supervised {
            for (i, one) in examples.iter().enumerate() {
                for other in examples {
                    if self.scopes.apart(one.record, other.record) {
                        others.push((i, kind.of(&other.wording.prompt, &target(other))));
                        others.push((i, kind.of(other.reworded(), &target(other))));
                    }
                }
            }
        }
        let others = add(others);
        let texts: Vec<(&str, &str)> = pairs
            .iter()
            .map(|(about, test)| (abouts[*about].as_str(), test.as_str()))
            .collect();
        let layout = Layout {
            rephrase,
            image,
            outside: text_item.start..others.end,
            text_item,
            image_item,
        };
        Ok((self.reader.pairs(&texts)?, layout))
    }
}
