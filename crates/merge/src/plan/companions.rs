//! The donor's files besides weights, configuration and tokenizer: code, processors, settings.

use std::collections::BTreeSet;

use debias_weights::{Belonging, Checkpoint};
use serde_json::Value;

use crate::error::Result;
use crate::vocabulary;

/// Files that a model needs to be run.
const NAMED: [&str; 7] = [
    "generation_config.json",
    "minigpt4.json",
    "modules.json",
    "sentence_bert_config.json",
    "config_sentence_transformers.json",
    "processor.json",
    "image_processor.json",
];

/// Adds the donor's files to those that are there already, of which the output keeps its own.
pub(super) fn add(files: &mut Vec<Belonging>, donor: &Checkpoint) -> Result<()> {
    let known: BTreeSet<String> = files.iter().map(|(name, _)| name.clone()).collect();
    for name in donor.files()? {
        let wanted = name.ends_with(".py")
            || name.ends_with("processor_config.json")
            || NAMED.contains(&name.as_str());
        if wanted && !known.contains(&name) && !vocabulary::is_tokenizers(&name) {
            let content = donor.bytes(&name)?.into_owned();
            files.push((name, content));
        }
    }
    let below = donor.belongings()?.into_iter();
    files.extend(below.filter(|(path, _)| !known.contains(path)));
    Ok(())
}

/// What the output's configurations name as their code and the output lacks, in a sentence.
pub(super) fn missing_code(files: &[Belonging]) -> Option<String> {
    let mut named = BTreeSet::new();
    for (_, content) in files
        .iter()
        .filter(|(name, _)| name.ends_with("config.json") && !name.contains('/'))
    {
        let config: Value = serde_json::from_slice(content).unwrap_or_default();
        let classes = config.get("auto_map").and_then(Value::as_object);
        for class in classes.into_iter().flat_map(|map| map.values()) {
            let several = class.as_array().map(Vec::as_slice);
            let each = several.unwrap_or(std::slice::from_ref(class));
            // `repository--module.Class` lies in that repository.
            let own = each.iter().filter_map(Value::as_str);
            let own = own.filter(|class| !class.contains("--"));
            let modules = own.filter_map(|class| class.rsplit_once('.'));
            named.extend(modules.map(|(module, _)| format!("{}.py", module.replace('.', "/"))));
        }
    }
    let there = |file: &String| files.iter().any(|(name, _)| name == file);
    let missing: Vec<_> = named.into_iter().filter(|file| !there(file)).collect();
    (!missing.is_empty()).then(|| {
        format!(
            "`auto_map` names code that the folder does not hold, and the output lacks it too: {}",
            missing.join(", ")
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn code_that_is_named_and_not_there_is_said() {
        let config = br#"{"auto_map": {"AutoConfig": "configuration_x.XConfig", "AutoModel": "o/r--modeling_y.Y",
            "AutoTokenizer": ["tokenization_x.X", null]}}"#;
        let file = |name: &str, content: &[u8]| (name.to_owned(), content.to_vec());
        let mut files = vec![file("config.json", config), file("configuration_x.py", b"")];
        let said = missing_code(&files).expect("one is missing");
        assert!(said.ends_with("too: tokenization_x.py"), "{said}");
        files.push(file("tokenization_x.py", b""));
        assert_eq!(missing_code(&files), None);
    }
}
