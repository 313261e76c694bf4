//! An adapter on its base: its modules by the names that the base's file uses.
//!
//! An adapter calls modules as the program that trained it did; published files may put the same
//! module under other wrappers (`transformer.h.0` is `h.0` in GPT-2's file, `model.language_model`
//! is `language_model.model` in LLaVA's).

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use debias_weights::Checkpoint;

use super::{Adapter, Judged, config, refused};
use crate::error::Result;
use crate::spelling::unwrapped;

impl Adapter {
    /// Opens the adapter in `dir`, called `label` in messages, with all names as the model `base` has
    /// them.
    ///
    /// # Errors
    /// As [`Adapter::open`]; a module or a tensor that the base lacks, or factors that do not fit it.
    pub fn open_on(dir: &Path, label: &str, base: &Checkpoint) -> Result<Self> {
        let shape = |name: &str| base.info(name).map(|info| info.shape.as_slice());
        Self::open(dir, label)?.onto(&base.location(), base.names(), shape)
    }

    /// The tensors that it changes or replaces, by the names that it has for them.
    pub(crate) fn touched(&self) -> BTreeSet<String> {
        let modules = self.modules.keys().map(|module| format!("{module}.weight"));
        modules.chain(self.wholes.keys().cloned()).collect()
    }

    /// The same without some tensors.
    pub(crate) fn without(mut self, names: &BTreeSet<String>) -> Self {
        self.modules
            .retain(|module, _| !names.contains(&format!("{module}.weight")));
        self.wholes.retain(|name, _| !names.contains(name));
        self
    }

    /// The same with all names as the base has them; `shape` gives the shapes of the base's tensors.
    ///
    /// # Errors
    /// A module or a tensor that the base lacks or has twice; factors that do not fit their weight.
    pub(crate) fn onto<'a>(
        mut self,
        base: &str,
        names: impl Iterator<Item = &'a str>,
        shape: impl Fn(&str) -> Option<&'a [usize]>,
    ) -> Result<Self> {
        let mut bare: BTreeMap<String, Vec<&str>> = BTreeMap::new();
        for name in names {
            bare.entry(unwrapped(name)).or_default().push(name);
        }
        let label = self.label.clone();
        let find = |name: &str| -> Judged<&str> {
            match bare.get(&unwrapped(name)).map(Vec::as_slice) {
                Some(found) if found.contains(&name) => Ok(found
                    .iter()
                    .find(|found| **found == name)
                    .expect("is contained")),
                Some([one]) => Ok(one),
                Some(several) => Err(format!(
                    "it changes `{name}`, which may be any of {} in `{base}`; give the base that it was trained on",
                    several.join(", ")
                )),
                None => Err(format!(
                    "it changes `{name}`, which `{base}` lacks; give the base that it was trained on ({} names it)",
                    config::FILE
                )),
            }
        };
        let rename = |name: &str| find(name).map_err(|problem| refused(&label, problem));
        let mut modules = BTreeMap::new();
        for (module, place) in std::mem::take(&mut self.modules) {
            let weight = rename(&format!("{module}.weight"))?;
            // A tensor trained whole may have another shape than the base's.
            let whole = self.wholes.get(&format!("{module}.weight"));
            let shape = match whole {
                Some((file, key)) => self.files[*file].info(key).map(|i| i.shape.as_slice()),
                None => shape(weight),
            };
            let shape = shape.unwrap_or_default();
            if place
                .layout
                .turned(place.outputs, place.inputs(), shape)
                .is_none()
            {
                return Err(refused(&label, place.misfit(&module, shape)));
            }
            let module = weight.strip_suffix(".weight").unwrap_or(weight);
            modules.insert(module.to_owned(), place);
        }
        let mut wholes = BTreeMap::new();
        for (name, place) in std::mem::take(&mut self.wholes) {
            wholes.insert(rename(&name)?.to_owned(), place);
        }
        Ok(Self {
            modules,
            wholes,
            ..self
        })
    }
}
