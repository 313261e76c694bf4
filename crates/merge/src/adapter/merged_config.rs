//! `adapter_config.json` of a merged adapter.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value, json};

use super::config::Config;

/// What PEFT must be told of one module.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct MergedModule {
    pub rank: usize,
    /// What its product is multiplied by.
    pub scale: f64,
}

/// The configuration under which PEFT reads `modules` with these ranks and scales: that of the first
/// of the merged adapters, with what the merge has changed.
pub(crate) fn merged_config(
    adapters: &[&Config],
    modules: &BTreeMap<String, MergedModule>,
) -> Value {
    let mut config = adapters
        .first()
        .map(|one| one.all.clone())
        .unwrap_or_default();
    let root = adapters.iter().all(|adapter| adapter.root);
    let alpha = |one: &MergedModule| {
        let rank = one.rank as f64;
        neat(one.scale * if root { rank.sqrt() } else { rank })
    };
    let ranks: Vec<_> = modules.values().map(|one| json!(one.rank)).collect();
    let alphas: Vec<_> = modules.values().map(alpha).collect();
    let (rank, alpha) = (most(&ranks), most(&alphas));
    let names = || {
        modules
            .keys()
            .map(|name| format!("^{}", fancy_regex::escape(name)))
    };
    let pattern = |values: Vec<Value>, usual: &Value| -> Value {
        let odd = names().zip(values).filter(|(_, value)| value != usual);
        Value::Object(odd.collect::<Map<_, _>>())
    };
    config.insert("rank_pattern".to_owned(), pattern(ranks, &rank));
    config.insert("alpha_pattern".to_owned(), pattern(alphas, &alpha));
    config.insert("r".to_owned(), rank);
    config.insert("lora_alpha".to_owned(), alpha);
    config.insert("use_rslora".to_owned(), root.into());
    config.insert("inference_mode".to_owned(), true.into());
    targets(adapters, modules, &mut config);
    Value::Object(config)
}

/// Where the adapters have different targets, the merged one names its modules one by one.
fn targets(
    adapters: &[&Config],
    modules: &BTreeMap<String, MergedModule>,
    config: &mut Map<String, Value>,
) {
    let differ = |key: &str| {
        let mut values = adapters.iter().map(|adapter| set(adapter.all.get(key)));
        let first = values.next();
        values.any(|value| Some(value) != first)
    };
    let selecting = [
        "target_modules",
        "exclude_modules",
        "layers_to_transform",
        "layers_pattern",
    ];
    if selecting.into_iter().any(differ) {
        config.insert(
            "target_modules".to_owned(),
            modules.keys().cloned().collect(),
        );
        for key in &selecting[1..] {
            config.insert((*key).to_owned(), Value::Null);
        }
    }
    if differ("modules_to_save") {
        let saved = adapters
            .iter()
            .flat_map(|adapter| set(adapter.all.get("modules_to_save")));
        let saved: BTreeSet<String> = saved.collect();
        config.insert("modules_to_save".to_owned(), saved.into_iter().collect());
    }
}

/// The items of a list in any order, or the one value that stands in its place.
fn set(value: Option<&Value>) -> BTreeSet<String> {
    let text = |value: &Value| {
        value
            .as_str()
            .map_or_else(|| value.to_string(), str::to_owned)
    };
    match value {
        None | Some(Value::Null) => BTreeSet::new(),
        Some(Value::Array(items)) => items.iter().map(text).collect(),
        Some(one) => BTreeSet::from([text(one)]),
    }
}

/// The value that occurs most often, the first of several.
fn most(values: &[Value]) -> Value {
    let count = |value: &Value| values.iter().filter(|other| *other == value).count();
    let mut best = (0, Value::from(1));
    for value in values {
        let found = count(value);
        if found > best.0 {
            best = (found, value.clone());
        }
    }
    best.1
}

/// A whole number as one, where division has left only a rounding error.
fn neat(value: f64) -> Value {
    let whole = value.round();
    if (value - whole).abs() <= 1e-9 * value.abs() && whole.abs() < 1e15 {
        json!(whole as i64)
    } else {
        json!(value)
    }
}
