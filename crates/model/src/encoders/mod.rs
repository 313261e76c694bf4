//! Encoders: texts to one vector each, or to the logits of a classifier.
//!
//! A family is one file here and one line in [`FAMILIES`]. All of them share the post-norm blocks
//! of [`stack`]; what a text's vector is read from stands in [`sentence`].

mod encoder;
mod family;
mod sentence;
mod stack;
mod tokens;

use serde_json::Value;

use crate::decoders::Home;
use crate::error::Result;
use family::EncoderFamily;

pub use encoder::Encoder;
pub use tokens::{Hidden, Tokens};

debias_core::registry! {
    /// Every family; to add one, write its file and name it here.
    static FAMILIES: EncoderFamily;
    bert::FAMILY,
    distilbert::FAMILY,
}

fn family(home: Home) -> Result<&'static EncoderFamily> {
    let names: Vec<&str> = FAMILIES.iter().map(|family| family.model_type).collect();
    let known = names.join(", ");
    let Some(name) = home.config.get("model_type").and_then(Value::as_str) else {
        return Err(home.refuse("model_type", format!("is missing; known encoders: {known}")));
    };
    FAMILIES
        .iter()
        .copied()
        .find(|family| family.model_type == name)
        .ok_or_else(|| {
            let problem = format!("is `{name}`, which is no encoder; known encoders: {known}");
            home.refuse("model_type", problem)
        })
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
