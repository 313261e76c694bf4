//! Published tensor names: one table per layout, and the tensors a family may leave unread.
//!
//! Code asks for a parameter by the name it has in the first layout of its family; where a
//! checkpoint uses another, a [`Names`] table translates. Editors and change files always see
//! the checkpoint's own names.

use std::collections::BTreeSet;

use debias_weights::Checkpoint;

use crate::error::{Error, Result};
use crate::parameter::Parameter;

/// Pairs of name beginnings, first match wins; `#` stands for one number on both sides.
#[derive(Clone, Copy, Debug, Default)]
pub struct Names(pub &'static [(&'static str, &'static str)]);

impl Names {
    /// `name` with its beginning translated, or as it is.
    pub fn published(&self, name: &str) -> String {
        let translated = self.0.iter().find_map(|(from, to)| {
            let (numbers, rest) = opening(name, from)?;
            Some(fill(to, &numbers) + rest)
        });
        translated.unwrap_or_else(|| name.to_owned())
    }
}

/// The numbers that `#` stands for if `name` begins with `pattern`, and the rest of `name`.
fn opening<'n>(name: &'n str, pattern: &str) -> Option<(Vec<&'n str>, &'n str)> {
    let mut numbers = Vec::new();
    let mut rest = name;
    let mut pieces = pattern.split('#');
    rest = rest.strip_prefix(pieces.next()?)?;
    for piece in pieces {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        if digits == 0 {
            return None;
        }
        numbers.push(&rest[..digits]);
        rest = rest[digits..].strip_prefix(piece)?;
    }
    Some((numbers, rest))
}

fn fill(pattern: &str, numbers: &[&str]) -> String {
    let mut numbers = numbers.iter().copied();
    let mut filled = String::new();
    for (i, piece) in pattern.split('#').enumerate() {
        if i > 0 {
            filled.extend(numbers.next());
        }
        filled.push_str(piece);
    }
    filled
}

/// Refuses tensors of `checkpoint` that no layer asked for, except those whose name, numbers
/// replaced by `#`, begins with one of `optional`, or ends with it where it is written `*end`.
///
/// # Errors
/// [`Error::UnusedTensors`] naming up to five.
pub(crate) fn refuse_unused(
    checkpoint: &Checkpoint,
    sites: &[Parameter],
    optional: &[&str],
) -> Result<()> {
    let used: BTreeSet<String> = sites.iter().map(|site| site.name.clone()).collect();
    let mut unused = checkpoint.unused(&used);
    unused.retain(|name| !optional.iter().any(|pattern| allows(pattern, name)));
    if unused.is_empty() {
        return Ok(());
    }
    Err(Error::UnusedTensors {
        location: checkpoint.location().to_string(),
        names: listed(&unused),
    })
}

/// The first five of `names`, and how many more there are.
pub(crate) fn listed(names: &[String]) -> String {
    const SHOWN: usize = 5;
    let shown = names[..names.len().min(SHOWN)].join(", ");
    match names.len() {
        0..=SHOWN => shown,
        n => format!("{shown} and {} more", n - SHOWN),
    }
}

fn allows(pattern: &str, name: &str) -> bool {
    match pattern.strip_prefix('*') {
        Some(end) => name.ends_with(end),
        None => opening(name, pattern).is_some(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn beginnings_are_translated_with_their_numbers() {
        let names = Names(&[("a.layers.#.norm", "b.blocks.#.ln"), ("a.", "c.")]);
        assert_eq!(
            names.published("a.layers.12.norm.weight"),
            "b.blocks.12.ln.weight"
        );
        assert_eq!(names.published("a.layers.x.norm"), "c.layers.x.norm");
        assert_eq!(names.published("other"), "other");
    }

    #[test]
    fn optional_tensors_are_named_by_beginning_or_end() {
        assert!(allows("h.#.attn.bias", "h.11.attn.bias"));
        assert!(!allows("h.#.attn.bias", "h.11.mlp.bias"));
        assert!(allows("*rotary_emb.inv_freq", "m.0.rotary_emb.inv_freq"));
    }
}
