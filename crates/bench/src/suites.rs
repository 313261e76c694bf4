//! The suites: `benchmarks/<name>/suite.toml`, compiled in, or a file of the user's.

use std::fs;
use std::path::Path;

use debias_core::{Error, Suite};
use include_dir::{Dir, include_dir};

use crate::terminal::exit::Exit;
use crate::terminal::failure::Refusal;

static FOLDERS: Dir = include_dir!("$CARGO_MANIFEST_DIR/../../benchmarks");

/// Names and texts of the embedded suites, sorted by name.
fn embedded() -> Vec<(&'static str, &'static str)> {
    let mut suites: Vec<_> = FOLDERS
        .dirs()
        .filter_map(|folder| {
            let file = folder.get_file(folder.path().join("suite.toml"))?;
            Some((folder.path().to_str()?, file.contents_utf8()?))
        })
        .collect();
    suites.sort_unstable();
    suites
}

/// All embedded suites.
///
/// # Errors
/// An embedded file that is not a suite.
pub fn all() -> debias_core::Result<Vec<Suite>> {
    embedded()
        .into_iter()
        .map(|(name, text)| Suite::from_toml(name, text))
        .collect()
}

/// The suite of that name, or the one in that file.
///
/// # Errors
/// An unknown name with the nearest one, an unreadable or malformed file.
pub fn find(text: &str) -> anyhow::Result<Suite> {
    if let Some((name, toml)) = embedded().into_iter().find(|(name, _)| *name == text) {
        return Ok(Suite::from_toml(name, toml)?);
    }
    let path = Path::new(text);
    if path.extension().is_some_and(|end| end == "toml") {
        let toml = fs::read_to_string(path).map_err(|error| {
            anyhow::Error::new(error).context(Refusal::new(
                Exit::Usage,
                format!("cannot read the suite {text}"),
            ))
        })?;
        return Ok(Suite::from_toml(text, &toml)?);
    }
    let names = embedded().into_iter().map(|(name, _)| name);
    Err(Error::unknown("suite", text, names).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_embedded_suite_is_a_suite_named_like_its_folder() {
        let suites = all().expect("suites");
        let names: Vec<_> = suites.iter().map(|suite| suite.name.as_str()).collect();
        let folders: Vec<_> = embedded().into_iter().map(|(name, _)| name).collect();
        assert_eq!(names, folders);
        assert!(names.contains(&"debias-edit"));
    }

    #[test]
    fn a_misspelt_suite_gets_a_suggestion() {
        let error = find("debias-edt").expect_err("unknown").to_string();
        assert_eq!(
            error,
            "unknown suite `debias-edt` — did you mean `debias-edit`?"
        );
        let error = find("no/such.toml").expect_err("no file");
        assert_eq!(crate::terminal::failure::classify(&error).0, Exit::Usage);
    }
}
