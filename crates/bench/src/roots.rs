//! Where datasets and benchmarks are: `--data NAME=DIR`, else `DEBIAS_BENCH_DATA`, else the user's cache folder.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use debias_core::Error;
use debias_data::benchmarks::{self, Benchmark, Source};
use debias_data::{Collection, Dataset, datasets};
use etcetera::BaseStrategy;

use crate::terminal::exit::Exit;
use crate::terminal::failure::Refusal;

/// The variable that names the common data folder.
pub const VARIABLE: &str = "DEBIAS_BENCH_DATA";

/// The folders given for this invocation.
#[derive(Clone, Debug, Default)]
pub struct Roots {
    given: BTreeMap<String, PathBuf>,
    common: Option<PathBuf>,
}

impl Roots {
    /// Reads `NAME=DIR` pairs; the common folder comes from the environment or the cache.
    ///
    /// # Errors
    /// A pair without `=`, or a name that is neither a dataset's nor a benchmark's.
    pub fn new(pairs: &[String]) -> anyhow::Result<Self> {
        let mut given = BTreeMap::new();
        for pair in pairs {
            let (name, dir) = pair.split_once('=').ok_or_else(|| {
                Refusal::new(Exit::Usage, format!("--data {pair}: expected NAME=DIR"))
                    .help("For example --data pairs=/data/pairs.")
            })?;
            if !known().any(|known| known == name) {
                return Err(Error::unknown("dataset", name, known()).into());
            }
            given.insert(name.to_owned(), PathBuf::from(dir));
        }
        Ok(Self {
            given,
            common: common(),
        })
    }

    /// The folder common to all datasets and benchmarks.
    pub fn common(&self) -> Option<&Path> {
        self.common.as_deref()
    }

    /// The folder given for a dataset by name.
    pub fn given(&self, dataset: &str) -> Option<&Path> {
        self.given.get(dataset).map(PathBuf::as_path)
    }

    /// The folder of a benchmark: its own where one was given, else the common one.
    pub fn source(&self, benchmark: &dyn Benchmark) -> Option<Source> {
        let card = benchmark.card();
        let root = self.given(&card.name).or(self.common())?;
        Some(Source::new(card, root))
    }

    /// The folder a dataset is read from: its own where one was given, none where it is generated,
    /// the common one otherwise.
    pub fn root_of(&self, dataset: &dyn Dataset, seed: u64) -> Option<PathBuf> {
        if let Some(dir) = self.given(&dataset.card().name) {
            return Some(dir.to_owned());
        }
        match dataset.open(None, seed) {
            Err(debias_data::Error::NeedsFolder { .. }) => self.common.clone(),
            _ => None,
        }
    }

    /// Opens a dataset where [`Roots::root_of`] finds it.
    ///
    /// # Errors
    /// Whatever the dataset finds missing or malformed.
    pub fn open(
        &self,
        dataset: &dyn Dataset,
        seed: u64,
    ) -> debias_data::Result<Box<dyn Collection>> {
        dataset.open(self.root_of(dataset, seed).as_deref(), seed)
    }
}

/// Everything that has a folder.
fn known() -> impl Iterator<Item = &'static str> {
    let datasets = datasets::ALL
        .iter()
        .map(|dataset| dataset.card().name.as_str());
    let benchmarks = benchmarks::ALL
        .iter()
        .map(|benchmark| benchmark.card().name.as_str());
    datasets.chain(benchmarks)
}

/// The environment's folder, else the cache folder where it exists.
fn common() -> Option<PathBuf> {
    if let Some(dir) = std::env::var_os(VARIABLE).filter(|dir| !dir.is_empty()) {
        return Some(PathBuf::from(dir));
    }
    let cache = etcetera::choose_base_strategy().ok()?.cache_dir();
    Some(cache.join("debias-bench").join("data")).filter(|dir| dir.is_dir())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_of_name_and_folder_are_checked() {
        let roots = Roots::new(&["pairs=a=b".to_owned()]).expect("a pair");
        assert_eq!(roots.given("pairs"), Some(Path::new("a=b")));
        assert!(Roots::new(&["pairs".to_owned()]).is_err());
        let error = Roots::new(&["pears=x".to_owned()]).expect_err("unknown");
        assert!(
            error.to_string().contains("did you mean `pairs`"),
            "{error}"
        );
    }

    #[test]
    fn a_generated_dataset_needs_no_folder() {
        let toytown = datasets::find("toytown").expect("registered");
        let roots = Roots {
            common: Some(PathBuf::from("/nowhere")),
            ..Roots::default()
        };
        assert!(roots.open(toytown, 0).is_ok());
    }
}
