//! Control: no change. Its row is the base model's, and must score exactly nothing.

use std::sync::Arc;

use debias_core::Preset;
use debias_model::{Change, Model};

use crate::card::{Card, Footprint};
use crate::edit::{Edit, Touches};
use crate::editor::{
    Claims, Ctx, Editor, Effect, Lessons, Prepared, Request, check_requests, for_all,
};
use crate::error::Result;
use crate::settings::Settings;

/// The identity edit.
pub struct Nothing;

static CARD: Card = Card {
    id: "nothing",
    version: 1,
    title: "control: the model as it is",
    summary: "Proposes no change. On a set filtered for the model its success is 0, its locality \
              exactly 1 and its KL exactly 0; a run in which that fails stops.",
    paper: "Base Model row of the debias-editing paper, table 2",
    equation: "θe = θ",
    touches: Footprint::of(&[Touches::Nothing], ""),
    cost: "none",
    failures: &[],
    settings: &[],
};

impl Editor for Nothing {
    fn card(&self) -> &'static Card {
        &CARD
    }

    fn defaults(&self, _preset: Preset) -> Settings {
        Settings::default()
    }

    fn claims(&self, _settings: &Settings) -> Result<Claims> {
        Ok(Claims {
            effect: Effect::Identity,
            ..Claims::default()
        })
    }

    fn identity(&self, settings: &Settings) -> Option<Settings> {
        Some(settings.clone())
    }

    fn check(&self, _model: &Model, _settings: &Settings) -> Result<()> {
        Ok(())
    }

    fn prepare<'m>(
        &self,
        model: &'m Model,
        _: &Lessons,
        _: &Ctx,
    ) -> Result<Box<dyn Prepared + 'm>> {
        Ok(Box::new(Unedited(model)))
    }
}

struct Unedited<'m>(&'m Model);

impl Prepared for Unedited<'_> {
    fn edit_each(&self, requests: &[Request], _: &Change) -> Result<Vec<Arc<Edit>>> {
        check_requests(self.0, requests)?;
        Ok(for_all(Change::default(), requests))
    }
}
