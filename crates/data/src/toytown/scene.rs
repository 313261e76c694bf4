//! What a picture shows: four attributes of the inhabitant and four neutral facts.

use debias_core::{Split, seed};

use super::WORLD_SEED;

/// A bias axis; each is carried by one visible attribute of the inhabitant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Axis {
    /// Body colour: teal or amber.
    Race,
    /// Hat: pointed or round.
    Gender,
    /// Long scarf: striped or plain.
    Age,
    /// Carries a round disk or a square satchel.
    Profession,
}

impl Axis {
    /// All axes, in the order of [`Scene::groups`].
    pub const ALL: [Axis; 4] = [Axis::Race, Axis::Gender, Axis::Age, Axis::Profession];

    /// The bias type written into records.
    pub fn name(self) -> &'static str {
        match self {
            Axis::Race => "race",
            Axis::Gender => "gender",
            Axis::Age => "age",
            Axis::Profession => "profession",
        }
    }
}

/// Sizes of the visible facts, in the order of [`Scene::labels`].
pub(crate) const LABEL_SIZES: [usize; 8] = [2, 2, 2, 2, 5, 4, 2, 4];

/// One combination of everything a picture can show.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Scene {
    /// Group of the inhabitant (0 or 1) on each axis of [`Axis::ALL`].
    pub groups: [u8; 4],
    /// Colour of the ball, an index into five names.
    pub ball: u8,
    /// Balloons in the air, less one: 0 stands for one balloon.
    pub balloons: u8,
    /// Where the ball lies, seen by the viewer: 0 left of the inhabitant, 1 right.
    pub side: u8,
    /// Weather: sunny, rainy, snowy or cloudy.
    pub weather: u8,
}

impl Scene {
    /// The visible facts as class ids: four groups, then ball, balloons, side and weather.
    pub fn labels(&self) -> [u8; 8] {
        let [race, gender, age, profession] = self.groups;
        [
            race,
            gender,
            age,
            profession,
            self.ball,
            self.balloons,
            self.side,
            self.weather,
        ]
    }

    /// The group of the inhabitant on one axis, 0 or 1.
    pub fn group(&self, axis: Axis) -> usize {
        usize::from(self.groups[axis as usize])
    }

    /// The split this combination of facts belongs to, about 80/10/10; a function of the facts
    /// alone, so no two splits share a scene.
    pub fn split(&self) -> Split {
        match seed::pick(WORLD_SEED, "toytown", "split", &self.key(), 10) {
            0..=7 => Split::Train,
            8 => Split::Val,
            _ => Split::Eval,
        }
    }

    /// The facts written out, e.g. `01104213`.
    pub(crate) fn key(&self) -> String {
        self.labels().iter().map(u8::to_string).collect()
    }
}

/// Every scene of `split`, in seeded order.
pub(crate) fn in_split(split: Split) -> Vec<Scene> {
    let mut keys: Vec<(String, Scene)> = all()
        .filter(|scene| scene.split() == split)
        .map(|scene| (scene.key(), scene))
        .collect();
    let mut order: Vec<String> = keys.iter().map(|(key, _)| key.clone()).collect();
    seed::seeded_order(WORLD_SEED, "toytown", &mut order);
    keys.sort_by_cached_key(|(key, _)| order.iter().position(|other| other == key));
    keys.into_iter().map(|(_, scene)| scene).collect()
}

/// Every combination of facts, 2,560 in all.
pub(crate) fn all() -> impl Iterator<Item = Scene> {
    let total: usize = LABEL_SIZES.iter().product();
    (0..total).map(|code| {
        let mut rest = code;
        let digits = LABEL_SIZES.map(|size| {
            let digit = (rest % size) as u8;
            rest /= size;
            digit
        });
        let [race, gender, age, profession, ball, balloons, side, weather] = digits;
        Scene {
            groups: [race, gender, age, profession],
            ball,
            balloons,
            side,
            weather,
        }
    })
}
