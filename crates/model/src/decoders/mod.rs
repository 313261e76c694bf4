//! Decoders: token and image vectors to logits, in half-layer steps.
//!
//! A decoder layer is an attention block followed by a feed-forward block. Passes may stop and
//! resume between any two blocks, so that whatever an edit does not touch is computed once.

use serde_json::Value;

use crate::error::Result;

mod absolute;
mod decoder;

pub use decoder::{Decoder, Outline};
pub(crate) use decoder::{DecoderFamily, Home, device_of};

debias_core::registry! {
    /// Every decoder family; to add one, write its file and name it here.
    pub(crate) static FAMILIES: DecoderFamily;
    glm4::FAMILY,
    gpt2::FAMILY,
    gpt_neo::FAMILY,
    internlm2::FAMILY,
    llama::FAMILY,
    opt::FAMILY,
    qwen2::FAMILY,
}

/// The family that `home` names.
///
/// # Errors
/// A missing or unknown `model_type`; the known ones are listed.
pub(crate) fn family(home: Home) -> Result<&'static DecoderFamily> {
    let known = || {
        let names: Vec<&str> = FAMILIES.iter().map(|family| family.model_type).collect();
        names.join(", ")
    };
    let Some(name) = home.config.get("model_type").and_then(Value::as_str) else {
        return Err(home.refuse("model_type", format!("is missing; known: {}", known())));
    };
    FAMILIES
        .iter()
        .copied()
        .find(|family| family.model_type == name)
        .ok_or_else(|| home.refuse("model_type", format!("is `{name}`; known: {}", known())))
}

#[cfg(test)]
mod tests {
    use super::*;
    use debias_core::registry;

    #[test]
    fn families_have_names_of_their_own() {
        let names = FAMILIES.iter().map(|family| (family.model_type, []));
        assert_eq!(registry::flaws(names), Vec::<String>::new());
    }
}
