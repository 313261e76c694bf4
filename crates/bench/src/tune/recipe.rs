//! What `bench tune` is asked to do: a recipe in TOML.

use std::path::{Path, PathBuf};

use anyhow::Context;
use debias_core::Error;
use serde::{Deserialize, Serialize};

use super::choices::{Kind, Lora, Over, Schedule, Trains, Word};
use crate::terminal::exit::Exit;
use crate::terminal::failure::Refusal;

/// A recipe with every default filled in; those are the values of the Bias Vector's training
/// (arXiv:2412.11679) where it says any.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Recipe {
    /// Which tokens are learnt.
    pub kind: Option<Kind>,
    /// `file:PATH`, or a dataset with a training view.
    pub data: String,
    /// The training view of a dataset.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub view: Option<String>,
    /// Answers to the items of `data` by id, for `kind = "labels"`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub labels: Option<PathBuf>,
    /// The folder of pictures [default: that of the data].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub images: Option<PathBuf>,
    /// `file:PATH` of items that are not learnt.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub validation: Option<String>,
    /// The same, as a share of the data.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub validation_share: Option<f64>,
    /// Updates between two validations [default: those of an epoch].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub validate_every: Option<usize>,
    /// The model, unless `--model` gives one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// What is trained.
    pub trains: Trains,
    /// The adapter.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lora: Option<Lora>,
    /// How often every item is learnt.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub epochs: Option<usize>,
    /// Updates in all, in the place of epochs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub updates: Option<usize>,
    /// Items per update.
    pub batch: usize,
    /// Most tokens of an item [default: 512, or the model's positions].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_length: Option<usize>,
    /// Peak learning rate.
    pub lr: f64,
    /// What the rate does behind the warm-up.
    pub schedule: Schedule,
    /// Share of the updates that warm up.
    pub warmup_ratio: f64,
    /// Decoupled decay of matrices.
    pub weight_decay: f32,
    /// The largest joint norm of gradients; 0 leaves them as they are.
    pub clip: f64,
    /// Whether every item is closed by the token that ends a text.
    pub append_eos: bool,
    /// Whether that token is not learnt, as the usual collator has it where it pads with it.
    pub hf_eos_mask: bool,
    /// Over what a batch is averaged.
    pub reduction: Over,
    /// Whether every epoch has an order of its own.
    pub shuffle: bool,
    /// Whether prompts are put into the model's chat template.
    pub chat: bool,
    /// Seed, unless `--seed` gives one.
    pub seed: u64,
}

impl Default for Recipe {
    fn default() -> Self {
        Self {
            kind: None,
            data: String::new(),
            view: None,
            labels: None,
            images: None,
            validation: None,
            validation_share: None,
            validate_every: None,
            model: None,
            trains: Trains::Word(Word::All),
            lora: None,
            epochs: None,
            updates: None,
            batch: 64,
            max_length: None,
            lr: 3e-5,
            schedule: Schedule::Linear,
            warmup_ratio: 0.1,
            weight_decay: 0.01,
            clip: 1.0,
            append_eos: true,
            hf_eos_mask: false,
            reduction: Over::Tokens,
            shuffle: true,
            chat: false,
            seed: 0,
        }
    }
}

/// Epochs where a recipe says neither epochs nor updates.
const EPOCHS: usize = 30;

/// Keys of a recipe.
const KEYS: [&str; 26] = [
    "kind",
    "data",
    "view",
    "labels",
    "images",
    "validation",
    "validation_share",
    "validate_every",
    "model",
    "trains",
    "lora",
    "epochs",
    "updates",
    "batch",
    "max_length",
    "lr",
    "schedule",
    "warmup_ratio",
    "weight_decay",
    "clip",
    "append_eos",
    "hf_eos_mask",
    "reduction",
    "shuffle",
    "chat",
    "seed",
];

/// Keys of `lora`.
const LORA_KEYS: [&str; 6] = ["r", "alpha", "dropout", "targets", "also", "from"];

impl Recipe {
    /// Reads the recipe at `path`.
    ///
    /// # Errors
    /// A [`Refusal`] in one line that names file, line and key.
    pub fn read(path: &Path) -> anyhow::Result<Self> {
        let name = path.display();
        let text = std::fs::read_to_string(path)
            .with_context(|| format!("cannot read the recipe {name}"))?;
        Self::parse(&text).map_err(|problem| {
            Refusal::new(Exit::Usage, format!("{name}: {problem}"))
                .help("`bench tune --help` shows a recipe.")
                .into()
        })
    }

    /// Reads a recipe; the error says what is wrong, with line and key.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(text: &str) -> Result<Self, String> {
        let line = |span: Option<std::ops::Range<usize>>| match span {
            Some(span) => format!("line {}: ", 1 + text[..span.start].matches('\n').count()),
            None => String::new(),
        };
        let words = |error: &toml::de::Error| error.message().replace('\n', " ");
        let table: toml::Table = text
            .parse()
            .map_err(|error: toml::de::Error| format!("{}{}", line(error.span()), words(&error)))?;
        check_keys(text, &table, &KEYS)?;
        if let Some(lora) = table.get("lora").and_then(toml::Value::as_table) {
            check_keys(text, lora, &LORA_KEYS)?;
        }
        let reader = toml::Deserializer::parse(text)
            .map_err(|error| format!("{}{}", line(error.span()), words(&error)))?;
        let recipe: Self = serde_path_to_error::deserialize(reader).map_err(|error| {
            let key = error.path().to_string();
            let inner = error.into_inner();
            format!("{}`{key}`: {}", line(inner.span()), words(&inner))
        })?;
        recipe.check()?;
        Ok(recipe)
    }

    /// Which tokens are learnt.
    pub fn kind(&self) -> Kind {
        // A recipe without a kind is refused when it is read.
        self.kind.unwrap_or(Kind::Causal)
    }

    /// The adapter, where one is trained.
    pub fn adapter(&self) -> Option<Lora> {
        match self.trains {
            Trains::Word(Word::Lora) => Some(self.lora.clone().unwrap_or_default()),
            _ => None,
        }
    }

    /// Updates in all, of which so many make an epoch.
    pub fn total(&self, per_epoch: usize) -> usize {
        let epochs = self.epochs.unwrap_or(EPOCHS);
        self.updates.unwrap_or(epochs.saturating_mul(per_epoch))
    }

    fn check(&self) -> Result<(), String> {
        let Self {
            lr,
            warmup_ratio,
            weight_decay,
            clip,
            ..
        } = *self;
        let share = self.validation_share.unwrap_or(0.5);
        let lora = self.lora.clone().unwrap_or_default();
        let rules: [(&str, bool, &str); 19] = [
            (
                "kind",
                self.kind.is_some(),
                "is missing; it is \"causal\", \"answers\" or \"labels\"",
            ),
            (
                "data",
                !self.data.is_empty(),
                "is missing; it is \"file:PATH\" or a dataset",
            ),
            ("batch", self.batch > 0, "must be at least 1"),
            ("epochs", self.epochs != Some(0), "must be at least 1"),
            ("updates", self.updates != Some(0), "must be at least 1"),
            (
                "updates",
                self.updates.is_none() || self.epochs.is_none(),
                "stands beside `epochs`; give one of both",
            ),
            (
                "max_length",
                self.max_length.is_none_or(|n| n > 1),
                "must be at least 2",
            ),
            ("lr", lr.is_finite() && lr > 0.0, "must be above 0"),
            (
                "warmup_ratio",
                (0.0..=1.0).contains(&warmup_ratio),
                "must be between 0 and 1",
            ),
            (
                "weight_decay",
                weight_decay.is_finite() && weight_decay >= 0.0,
                "must not be below 0",
            ),
            (
                "clip",
                clip.is_finite() && clip >= 0.0,
                "must not be below 0",
            ),
            (
                "validate_every",
                self.validate_every != Some(0),
                "must be at least 1",
            ),
            (
                "validation_share",
                share > 0.0 && share < 1.0,
                "must be between 0 and 1",
            ),
            (
                "validation_share",
                self.validation_share.is_none() || self.validation.is_none(),
                "stands beside `validation`; give one of both",
            ),
            (
                "labels",
                self.labels.is_none() || self.kind == Some(Kind::Labels),
                "belongs to kind = \"labels\"",
            ),
            ("lora.r", lora.r > 0, "must be at least 1"),
            (
                "lora.alpha",
                lora.alpha.is_finite() && lora.alpha > 0.0,
                "must be above 0",
            ),
            (
                "lora.dropout",
                lora.dropout == 0.0,
                "must be 0: nothing is dropped here",
            ),
            (
                "trains",
                self.trains != Trains::Named(Vec::new()),
                "names nothing; give parts of names, \"all\" or \"lora\"",
            ),
        ];
        match rules.iter().find(|(_, holds, _)| !holds) {
            Some((key, _, problem)) => Err(format!("`{key}` {problem}")),
            None => Ok(()),
        }
    }
}

/// Refuses a key that is none, with its line and the nearest one.
fn check_keys(text: &str, table: &toml::Table, known: &[&'static str]) -> Result<(), String> {
    let Some(key) = table.keys().find(|key| !known.contains(&key.as_str())) else {
        return Ok(());
    };
    let line = text.lines().position(|line| line.contains(key.as_str()));
    let unknown = Error::unknown("key", key, known.iter().copied());
    Err(format!("line {}: {unknown}", line.unwrap_or(0) + 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    const WHOLE: &str = r#"
kind = "causal"
data = "stereoset"
view = "intrasentence-stereotype"
trains = "lora"
lora = { r = 16, alpha = 32, dropout = 0.0, targets = "decoder-linear", also = ["projector"] }
epochs = 30
batch = 64
max_length = 512
lr = 3e-5
schedule = "linear"
warmup_ratio = 0.1
weight_decay = 0.01
clip = 1.0
append_eos = true
hf_eos_mask = false
reduction = "tokens"
shuffle = true
"#;

    #[test]
    fn the_defaults_are_those_of_the_whole_recipe() {
        let whole = Recipe::parse(WHOLE).expect("a recipe");
        let short = Recipe::parse("kind = \"causal\"\ndata = \"stereoset\"\ntrains = \"lora\"")
            .expect("a recipe");
        let lora = Lora {
            also: vec!["projector".into()],
            ..Lora::default()
        };
        assert_eq!(whole.adapter(), Some(lora.clone()));
        let filled = Recipe {
            view: whole.view.clone(),
            lora: Some(lora),
            epochs: Some(30),
            max_length: Some(512),
            ..short.clone()
        };
        assert_eq!(whole, filled);
        assert_eq!((short.total(33), whole.total(33)), (990, 990));
        let again = toml::to_string(&whole).expect("TOML");
        assert_eq!(Recipe::parse(&again), Ok(whole));
    }

    #[test]
    fn every_key_is_known_to_the_check() {
        let mut all = Recipe::parse(WHOLE).expect("a recipe");
        let path = || Some(PathBuf::from("a"));
        (all.labels, all.images) = (path(), path());
        (all.validation, all.validation_share) = (Some("file:a".into()), Some(0.1));
        (all.validate_every, all.model, all.updates) = (Some(1), Some("m".into()), Some(1));
        all.lora = Some(Lora {
            from: path(),
            ..Lora::default()
        });
        let table: toml::Table = toml::Table::try_from(&all).expect("TOML");
        let mut keys: Vec<&str> = table.keys().map(String::as_str).collect();
        let mut known = KEYS.to_vec();
        keys.sort_unstable();
        known.sort_unstable();
        assert_eq!(keys, known);
        let lora = table["lora"].as_table().expect("a table");
        assert!(
            LORA_KEYS.iter().all(|key| lora.contains_key(*key)) && lora.len() == LORA_KEYS.len()
        );
    }

    #[test]
    fn what_is_wrong_is_named_with_line_and_key() {
        for (from, to, said) in [
            (
                "batch = 64",
                "bacth = 64",
                "line 8: unknown key `bacth` — did you mean `batch`?",
            ),
            ("r = 16,", "rank = 16,", "line 6: unknown key `rank`"),
            (
                "batch = 64",
                "batch = \"many\"",
                "line 8: `batch`: invalid type",
            ),
            (
                "kind = \"causal\"",
                "kind = \"casual\"",
                "line 2: `kind`: unknown variant `casual`",
            ),
            ("kind = \"causal\"", "", "`kind` is missing"),
            (
                "epochs = 30",
                "epochs = 30\nupdates = 5",
                "`updates` stands beside `epochs`",
            ),
            ("dropout = 0.0", "dropout = 0.1", "`lora.dropout` must be 0"),
            (
                "trains = \"lora\"",
                "trains = \"loar\"",
                "`trains` is \"all\", \"lora\" or a list",
            ),
            ("lr = 3e-5", "lr = 0.0", "`lr` must be above 0"),
            ("clip = 1.0", "clip = 1.0.0", "line 14: "),
        ] {
            let text = WHOLE.replacen(from, to, 1);
            let error = Recipe::parse(&text).expect_err(to);
            assert!(error.contains(said) && !error.contains('\n'), "{error}");
        }
    }
}
