//! The pictures of a command's lines: each is read and seen once for all lines that show it.

use std::path::Path;
use std::time::Instant;

use debias_core::Picture;
use debias_data::read_picture;
use debias_model::{ImageFeatures, ImageRef, Model, View, Workers};
use rayon::prelude::*;

use crate::fitting::{Portion, retry_in_halves};
use crate::printer::Printer;

/// Pictures whose features are held at once.
const PICTURES: usize = 8;

/// The same on a card, which is idle where little is asked of it at a time.
const PICTURES_ON_CARD: usize = 64;

/// A folder of pictures and who looks at them.
pub struct Gallery<'a> {
    /// Who looks.
    pub model: &'a Model,
    /// What it is seen through.
    pub view: &'a View,
    /// The folder of the pictures.
    pub folder: &'a Path,
    /// Pictures seen at once, if somebody asks for a number.
    pub at_once: Option<usize>,
    /// Told when pictures do not fit into the device's memory, and how long each group took.
    pub printer: Printer,
}

/// The index of an item, and its picture among those seen.
pub type Member = (usize, Option<ImageRef>);

impl Gallery<'_> {
    /// Groups items, which show one of `images` each or none, by their pictures, and lets `work` compute
    /// each group from what the model sees in them.
    ///
    /// # Errors
    /// An unreadable picture, a model without sight, no room for a picture, or the error of `work`.
    pub fn each<'i>(
        &self,
        images: impl Iterator<Item = Option<&'i str>>,
        mut work: impl FnMut(&[Member], Option<&ImageFeatures>) -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        for group in by_picture(images, self.at_once()?) {
            let start = Instant::now();
            let seen = self.see(&group.pictures)?;
            let members = group.members.iter().map(|(item, picture)| {
                let picture = picture.zip(seen.as_ref());
                (*item, picture.map(|(i, seen)| seen.image_ref(i)))
            });
            work(&members.collect::<Vec<Member>>(), seen.as_ref())?;
            self.printer.detail(&format!(
                "{} lines, {} pictures in {:.5} s",
                group.members.len(),
                group.pictures.len(),
                start.elapsed().as_secs_f64()
            ));
        }
        Ok(())
    }

    /// How many pictures are seen at once: what was asked for or is usual, or what fits into the memory
    /// that may be taken.
    fn at_once(&self) -> anyhow::Result<usize> {
        let usual = match self.model.placement().uses_card() {
            true => PICTURES_ON_CARD,
            false => PICTURES,
        };
        let most = Portion {
            size: self.at_once.unwrap_or(usual),
            workers: Workers::Caller,
        };
        let each = self.model.footprint().pictures(1);
        match self.model.room() {
            Some(room) => Ok(most.within(room, each, "picture")?.size),
            None => Ok(most.size),
        }
    }

    /// Reads pictures and lets the model see them; `None` when there are none.
    fn see(&self, names: &[&str]) -> anyhow::Result<Option<ImageFeatures>> {
        let pictures = names
            .par_iter()
            .map(|name| Ok(read_picture(&self.folder.join(name))?));
        let pictures: Vec<Picture> = pictures.collect::<anyhow::Result<_>>()?;
        let pictures: Vec<&Picture> = pictures.iter().collect();
        if pictures.is_empty() {
            return Ok(None);
        }
        let too_many = |n| {
            self.printer.warn(&format!(
                "the device is out of memory; trying {n} pictures at a time"
            ));
        };
        let seen = retry_in_halves(&pictures, &too_many, &|some| {
            let seen = self.model.see(some, self.view)?;
            // A device that has no room for this must say so here, not where the features are used.
            seen.settle();
            Ok(seen)
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
    for (item, image) in images.enumerate() {
        let Some(image) = image else {
            text.members.push((item, None));
            continue;
        };
        let known = groups.iter_mut().find_map(|group| {
            let picture = group.pictures.iter().position(|other| *other == image)?;
            Some((group, picture))
        });
        if let Some((group, picture)) = known {
            group.members.push((item, Some(picture)));
            continue;
        }
        match groups
            .last_mut()
            .filter(|group| group.pictures.len() < most)
        {
            Some(group) => {
                group.members.push((item, Some(group.pictures.len())));
                group.pictures.push(image);
            }
            None => groups.push(Group {
                pictures: vec![image],
                members: vec![(item, Some(0))],
            }),
        }
    }
    groups.extend((!text.members.is_empty()).then_some(text));
    groups
}
