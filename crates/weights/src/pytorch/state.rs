//! Finding the state dictionary in what a file holds, and its tensors.

use std::collections::BTreeSet;

use super::Storages;
use super::layout;
use super::value::{Node, Pickled, Value, View};
use crate::error::{Error, Result, one_line};
use crate::header::{Entry, printable};

/// Keys under which training programs put the state dictionary beside their own state.
const WRAPPERS: [&str; 3] = ["model", "state_dict", "module"];

/// Most wrappers inside each other.
const MOST_WRAPPERS: usize = 4;

/// The tensors that `pickled` names, each found in `storages`.
pub(super) fn entries(
    pickled: &Pickled<'_>,
    storages: &Storages<'_>,
    file: &str,
) -> Result<Vec<Entry>> {
    let broken = |problem: String| Error::pytorch(file, &problem);
    let Some(state) = state(pickled, pickled.root, MOST_WRAPPERS) else {
        return Err(broken(holds_none(pickled)));
    };
    let mut seen = BTreeSet::new();
    let mut entries = Vec::new();
    for (name, view) in tensors(pickled, state) {
        if !printable(name) {
            return Err(broken(format!("`{name}` is no name for a tensor")));
        }
        if !seen.insert(name) {
            return Err(Error::Duplicate {
                location: file.to_owned(),
                name: one_line(name),
                places: "both in the same dictionary".to_owned(),
            });
        }
        let key = view.storage.key;
        let Some(storage) = storages.get(key) else {
            return Err(broken(format!(
                "the storage `{key}` of tensor `{name}` is missing"
            )));
        };
        entries.push(layout::entry(name, view, storage).map_err(broken)?);
    }
    Ok(entries)
}

/// The dictionary of tensors at or below `value`; a wrapper's content goes before the scalars
/// that may lie beside it.
fn state<'a>(pickled: &Pickled<'a>, value: Value<'a>, wrappers: usize) -> Option<Value<'a>> {
    let items = pickled.dict(value)?;
    let inner = WRAPPERS
        .iter()
        .filter(|_| wrappers > 0)
        .find_map(|wrapper| {
            let (_, inner) = items.iter().find(|(key, _)| *key == Value::Text(wrapper))?;
            state(pickled, *inner, wrappers - 1)
        });
    inner.or_else(|| tensors(pickled, value).next().is_some().then_some(value))
}

/// Names and tensors of the dictionary `value`; whatever else it holds is passed over.
fn tensors<'p, 'a>(
    pickled: &'p Pickled<'a>,
    value: Value<'a>,
) -> impl Iterator<Item = (&'a str, &'p View<'a>)> {
    let items = pickled.dict(value).unwrap_or_default();
    items
        .iter()
        .filter_map(|(key, value)| match (key, pickled.node(*value)) {
            (Value::Text(name), Some(Node::Tensor(view))) => Some((*name, view.as_ref())),
            _ => None,
        })
}

fn holds_none(pickled: &Pickled<'_>) -> String {
    let Some(items) = pickled.dict(pickled.root) else {
        return "it holds no dictionary of tensors".to_owned();
    };
    let keys: Vec<_> = items
        .iter()
        .filter_map(|(key, _)| match key {
            Value::Text(key) => Some(*key),
            _ => None,
        })
        .take(8)
        .collect();
    format!(
        "it holds no tensor, neither itself nor under {} (its keys: {})",
        WRAPPERS.join(", "),
        keys.join(", ")
    )
}
