//! Which items a limited run asks: the first of every stratum in the seeded order.

use std::collections::{BTreeMap, HashSet};

use debias_core::{Item, seed};

/// Keeps `limit` units of every stratum, in the order of the items; all where there is no limit.
///
/// A unit is what must stay together; `stratum` and `unit` name those of an item.
pub(crate) fn limited(
    dataset: &str,
    items: Vec<Item>,
    limit: Option<usize>,
    seed: u64,
    stratum: impl Fn(&Item) -> String,
    unit: impl Fn(&Item) -> String,
) -> Vec<Item> {
    let Some(limit) = limit else {
        return items;
    };
    let mut strata: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let mut known = HashSet::new();
    for item in &items {
        let unit = unit(item);
        if known.insert(unit.clone()) {
            strata.entry(stratum(item)).or_default().push(unit);
        }
    }
    let drawn: HashSet<String> = strata
        .into_values()
        .flat_map(|mut units| {
            seed::seeded_order(seed, dataset, &mut units);
            units.truncate(limit);
            units
        })
        .collect();
    items
        .into_iter()
        .filter(|item| drawn.contains(&unit(item)))
        .collect()
}
