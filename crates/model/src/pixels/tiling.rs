//! Cutting a picture into a grid of equal tiles, as InternVL does.

/// Most tiles a picture may be cut into; published models use up to 40.
const MOST: usize = 256;

/// How many tiles a picture becomes, and in which arrangement.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Tiling {
    /// Columns and rows of every permitted grid: few tiles first, then few columns.
    grids: Vec<(usize, usize)>,
    thumbnail: bool,
}

impl Tiling {
    /// The tiles of the largest grid, thumbnail included.
    pub(super) fn most(&self) -> usize {
        let tiles = self.grids.iter();
        let tiles = tiles.map(|grid| grid.0 * grid.1 + usize::from(self.thumbnail(*grid)));
        tiles.max().unwrap_or(1)
    }

    /// Grids of `min` to `max` tiles; with `thumbnail`, the whole picture follows them as one
    /// more tile where there is more than one.
    pub(super) fn new(min: usize, max: usize, thumbnail: bool) -> Result<Self, String> {
        if !(1..=MOST).contains(&max) || !(1..=max).contains(&min) {
            return Err(format!(
                "from {min} to {max} tiles are not possible: the least has to be 1 or more, and \
                 the most from there to {MOST}"
            ));
        }
        let mut grids: Vec<_> = (1..=max)
            .flat_map(|columns| (1..=max / columns).map(move |rows| (columns, rows)))
            .filter(|(columns, rows)| columns * rows >= min)
            .collect();
        grids.sort_by_key(|(columns, rows)| columns * rows);
        Ok(Self { grids, thumbnail })
    }

    /// Columns and rows for a picture of `width` x `height` pixels in tiles of `area` pixels: the
    /// grid nearest in shape. Of equally near ones a larger one wins where the picture has more
    /// than half its pixels.
    pub(super) fn grid(&self, width: usize, height: usize, area: usize) -> (usize, usize) {
        let shape = width as f64 / height as f64;
        let pixels = width as f64 * height as f64;
        let mut best = (f64::INFINITY, (1, 1));
        for &(columns, rows) in &self.grids {
            let distance = (shape - columns as f64 / rows as f64).abs();
            let filled = pixels > 0.5 * (area * columns * rows) as f64;
            if distance < best.0 || distance == best.0 && filled {
                best = (distance, (columns, rows));
            }
        }
        best.1
    }

    /// Whether the whole picture follows the tiles of this grid.
    pub(super) fn thumbnail(&self, grid: (usize, usize)) -> bool {
        self.thumbnail && grid != (1, 1)
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use serde_json::Value;

    use super::*;
    use crate::pixels::tests::fixtures;

    #[test]
    fn grids_are_those_of_the_reference() {
        let Some(dir) = fixtures() else { return };
        let case = fs::read(dir.join("models/preproc/case.json")).expect("a fixture");
        let case: Value = serde_json::from_slice(&case).expect("JSON");
        let cases = case["internvl_grid_cases"].as_array().expect("a list");
        assert!(cases.len() >= 10);
        for case in cases {
            let number = |value: &Value| value.as_u64().expect("a number") as usize;
            let [width, height, tile, min, max] =
                ["width", "height", "tile", "min", "max"].map(|key| number(&case[key]));
            let tiling = Tiling::new(min, max, true).expect("valid");
            let expected = &case["columns_rows"];
            assert_eq!(
                tiling.grid(width, height, tile * tile),
                (number(&expected[0]), number(&expected[1])),
                "{case}"
            );
        }
    }

    #[test]
    fn ties_follow_the_number_of_pixels() {
        let tiling = Tiling::new(1, 4, true).expect("valid");
        // 1:1 is met by one tile and by two times two; these need more than half of 4 * 100.
        assert_eq!(tiling.grid(14, 14, 100), (1, 1));
        assert_eq!(tiling.grid(15, 15, 100), (2, 2));
        assert!(!tiling.thumbnail((1, 1)) && tiling.thumbnail((1, 2)));
        let several = Tiling::new(2, 3, false).expect("valid");
        assert_eq!(several.grids, [(1, 2), (2, 1), (1, 3), (3, 1)]);
        assert!(!several.thumbnail((1, 2)));
        for (min, max) in [(0, 4), (5, 4), (1, 0), (1, MOST + 1)] {
            assert!(Tiling::new(min, max, true).is_err());
        }
    }
}
