//! The pictures of a group of items: each is read and seen once for all items that show it.

use std::collections::HashMap;
use std::time::Instant;

use debias_core::Picture;
use rayon::prelude::*;

use super::asked::Asked;
use super::asking::Engine;
use super::portion::{Portion, retry_in_halves};
use super::source::Unreadable;
use crate::batch::{ImageFeatures, ImageRef};
use crate::error::{Error, Result};
use crate::parallel::Workers;

/// Pictures whose features are held at once.
const PICTURES: usize = 8;

/// The same on a card, which is idle where little is asked of it at a time.
const PICTURES_ON_CARD: usize = 64;

/// An item of a group: its index, and its picture among those seen.
pub(super) type Member = (usize, Option<ImageRef>);

impl Engine<'_> {
    /// Groups items by their pictures, and lets `work` compute each group from what the model sees in
    /// them. Items whose picture cannot be read or seen are told to `refuse` instead.
    ///
    /// # Errors
    /// No room for a picture, a lost device, or the error of `work`.
    pub(super) fn each_group(
        &self,
        asked: &[&Asked],
        mut refuse: impl FnMut(usize, Error),
        mut work: impl FnMut(&[Member], Option<&ImageFeatures>) -> Result<()>,
    ) -> Result<()> {
        let images = asked.iter().map(|asked| asked.image.as_deref());
        for mut group in by_picture(images, self.pictures_at_once()?) {
            let start = Instant::now();
            if !group.pictures.is_empty() && !self.model.has_sight() {
                for (item, _) in &group.members {
                    let model = self.model.name().to_owned();
                    refuse(*item, Error::NoVisionSide { model });
                }
                continue;
            }
            let pictures = self.read(&mut group, &mut refuse);
            let seen = self.see(&pictures.iter().collect::<Vec<_>>())?;
            let members = group.members.iter().map(|(item, picture)| {
                let picture = picture.zip(seen.as_ref());
                (*item, picture.map(|(i, seen)| seen.image_ref(i)))
            });
            work(&members.collect::<Vec<Member>>(), seen.as_ref())?;
            let seconds = start.elapsed().as_secs_f64();
            self.watch
                .done(group.members.len(), group.pictures.len(), seconds);
        }
        Ok(())
    }

    /// How many pictures are seen at once: what was asked for or is usual, or what fits into the memory
    /// that may be taken.
    fn pictures_at_once(&self) -> Result<usize> {
        let usual = if self.model.placement().uses_card() {
            PICTURES_ON_CARD
        } else {
            PICTURES
        };
        let most = Portion {
            size: self.batching.pictures.unwrap_or(usual),
            workers: Workers::Caller,
        };
        let each = self.model.footprint().pictures(1);
        match self.model.room() {
            Some(room) => Ok(most.within(room, each, "picture")?.size),
            None => Ok(most.size),
        }
    }

    /// Reads the pictures of `group`; what cannot be read leaves it with the items that show it.
    fn read(&self, group: &mut Group, refuse: &mut impl FnMut(usize, Error)) -> Vec<Picture> {
        let read = group.pictures.par_iter();
        let read: Vec<_> = read.map(|key| self.pictures.picture(key)).collect();
        let mut place = 0;
        // The place of each that was read among those that were.
        let places: Vec<std::result::Result<usize, &Unreadable>> = read
            .iter()
            .map(|picture| {
                let here = place;
                place += usize::from(picture.is_ok());
                picture.as_ref().map(|_| here)
            })
            .collect();
        group.members.retain_mut(|(item, picture)| {
            let Some(at) = picture else { return true };
            match places[*at] {
                Ok(place) => {
                    *at = place;
                    true
                }
                Err(unreadable) => {
                    refuse(*item, unreadable.clone().into());
                    false
                }
            }
        });
        read.into_iter().flatten().collect()
    }

    /// Lets the model see pictures; `None` when there are none.
    ///
    /// # Errors
    /// A text model, no room for a picture, or a lost device.
    pub fn see(&self, pictures: &[&Picture]) -> Result<Option<ImageFeatures>> {
        if pictures.is_empty() {
            return Ok(None);
        }
        let too_many = |n| self.watch.halved("pictures", n);
        let seen = retry_in_halves(pictures, &too_many, &|some| {
            let seen = self.model.see(some, &self.view)?;
            // A device that has no room for this must say so here, not where the features are used.
            seen.settle();
            Ok::<_, Error>(seen)
        })?;
        Ok(ImageFeatures::join(seen))
    }
}

/// Items that are computed together: they share few pictures, or have none.
struct Group<'a> {
    /// Their pictures, without repetition.
    pictures: Vec<&'a str>,
    /// Index of each item, and of its picture in `pictures`.
    members: Vec<(usize, Option<usize>)>,
}

/// Groups items by picture, those without one in a group of their own.
/// A group has at most `most` pictures.
fn by_picture<'a>(images: impl Iterator<Item = Option<&'a str>>, most: usize) -> Vec<Group<'a>> {
    let mut text = Group {
        pictures: Vec::new(),
        members: Vec::new(),
    };
    let mut groups: Vec<Group> = Vec::new();
    let mut known: HashMap<&str, (usize, usize)> = HashMap::new();
    for (item, image) in images.enumerate() {
        let Some(image) = image else {
            text.members.push((item, None));
            continue;
        };
        let (group, picture) = *known.entry(image).or_insert_with(|| {
            if groups
                .last()
                .is_none_or(|group| group.pictures.len() >= most)
            {
                groups.push(Group {
                    pictures: Vec::new(),
                    members: Vec::new(),
                });
            }
            let group = groups.len() - 1;
            groups[group].pictures.push(image);
            (group, groups[group].pictures.len() - 1)
        });
        groups[group].members.push((item, Some(picture)));
    }
    groups.extend((!text.members.is_empty()).then_some(text));
    groups
}
