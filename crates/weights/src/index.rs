//! `model.safetensors.index.json`: which shard holds which tensor.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;

use crate::error::{Error, Result, one_line};
use crate::header::{Pairs, duplicate};
use crate::json;
use crate::source::plain;

/// The index, checked as far as it can be without the shards.
pub(crate) struct Index {
    /// Shards by tensor.
    claims: BTreeMap<String, String>,
}

#[derive(Deserialize)]
struct Written {
    weight_map: Pairs,
}

impl Index {
    /// Reads `bytes`, the content of `file`.
    pub(crate) fn parse(bytes: &[u8], file: &str) -> Result<Self> {
        let Written {
            weight_map: Pairs(claims),
        } = json::parse(bytes, file)?;
        if claims.is_empty() {
            return Err(Error::Json {
                file: file.to_owned(),
                field: Some("weight_map".to_owned()),
                problem: "names no tensor".to_owned(),
                mend: "fetch the index again",
            });
        }
        if let Some((name, first, second)) = duplicate(&claims) {
            return Err(Error::Duplicate {
                location: file.to_owned(),
                name: one_line(name),
                places: one_line(&format!("{first} and {second}")),
            });
        }
        for (_, shard) in &claims {
            plain(shard, || file.to_owned())?;
        }
        Ok(Self {
            claims: claims.into_iter().collect(),
        })
    }

    /// The shards' names, sorted.
    pub(crate) fn shards(&self) -> BTreeSet<&str> {
        self.claims.values().map(String::as_str).collect()
    }

    /// Tensors and their shards.
    pub(crate) fn claims(&self) -> impl Iterator<Item = (&str, &str)> {
        let claims = self.claims.iter();
        claims.map(|(tensor, shard)| (tensor.as_str(), shard.as_str()))
    }

    /// The shard that holds `tensor`; `None` for one that is not named.
    pub(crate) fn shard(&self, tensor: &str) -> Option<&str> {
        self.claims.get(tensor).map(String::as_str)
    }
}
