//! Weights of few bits, told by the tensors that only they have.

use safetensors::Dtype;
use serde_json::Value;

use crate::checkpoint::Checkpoint;
use crate::error::{Error, Result, one_line};

/// Ends of the names of tensors that only quantised weights have, and whose they are.
const MARKS: [(&str, &str); 15] = [
    (".qweight", "GPTQ or AWQ"),
    (".qzeros", "GPTQ or AWQ"),
    (".g_idx", "GPTQ"),
    (".absmax", "bitsandbytes"),
    (".quant_map", "bitsandbytes"),
    (".SCB", "bitsandbytes"),
    (".weight_format", "bitsandbytes"),
    (".weight_packed", "compressed-tensors"),
    (".weight_scale_inv", "FP8"),
    (".weight_scale", "FP8 or INT8"),
    (".weight_zero_point", "INT8"),
    (".input_scale", "FP8 or INT8"),
    (".W_q", "HQQ"),
    ("_proj_blocks", "MXFP4"),
    ("_proj_scales", "MXFP4"),
];

impl Checkpoint {
    /// Refuses weights that are quantised, and says by what: as `quantization_config` of
    /// `config.json` names it, else as the names and number formats of the tensors show it. A
    /// configuration that says so beside plain weights is a leftover.
    ///
    /// # Errors
    /// [`Error::Quantised`]; a malformed `config.json`.
    pub fn refuse_quantised(&self) -> Result<()> {
        let Some((name, shown)) = self.quantised_tensor() else {
            return Ok(());
        };
        let config: Option<Value> = self.json_if_present("config.json")?;
        let config = config.unwrap_or_default();
        let of = |place: &Value| {
            Some(
                place["quantization_config"]["quant_method"]
                    .as_str()?
                    .to_owned(),
            )
        };
        let said = of(&config).or_else(|| of(&config["text_config"]));
        let method = match said {
            Some(method) => format!(
                "config.json says {}; `{}`",
                one_line(&method),
                one_line(name)
            ),
            None => format!("{shown}, as `{}` shows", one_line(name)),
        };
        Err(Error::Quantised {
            location: self.location(),
            method,
        })
    }

    /// The first tensor that only quantised weights have, and what it shows.
    fn quantised_tensor(&self) -> Option<(&str, &'static str)> {
        let named = self.names().find_map(|name| {
            let (_, shown) = MARKS.iter().find(|(mark, _)| name.ends_with(mark))?;
            Some((name, *shown))
        });
        named.or_else(|| {
            self.names().find_map(|name| {
                let shown = match self.info(name)?.dtype {
                    _ if !name.ends_with(".weight") => return None,
                    Dtype::F8_E4M3 | Dtype::F8_E5M2 => "FP8",
                    Dtype::U8 => "weights of 4 or 8 bits, U8",
                    Dtype::I8 => "INT8",
                    Dtype::I32 => "packed weights, I32",
                    _ => return None,
                };
                Some((name, shown))
            })
        })
    }
}
