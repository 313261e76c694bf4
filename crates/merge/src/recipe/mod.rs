//! The recipe language: mergekit's YAML, read unchanged.
//!
//! A recipe is read in full before any file is opened. Keys and parameters that mergekit ignores in
//! silence are ignored here too, but named: an ignored `weight` is a wrong result. Callers may
//! refuse such a recipe ([`Recipe::strictly`]).

mod fields;
mod parameters;
mod reference;
mod setting;
mod tokens;
mod yaml;

use std::collections::BTreeMap;
use std::path::Path;

use debias_weights::Dtype;
use serde_json::Value;

use crate::error::{Error, Result};
use crate::merger::Merger;
use crate::mergers;

use fields::{Fields, Reading};
pub use parameters::Parameters;
pub use reference::ModelRef;
pub use setting::Setting;

use crate::vocabulary::TokenizerSetting;

/// What is merged, and how.
#[derive(Clone)]
pub struct Recipe {
    /// The file, for messages.
    pub origin: String,
    /// The YAML as it was written.
    pub text: String,
    /// The method.
    pub merger: &'static dyn Merger,
    /// The base of the whole merge.
    pub base: Option<ModelRef>,
    /// What is merged: one part without a name, or modules by name.
    pub parts: Vec<Part>,
    /// Parameters of the whole merge.
    pub parameters: Parameters,
    /// Number format of the output, where `out_dtype` does not say otherwise.
    pub dtype: Option<Dtype>,
    /// Number format of the output.
    pub out_dtype: Option<Dtype>,
    /// Whose vocabulary the output has.
    pub tokenizer: Option<TokenizerSetting>,
    /// The chat template of the output: `auto`, a name or the template itself.
    pub chat_template: Option<String>,
    /// Only tensors whose names contain one of these are merged, all others are those of the base
    /// (an extension). Empty merges all.
    pub only: Vec<String>,
    /// Seed of the random methods (an extension).
    pub seed: Option<u64>,
    /// What the output's configuration calls its architecture, where it takes the configuration of
    /// one of these models.
    pub architectures: BTreeMap<String, String>,
    /// What was read but has no effect.
    pub warnings: Vec<String>,
}

/// A module of the output, or all of it.
#[derive(Clone, Debug, PartialEq)]
pub struct Part {
    /// The module's name in the recipe.
    pub name: Option<String>,
    /// Its layers, one slice after the other.
    pub slices: Vec<Slice>,
    /// Parameters of the module.
    pub parameters: Parameters,
}

/// Layers of the output that are merged from as many layers of each source.
#[derive(Clone, Debug, PartialEq)]
pub struct Slice {
    /// Where it stands in the recipe.
    pub path: String,
    /// The models.
    pub sources: Vec<Source>,
    /// The base, where it is not that of the recipe.
    pub base: Option<ModelRef>,
    /// Parameters of the slice.
    pub parameters: Parameters,
}

/// One model of a slice.
#[derive(Clone, Debug, PartialEq)]
pub struct Source {
    /// Which one.
    pub model: ModelRef,
    /// First layer and the one behind the last; all of them where there is none.
    pub layers: Option<[usize; 2]>,
    /// Parameters of this model.
    pub parameters: Parameters,
}

/// Keys of other tools' recipes, and what to say.
const FOREIGN: [(&str, &str); 4] = [
    (
        "experts",
        "mixtures of experts (mergekit-moe) are not supported",
    ),
    (
        "gate_mode",
        "mixtures of experts (mergekit-moe) are not supported",
    ),
    (
        "genome",
        "evolutionary merges (mergekit-evolve) are not supported",
    ),
    (
        "merges",
        "several merges in one file (mergekit-multi) are not supported; run them one after the other",
    ),
];

impl Recipe {
    /// Reads a recipe; `exists` tells of folders (their names may hold `+` or `@`).
    ///
    /// # Errors
    /// What is no YAML, unknown, misplaced, of the wrong kind or unsupported, with its place.
    pub fn parse(text: &str, origin: &str, exists: &dyn Fn(&str) -> bool) -> Result<Self> {
        let (yaml, repeated) = yaml::parse(text, origin)?;
        let reading = Reading::new(origin, exists);
        if yaml.is_null() {
            return Err(reading.refuse("", "is empty; begin with merge_method"));
        }
        for key in repeated {
            reading.warn(format!(
                "`{key}` stands more than once: the last one counts"
            ));
        }
        let mut fields = Fields::new(&reading, "", yaml)?;
        let Some(method) = fields.text("merge_method")? else {
            return Err(foreign(&fields).unwrap_or_else(|| {
                fields.refuse(
                    "merge_method",
                    "is missing; `bench list mergers` shows the methods",
                )
            }));
        };
        let merger =
            mergers::find(&method).map_err(|problem| fields.refuse("merge_method", problem))?;
        let reader = RecipeReader {
            reading: &reading,
            merger,
        };
        let base = match fields.take("base_model") {
            Some(base) => Some(ModelRef::parse(&reading, "base_model", base)?),
            None => None,
        };
        let parts = reader.parts(&mut fields)?;
        let parameters = reader.parameters(&mut fields, false)?;
        let mut recipe = Self {
            base,
            parts,
            parameters,
            dtype: dtype(&reading, &mut fields, "dtype")?,
            out_dtype: dtype(&reading, &mut fields, "out_dtype")?,
            tokenizer: tokens::parse(&reading, &mut fields)?,
            chat_template: fields.text("chat_template")?,
            only: only(&mut fields)?,
            seed: seed(&mut fields)?,
            origin: origin.to_owned(),
            text: text.to_owned(),
            merger,
            architectures: BTreeMap::new(),
            warnings: Vec::new(),
        };
        if let Some(foreign) = foreign(&fields) {
            return Err(foreign);
        }
        fields.finish(|key| parameters::misplaced(key, "parameters"));
        (recipe.warnings, recipe.architectures) = reading.gathered();
        Ok(recipe)
    }

    /// The recipe, if it holds nothing that has no effect.
    ///
    /// # Errors
    /// All [`Recipe::warnings`] in one.
    pub fn strictly(self) -> Result<Self> {
        if self.warnings.is_empty() {
            return Ok(self);
        }
        Err(Error::Recipe {
            problem: format!("{} (refused by --strict)", self.warnings.join("; ")),
            origin: self.origin,
            field: String::new(),
        })
    }

    /// Reads a recipe from a file; models may be called as folders that lie beside it.
    ///
    /// # Errors
    /// As [`Recipe::parse`], or a file that cannot be read.
    pub fn read(path: &Path, exists: &dyn Fn(&str) -> bool) -> Result<Self> {
        let text = std::fs::read_to_string(path).map_err(|source| Error::Read {
            path: path.to_owned(),
            source,
        })?;
        Self::parse(&text, &path.display().to_string(), exists)
    }

    /// All models, the base first, each once.
    pub fn models(&self) -> Vec<&ModelRef> {
        let slices = || self.parts.iter().flat_map(|part| &part.slices);
        let bases = self
            .base
            .iter()
            .chain(slices().flat_map(|slice| &slice.base));
        let sources = slices().flat_map(|slice| slice.sources.iter().map(|s| &s.model));
        let mut all: Vec<&ModelRef> = Vec::new();
        for model in bases.chain(sources) {
            if !all.contains(&model) {
                all.push(model);
            }
        }
        all
    }
}

/// The error of a recipe that is meant for another tool.
fn foreign(fields: &Fields) -> Option<Error> {
    let (key, problem) = FOREIGN.iter().find(|(key, _)| fields.has(key))?;
    Some(fields.refuse(key, *problem))
}

fn dtype(reading: &Reading, fields: &mut Fields, key: &'static str) -> Result<Option<Dtype>> {
    let Some(name) = fields.text(key)? else {
        return Ok(None);
    };
    match name.strip_prefix("torch.").unwrap_or(&name) {
        "float32" | "float" => Ok(Some(Dtype::F32)),
        "float16" | "half" => Ok(Some(Dtype::F16)),
        "bfloat16" => Ok(Some(Dtype::BF16)),
        "float64" | "double" => {
            reading.warn(format!(
                "`{key}: {name}`: merges are computed and written in float32"
            ));
            Ok(Some(Dtype::F32))
        }
        _ => Err(fields.refuse(
            key,
            format!("unknown dtype `{name}`; use float32, float16 or bfloat16"),
        )),
    }
}

fn only(fields: &mut Fields) -> Result<Vec<String>> {
    match fields.take("only") {
        None => Ok(Vec::new()),
        Some(Value::String(one)) => Ok(vec![one]),
        Some(Value::Array(list)) => list
            .into_iter()
            .map(|item| match item {
                Value::String(text) => Ok(text),
                _ => Err(fields.refuse("only", "expected parts of tensor names")),
            })
            .collect(),
        Some(_) => Err(fields.refuse("only", "expected a part of tensor names, or a list of them")),
    }
}

fn seed(fields: &mut Fields) -> Result<Option<u64>> {
    match fields.take("seed") {
        None => Ok(None),
        Some(value) => match value.as_u64() {
            Some(seed) => Ok(Some(seed)),
            None => Err(fields.refuse("seed", format!("{value} is no whole number of at least 0"))),
        },
    }
}

/// Reads the parts of one recipe.
struct RecipeReader<'a> {
    reading: &'a Reading<'a>,
    merger: &'static dyn Merger,
}

impl RecipeReader<'_> {
    /// Exactly one of `models`, `slices` and `modules`.
    fn parts(&self, fields: &mut Fields) -> Result<Vec<Part>> {
        let models = fields.list("models")?;
        let slices = fields.list("slices")?;
        let modules = fields.map("modules")?;
        let given = usize::from(models.is_some())
            + usize::from(slices.is_some())
            + usize::from(modules.is_some());
        if given != 1 {
            return Err(foreign(fields).unwrap_or_else(|| {
                self.reading.refuse(
                    "",
                    "exactly one of `models`, `slices` and `modules` must be given",
                )
            }));
        }
        let Some(modules) = modules else {
            return Ok(vec![Part {
                name: None,
                slices: self.slices("", models, slices)?,
                parameters: Parameters::default(),
            }]);
        };
        modules
            .into_iter()
            .map(|(name, value)| {
                let path = format!("modules.{name}");
                let mut fields = Fields::new(self.reading, &path, value)?;
                let (models, slices) = (fields.list("models")?, fields.list("slices")?);
                if models.is_some() == slices.is_some() {
                    return Err(self
                        .reading
                        .refuse(&path, "exactly one of `models` and `slices` must be given"));
                }
                let part = Part {
                    slices: self.slices(&format!("{path}."), models, slices)?,
                    parameters: self.parameters(&mut fields, false)?,
                    name: Some(name),
                };
                fields.finish(|key| parameters::misplaced(key, "parameters"));
                Ok(part)
            })
            .collect()
    }

    /// `models` is one slice of all layers.
    fn slices(
        &self,
        prefix: &str,
        models: Option<Vec<Value>>,
        slices: Option<Vec<Value>>,
    ) -> Result<Vec<Slice>> {
        if let Some(models) = models {
            let path = format!("{prefix}models");
            let slice = Slice {
                sources: self.sources(&path, models, false)?,
                base: None,
                parameters: Parameters::default(),
                path,
            };
            return Ok(vec![slice]);
        }
        let slices = slices.unwrap_or_default();
        if slices.is_empty() {
            return Err(self.reading.refuse(&format!("{prefix}slices"), "is empty"));
        }
        let slices = slices.into_iter().enumerate();
        slices
            .map(|(at, value)| self.slice(format!("{prefix}slices[{at}]"), value))
            .collect()
    }

    fn slice(&self, path: String, value: Value) -> Result<Slice> {
        let mut fields = Fields::new(self.reading, &path, value)?;
        let Some(sources) = fields.list("sources")? else {
            return Err(fields.refuse("sources", "is missing"));
        };
        let base = match fields.take("base_model") {
            Some(base) => Some(ModelRef::parse(
                self.reading,
                &fields.at("base_model"),
                base,
            )?),
            None => None,
        };
        let slice = Slice {
            sources: self.sources(&fields.at("sources"), sources, true)?,
            base,
            parameters: self.parameters(&mut fields, false)?,
            path: path.clone(),
        };
        // mergekit reads it and does nothing with it.
        if fields.take("residual_weight").is_some() {
            self.reading
                .warn(format!("`{path}.residual_weight` has no effect"));
        }
        fields.finish(|key| parameters::misplaced(key, "parameters"));
        let lengths: Vec<_> = slice
            .sources
            .iter()
            .filter_map(|s| s.layers)
            .map(|[a, b]| b - a)
            .collect();
        if lengths.windows(2).all(|pair| pair[0] == pair[1]) {
            Ok(slice)
        } else {
            Err(self.reading.refuse(&format!("{path}.sources"),
                format!(
                    "the layer ranges have different lengths: {lengths:?}; take as many layers of each model"
                ),
            ))
        }
    }

    fn sources(&self, path: &str, list: Vec<Value>, sliced: bool) -> Result<Vec<Source>> {
        if list.is_empty() {
            return Err(self.reading.refuse(path, "is empty"));
        }
        let mut sources: Vec<Source> = Vec::with_capacity(list.len());
        for (at, value) in list.into_iter().enumerate() {
            let source = self.source(format!("{path}[{at}]"), value, sliced)?;
            if sources.iter().any(|other| other.model == source.model) {
                return Err(self.reading.refuse(
                    &format!("{path}[{at}].model"),
                    format!(
                        "`{}` is listed twice; add up its weights and list it once",
                        source.model
                    ),
                ));
            }
            sources.push(source);
        }
        Ok(sources)
    }

    fn source(&self, path: String, value: Value, sliced: bool) -> Result<Source> {
        // mergekit wants a mapping; a bare name is what a beginner writes.
        if let Value::String(name) = &value {
            return Err(self.reading.refuse(
                &path,
                format!("expected a mapping: write `- model: {name}`"),
            ));
        }
        let mut fields = Fields::new(self.reading, &path, value)?;
        let Some(model) = fields.take("model") else {
            return Err(fields.refuse("model", "is missing"));
        };
        let model = ModelRef::parse(self.reading, &fields.at("model"), model)?;
        let layers = if sliced {
            Some(self.layers(&mut fields)?)
        } else {
            None
        };
        let source = Source {
            model,
            layers,
            parameters: self.parameters(&mut fields, true)?,
        };
        fields.finish(|key| match key {
            "layer_range" => Some("`layer_range` belongs under `slices`, not `models`".to_owned()),
            key => parameters::misplaced(key, "parameters"),
        });
        Ok(source)
    }

    fn layers(&self, fields: &mut Fields) -> Result<[usize; 2]> {
        let Some(list) = fields.list("layer_range")? else {
            return Err(fields.refuse("layer_range", "is missing; write [first, behind the last]"));
        };
        let numbers: Option<Vec<i64>> = list.iter().map(Value::as_i64).collect();
        let numbers = numbers.unwrap_or_default();
        match numbers.as_slice() {
            [first, end] if *first >= 0 && first < end => Ok([*first as usize, *end as usize]),
            _ => Err(fields.refuse(
                "layer_range",
                format!(
                    "{} is no range of layers; write [first, behind the last], counted from 0",
                    Value::Array(list)
                ),
            )),
        }
    }

    fn parameters(&self, fields: &mut Fields, of_model: bool) -> Result<Parameters> {
        let path = fields.at("parameters");
        match fields.map("parameters")? {
            None => Ok(Parameters::default()),
            Some(map) => Parameters::parse(self.reading, &path, map, self.merger.card(), of_model),
        }
    }
}
