//! Control: a random direction of the same norm as FT-L's update.
//!
//! If an editor does no better than this, its success is the size of its step, not its aim.

use std::sync::Arc;

use debias_core::{Preset, seed};
use debias_model::{Change, Delta, Model, host};
use rand::Rng;

use super::ft_l::EDITOR as FT_L;
use crate::card::{Card, Footprint};
use crate::edit::{Edit, Touches};
use crate::editor::{Claims, Ctx, Editor, Effect, Learns, Lessons, Prepared, Request};
use crate::error::Result;
use crate::settings::Settings;

/// A direction without aim.
pub struct Random;

const ID: &str = "random";

static CARD: Card = Card {
    id: ID,
    version: 1,
    title: "control: a random update of FT-L's norm",
    summary: "Makes FT-L's edit, then replaces each matrix of the update by a seeded random \
              matrix of the same Frobenius norm.",
    paper: "control of this project",
    equation: "ΔW' = ‖ΔW‖_F · N / ‖N‖_F, N_ij ~ uniform(-1, 1)",
    touches: Footprint::of(&[Touches::Weights], "those of ft-l"),
    cost: "as ft-l",
    failures: &[],
    settings: &[("ft-l.*", "this control follows the settings of ft-l")],
};

impl Editor for Random {
    fn card(&self) -> &'static Card {
        &CARD
    }

    /// The norm is that of FT-L's update, so the settings are FT-L's.
    fn scope(&self) -> &'static str {
        FT_L.scope()
    }

    fn defaults(&self, preset: Preset) -> Settings {
        FT_L.defaults(preset)
    }

    fn learns(&self, settings: &Settings) -> Result<Learns> {
        FT_L.learns(settings)
    }

    fn claims(&self, settings: &Settings) -> Result<Claims> {
        Ok(Claims {
            effect: Effect::Control,
            random: "the direction of every delta",
            ..FT_L.claims(settings)?
        })
    }

    fn identity(&self, settings: &Settings) -> Option<Settings> {
        FT_L.identity(settings)
    }

    fn check(&self, model: &Model, settings: &Settings) -> Result<()> {
        FT_L.check(model, settings)
    }

    fn prepare<'m>(
        &self,
        model: &'m Model,
        lessons: &Lessons,
        ctx: &Ctx,
    ) -> Result<Box<dyn Prepared + 'm>> {
        Ok(Box::new(Scattered {
            aimed: FT_L.prepare(model, lessons, ctx)?,
            seed: ctx.seed,
        }))
    }
}

/// FT-L, and the seed by which its updates are turned.
struct Scattered<'m> {
    aimed: Box<dyn Prepared + 'm>,
    seed: u64,
}

impl Scattered<'_> {
    fn turned(&self, edit: &Edit, id: &str) -> Edit {
        match edit.change() {
            Some(change) => Edit::Weights(scatter(change, self.seed, id)),
            None => edit.clone(),
        }
    }
}

impl Prepared for Scattered<'_> {
    fn edit_each(&self, requests: &[Request], start: &Change) -> Result<Vec<Arc<Edit>>> {
        let aimed = self.aimed.edit_each(requests, start)?;
        let turned = requests.iter().zip(aimed);
        Ok(turned
            .map(|(request, edit)| Arc::new(self.turned(&edit, &request.record.id)))
            .collect())
    }

    fn edit_jointly(&self, requests: &[Request]) -> Result<Edit> {
        // The order in which requests are given decides nothing.
        let mut ids: Vec<&str> = requests.iter().map(|r| r.record.id.as_str()).collect();
        ids.sort_unstable();
        Ok(self.turned(&self.aimed.edit_jointly(requests)?, &ids.join("+")))
    }
}

/// `change` with every delta turned in a random direction.
fn scatter(change: &Change, seed: u64, id: &str) -> Change {
    let weights = change
        .weights
        .iter()
        .map(|(name, delta)| {
            let mut stream = seed::stream(seed, &[ID, id, name]);
            let [rows, columns] = delta.shape();
            let draws: Vec<f64> = (0..rows * columns)
                .map(|_| f64::from(stream.random_range(-1.0f32..1.0)))
                .collect();
            let norm = draws.iter().map(|x| x * x).sum::<f64>().sqrt();
            let scale = delta.norm() / norm.max(f64::MIN_POSITIVE);
            let values = draws.iter().map(|x| (x * scale) as f32).collect();
            let device = delta.dense().device();
            let turned = host::tensor(values, [rows, columns], &device);
            (name.clone(), Delta::Dense(turned))
        })
        .collect();
    Change { weights }
}
