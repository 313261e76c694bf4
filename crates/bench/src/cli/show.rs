//! `bench show`: one card.

use serde_json::Value;

use super::Session;
use crate::catalogue::find;
use crate::terminal::exit::Exit;
use crate::terminal::printer::{TEXT_WIDTH, wrapped};

/// Show the card of a model, editor, dataset, benchmark, suite or metric
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  bench show ft-l
  bench show toytown
  bench show m_locality --json")]
pub struct Args {
    /// Its name, as in `bench list`
    name: String,
}

impl Args {
    pub(super) fn execute(self, session: Session) -> anyhow::Result<Exit> {
        let entry = find(&self.name)?;
        match session.json {
            true => session.print_json(&entry.card)?,
            false => session.printer.result(&render(&entry.card, 0))?,
        }
        Ok(Exit::Done)
    }
}

/// A card as indented text: `label: value`, long texts wrapped below their label.
fn render(value: &Value, depth: usize) -> String {
    let indent = "  ".repeat(depth);
    match value {
        Value::Object(map) => map
            .iter()
            .map(|(key, value)| {
                let label = format!("{indent}{key}:");
                match value {
                    Value::Object(map) if map.is_empty() => format!("{label} none"),
                    Value::Array(items) if items.is_empty() => format!("{label} none"),
                    Value::Object(map) if map.values().all(is_short) => {
                        format!("{label} {}", inline(map))
                    }
                    Value::Object(_) => format!("{label}\n{}", render(value, depth + 1)),
                    Value::Array(items) if items.iter().all(is_short) => {
                        let items: Vec<_> = items.iter().map(scalar).collect();
                        format!("{label} {}", items.join(", "))
                    }
                    Value::Array(items) => {
                        let items: Vec<_> = items
                            .iter()
                            .map(|item| match item {
                                Value::Object(map) => format!("{indent}  - {}", inline(map)),
                                other => bullet(&scalar(other), &indent),
                            })
                            .collect();
                        format!("{label}\n{}", items.join("\n"))
                    }
                    scalar_value => labelled(&label, &scalar(scalar_value), &indent),
                }
            })
            .collect::<Vec<_>>()
            .join("\n"),
        other => format!("{indent}{}", scalar(other)),
    }
}

/// A value that fits between commas.
fn is_short(value: &Value) -> bool {
    match value {
        Value::Object(_) => false,
        Value::Array(items) => items.iter().all(|item| item.is_number()),
        Value::String(text) => text.len() <= 24,
        _ => true,
    }
}

fn scalar(value: &Value) -> String {
    match value {
        Value::String(text) => text.split_whitespace().collect::<Vec<_>>().join(" "),
        other => other.to_string(),
    }
}

fn inline(map: &serde_json::Map<String, Value>) -> String {
    let parts: Vec<_> = map
        .iter()
        .map(|(key, value)| format!("{key} {}", scalar(value)))
        .collect();
    parts.join(", ")
}

/// Text behind its label, or wrapped below it when the line would be too long.
fn labelled(label: &str, text: &str, indent: &str) -> String {
    match label.len() + 1 + text.chars().count() <= TEXT_WIDTH {
        true => format!("{label} {text}"),
        false => format!("{label}\n{}", wrapped(text, &format!("{indent}  "))),
    }
}

fn bullet(text: &str, indent: &str) -> String {
    let hang = format!("{indent}    ");
    let text = wrapped(text, &hang);
    format!("{indent}  - {}", text.trim_start())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_card_reads_like_one() {
        let card = json!({
            "id": "ft-x",
            "version": 2,
            "failures": [],
            "tasks": ["ic", "vqa"],
            "summary": "word ".repeat(30),
            "settings": {"lr": {"meaning": "how fast it goes down the hill of the loss", "default": {"project": 0.1, "paper": null}}},
            "measured": {"share": 0.5, "n": 8},
        });
        snapbox::assert_data_eq!(
            render(&card, 0),
            snapbox::str![[r#"
id: ft-x
version: 2
failures: none
tasks: ic, vqa
summary:
  word word word word word word word word word word word word word word word word word word word
  word word word word word word word word word word word
settings:
  lr:
    meaning: how fast it goes down the hill of the loss
    default: project 0.1, paper null
measured: share 0.5, n 8
"#]]
        );
    }
}
