//! From a recipe and the headers of its models to a list of output tensors.

use std::collections::{BTreeMap, BTreeSet};

use super::extras;
use super::gaps::Lacking;
use super::layers::{self, InLayer, in_layer};
use super::open::Opened;
use super::resolve::Scopes;
use crate::card::{Base, Values};
use crate::error::{Error, Result};
use crate::recipe::{ModelRef, Part, Recipe, Slice};

/// One tensor of the output.
#[derive(Clone, Debug)]
pub(crate) struct Job {
    /// Its name.
    pub name: String,
    /// Depth in its stack, for the manifest.
    pub work: Work,
}

/// How a tensor comes about.
#[derive(Clone, Debug)]
pub(crate) enum Work {
    /// Copied from one model.
    Copy { model: usize, tensor: String },
    /// Merged.
    Merge {
        inputs: Vec<Tensor>,
        /// The base among them.
        base: Option<usize>,
        shared: Values,
        each: Vec<Values>,
    },
}

/// A tensor of one model.
#[derive(Clone, Debug)]
pub(crate) struct Tensor {
    pub model: usize,
    pub name: String,
}

/// Everything that jobs are made from.
pub(crate) struct Planner<'a> {
    pub recipe: &'a Recipe,
    pub models: &'a [Opened],
    /// The model whose files and unmerged tensors the output has.
    pub donor: usize,
    /// Whether the base is only what adapters lie on, and no input.
    pub seat: bool,
    pub jobs: Vec<Job>,
    /// Layers of each stack that was cut from slices.
    pub layers: BTreeMap<String, Vec<(usize, usize)>>,
    missing: Vec<Error>,
    pub(super) lacking: Lacking,
}

/// A source of a slice: its place there (none for a base that is not listed) and its model.
#[derive(Clone, Copy)]
struct Listed {
    place: Option<usize>,
    model: usize,
}

/// The sources of a slice, and the base among them.
struct Sources {
    listed: Vec<Listed>,
    base: Option<usize>,
}

impl<'a> Planner<'a> {
    pub(crate) fn new(recipe: &'a Recipe, models: &'a [Opened], donor: usize) -> Self {
        Self {
            recipe,
            models,
            donor,
            seat: false,
            jobs: Vec::new(),
            layers: BTreeMap::new(),
            missing: Vec::new(),
            lacking: Lacking::default(),
        }
    }

    /// Plans every tensor of the output.
    pub(crate) fn plan(&mut self) -> Result<()> {
        let mut claimed = BTreeSet::new();
        for part in &self.recipe.parts {
            self.part(part, &mut claimed)?;
        }
        if let Some(missing) = self.missing.drain(..).next() {
            return Err(missing);
        }
        self.copy_rest(&claimed)?;
        self.jobs
            .sort_by_cached_key(|job| layers::natural(&job.name));
        if let Some(pair) = self
            .jobs
            .windows(2)
            .find(|pair| pair[0].name == pair[1].name)
        {
            return Err(self.refuse(
                "modules",
                &format!("two modules make the tensor `{}`", pair[0].name),
            ));
        }
        match self.jobs.is_empty() {
            true => Err(self.refuse("models", "no tensor is left to be merged")),
            false => Ok(()),
        }
    }

    pub(super) fn refuse(&self, field: &str, problem: &str) -> Error {
        Error::Recipe {
            origin: self.recipe.origin.clone(),
            field: field.to_owned(),
            problem: problem.to_owned(),
        }
    }

    pub(super) fn model(&self, reference: &ModelRef) -> usize {
        let found = self.models.iter().position(|m| m.reference == *reference);
        found.expect("every model of the recipe was opened")
    }

    /// The number of layers of the stack of the donor's that was cut, and which of them the output's
    /// layers come from.
    pub(super) fn cut_layers(&self) -> Option<(usize, Vec<usize>)> {
        let (stack, origins) = self.layers.first_key_value()?;
        let stacks = layers::stacks(self.models[self.donor].names());
        let before = stacks.get(stack.as_str()).copied().unwrap_or(0);
        Some((before, origins.iter().map(|(_, layer)| *layer).collect()))
    }

    /// Whether a part has layers by ranges.
    fn is_sliced(part: &Part) -> bool {
        let sliced = |slice: &Slice| slice.sources.iter().any(|source| source.layers.is_some());
        part.slices.iter().any(sliced)
    }

    /// The models of a part: its sources, and the base where it counts although it is not listed.
    fn part_models(&self, part: &Part) -> BTreeSet<usize> {
        let sources = part.slices.iter().flat_map(|slice| &slice.sources);
        let base = self.recipe.base.as_ref();
        let base = base.filter(|_| !Self::is_sliced(part) && !self.seat);
        let references = sources.map(|source| &source.model).chain(base);
        references.map(|reference| self.model(reference)).collect()
    }

    /// Names of a part, over all of its models.
    fn names(&self, part: &Part, models: &BTreeSet<usize>) -> Result<BTreeSet<&'a str>> {
        let all = models.iter().flat_map(|at| self.models[*at].names());
        let names: BTreeSet<&str> = match &part.name {
            None => all.filter(|name| self.wanted(name)).collect(),
            Some(module) => {
                let belongs = |name: &&str| belongs(module, name);
                all.filter(belongs).collect()
            }
        };
        match names.is_empty() {
            true => {
                let field = part.name.as_ref().map(|name| format!("modules.{name}"));
                let field = field.unwrap_or_else(|| "only".to_owned());
                Err(self.refuse(&field, "no tensor of these models belongs to it; modules are called text_decoder, vision_tower, projector or by the beginning of their tensors' names"))
            }
            false => Ok(names),
        }
    }

    /// Whether `only` lets a tensor be merged.
    fn wanted(&self, name: &str) -> bool {
        let only = &self.recipe.only;
        only.is_empty() || only.iter().any(|part| name.contains(part))
    }

    fn part(&mut self, part: &'a Part, claimed: &mut BTreeSet<String>) -> Result<()> {
        let models = self.part_models(part);
        let names = self.names(part, &models)?;
        let sliced = Self::is_sliced(part);
        if !sliced {
            self.check_depth(&models, &names)?;
        }
        claimed.extend(names.iter().map(|name| (*name).to_owned()));
        let stacks = layers::stacks(names.iter().copied().filter(|n| !extras::is_module(n)));
        // Layers that only some models have are no part of the depth.
        let in_all = |name: &&str| models.iter().all(|at| self.models[*at].has(name));
        let depths = layers::stacks(names.iter().copied().filter(in_all));
        let cut = match sliced {
            false => None,
            true => match layers::language_stack(&stacks) {
                Some(stack) => Some(stack),
                None if stacks.len() == 1 => stacks.keys().next().copied(),
                None => {
                    let found: Vec<_> = stacks.keys().copied().collect();
                    return Err(self.refuse(
                        "slices",
                        &format!("cannot tell which layers are meant among the stacks {}; name one under modules", found.join(", ")),
                    ));
                }
            },
        };
        let first = &part.slices[0];
        let last = part.slices.last().unwrap_or(first);
        for name in &names {
            let inside = in_layer(name);
            if cut.is_some_and(|stack| inside.is_some_and(|i| i.stack == stack)) {
                continue;
            }
            let slice = if layers::is_behind(name) { last } else { first };
            let t = match inside {
                None => 0.0,
                Some(inside) => {
                    let layers = depths.get(inside.stack).copied();
                    depth(inside.layer, layers.unwrap_or(inside.layer + 1))
                }
            };
            let scopes = self.scopes(part, slice, t);
            self.merge(name, scopes, |_| Some((*name).to_owned()))?;
        }
        if let Some(stack) = cut {
            self.slices(part, stack)?;
        }
        Ok(())
    }

    fn scopes(&self, part: &'a Part, slice: &'a Slice, t: f64) -> Scopes<'a> {
        Scopes {
            recipe: self.recipe,
            part,
            slice,
            t,
        }
    }

    /// The layers of a stack, slice by slice.
    fn slices(&mut self, part: &'a Part, stack: &str) -> Result<()> {
        let mut out = 0;
        let mut origins = Vec::new();
        for slice in &part.slices {
            for source in &slice.sources {
                self.check_range(slice, source.layers, self.model(&source.model), stack)?;
            }
            let ranges: Vec<_> = slice
                .sources
                .iter()
                .map(|s| s.layers.unwrap_or_default())
                .collect();
            let length = ranges.first().map_or(0, |[first, end]| end - first);
            for offset in 0..length {
                let at = |place: usize| ranges[place][0] + offset;
                let mut rests = BTreeSet::new();
                for (place, source) in slice.sources.iter().enumerate() {
                    let model = &self.models[self.model(&source.model)];
                    rests.extend(model.names().filter_map(in_layer).filter_map(|inside| {
                        let InLayer {
                            stack: found,
                            layer,
                            rest,
                        } = inside;
                        (found == stack && layer == at(place)).then_some(rest)
                    }));
                }
                let scopes = self.scopes(part, slice, depth(offset, length));
                for rest in rests {
                    let name = format!("{stack}.{out}.{rest}");
                    self.merge(&name, scopes, |place| {
                        place.map(|place| format!("{stack}.{}.{rest}", at(place)))
                    })?;
                }
                origins.push((self.model(&slice.sources[0].model), at(0)));
                out += 1;
            }
        }
        self.layers.insert(stack.to_owned(), origins);
        Ok(())
    }

    fn check_range(
        &self,
        slice: &Slice,
        range: Option<[usize; 2]>,
        model: usize,
        stack: &str,
    ) -> Result<()> {
        let opened = &self.models[model];
        let layers = layers::stacks(opened.names())
            .get(stack)
            .copied()
            .unwrap_or(0);
        match range {
            Some([_, end]) if end > layers => Err(self.refuse(
                &format!("{}.sources", slice.path),
                &format!(
                    "layer_range ends at {end}, but `{}` has {layers} layers",
                    opened.label
                ),
            )),
            _ => Ok(()),
        }
    }

    /// Sources and base of a slice; the base of the recipe counts where it is not listed.
    fn sources(&self, slice: &Slice) -> Result<Sources> {
        let mut listed: Vec<_> = slice
            .sources
            .iter()
            .enumerate()
            .map(|(place, source)| Listed {
                place: Some(place),
                model: self.model(&source.model),
            })
            .collect();
        let sliced = slice.sources.iter().any(|source| source.layers.is_some());
        let base = slice.base.as_ref().or(self.recipe.base.as_ref());
        let base = base.map(|base| self.model(base));
        let mut place = base.and_then(|base| listed.iter().position(|l| l.model == base));
        if let (Some(model), None, false) = (base, place, sliced || self.seat) {
            place = Some(listed.len());
            listed.push(Listed { place: None, model });
        }
        let card = self.recipe.merger.card();
        let place = match card.inputs.base {
            Base::Ignored => None,
            // Named, it is the origin; left out of a slice, it would be none in silence.
            Base::Optional if base.is_some() && place.is_none() => {
                return Err(self.without_base(slice, true));
            }
            Base::Optional => place,
            Base::Required => Some(place.ok_or_else(|| self.without_base(slice, base.is_some()))?),
        };
        self.check_count(slice, listed.len() - usize::from(place.is_some()))?;
        Ok(Sources {
            listed,
            base: place,
        })
    }

    pub(super) fn without_base(&self, slice: &Slice, named: bool) -> Error {
        let method = self.recipe.merger.card().id;
        match named {
            true => self.refuse(
                &format!("{}.sources", slice.path),
                &format!("{method} needs the base among the sources of each slice: list base_model with its layer_range"),
            ),
            false => self.refuse("base_model", &format!("is missing: {method} needs it")),
        }
    }

    pub(super) fn check_count(&self, slice: &Slice, found: usize) -> Result<()> {
        let card = self.recipe.merger.card();
        let (min, max) = (card.inputs.min, card.inputs.max);
        if found >= min && max.is_none_or(|max| found <= max) {
            return Ok(());
        }
        let wanted = match max {
            Some(max) if max == min => format!("{min}"),
            Some(max) => format!("{min} to {max}"),
            None => format!("at least {min}"),
        };
        let besides = match card.inputs.base {
            Base::Ignored => "",
            Base::Optional | Base::Required => " besides the base",
        };
        let problem = format!("{} takes {wanted} models{besides}, found {found}", card.id);
        Err(self.refuse(&slice.path, &problem))
    }

    /// Plans one merged tensor; `named` gives its name in a source, by place.
    fn merge(
        &mut self,
        name: &str,
        scopes: Scopes,
        named: impl Fn(Option<usize>) -> Option<String>,
    ) -> Result<()> {
        let sources = self.sources(scopes.slice)?;
        let mut inputs = Vec::with_capacity(sources.listed.len());
        let mut each = Vec::with_capacity(sources.listed.len());
        let mut lack = Vec::new();
        for (at, listed) in sources.listed.iter().enumerate() {
            // A base that is not listed has the output's own layers.
            let own = named(listed.place).unwrap_or_else(|| name.to_owned());
            let model = &self.models[listed.model];
            match model.stand_in(&own) {
                Some(found) => {
                    self.lacking.guessed.extend(model.guessed(&own, found));
                    inputs.push(Tensor {
                        model: listed.model,
                        name: found.to_owned(),
                    });
                }
                None => lack.push((listed.model, own.clone())),
            }
            each.push(scopes.input(&own, listed.place, sources.base == Some(at))?);
        }
        let form = sources.listed[sources.base.unwrap_or(0)].model;
        if lack.is_empty() && self.copy_buffer(name, form, &inputs) {
            return Ok(());
        }
        if let Some((model, tensor)) = lack.first() {
            let lacking: Vec<usize> = lack.iter().map(|(model, _)| *model).collect();
            if !self.settle(name, form, &inputs, &lacking) {
                self.missing.push(Error::MissingTensor {
                    tensor: tensor.clone(),
                    model: self.models[*model].label.clone(),
                });
            }
            return Ok(());
        }
        let shared = scopes.shared(name)?;
        let others: Vec<&Values> = (0..each.len())
            .filter(|at| sources.base != Some(*at))
            .map(|at| &each[at])
            .collect();
        self.recipe
            .merger
            .check(&shared, &others)
            .map_err(|(parameter, problem)| Error::Range {
                tensor: name.to_owned(),
                parameter,
                problem,
            })?;
        self.jobs.push(Job {
            name: name.to_owned(),
            work: Work::Merge {
                inputs,
                base: sources.base,
                shared,
                each,
            },
        });
        Ok(())
    }
}

/// Depth of a layer: 0 the first, 1 the last; a single layer is the last.
pub(super) fn depth(layer: usize, layers: usize) -> f64 {
    match layers {
        0 | 1 => 1.0,
        n => layer as f64 / (n - 1) as f64,
    }
}

/// Whether a tensor belongs to a module of a recipe.
fn belongs(module: &str, name: &str) -> bool {
    let starts = |prefix: &str| {
        name.strip_prefix(prefix)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
    };
    let projector = || {
        let name = name.to_lowercase();
        [
            "projector",
            "projection",
            "mlp1",
            "qformer",
            "query_tokens",
            "merger",
        ]
        .iter()
        .any(|part| name.split('.').any(|p| p.contains(part)))
            && in_layer(&name).is_none_or(|inside| inside.stack.contains("qformer"))
    };
    match module {
        "text_decoder" | "language_model" | "llm" | "text" if !starts(module) => {
            !layers::is_sense(name) && !projector()
        }
        "vision_tower" | "vision_model" | "vision" | "visual" if !starts(module) => {
            let lower = name.to_lowercase();
            (lower.contains("vision") || lower.contains("visual")) && !projector()
        }
        "projector" | "multi_modal_projector" | "bridge" if !starts(module) => projector(),
        "default" => true,
        _ => starts(module),
    }
}
