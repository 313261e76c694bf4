//! `adapter_config.json`: what PEFT multiplies an adapter's product by, and what is not merged.

use debias_weights::Checkpoint;
use fancy_regex::Regex;
use serde::Deserialize;
use serde_json::{Map, Value};

/// The file in an adapter's folder.
pub(crate) const FILE: &str = "adapter_config.json";

/// Settings that change what an adapter computes in ways that no sum of products holds.
const NOT_MERGED: [(&str, &str); 12] = [
    ("use_dora", "DoRA"),
    ("use_qalora", "QA-LoRA"),
    ("use_bdlora", "block-diagonal LoRA"),
    ("lora_bias", "a bias of lora_B"),
    ("alora_invocation_tokens", "activated LoRA"),
    ("arrow_config", "Arrow routing"),
    ("kasa_config", "KaSA"),
    ("monteclora_config", "MonteCLoRA"),
    ("target_parameters", "LoRA on single parameters"),
    ("trainable_token_indices", "trained tokens"),
    ("layer_replication", "replicated layers"),
    ("megatron_config", "a Megatron layout"),
];

/// Initialisations that also change the base's weights, so that the published base is not the one
/// that the adapter belongs on.
const MOVES_THE_BASE: [&str; 5] = ["pissa", "corda", "olora", "loftq", "lora_ga"];

#[derive(Deserialize)]
struct Raw {
    peft_type: String,
    // The defaults are PEFT's.
    #[serde(default = "eight")]
    r: usize,
    #[serde(default = "alpha_eight")]
    lora_alpha: f64,
    use_rslora: Option<bool>,
    fan_in_fan_out: Option<bool>,
    rank_pattern: Option<Map<String, Value>>,
    alpha_pattern: Option<Map<String, Value>>,
    #[serde(flatten)]
    rest: Map<String, Value>,
}

fn eight() -> usize {
    8
}

fn alpha_eight() -> f64 {
    8.0
}

/// What an adapter's product is multiplied by.
#[derive(Debug)]
pub(crate) struct Config {
    rank: usize,
    alpha: f64,
    /// Whether alpha is divided by the root of the rank.
    pub(crate) root: bool,
    /// Whether the weights of the model lie `[in, out]`.
    pub(crate) transposed: bool,
    ranks: Vec<(Regex, usize)>,
    alphas: Vec<(Regex, f64)>,
    /// All keys, to be written again.
    pub(crate) all: Map<String, Value>,
}

impl Config {
    /// Reads and judges `adapter_config.json`; the inner error says what is not merged.
    pub(crate) fn read(folder: &Checkpoint) -> debias_weights::Result<Result<Self, String>> {
        let raw: Raw = folder.json(FILE)?;
        let all = folder.json(FILE)?;
        Ok(Self::judge(raw, all))
    }

    fn judge(raw: Raw, all: Map<String, Value>) -> Result<Self, String> {
        if raw.peft_type != "LORA" {
            return Err(format!(
                "{FILE}: peft_type `{}` is not merged, only LORA; merge it into its base with PEFT and give that folder",
                raw.peft_type
            ));
        }
        if let Some((key, what)) = NOT_MERGED.iter().find(|(key, _)| given(raw.rest.get(*key))) {
            return Err(format!(
                "{FILE}: `{key}` asks for {what}, which is not merged; merge it into its base with PEFT and give that folder"
            ));
        }
        moves_the_base(raw.rest.get("init_lora_weights"))?;
        let integer = |value: &Value| value.as_u64().and_then(|r| usize::try_from(r).ok());
        let config = Self {
            rank: raw.r,
            alpha: raw.lora_alpha,
            root: raw.use_rslora.unwrap_or(false),
            transposed: raw.fan_in_fan_out.unwrap_or(false),
            ranks: patterns("rank_pattern", raw.rank_pattern, integer)?,
            alphas: patterns("alpha_pattern", raw.alpha_pattern, Value::as_f64)?,
            all,
        };
        let ranks = config.ranks.iter().map(|(_, rank)| *rank);
        match ranks.chain([config.rank]).any(|rank| rank == 0) {
            true => Err(format!(
                "{FILE}: a rank of 0 holds nothing; correct `r` or `rank_pattern`"
            )),
            false => Ok(config),
        }
    }

    /// The rank that a module must have.
    pub(super) fn rank(&self, module: &str) -> Result<usize, String> {
        Ok(first("rank_pattern", &self.ranks, module)?.unwrap_or(self.rank))
    }

    /// What the product of a module is multiplied by: `alpha / r`, or `alpha / sqrt(r)`.
    pub(super) fn scale(&self, module: &str) -> Result<f64, String> {
        let rank = self.rank(module)? as f64;
        let alpha = first("alpha_pattern", &self.alphas, module)?.unwrap_or(self.alpha);
        Ok(match self.root {
            true => alpha / rank.sqrt(),
            false => alpha / rank,
        })
    }
}

/// Whether a setting is more than its absence.
fn given(value: Option<&Value>) -> bool {
    match value {
        None | Some(Value::Null | Value::Bool(false)) => false,
        Some(Value::Array(items)) => !items.is_empty(),
        Some(Value::Object(items)) => !items.is_empty(),
        Some(_) => true,
    }
}

fn moves_the_base(init: Option<&Value>) -> Result<(), String> {
    let Some(Value::String(init)) = init else {
        return Ok(());
    };
    let name = init.to_lowercase();
    match MOVES_THE_BASE.iter().any(|prefix| name.starts_with(prefix)) {
        true => Err(format!(
            "{FILE}: `init_lora_weights` {init} has changed the base's weights too; save the adapter with `path_initial_model_for_weight_conversion`, which makes it a plain one"
        )),
        false => Ok(()),
    }
}

/// Compiles PEFT's patterns: a key matches a module's whole name, or its end behind a dot.
fn patterns<T>(
    field: &str,
    map: Option<Map<String, Value>>,
    read: impl Fn(&Value) -> Option<T>,
) -> Result<Vec<(Regex, T)>, String> {
    let compile = |(key, value): (String, Value)| {
        let regex = Regex::new(&format!(r"\A(.*\.)?({key})$"))
            .map_err(|_| format!("{FILE}: `{field}`: `{key}` is no regular expression"))?;
        let value = read(&value).ok_or_else(|| {
            format!("{FILE}: `{field}.{key}` is {value}, which is no such number")
        })?;
        Ok((regex, value))
    };
    map.unwrap_or_default().into_iter().map(compile).collect()
}

/// The value of the first pattern that matches, as in PEFT.
fn first<T: Copy>(field: &str, patterns: &[(Regex, T)], module: &str) -> Result<Option<T>, String> {
    for (regex, value) in patterns {
        let matches = regex.is_match(module).map_err(|_| {
            format!("{FILE}: `{field}`: `{regex}` takes too long on `{module}`; simplify it")
        })?;
        if matches {
            return Ok(Some(*value));
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn config(value: Value) -> Result<Config, String> {
        let all = value.as_object().expect("an object").clone();
        let raw = serde_json::from_value(value).expect("well-formed");
        Config::judge(raw, all)
    }

    #[test]
    fn scales_follow_the_first_pattern_that_matches() {
        let config = config(json!({
            "peft_type": "LORA", "r": 4, "lora_alpha": 8, "use_rslora": false,
            "rank_pattern": {"layers.1.q_proj": 2, "q_proj": 16, "^v_proj": 1},
            "alpha_pattern": {"k_(proj|other)": 1.5},
        }))
        .expect("plain");
        let all = |module| (config.rank(module), config.scale(module));
        assert_eq!(all("model.layers.1.q_proj"), (Ok(2), Ok(4.0)));
        assert_eq!(all("model.layers.11.q_proj"), (Ok(16), Ok(0.5)));
        // Neither the middle of a name nor the end of a word.
        assert_eq!(all("q_proj.deep"), (Ok(4), Ok(2.0)));
        assert_eq!(all("layers.fq_proj"), (Ok(4), Ok(2.0)));
        assert_eq!(all("layers.k_other"), (Ok(4), Ok(0.375)));
        assert_eq!(all("layers.v_proj"), (Ok(4), Ok(2.0)));
        assert_eq!(all("v_proj"), (Ok(1), Ok(8.0)));
    }

    #[test]
    fn a_rank_stabilized_scale_divides_by_the_root() {
        let config = config(json!({
            "peft_type": "LORA", "r": 4, "lora_alpha": 6, "use_rslora": true,
        }));
        assert_eq!(config.expect("plain").scale("q"), Ok(3.0));
    }

    #[test]
    fn what_is_not_merged_is_refused_by_its_key() {
        for (value, word) in [
            (json!({"peft_type": "LOHA"}), "LOHA"),
            (json!({"peft_type": "LORA", "use_dora": true}), "use_dora"),
            (
                json!({"peft_type": "LORA", "init_lora_weights": "pissa_niter_4"}),
                "pissa_niter_4",
            ),
            (json!({"peft_type": "LORA", "r": 0}), "rank of 0"),
            (
                json!({"peft_type": "LORA", "rank_pattern": {"q": 0}}),
                "rank of 0",
            ),
            (
                json!({"peft_type": "LORA", "rank_pattern": {"q": "x"}}),
                "rank_pattern.q",
            ),
            (
                json!({"peft_type": "LORA", "alpha_pattern": {"(": 1}}),
                "`(` is no regular",
            ),
            (
                json!({"peft_type": "LORA", "trainable_token_indices": [3]}),
                "trained tokens",
            ),
        ] {
            let refused = config(value).expect_err(word);
            assert!(refused.contains(word), "{refused}");
        }
        assert!(
            config(json!({"peft_type": "LORA", "use_dora": null, "target_parameters": []})).is_ok()
        );
    }
}
