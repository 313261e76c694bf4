//! Fuzz target of the reader of lines: every form, encoding and end.

#![no_main]

mod seeds;

use std::path::Path;

use debias_data::{Content, Error, Lines, raw_field};
use libfuzzer_sys::fuzz_target;
use serde_json::Value;

fuzz_target!(
    init: seeds::plant(&forms()),
    |bytes: &[u8]| {
        for content in [Content::Json, Content::JsonOrText] {
            if let Err(error) = read(bytes, content) {
                let message = error.to_string();
                assert!(message.starts_with("fuzz: ") && !message.contains('\n'), "{message}");
            }
        }
    }
);

/// Reads all entries; lines never go back, and the field `id` is where serde finds it.
fn read(bytes: &[u8], content: Content) -> Result<(), Error> {
    let mut lines = Lines::over(Path::new("fuzz"), bytes, content)?;
    let mut last = 1;
    while let Some(entry) = lines.next_entry()? {
        assert!(entry.line >= last);
        last = entry.line;
        match entry.parse::<Value>() {
            Ok(value) => {
                let id = raw_field(entry.bytes, "id").map(serde_json::from_slice::<Value>);
                let id = id.transpose().expect("a value of its own");
                assert_eq!(
                    id.as_ref(),
                    value.as_object().and_then(|object| object.get("id"))
                );
            }
            Err(fault) => assert!(!fault.to_string().contains('\n'), "{fault}"),
        }
    }
    assert!(lines.next_entry()?.is_none(), "the end is the end");
    Ok(())
}

fn forms() -> Vec<Vec<u8>> {
    let lines = "{\"id\": 1, \"text\": \"a\\\"\"}\r\n\n{\"id\": \"b\", \"image\": null}\n";
    let list = "[{\"id\": 1},\n {\"id\": [2, {}]}, -3e4, true]\n";
    let pretty = "{\n  \"id\": 1\n}\n{\n  \"id\": 12345678901234567890123\n}\n";
    let wide = |text: &str| "\u{feff}".chars().chain(text.chars()).collect::<String>();
    let mut forms: Vec<Vec<u8>> = [lines, list, pretty, "a\n[b]\n", "{\"id\": NaN}"]
        .iter()
        .map(|text| text.as_bytes().to_vec())
        .collect();
    forms.push(wide(lines).into_bytes());
    forms.push(
        wide(list)
            .encode_utf16()
            .flat_map(u16::to_le_bytes)
            .collect(),
    );
    forms.push(
        wide(pretty)
            .encode_utf16()
            .flat_map(u16::to_be_bytes)
            .collect(),
    );
    forms
}
