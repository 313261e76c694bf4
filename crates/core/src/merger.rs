//! Mergers of a suite: recipes with places for numbers, and the models that are made on the way.
//!
//! A recipe is mergekit's YAML. `${model}` stands for the suite's model, `${alpha}` for a number of
//! the grid, `${1-alpha}` and `${-alpha}` for what they say.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::error::nearest;

/// The place of the suite's model in a recipe.
const MODEL: &str = "model";

/// A merge that stands in the table, once per point of its grid.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Merger {
    /// What its rows are called; that of its method where a suite has it once.
    pub name: String,
    /// mergekit's YAML with places.
    pub recipe: String,
    /// The model that distances are compared with: where a merge with all weight on the other
    /// model ends up.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub towards: Option<String>,
    /// Values by name; every combination is one row, and an empty grid is one row.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub grid: Option<Grid>,
}

/// Values by name.
pub type Grid = BTreeMap<String, Vec<f64>>;

/// What holds for every merger of a suite that does not say otherwise.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Merging {
    /// As [`Merger::towards`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub towards: Option<String>,
    /// As [`Merger::grid`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub grid: Option<Grid>,
}

impl Merging {
    /// Whether nothing is said.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Says for `merger` what it does not say itself.
    pub(crate) fn complete(&self, merger: &mut Merger) {
        merger.towards = merger.towards.take().or_else(|| self.towards.clone());
        merger.grid = merger.grid.take().or_else(|| self.grid.clone());
    }
}

/// A model that is made by a merge and is no row itself; recipes name it like any other model.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Intermediate {
    /// The name under which recipes below it ask for it.
    pub name: String,
    /// mergekit's YAML with a place for the suite's model.
    pub recipe: String,
}

/// One value for every name of a grid.
pub type Point = BTreeMap<String, f64>;

/// What a merge was, beside its numbers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Merged {
    /// The merger's name in the suite.
    pub merger: String,
    /// Where in its grid.
    pub at: Point,
    /// Key of the artifact that holds the merged model.
    pub artifact: String,
    /// How far it moved; absent when there is no merged model.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub moved: Option<Moved>,
}

/// Euclidean distances over all weights that two models have in common.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Moved {
    /// ‖θ_merged − θ‖ / ‖θ‖.
    pub relative: f64,
    /// ‖θ_merged − θ‖ / ‖θ_towards − θ‖; absent when the merger says nothing of `towards`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ratio: Option<f64>,
}

impl Merger {
    /// Every combination of the grid's values, the last name turning fastest; one empty point
    /// without a grid.
    pub fn points(&self) -> Vec<Point> {
        let mut points = vec![Point::new()];
        for (name, values) in self.grid.iter().flatten() {
            let with = |point: &Point, value: f64| {
                let mut point = point.clone();
                point.insert(name.clone(), value);
                point
            };
            points = points
                .iter()
                .flat_map(|point| values.iter().map(move |value| with(point, *value)))
                .collect();
        }
        points
    }

    /// The row of one point, e.g. `slerp α=0.3`.
    pub fn label(&self, point: &Point) -> String {
        let mut label = self.name.clone();
        for (name, value) in point {
            label.push_str(&format!(" {}={value}", symbol(name)));
        }
        label
    }

    /// What is wrong with it, in words.
    pub(crate) fn problem(&self) -> Option<String> {
        for (name, values) in self.grid.iter().flatten() {
            let plain = |c: char| c.is_ascii_alphanumeric() || c == '_';
            if name.is_empty() || name == MODEL || !name.chars().all(plain) {
                return Some(format!(
                    "`grid.{name}` is no name for a number: letters, digits and `_`, and not `{MODEL}`"
                ));
            }
            let mut seen = BTreeSet::new();
            if values.is_empty() || !values.iter().all(|value| seen.insert(value.to_bits())) {
                return Some(format!("`grid.{name}` is empty or holds a number twice"));
            }
            if !values.iter().all(|value| value.is_finite()) {
                return Some(format!("`grid.{name}` holds a number that is not finite"));
            }
        }
        let points = self.points();
        written(&self.recipe, "", points.first()?).err()
    }
}

impl Intermediate {
    /// What is wrong with it, in words.
    pub(crate) fn problem(&self) -> Option<String> {
        written(&self.recipe, "", &Point::new()).err()
    }
}

/// How a name of a grid is printed.
pub fn symbol(name: &str) -> &str {
    match name {
        "alpha" => "α",
        "lambda" => "λ",
        "epsilon" => "ε",
        name => name,
    }
}

/// `recipe` with its places filled: `${model}` by `model`, names of the grid by their values.
///
/// # Errors
/// A place that is not closed or that names nothing, in words.
pub fn written(recipe: &str, model: &str, point: &Point) -> Result<String, String> {
    let mut text = String::with_capacity(recipe.len());
    let mut rest = recipe;
    while let Some((before, after)) = rest.split_once("${") {
        let (place, behind) = after
            .split_once('}')
            .ok_or("`recipe` holds a `${` without its `}`")?;
        text.push_str(before);
        match place.trim() {
            MODEL => text.push_str(model),
            place => text.push_str(&number(place, point)?.to_string()),
        }
        rest = behind;
    }
    text.push_str(rest);
    Ok(text)
}

/// The value of `name`, `-name` or `1-name`.
fn number(place: &str, point: &Point) -> Result<f64, String> {
    let (constant, name) = match place.split_once('-') {
        Some((constant, name)) => (Some(constant.trim()), name.trim()),
        None => (None, place),
    };
    let Some(value) = point.get(name) else {
        let known = point.keys().map(String::as_str).chain([MODEL]);
        let meant = nearest(name, known).map(|name| format!(" — did you mean `${{{name}}}`?"));
        return Err(format!(
            "`recipe` asks for `${{{place}}}`, which is no number of the grid{}",
            meant.unwrap_or_default()
        ));
    };
    match constant {
        None => Ok(*value),
        // Not `-0`, which reads oddly in a recipe.
        Some("") => Ok(0.0 - value),
        Some("1") => Ok(1.0 - value),
        Some(_) => Err(format!(
            "`recipe` asks for `${{{place}}}`; a place is `${{{name}}}`, `${{-{name}}}` or `${{1-{name}}}`"
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn merger() -> Merger {
        Merger {
            name: "linear".to_owned(),
            recipe: "weights: [${1-alpha}, ${ alpha }] # ${model} ${-alpha}".to_owned(),
            towards: None,
            grid: Some(Grid::from([
                ("alpha".to_owned(), vec![0.1, 0.3]),
                ("density".to_owned(), vec![0.5, 1.0]),
            ])),
        }
    }

    #[test]
    fn a_grid_is_every_combination() {
        let labels: Vec<_> = merger()
            .points()
            .iter()
            .map(|p| merger().label(p))
            .collect();
        assert_eq!(
            labels,
            [
                "linear α=0.1 density=0.5",
                "linear α=0.1 density=1",
                "linear α=0.3 density=0.5",
                "linear α=0.3 density=1"
            ]
        );
        let bare = Merger {
            grid: None,
            ..merger()
        };
        assert_eq!(bare.points(), [Point::new()]);
        assert_eq!(bare.label(&Point::new()), "linear");
    }

    #[test]
    fn places_are_filled() {
        let point = Point::from([("alpha".to_owned(), 0.3)]);
        let text = written(&merger().recipe, "tiny", &point);
        assert_eq!(text.as_deref(), Ok("weights: [0.7, 0.3] # tiny -0.3"));
    }

    #[test]
    fn a_place_that_names_nothing_is_refused_in_words() {
        let point = Point::from([("alpha".to_owned(), 0.3)]);
        let refused = |text: &str| written(text, "tiny", &point).expect_err(text);
        assert!(refused("${alhpa}").ends_with("did you mean `${alpha}`?"));
        assert!(refused("${modle}").ends_with("did you mean `${model}`?"));
        assert!(refused("${2-alpha}").contains("`${-alpha}` or `${1-alpha}`"));
        assert!(refused("${alpha").contains("without its `}`"));
    }

    #[test]
    fn a_grid_that_makes_no_rows_or_the_same_twice_is_refused() {
        let with = |values: Vec<f64>| {
            let merger = Merger {
                grid: Some(Grid::from([("alpha".to_owned(), values)])),
                ..merger()
            };
            merger.problem()
        };
        assert_eq!(with(vec![0.1, 0.2]), None);
        for bad in [vec![], vec![0.1, 0.1], vec![f64::NAN]] {
            assert!(with(bad).is_some_and(|problem| problem.starts_with("`grid.alpha`")));
        }
        let named = |name: &str| {
            let grid = Some(Grid::from([(name.to_owned(), vec![0.1])]));
            Merger { grid, ..merger() }.problem()
        };
        assert!(named("model").is_some_and(|problem| problem.contains("no name")));
        assert!(named("a b").is_some_and(|problem| problem.contains("no name")));
    }
}
