//! Checkpoints whose weights are packed into fewer bits, which no merge reads.

use debias_weights::{Checkpoint, Dtype};
use serde_json::Value;

use super::config::TEXT;

/// Ends of names that packed layouts have: bitsandbytes, GPTQ and AWQ, FP8 and compressed-tensors,
/// HQQ, MXFP4.
const PACKED: [&str; 15] = [
    ".absmax",
    ".quant_map",
    ".SCB",
    ".weight_format",
    ".qweight",
    ".qzeros",
    ".g_idx",
    ".weight_packed",
    ".weight_scale",
    ".weight_scale_inv",
    ".input_scale",
    ".W_q",
    "_proj_blocks",
    "_proj_scales",
    ".weight_zero_point",
];

/// What a quantised model is to be told to be; `None` where its weights are numbers.
pub(super) fn refused(config: &Value, checkpoint: &Checkpoint) -> Option<String> {
    let packed = checkpoint.names().find(|name| {
        let info = checkpoint.info(name);
        let narrow = info.is_some_and(|info| is_narrow(info.dtype));
        narrow || name.contains(".quant_state.") || PACKED.iter().any(|end| name.ends_with(end))
    });
    let setting = setting(config);
    // A configuration may keep the setting of a program that packs the weights when it loads them.
    let whole = || {
        let format = |name| checkpoint.info(name).map(|info| info.dtype);
        let mut weights = checkpoint.names().filter(|name| name.ends_with("weight"));
        weights.all(|name| {
            matches!(
                format(name),
                Some(Dtype::F64 | Dtype::F32 | Dtype::F16 | Dtype::BF16)
            )
        })
    };
    if packed.is_none() && (setting.is_none() || whole()) {
        return None;
    }
    let method = setting.and_then(|setting| {
        let named = setting.get("quant_method").and_then(Value::as_str);
        let bits = [("load_in_4bit", "4 bits"), ("load_in_8bit", "8 bits")]
            .into_iter()
            .find(|(key, _)| setting.get(*key).and_then(Value::as_bool) == Some(true));
        let bits = bits
            .map(|(_, bits)| format!(", {bits}"))
            .unwrap_or_default();
        named.map(|named| format!(" ({named}{bits})"))
    });
    let tensor = packed.map(|name| format!(", as `{name}` shows"));
    Some(format!(
        "is quantised{}: its weights are packed and cannot be merged{}; give the 16-bit original that it was made from",
        method.unwrap_or_default(),
        tensor.unwrap_or_default()
    ))
}

/// Whether a number format is a float of 8 bits or fewer.
fn is_narrow(dtype: Dtype) -> bool {
    dtype.bitsize() <= 8 && !matches!(dtype, Dtype::U8 | Dtype::I8 | Dtype::BOOL)
}

/// `quantization_config`, of the whole or of the language model.
fn setting(config: &Value) -> Option<&Value> {
    let parts = TEXT.iter().filter_map(|key| config.get(*key));
    let mut parts = [config].into_iter().chain(parts);
    parts.find_map(|part| {
        let setting = ["quantization_config", "compression_config"];
        setting
            .into_iter()
            .find_map(|key| part.get(key).filter(|setting| setting.is_object()))
    })
}
