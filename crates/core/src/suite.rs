//! A suite is data: which models, tasks, editors and seeds make one table.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::batching::Batching;
use crate::error::{Error, Result};
use crate::merger::{Intermediate, Merger, Merging};
use crate::record::Task;
use crate::settings::{Overrides, Preset};

/// What a suite file says.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Suite {
    /// Permanent name, kebab-case.
    pub name: String,
    /// Year and number; raised when the numbers of the table change their meaning.
    pub edition: String,
    /// One line for people.
    pub title: String,
    /// Models by name.
    pub models: Vec<String>,
    /// Tasks, in the order of the table.
    pub tasks: Vec<Task>,
    /// Editors by name, in the order of the table.
    #[serde(default)]
    pub editors: Vec<String>,
    /// Dataset that the suite runs on unless another is asked for.
    pub dataset: String,
    /// Which batches of requests are edited together; single ones unless said otherwise.
    #[serde(default)]
    pub batching: Batching,
    /// One run per seed.
    #[serde(default = "Suite::default_seeds")]
    pub seeds: Vec<u64>,
    /// The bundle of settings to start from.
    #[serde(default)]
    pub preset: Preset,
    /// Settings that differ from the preset.
    #[serde(default)]
    pub settings: Overrides,
    /// What a reader of its table must know, one paragraph each.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub remarks: Vec<String>,
    /// What mergers have in common.
    #[serde(default, skip_serializing_if = "Merging::is_empty")]
    pub merging: Merging,
    /// Models that mergers are made from and that are merges themselves; each may name those above.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub intermediates: Vec<Intermediate>,
    /// Merges by which the models are replaced, below the editors in the table.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub mergers: Vec<Merger>,
}

impl Suite {
    fn default_seeds() -> Vec<u64> {
        vec![0]
    }

    /// Reads a suite from TOML; `name` is what the caller calls the text in errors.
    ///
    /// # Errors
    /// [`Error::Suite`] for bad TOML, an unknown or missing field, an empty or repeated list entry.
    pub fn from_toml(name: &str, text: &str) -> Result<Self> {
        let refuse = |problem: String| Error::Suite {
            name: name.to_owned(),
            problem,
        };
        let mut suite: Suite =
            toml::from_str(text).map_err(|error| refuse(one_line(&error, text)))?;
        for merger in &mut suite.mergers {
            suite.merging.complete(merger);
        }
        // TOML has no null: it stands for a number that JSON cannot hold.
        if let Some(setting) = suite.settings.nulls().next() {
            return Err(refuse(format!(
                "setting `{setting}` is not a finite number"
            )));
        }
        suite.check(name)?;
        Ok(suite)
    }

    /// Checks the rules that a suite keeps when flags replace parts of it.
    ///
    /// # Errors
    /// [`Error::Suite`] for an empty or repeated list entry, or a name that is no folder's name.
    pub fn check(&self, name: &str) -> Result<()> {
        let refuse = |problem: String| Error::Suite {
            name: name.to_owned(),
            problem,
        };
        distinct("models", &self.models).map_err(refuse)?;
        distinct("tasks", &self.tasks).map_err(refuse)?;
        self.check_mergers().map_err(refuse)?;
        if !self.editors.is_empty() || self.mergers.is_empty() {
            distinct("editors", &self.editors).map_err(refuse)?;
        }
        distinct("seeds", &self.seeds).map_err(refuse)?;
        let cells = self.batching.cells();
        distinct("batching", &cells).map_err(refuse)?;
        if self.batching.sizes.contains(&0) {
            return Err(refuse(
                "`batching.sizes` holds 0; a batch has at least one request".into(),
            ));
        }
        for (field, text) in [("name", &self.name), ("edition", &self.edition)] {
            let plain = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '.';
            if text.is_empty() || !text.chars().all(plain) {
                return Err(refuse(format!(
                    "`{field}` becomes a folder's name: letters, digits, `-` and `.` only"
                )));
            }
        }
        Ok(())
    }
}

impl Suite {
    /// The rules of mergers and what they are made from.
    fn check_mergers(&self) -> std::result::Result<(), String> {
        let names: Vec<&str> = self.mergers.iter().map(|m| m.name.as_str()).collect();
        let models: Vec<&str> = self.intermediates.iter().map(|m| m.name.as_str()).collect();
        for (field, names) in [("mergers", &names), ("intermediates", &models)] {
            if !names.is_empty() {
                distinct(field, names)?;
            }
            if names.iter().any(|name| name.trim().is_empty()) {
                return Err(format!("`{field}` holds one without a name"));
            }
        }
        if let Some(both) = names
            .iter()
            .find(|name| self.editors.iter().any(|e| e == *name))
        {
            return Err(format!(
                "{both:?} is an editor and a merger; rows are told apart by name"
            ));
        }
        let problems = self
            .intermediates
            .iter()
            .map(|made| (&made.name, made.problem()))
            .chain(
                self.mergers
                    .iter()
                    .map(|merger| (&merger.name, merger.problem())),
            );
        for (name, problem) in problems {
            if let Some(problem) = problem {
                return Err(format!("{name:?}: {problem}"));
            }
        }
        Ok(())
    }
}

/// The parser's words with the line they are about.
fn one_line(error: &toml::de::Error, text: &str) -> String {
    let words = error.message().replace('\n', " ");
    match error.span() {
        Some(span) => {
            let line = 1 + text[..span.start].matches('\n').count();
            format!("line {line}: {words}")
        }
        None => words,
    }
}

fn distinct<T: Ord + std::fmt::Debug>(
    field: &str,
    values: &[T],
) -> std::result::Result<(), String> {
    if values.is_empty() {
        return Err(format!("`{field}` is empty; the table would be empty"));
    }
    let mut seen = BTreeSet::new();
    match values.iter().find(|value| !seen.insert(*value)) {
        Some(twice) => Err(format!("`{field}` names {twice:?} twice")),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = r#"
        name = "debias-edit"
        edition = "2026.1"
        title = "The main table"
        models = ["tiny-blip2"]
        tasks = ["ic", "vqa"]
        editors = ["nothing", "ft-l"]
        dataset = "toytown"

        [settings.ft-l]
        steps = 10
        [settings.scorer]
        norm = "sum"
    "#;

    fn refusal(text: &str) -> String {
        Suite::from_toml("x.toml", text)
            .expect_err(text)
            .to_string()
    }

    #[test]
    fn a_suite_is_read_with_its_defaults() {
        let suite = Suite::from_toml("x.toml", TEXT).expect("a good suite");
        assert_eq!(suite.tasks, [Task::Ic, Task::Vqa]);
        assert_eq!((suite.seeds, suite.preset), (vec![0], Preset::Project));
        assert_eq!(
            suite.settings.assignments(),
            ["ft-l.steps=10", "scorer.norm=sum"]
        );
    }

    #[test]
    fn a_printed_suite_reads_back() {
        let suite = Suite::from_toml("x.toml", TEXT).expect("a good suite");
        let text = toml::to_string(&suite).expect("a suite is TOML");
        assert_eq!(Suite::from_toml("printed", &text), Ok(suite));
    }

    const MERGERS: &str = r#"
        name = "debias-merge"
        edition = "2026.1"
        title = "Merges"
        models = ["tiny-blip2"]
        tasks = ["vqa"]
        dataset = "toytown"

        [merging]
        towards = "inverse"
        grid = { alpha = [0.1, 1] }

        [[intermediates]]
        name = "inverse"
        recipe = "base_model: ${model}"

        [[mergers]]
        name = "bare"
        recipe = "t: 1"
        grid = {}

        [[mergers]]
        name = "slerp"
        recipe = """
        parameters: { t: ${alpha} }
        """
    "#;

    #[test]
    fn a_suite_may_have_mergers_alone() {
        let suite = Suite::from_toml("x.toml", MERGERS).expect("a good suite");
        let points = |at: usize| suite.mergers[at].points().len();
        assert_eq!((points(0), points(1)), (1, 2));
        assert_eq!(suite.mergers[1].towards.as_deref(), Some("inverse"));
        assert!(suite.editors.is_empty());
        let text = toml::to_string(&suite).expect("a suite is TOML");
        assert_eq!(Suite::from_toml("printed", &text), Ok(suite));
    }

    #[test]
    fn bad_mergers_are_refused_by_name() {
        let with = |from: &str, to: &str| refusal(&MERGERS.replace(from, to));
        assert!(with("${alpha}", "${alhpa}").contains("\"slerp\": `recipe` asks for `${alhpa}`"));
        assert!(with("${model}", "${alpha}").contains("\"inverse\": `recipe` asks for"));
        assert!(with("[0.1, 1]", "[]").contains("`grid.alpha` is empty"));
        assert!(with("grid =", "gird =").contains("unknown field `gird`"));
        assert!(
            with("tasks =", "editors = [\"slerp\"]\ntasks =").contains("an editor and a merger")
        );
        assert!(with("\"slerp\"", "\" \"").contains("without a name"));
    }

    #[test]
    fn bad_suites_are_refused_by_name_and_field() {
        let with = |from: &str, to: &str| refusal(&TEXT.replace(from, to));
        assert!(with("edition =", "editoin =").contains("unknown field `editoin`"));
        assert!(with("title =", "# title =").contains("missing field `title`"));
        assert!(
            with("\"nothing\", \"ft-l\"", "")
                .ends_with("`editors` is empty; the table would be empty")
        );
        assert!(with("\"nothing\"", "\"ft-l\"").ends_with("`editors` names \"ft-l\" twice"));
        assert!(with("\"debias-edit\"", "\"../up\"").contains("becomes a folder's name"));
        assert!(
            with("steps = 10", "lr = nan").ends_with("setting `ft-l.lr` is not a finite number")
        );
        assert!(with("[\"ic\", ", "[\"speech\", ").contains("unknown variant `speech`"));
    }
}
