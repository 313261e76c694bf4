//! The models of a recipe, opened: headers read, nothing else.

use std::collections::{BTreeMap, BTreeSet};

use debias_weights::{Checkpoint, Shared, TensorInfo};
use serde_json::Value;

use super::{extras, layers, tied};
use crate::adapter::{Adapter, config};
use crate::error::{Error, Result};
use crate::library::{Library, Location};
use crate::recipe::ModelRef;
use crate::spelling;
use crate::stream::{Input, Stored};
use crate::vocabulary::{self, Speaker};

/// One model of a merge.
pub(crate) struct Opened {
    pub reference: ModelRef,
    /// As the recipe names it.
    pub label: String,
    pub checkpoint: Checkpoint,
    pub config: Value,
    /// What lies on top of the checkpoint.
    pub adapter: Option<Adapter>,
    /// The adapter's folder, where its tokenizer is the model's.
    speaks: Option<Checkpoint>,
    /// What a reader should know of it.
    pub notes: Vec<String>,
    /// Its tensors by the names that the merge has for them.
    places: BTreeMap<String, Place>,
    /// Tensors that are not row-major in their file, gathered.
    gathered: BTreeMap<String, Shared>,
}

/// Where a tensor of the merge is in a model.
struct Place {
    /// In the checkpoint.
    stored: String,
    /// As the adapter calls it: another name where a tied head is adapted and its table is not.
    adapted: String,
}

impl Place {
    fn of(name: &str) -> Self {
        Self {
            stored: name.to_owned(),
            adapted: name.to_owned(),
        }
    }
}

fn places<'a>(names: impl Iterator<Item = &'a str>) -> BTreeMap<String, Place> {
    names
        .map(|name| (name.to_owned(), Place::of(name)))
        .collect()
}

impl Opened {
    /// Opens the folder or the embedded model of that name.
    pub(crate) fn new(
        reference: &ModelRef,
        library: &dyn Library,
        allow_nonfinite: bool,
    ) -> Result<Self> {
        let checkpoint = match library.locate(&reference.path) {
            Some(Location::Folder(dir)) => {
                if Adapter::is_at(&dir) && !dir.join("config.json").is_file() {
                    return Err(refuse(reference, ADAPTER));
                }
                Checkpoint::open(&dir)?
            }
            Some(Location::Open(checkpoint)) => checkpoint,
            None => return Err(refuse(reference, MISSING)),
        };
        let config = checkpoint.json("config.json")?;
        checkpoint.refuse_quantised()?;
        let mut gathered = BTreeMap::new();
        for name in checkpoint.names() {
            if checkpoint.raw(name).is_err() {
                gathered.insert(name.to_owned(), checkpoint.shared(name)?);
            }
        }
        let mut opened = Self {
            adapter: None,
            speaks: None,
            notes: checkpoint.notes().to_vec(),
            reference: reference.clone(),
            label: reference.to_string(),
            places: places(checkpoint.names()),
            checkpoint,
            config,
            gathered,
        };
        if let Some(adapter) = &reference.adapter {
            let Some(Location::Folder(dir)) = library.locate(adapter) else {
                return Err(refuse(reference, MISSING_ADAPTER));
            };
            let adapter = Adapter::open(&dir, &opened.label)?.allow_nonfinite(allow_nonfinite);
            opened.put_on(adapter)?;
            opened.hear(Checkpoint::bare(&dir)?)?;
        }
        Ok(opened)
    }

    /// Lays an adapter on the checkpoint. A tied head that it changes becomes a tensor of its own.
    fn put_on(&mut self, adapter: Adapter) -> Result<()> {
        let names: BTreeSet<&str> = self.checkpoint.names().collect();
        let table = self.token_table().map(str::to_owned);
        let bare: BTreeSet<String> = names.iter().map(|n| spelling::unwrapped(n)).collect();
        let new = |name: &String| !bare.contains(&spelling::unwrapped(name));
        let touched = adapter.touched();
        let heads = touched
            .iter()
            .filter(|name| tied::is_head(name) && new(name));
        let heads: BTreeSet<String> = table
            .iter()
            .flat_map(|table| heads.clone().map(|head| tied::head_beside(table, head)))
            .collect();
        let dropped = touched
            .iter()
            .filter(|name| !tied::is_head(name) && new(name) && extras::is_module(name));
        let dropped: BTreeSet<String> = dropped.cloned().collect();
        let all = names
            .iter()
            .copied()
            .chain(heads.iter().map(String::as_str));
        let shape = |name: &str| {
            let stored = if heads.contains(name) {
                table.as_deref()?
            } else {
                name
            };
            self.checkpoint
                .info(stored)
                .map(|info| info.shape.as_slice())
        };
        let adapter = adapter
            .without(&dropped)
            .onto(&self.reference.path, all, shape)?;
        if !dropped.is_empty() {
            let dropped: Vec<_> = dropped.iter().map(String::as_str).collect();
            self.notes.push(format!(
                "`{}` trained tensors that `{}` does not have, and they are left out: {}",
                self.label,
                self.reference.path,
                several(&dropped)
            ));
        }
        for head in heads {
            let stored = table.clone().unwrap_or_default();
            let adapted = head.clone();
            self.places.insert(head, Place { stored, adapted });
        }
        self.adapter = Some(adapter);
        Ok(())
    }

    /// Decides whose tokenizer is the model's: the adapter's, where it has trained rows for other
    /// tokens than the base's.
    ///
    /// # Errors
    /// New rows without a tokenizer, or rows that do not fit it.
    fn hear(&mut self, folder: Checkpoint) -> Result<()> {
        let adapted = |name: &str| tied::is_vocabulary(name) && self.is_adapted(name);
        let (Some([before, after]), true) = (self.rows()?, self.names().any(adapted)) else {
            return Ok(());
        };
        let [theirs, own] = [&folder, &self.checkpoint].map(|checkpoint| Speaker {
            label: &self.label,
            checkpoint,
            rows: after,
        });
        let files = folder.files()?;
        let has_one = ["tokenizer.json", "tokenizer.model"]
            .iter()
            .any(|name| files.iter().any(|file| file == name));
        if before != after && !has_one {
            return Err(self.wrong(format!(
                "its adapter has {after} rows of tokens and its base {before}, and no tokenizer says which tokens they are; put the one that it was trained with into the adapter's folder"
            )));
        }
        if let Some(end) = vocabulary::end_of_tokens(&theirs).filter(|end| *end > after) {
            return Err(self.wrong(format!(
                "the tokenizer in the adapter's folder has tokens up to number {}, and the adapter leaves {after} rows for them; train and save the rows of all tokens (modules_to_save: [embed_tokens, lm_head])",
                end - 1
            )));
        }
        if has_one && (before != after || vocabulary::same_tokens(&theirs, &own) == Some(false)) {
            self.notes.push(format!(
                "`{}` has its adapter's tokenizer, and {after} rows of tokens",
                self.label
            ));
            self.speaks = Some(folder);
        }
        Ok(())
    }

    /// Rows of the token table before and with the adapter; `None` without a table.
    ///
    /// # Errors
    /// An adapter that replaces tensors by others of another shape, or gives rows to one of table
    /// and head alone.
    fn rows(&self) -> Result<Option<[usize; 2]>> {
        let mut resized = None;
        for (name, place) in &self.places {
            let (Some(before), Some(after)) =
                (self.checkpoint.info(&place.stored), self.info(name))
            else {
                continue;
            };
            let [old, new] = [before, after].map(|info| info.shape.as_slice());
            if old == new {
                continue;
            }
            let rows = tied::is_vocabulary(name) && old.get(1..) == new.get(1..);
            if !rows {
                return Err(self.wrong(format!(
                    "its adapter replaces `{name}`, of shape {old:?}, by one of shape {new:?}; give the base that it was trained on"
                )));
            }
            resized = new.first().map(|rows| (name, *rows));
        }
        if let Some((resized, rows)) = resized {
            for name in self.names().filter(|name| tied::is_vocabulary(name)) {
                let other = self.info(name).and_then(|info| info.shape.first());
                if let Some(other) = other.filter(|other| **other != rows) {
                    return Err(self.wrong(format!(
                        "its adapter leaves `{resized}` with {rows} rows and `{name}` with {other}; train and save both (modules_to_save) or neither"
                    )));
                }
            }
        }
        let Some(table) = self.token_table() else {
            return Ok(None);
        };
        let stored = self.checkpoint.info(&self.places[table].stored);
        let [before, after] = [stored, self.info(table)].map(|info| Some(*info?.shape.first()?));
        Ok(before.zip(after).map(|(before, after)| [before, after]))
    }

    /// Rows of the output's token table, where they are not those of this checkpoint's; `rows_of` tells
    /// those of an output's tensor.
    pub(super) fn new_rows(&self, rows_of: impl Fn(&str) -> Option<usize>) -> Option<usize> {
        let table = self.token_table()?;
        let before = self.checkpoint.info(self.place(table).0)?.shape.first();
        rows_of(table).filter(|rows| before != Some(rows))
    }

    fn wrong(&self, problem: String) -> Error {
        Error::Model {
            model: self.label.clone(),
            problem,
        }
    }

    /// The folder whose tokenizer is the model's.
    pub(crate) fn voice(&self) -> &Checkpoint {
        self.speaks.as_ref().unwrap_or(&self.checkpoint)
    }

    /// The base's folder, where the adapter's tokenizer stands in the place of its own.
    pub(super) fn beneath_voice(&self) -> Option<&Checkpoint> {
        self.speaks.as_ref().map(|_| &self.checkpoint)
    }

    /// Calls the tensors of this model as `other` calls its own, where they are the same under other
    /// wrappers.
    pub(super) fn respell(&mut self, other: &Self) {
        let there: BTreeSet<&str> = other.places.keys().map(String::as_str).collect();
        let names = spelling::respelt(self.places.keys().map(String::as_str), &there);
        let mut changed = names.iter().filter(|(name, own)| name != *own);
        let Some((name, own)) = changed.next() else {
            return;
        };
        self.notes.push(format!(
            "`{}` and `{}` spell tensors differently (`{own}`, `{name}`); those that are the same are merged, under the names of `{}`",
            self.label, other.label, other.label
        ));
        let names = names.into_iter();
        let names: Vec<_> = names.map(|(name, own)| (name, own.to_owned())).collect();
        let mut places = std::mem::take(&mut self.places);
        let taken = |(name, own): (String, String)| Some((name, places.remove(&own)?));
        self.places = names.into_iter().filter_map(taken).collect();
    }

    /// Opens an adapter that is merged with others: its file as a model's, and what it is.
    pub(super) fn adapter(
        reference: &ModelRef,
        library: &dyn Library,
        allow_nonfinite: bool,
    ) -> Result<Self> {
        let Some(Location::Folder(dir)) = library.locate(&reference.path) else {
            return Err(refuse(reference, MISSING_ADAPTER));
        };
        let label = reference.to_string();
        let adapter = Adapter::open(&dir, &label)?.allow_nonfinite(allow_nonfinite);
        let checkpoint = Checkpoint::open_file(&Adapter::weights(&dir, &label)?)?;
        Ok(Self {
            reference: reference.clone(),
            label,
            config: checkpoint.json(config::FILE)?,
            places: places(checkpoint.names()),
            checkpoint,
            adapter: Some(adapter),
            speaks: None,
            notes: Vec::new(),
            gathered: BTreeMap::new(),
        })
    }

    /// The tensors that are merged or copied, sorted.
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> + Clone {
        let names = self.places.keys().map(String::as_str);
        names.filter(|name| !layers::is_derived(name))
    }

    /// Whether it has a tensor of that name.
    pub(super) fn has(&self, name: &str) -> bool {
        self.places.contains_key(name)
    }

    /// What the checkpoint and the adapter call a tensor of the merge.
    fn place<'n>(&'n self, name: &'n str) -> (&'n str, &'n str) {
        match self.places.get(name) {
            Some(place) => (&place.stored, &place.adapted),
            // An adapter by itself has names for what it trained whole that its file does not have.
            None => (name, name),
        }
    }

    pub(crate) fn info(&self, name: &str) -> Option<&TensorInfo> {
        let (stored, adapted) = self.place(name);
        let adapter = self.adapter.as_ref();
        let whole = adapter.and_then(|adapter| adapter.whole(adapted));
        whole.or_else(|| self.checkpoint.info(stored))
    }

    /// Whether an adapter changes the tensor, so that its bytes are not all of it.
    pub(crate) fn is_adapted(&self, name: &str) -> bool {
        let (_, adapted) = self.place(name);
        let adapter = self.adapter.as_ref();
        adapter.is_some_and(|adapter| adapter.touches(adapted))
    }

    /// The tensor as it is read: stored, perhaps replaced, perhaps with a change on top.
    pub(crate) fn input(&self, name: &str) -> Result<Input<'_>> {
        let info = self.info(name).ok_or_else(|| Error::MissingTensor {
            tensor: name.to_owned(),
            model: self.label.clone(),
        })?;
        let (_, adapted) = self.place(name);
        let whole = match &self.adapter {
            Some(adapter) => adapter.replaced(adapted)?.map(|(stored, _)| stored),
            None => None,
        };
        let stored = match whole {
            Some(whole) => Some(whole),
            None => Stored::new(info.dtype, self.bytes(name)?),
        };
        let stored = stored.ok_or_else(|| Error::Dtype {
            tensor: name.to_owned(),
            model: self.label.clone(),
            found: info.dtype,
        })?;
        let change = match &self.adapter {
            Some(adapter) => adapter.change(adapted, &info.shape)?,
            None => None,
        };
        Ok(match change {
            Some(change) => Input::Adapted(stored, change),
            None => Input::Stored(stored),
        })
    }

    /// The bytes of a tensor as they are stored.
    pub(crate) fn bytes(&self, name: &str) -> Result<&[u8]> {
        let (stored, _) = self.place(name);
        match self.gathered.get(stored) {
            Some(shared) => Ok(&shared.bytes),
            None => Ok(self.checkpoint.raw(stored)?.bytes),
        }
    }

    /// The tensor that stands for `name` here: itself, or the one that it is tied to.
    pub(crate) fn stand_in<'a>(&'a self, name: &'a str) -> Option<&'a str> {
        if self.places.contains_key(name) {
            return Some(name);
        }
        let found = tied::stand_in(name, self.names())?;
        // What the configuration says to be two tensors is lost, not tied; a table is rarely left
        // out for its head, and then the configuration ties them.
        let said = super::config::ties(&self.config);
        let lost = match (tied::is_head(name), tied::is_head(found)) {
            (true, false) => said == Some(false),
            (false, true) => said != Some(true),
            _ => false,
        };
        (!lost).then_some(found)
    }

    /// What to say where `found` stands for a head and nothing but the architecture says that they
    /// are tied.
    pub(super) fn guessed(&self, name: &str, found: &str) -> Option<String> {
        let silent = super::config::ties(&self.config).is_none();
        (silent && tied::is_head(name) && !tied::is_head(found)).then(|| {
            format!(
                "`{}` has no `{name}`: `{found}` is taken for it",
                self.label
            )
        })
    }

    /// Whether its head is its token table, by its configuration or because the file has none.
    pub(super) fn is_tied(&self) -> bool {
        super::config::ties(&self.config) == Some(true) || !self.names().any(tied::is_head)
    }

    /// The token table.
    pub(super) fn token_table(&self) -> Option<&str> {
        let table = self.names().find(|name| tied::is_token_table(name));
        table.or_else(|| tied::stand_in("shared.weight", self.names()))
    }

    /// Rows of the token table.
    pub(crate) fn vocabulary(&self) -> Option<usize> {
        self.info(self.token_table()?)?.shape.first().copied()
    }
}

/// The first few of many tensors, and how many there are.
pub(super) fn several(names: &[&str]) -> String {
    const SHOWN: usize = 3;
    let shown = names.iter().take(SHOWN).map(|name| format!("`{name}`"));
    let shown = shown.collect::<Vec<_>>().join(", ");
    match names.len().saturating_sub(SHOWN) {
        0 => shown,
        rest => format!("{shown} and {rest} more"),
    }
}

const ADAPTER: &str = "is a LoRA adapter; write base+adapter to merge it with its base";

const MISSING_ADAPTER: &str = "the adapter's folder is not there; adapters are looked for from the working directory, then beside the recipe, and nothing is downloaded";

const MISSING: &str = "there is no such folder; models are looked for from the working directory, then beside the recipe, and nothing is downloaded";

fn refuse(reference: &ModelRef, problem: &str) -> Error {
    Error::Model {
        model: reference.to_string(),
        problem: problem.to_owned(),
    }
}

/// The adapter that a model of a merge of adapters is.
pub(crate) fn adapter_of(models: &[Opened], at: usize) -> &Adapter {
    let adapter = models[at].adapter.as_ref();
    adapter.expect("every model of a merge of adapters was opened as one")
}
