//! The editor that every hyper-network makes: settings, training, prepared edits.

use std::collections::BTreeMap;
use std::marker::PhantomData;
use std::path::PathBuf;
use std::sync::Arc;

use burn::tensor::Tensor;
use debias_core::Preset;
use debias_model::{Change, Delta, Model};

use super::config::Config;
use super::learner::Learner;
use super::objective::EditObjective;
use super::subject::Subject;
use super::{HyperNetwork, Sides};
use crate::card::Card;
use crate::edit::Edit;
use crate::editor::{
    Claims, Ctx, Editor, GradientProbe, Learns, Lessons, Prepared, Request, check_requests,
};
use crate::error::Result;
use crate::settings::Settings;
use crate::training::{Values, rehearsed, train};

/// An editor whose edits are what a network of the kind `N` makes of gradients.
pub(crate) struct HyperEditor<N> {
    card: &'static Card,
    network: PhantomData<fn() -> N>,
}

impl<N> Clone for HyperEditor<N> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<N> Copy for HyperEditor<N> {}

impl<N: HyperNetwork> HyperEditor<N> {
    /// The editor that `card` describes.
    pub const fn new(card: &'static Card) -> Self {
        Self {
            card,
            network: PhantomData,
        }
    }

    fn config(&self, settings: &Settings) -> Result<Config<N>> {
        Ok(settings.config(self.card.id)?)
    }
}

impl<N: HyperNetwork> Editor for HyperEditor<N> {
    fn card(&self) -> &'static Card {
        self.card
    }

    fn defaults(&self, preset: Preset) -> Settings {
        Settings::of(&N::preset(preset))
    }

    fn inputs(&self, settings: &Settings) -> Result<Vec<PathBuf>> {
        Ok(self.config(settings)?.trained.into_iter().collect())
    }

    fn learns(&self, _settings: &Settings) -> Result<Learns> {
        Ok(Learns::Parts)
    }

    fn claims(&self, settings: &Settings) -> Result<Claims> {
        Ok(Claims {
            effect: N::EFFECT,
            random: N::RANDOM,
            side: self.config(settings)?.sites.claimed(),
        })
    }

    fn identity(&self, settings: &Settings) -> Option<Settings> {
        Some(settings.clone().with(N::GATE, 0).with("steps", 0))
    }

    fn rehearsal(&self, settings: &Settings) -> Settings {
        rehearsed(settings)
    }

    fn check(&self, model: &Model, settings: &Settings) -> Result<()> {
        let config = self.config(settings)?;
        let sites = config.sites.of(self.card.id, N::MATRICES, model);
        sites.map(drop)
    }

    fn prepare<'m>(
        &self,
        model: &'m Model,
        lessons: &Lessons,
        ctx: &Ctx,
    ) -> Result<Box<dyn Prepared + 'm>> {
        let config = self.config(ctx.settings)?;
        let editor = self.card.id;
        let subject = Subject {
            editor,
            model,
            sites: config.sites.of(editor, N::MATRICES, model)?,
        };
        let mut learner: Learner<N> = Learner {
            parts: config.network.parts(&subject, ctx.seed),
            objective: config.network.objective(lessons, ctx.seed),
            network: config.network,
            subject,
        };
        let (train_on, val) = (lessons.train, lessons.val);
        let values = train(editor, &mut learner, &config.schedule, train_on, val, ctx)?;
        Ok(Box::new(Trained { learner, values }))
    }
}

/// A trained hyper-network.
struct Trained<'m, N: HyperNetwork> {
    learner: Learner<'m, N>,
    values: Values,
}

impl<N: HyperNetwork> Trained<'_, N> {
    /// What the network makes of the factors of `requests`, each alone or all as one.
    fn proposed(&self, requests: &[&Request], start: &Change, joint: bool) -> Result<Sides> {
        let Learner {
            subject,
            network,
            parts,
            ..
        } = &self.learner;
        let gathered = self.learner.gather(requests, start)?;
        let gathered = if joint { gathered.joined() } else { gathered };
        let condition = network.condition(subject, requests)?;
        Ok(network.propose(parts, &self.values, &gathered, &condition))
    }
}

impl<N: HyperNetwork> Prepared for Trained<'_, N> {
    fn edit_each(&self, requests: &[Request], start: &Change) -> Result<Vec<Arc<Edit>>> {
        let Learner {
            subject, network, ..
        } = &self.learner;
        check_requests(subject.model, requests)?;
        let asked: Vec<&Request> = requests.iter().collect();
        let sides = self.proposed(&asked, start, false)?;
        let changes = changes(&sides, requests.len()).into_iter();
        let finished = requests.iter().zip(changes).map(|(request, change)| {
            let change = network.finish(subject, request, change, start)?;
            Ok(Arc::new(Edit::Weights(change)))
        });
        finished.collect()
    }

    fn edit_jointly(&self, requests: &[Request]) -> Result<Edit> {
        if !N::JOINT {
            return Edit::joined(&self.edit_each(requests, &Change::default())?);
        }
        check_requests(self.learner.subject.model, requests)?;
        let asked: Vec<&Request> = requests.iter().collect();
        let sides = self.proposed(&asked, &Change::default(), true)?;
        Ok(Edit::Weights(changes(&sides, 1).pop().unwrap_or_default()))
    }

    fn gradient_probe(&self, request: &Request) -> Result<Option<GradientProbe>> {
        let gathered = self.learner.gather(&[request], &Change::default())?;
        let Learner { network, parts, .. } = &self.learner;
        let Some((sides, more)) = network.probe(parts, &gathered) else {
            return Ok(None);
        };
        let ranks = gathered.ranks(0).into_iter();
        Ok(Some(GradientProbe {
            gradient: changes(&sides, 1).pop().unwrap_or_default(),
            ranks: ranks.map(|(name, tokens)| (name, tokens + more)).collect(),
        }))
    }

    fn remarks(&self) -> Vec<String> {
        self.learner.objective.remarks()
    }
}

/// Factors of one request each, as deltas.
fn changes(sides: &Sides, requests: usize) -> Vec<Change> {
    (0..requests)
        .map(|at| {
            let weights: BTreeMap<String, Delta> = sides
                .iter()
                .map(|(name, (a, b))| {
                    let one = |t: &Tensor<3>| t.clone().narrow(0, at, 1).squeeze_dim(0);
                    let (a, b) = (one(a), one(b));
                    (name.clone(), Delta::LowRank { a, b })
                })
                .collect();
            Change { weights }
        })
        .collect()
}
