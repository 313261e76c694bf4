//! How a text's one vector is read from its tokens' vectors (Reimers and Gurevych 2019).
//!
//! Folders in the layout of sentence-transformers say it in `modules.json`, in the pooling module's
//! own folder, in `sentence_bert_config.json` and in `config_sentence_transformers.json`; others get
//! the normalised mean.

use std::collections::BTreeMap;

use burn::tensor::{Bool, Tensor, TensorData};
use debias_weights::Checkpoint;
use serde::Deserialize;

use super::tokens::Hidden;
use crate::change::View;
use crate::decoders::device_of;
use crate::device::product;
use crate::dtype::as_dtype;
use crate::error::Result;
use crate::host;

/// Where the pooling module is published.
const POOLING_FOLDER: &str = "1_Pooling";

/// Which vector stands for a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pooling {
    /// That of the first token.
    First,
    /// The mean over all real tokens.
    Mean,
    /// The largest value of each entry over all real tokens.
    Max,
}

/// From hidden states to sentence embeddings.
#[derive(Clone, Debug)]
pub(super) struct Sentence {
    /// What stands in front of every text.
    pub prompt: String,
    pub pooling: Pooling,
    /// Whether embeddings are brought to length 1.
    pub normalised: bool,
    /// Most tokens that are read, special tokens included.
    pub longest: usize,
    /// Whether texts are lowercased before they are tokenised.
    pub lowercase: bool,
}

/// An entry of `modules.json`.
#[derive(Deserialize)]
struct ModuleEntry {
    path: String,
    #[serde(rename = "type")]
    kind: String,
}

/// `sentence_bert_config.json`.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Limits {
    max_seq_length: Option<usize>,
    do_lower_case: bool,
}

/// What is needed of `tokenizer_config.json`.
#[derive(Deserialize)]
struct Tokenizer {
    /// Some publish 1e30 for no limit.
    model_max_length: Option<f64>,
}

/// `config_sentence_transformers.json`.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Prompts {
    prompts: Option<BTreeMap<String, String>>,
    default_prompt_name: Option<String>,
}

/// One way of pooling, or several.
#[derive(Deserialize)]
#[serde(untagged)]
enum Named {
    One(String),
    Several(Vec<String>),
}

/// `config.json` of the pooling module: a name since version 5.4, before that a choice each.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Modes {
    pooling_mode: Option<Named>,
    include_prompt: Option<bool>,
    pooling_mode_cls_token: bool,
    pooling_mode_mean_tokens: bool,
    pooling_mode_max_tokens: bool,
    pooling_mode_mean_sqrt_len_tokens: bool,
    pooling_mode_weightedmean_tokens: bool,
    pooling_mode_lasttoken: bool,
}

impl Sentence {
    /// What the folder says, for a model of that many positions.
    ///
    /// # Errors
    /// A module or a way of pooling that this build does not know.
    pub fn read(checkpoint: &Checkpoint, positions: usize) -> Result<Self> {
        let modules: Option<Vec<ModuleEntry>> = checkpoint.json_if_present("modules.json")?;
        let limits: Option<Limits> = checkpoint.json_if_present("sentence_bert_config.json")?;
        let limits = limits.unwrap_or_default();
        let longest = match limits.max_seq_length {
            Some(longest) => longest,
            None => {
                let written: Option<Tokenizer> =
                    checkpoint.json_if_present("tokenizer_config.json")?;
                let longest = written.and_then(|written| written.model_max_length);
                longest.map_or(positions, |longest| longest as usize)
            }
        };
        let mut sentence = Self {
            prompt: prompt(checkpoint)?,
            pooling: Pooling::Mean,
            normalised: modules.is_none(),
            longest: longest.min(positions),
            lowercase: limits.do_lower_case,
        };
        match modules {
            Some(modules) => sentence.follow(checkpoint, &modules)?,
            None => {
                if let Some(folder) = checkpoint.subfolder(POOLING_FOLDER)? {
                    sentence.pooling = sentence.pooled_by(&folder)?;
                }
            }
        }
        Ok(sentence)
    }

    fn follow(&mut self, checkpoint: &Checkpoint, modules: &[ModuleEntry]) -> Result<()> {
        for (index, module) in modules.iter().enumerate() {
            let refuse = |field: &str, problem: String, mend| {
                Err(debias_weights::Error::Json {
                    file: format!("{}/modules.json", checkpoint.location()),
                    field: Some(format!("[{index}].{field}")),
                    problem,
                    mend,
                }
                .into())
            };
            let kind = module.kind.rsplit('.').next().unwrap_or_default();
            match kind {
                "Transformer" if module.path.is_empty() => {}
                "Transformer" => {
                    let problem = format!("the weights are in the folder `{}`", module.path);
                    return refuse("path", problem, "move its files up, beside modules.json");
                }
                "Pooling" => match checkpoint.subfolder(&module.path)? {
                    Some(folder) => self.pooling = self.pooled_by(&folder)?,
                    None => {
                        let problem = format!("there is no folder `{}`", module.path);
                        return refuse("path", problem, "fetch the whole folder");
                    }
                },
                "Normalize" => self.normalised = true,
                _ => {
                    let problem = format!("unknown module `{}`", module.kind);
                    let mend = "known: Transformer, Pooling, Normalize";
                    return refuse("type", problem, mend);
                }
            }
        }
        Ok(())
    }
}

/// The text of the prompt that a folder puts in front where nobody chooses one.
fn prompt(checkpoint: &Checkpoint) -> Result<String> {
    const FILE: &str = "config_sentence_transformers.json";
    let written: Option<Prompts> = checkpoint.json_if_present(FILE)?;
    let Prompts {
        prompts,
        default_prompt_name,
    } = written.unwrap_or_default();
    let Some(name) = default_prompt_name else {
        return Ok(String::new());
    };
    let found = prompts.and_then(|mut prompts| prompts.remove(&name));
    found.ok_or_else(|| {
        debias_weights::Error::Json {
            file: format!("{}/{FILE}", checkpoint.location()),
            field: Some("default_prompt_name".into()),
            problem: format!("`{name}` is none of `prompts`"),
            mend: "add it there, or take the file that was published with the weights",
        }
        .into()
    })
}

impl Modes {
    /// The ways that are asked for, by the names of version 5.4.
    fn names(&self) -> Vec<&str> {
        match &self.pooling_mode {
            Some(Named::One(name)) => vec![name],
            Some(Named::Several(names)) => names.iter().map(String::as_str).collect(),
            None => [
                (self.pooling_mode_cls_token, "cls"),
                (self.pooling_mode_mean_tokens, "mean"),
                (self.pooling_mode_max_tokens, "max"),
                (
                    self.pooling_mode_mean_sqrt_len_tokens,
                    "mean_sqrt_len_tokens",
                ),
                (self.pooling_mode_weightedmean_tokens, "weightedmean"),
                (self.pooling_mode_lasttoken, "lasttoken"),
            ]
            .into_iter()
            .filter_map(|(on, name)| on.then_some(name))
            .collect(),
        }
    }
}

impl Sentence {
    /// How the pooling module in `folder` reads a text's vector.
    fn pooled_by(&self, folder: &Checkpoint) -> Result<Pooling> {
        let modes: Modes = folder.json("config.json")?;
        let refuse = |field: &str, problem: String, mend| {
            Err(debias_weights::Error::Json {
                file: format!("{}/config.json", folder.location()),
                field: Some(field.into()),
                problem,
                mend,
            }
            .into())
        };
        if modes.include_prompt == Some(false) && !self.prompt.is_empty() {
            let problem = "is false; only the mean over the prompt's tokens too is known".into();
            let mend = "leave `default_prompt_name` away, or the prompt in";
            return refuse("include_prompt", problem, mend);
        }
        match modes.names()[..] {
            ["cls"] => Ok(Pooling::First),
            ["mean"] => Ok(Pooling::Mean),
            ["max"] => Ok(Pooling::Max),
            ref names => refuse(
                "pooling_mode",
                match names {
                    [] => "no way of pooling is chosen".into(),
                    names => format!("`{}` is not one that is supported", names.join("` and `")),
                },
                "supported, each alone: cls, mean, max; before version 5.4 pooling_mode_cls_token, pooling_mode_mean_tokens, pooling_mode_max_tokens",
            ),
        }
    }
}

impl Pooling {
    /// One vector per row, `[b, d]`, in f32 where the view computes in less.
    pub fn pool(self, hidden: &Hidden, view: &View) -> Tensor<2> {
        let view = view.at_least_f32();
        let states = as_dtype(hidden.states.clone(), view.dtype());
        let [b, t, d] = states.dims();
        let device = device_of(&states);
        let real = hidden
            .lengths
            .iter()
            .flat_map(|length| (0..t).map(move |i| (i < *length, *length)));
        let pooled = match self {
            Self::First => states.narrow(1, 0, 1),
            Self::Mean => {
                let share = |(real, length)| if real { 1.0 / length as f32 } else { 0.0 };
                let shares: Tensor<3> = host::tensor(real.map(share).collect(), [b, 1, t], &device);
                product(view.lift(&shares), states)
            }
            Self::Max => {
                let padding = TensorData::new(real.map(|(real, _)| !real).collect(), [b, t, 1]);
                let padding = Tensor::<3, Bool>::from_data(padding, &device);
                states
                    .mask_fill(padding.expand([b, t, d]), f32::MIN)
                    .max_dim(1)
            }
        };
        pooled.squeeze_dim(1)
    }
}

/// Rows of length 1; a row of zeros stays as it is.
pub(super) fn normalised(x: Tensor<2>) -> Tensor<2> {
    let norm = x.clone().square().sum_dim(1).sqrt().clamp_min(1e-12);
    x / norm
}
