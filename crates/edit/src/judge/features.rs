//! What the tower makes of the pictures of records.

use std::collections::HashMap;

use debias_core::{Picture, Record};
use debias_model::{ImageFeatures, ImageRef, Model, Parameters};

use crate::error::{Error, Result};

/// What the tower makes of pictures, by record and key.
pub(super) struct Features {
    pub all: Option<ImageFeatures>,
    /// Keys of each record with their places in `all`.
    places: Vec<Vec<(String, usize)>>,
}

impl Features {
    /// Lets `model` see the pictures that `keys` names of each record.
    pub fn see(
        model: &Model,
        records: &[Record],
        pictures: &HashMap<String, Picture>,
        keys: impl Fn(&Record) -> Vec<String>,
    ) -> Result<Self> {
        let (mut seen, mut places) = (Vec::new(), Vec::with_capacity(records.len()));
        for record in records {
            let mut of_record = Vec::new();
            for key in keys(record) {
                let picture = pictures.get(&key).ok_or_else(|| no_picture(record, &key))?;
                of_record.push((key, seen.len()));
                seen.push(picture);
            }
            places.push(of_record);
        }
        let all = match seen.is_empty() {
            true => None,
            false => Some(model.see(&seen, &model.base())?),
        };
        Ok(Self { all, places })
    }

    /// The picture `key` of record `at`, within all of them.
    pub fn image_ref(&self, at: usize, key: Option<&String>) -> Option<ImageRef> {
        let place = self.place(at, key?)?;
        Some(self.all.as_ref()?.image_ref(place))
    }

    /// The same alone.
    pub fn only(&self, at: usize, key: &str) -> Option<ImageFeatures> {
        Some(self.all.as_ref()?.only(self.place(at, key)?))
    }

    fn place(&self, at: usize, key: &str) -> Option<usize> {
        let known = self.places[at].iter().find(|(known, _)| known == key);
        known.map(|(_, place)| *place)
    }
}

pub(super) fn no_picture(record: &Record, key: &str) -> Error {
    Error::Record {
        id: record.id.clone(),
        source: debias_model::Error::Picture {
            path: key.to_owned(),
            problem: "is not among the pictures that were given".to_owned(),
        },
    }
}

/// What the tower makes of each record's pictures: own and rephrased, and the locality item's.
pub(super) fn look(
    model: &Model,
    records: &[Record],
    pictures: &HashMap<String, Picture>,
) -> Result<(Features, Features)> {
    let own = |record: &Record| context_keys(record).map(str::to_owned).collect();
    let elsewhere = |record: &Record| {
        let item = record.m_locality.as_ref();
        item.and_then(|item| item.image.clone())
            .into_iter()
            .collect()
    };
    Ok((
        Features::see(model, records, pictures, own)?,
        Features::see(model, records, pictures, elsewhere)?,
    ))
}

/// The pictures on which both answers of a record are compared.
pub(super) fn context_keys(record: &Record) -> impl Iterator<Item = &str> {
    let keys = [&record.image, &record.image_rephrase];
    keys.into_iter().flatten().map(String::as_str)
}
