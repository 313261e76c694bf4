//! LoRA adapters as PEFT reads and writes them.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use debias_merge::Adapter;
use debias_model::tune::{AdapterPlan, Factor, Pupil, lora_sites, trained_sites};
use debias_model::{Model, Orientation, Parameter, Parameters, Stage};
use debias_weights::{Checkpoint, Tensor};
use serde_json::{Value, json};

use super::choices::{Lora, TargetWord, Targets};
use crate::terminal::exit::Exit;
use crate::terminal::failure::Refusal;

/// What `also` calls the model's own projector.
const PROJECTOR: &str = "projector";

/// An adapter in training: what PEFT is told of it.
#[derive(Clone, Debug)]
pub struct Adapting {
    plan: AdapterPlan,
    /// `fan_in_fan_out`: whether weights lie `[in, out]`.
    turned: bool,
    /// `model_type` of the base.
    family: String,
    base: String,
}

impl Adapting {
    /// The adapter that `lora` asks for, before its first update.
    ///
    /// # Errors
    /// Targets that the model lacks, or an adapter to go on from that does not fit.
    pub fn new(
        lora: &Lora,
        (model, checkpoint): (&Model, &Checkpoint),
        (base, home): (&str, &Path),
        seed: u64,
    ) -> anyhow::Result<(Self, Pupil)> {
        let config: Value = checkpoint.json("config.json")?;
        let started = match &lora.from {
            None => None,
            Some(dir) => {
                let dir = super::data::found(dir, home);
                let label = dir.display().to_string();
                Some(
                    Adapter::open_on(&dir, &label, checkpoint)
                        .map_err(crate::models::merging::refusal)?,
                )
            }
        };
        let plan = match &started {
            None => AdapterPlan {
                modules: targets(model, &lora.targets)?,
                rank: lora.r,
                scale: lora.alpha / lora.r as f64,
                also: also(model, &lora.also)?,
                seed,
            },
            Some(adapter) => continued(adapter, seed)?,
        };
        let mut pupil = Pupil::of_adapter(model, &plan)?;
        if let Some(adapter) = &started {
            restore(&mut pupil, adapter, &plan)?;
        }
        let of_weight = |module: &String| model.parameter(&format!("{module}.weight"));
        let turned = plan
            .modules
            .iter()
            .filter_map(|module| of_weight(module).ok());
        let adapting = Self {
            turned: turned
                .into_iter()
                .any(|site| site.linear == Some(Orientation::InOut)),
            plan,
            family: config["model_type"].as_str().unwrap_or_default().to_owned(),
            base: base.to_owned(),
        };
        Ok((adapting, pupil))
    }

    /// Trained values that are weights of the model itself.
    pub fn wholes(&self, model: &Model) -> usize {
        let sites = self
            .plan
            .also
            .iter()
            .filter_map(|name| model.parameter(name).ok());
        sites.map(|site| site.shape.iter().product::<usize>()).sum()
    }

    /// `adapter_config.json`.
    ///
    /// # Errors
    /// None; JSON of texts and numbers always writes.
    pub fn config(&self, model: &Model) -> anyhow::Result<Vec<u8>> {
        let saved: BTreeSet<String> = self
            .plan
            .also
            .iter()
            .map(|name| self.module_of(name))
            .collect();
        let alpha = self.plan.scale * self.plan.rank as f64;
        let alpha = match alpha.fract() == 0.0 && alpha < 1e15 {
            true => json!(alpha as u64),
            false => json!(alpha),
        };
        let config = json!({
            "alpha_pattern": {},
            "auto_mapping": null,
            "base_model_name_or_path": self.base,
            "bias": "none",
            "fan_in_fan_out": self.turned,
            "inference_mode": true,
            "init_lora_weights": true,
            "layers_pattern": null,
            "layers_to_transform": null,
            "lora_alpha": alpha,
            "lora_dropout": 0.0,
            "modules_to_save": if saved.is_empty() { Value::Null } else { json!(saved) },
            "peft_type": "LORA",
            "r": self.plan.rank,
            "rank_pattern": {},
            "revision": null,
            "target_modules": self.target_modules(model),
            "task_type": if model.has_sight() { Value::Null } else { json!("CAUSAL_LM") },
            "use_dora": false,
            "use_rslora": false,
        });
        let mut text = serde_json::to_vec_pretty(&config)?;
        text.push(b'\n');
        Ok(text)
    }

    /// The tensors of `adapter_model.safetensors`.
    ///
    /// # Errors
    /// A value that is not there, which is a fault of the program.
    pub fn tensors(
        &self,
        model: &Model,
        pupil: &Pupil,
    ) -> anyhow::Result<BTreeMap<String, Tensor>> {
        let mut tensors = BTreeMap::new();
        for module in &self.plan.modules {
            for (factor, name) in [(Factor::A, "lora_A"), (Factor::B, "lora_B")] {
                let key = factor.of(module);
                let shape = pupil.shape(&key).unwrap_or_default().to_vec();
                let values = pupil.value(&key).unwrap_or_default();
                let name = format!("{PREFIX}{}.{name}.weight", self.peft(module));
                tensors.insert(name, Tensor { shape, values });
            }
        }
        for name in &self.plan.also {
            let shape = model.parameter(name)?.shape.clone();
            let values = pupil.value(name).unwrap_or_default();
            tensors.insert(
                format!("{PREFIX}{}", self.peft(name)),
                Tensor { shape, values },
            );
        }
        Ok(tensors)
    }

    /// The module that holds a parameter, as PEFT calls it.
    fn module_of(&self, parameter: &str) -> String {
        let name = self.peft(parameter);
        name.rsplit_once('.')
            .map_or(name.clone(), |(module, _)| module.to_owned())
    }

    /// Ends of names where they say which modules are meant, else all names.
    fn target_modules(&self, model: &Model) -> Vec<String> {
        let end = |name: &str| name.rsplit('.').next().unwrap_or(name).to_owned();
        let chosen: BTreeSet<&str> = self.plan.modules.iter().map(String::as_str).collect();
        let ends: BTreeSet<String> = chosen.iter().map(|name| end(name)).collect();
        let linear = model
            .parameters()
            .iter()
            .filter(|site| site.linear.is_some());
        let mut others = linear
            .filter_map(|site| site.name.strip_suffix(".weight"))
            .filter(|module| !chosen.contains(module));
        if others.any(|module| ends.contains(&end(module))) {
            chosen.iter().map(|module| self.peft(module)).collect()
        } else {
            ends.into_iter().collect()
        }
    }

    /// A published name as the classes of transformers call it.
    fn peft(&self, name: &str) -> String {
        match self.family.as_str() {
            "gpt2" | "gpt_neo"
                if !name.starts_with("transformer.") && !name.starts_with("lm_head") =>
            {
                format!("transformer.{name}")
            }
            "llava" | "internvl" => {
                let renamed = NEWER.iter().find_map(|(old, new)| {
                    name.strip_prefix(old).map(|rest| format!("{new}{rest}"))
                });
                renamed.unwrap_or_else(|| name.to_owned())
            }
            _ => name.to_owned(),
        }
    }
}

/// In front of every name in an adapter's file.
const PREFIX: &str = "base_model.model.";

/// Published names of LLaVA and InternVL, and what their classes call the same modules by now.
const NEWER: [(&str, &str); 4] = [
    ("vision_tower.", "model.vision_tower."),
    ("language_model.model.", "model.language_model."),
    ("language_model.lm_head", "lm_head"),
    ("multi_modal_projector.", "model.multi_modal_projector."),
];

fn module(site: &Parameter) -> Option<&str> {
    site.name.strip_suffix(".weight")
}

/// Modules that get factors.
fn targets(model: &Model, targets: &Targets) -> anyhow::Result<Vec<String>> {
    let all: Vec<&str> = lora_sites(model).into_iter().filter_map(module).collect();
    let ends = match targets {
        Targets::Word(TargetWord::DecoderLinear) => {
            return Ok(all.into_iter().map(str::to_owned).collect());
        }
        Targets::Named(ends) => ends,
    };
    let fits = |name: &str, end: &str| name == end || name.ends_with(&format!(".{end}"));
    for end in ends {
        if !all.iter().any(|name| fits(name, end)) {
            let names = all
                .iter()
                .map(|name| name.rsplit('.').next().unwrap_or(name));
            return Err(debias_core::Error::unknown("module", end, names).into());
        }
    }
    let chosen = all
        .into_iter()
        .filter(|name| ends.iter().any(|end| fits(name, end)));
    Ok(chosen.map(str::to_owned).collect())
}

/// Parameters that are trained whole beside the factors; a text model's projector is none.
fn also(model: &Model, parts: &[String]) -> anyhow::Result<Vec<String>> {
    let mut names = BTreeSet::new();
    for part in parts {
        let sites: Vec<&Parameter> = if part == PROJECTOR {
            let sites = model.parameters().iter();
            sites
                .filter(|site| site.stage == Stage::Projector)
                .collect()
        } else {
            trained_sites(model, std::slice::from_ref(part))?
        };
        if let Some(table) = sites.iter().find(|site| is_tied_table(model, site)) {
            return Err(Refusal::new(
                Exit::Usage,
                format!(
                    "the recipe: `lora.also`: {} is the head too, and an adapter would part them",
                    table.name
                ),
            )
            .help("Leave it out, or train weights in the place of an adapter.")
            .into());
        }
        names.extend(sites.into_iter().map(|site| site.name.clone()));
    }
    Ok(names.into_iter().collect())
}

/// Whether a parameter is the token table of a model whose head is that table.
fn is_tied_table(model: &Model, site: &Parameter) -> bool {
    let vocabulary = model.decoder().outline().vocabulary;
    let of_tokens = |site: &Parameter| site.shape.len() == 2 && site.shape[0] == vocabulary;
    let mut heads = model
        .parameters()
        .iter()
        .filter(|site| site.stage == Stage::Head);
    site.stage == Stage::Embed && of_tokens(site) && !heads.any(of_tokens)
}

/// The plan of an adapter that was begun elsewhere.
fn continued(adapter: &Adapter, seed: u64) -> anyhow::Result<AdapterPlan> {
    let refuse = |problem: &str| {
        Refusal::new(Exit::Refused, format!("{}: {problem}", adapter.label()))
            .help("Only an adapter of one rank and one alpha is trained on.")
    };
    let mut found: Option<(usize, f64)> = None;
    for module in adapter.modules() {
        let factors = adapter
            .factors(module)
            .map_err(crate::models::merging::refusal)?;
        let Some(factors) = factors else { continue };
        let this = (factors.rank, factors.scale);
        match found {
            Some(first) if first != this => {
                return Err(refuse("its modules have different ranks or scales").into());
            }
            _ => found = Some(this),
        }
    }
    let (rank, scale) = found.ok_or_else(|| refuse("it has no factors"))?;
    Ok(AdapterPlan {
        modules: adapter.modules().map(str::to_owned).collect(),
        rank,
        scale,
        also: adapter.wholes().map(str::to_owned).collect(),
        seed,
    })
}

/// Puts the values of `adapter` into the place of fresh ones.
fn restore(pupil: &mut Pupil, adapter: &Adapter, plan: &AdapterPlan) -> anyhow::Result<()> {
    let refusal = crate::models::merging::refusal;
    for module in &plan.modules {
        if let Some(factors) = adapter.factors(module).map_err(refusal)? {
            pupil.set(&Factor::A.of(module), factors.a)?;
            pupil.set(&Factor::B.of(module), factors.b)?;
        }
    }
    for name in &plan.also {
        if let Some((stored, _)) = adapter.replaced(name).map_err(refusal)? {
            pupil.set(name, stored.all())?;
        }
    }
    Ok(())
}
