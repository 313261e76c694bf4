//! `bench embed`: sentence embeddings of an encoder.

use std::io::Write;

use anyhow::Context;
use debias_model::{Encoder, View};
use serde::{Deserialize, Serialize};

use super::Session;
use crate::compute::{Input, Loading, Numbers};
use crate::models::ModelSource;
use crate::terminal::exit::Exit;
use crate::terminal::lines::{Id, Lines};

/// Embed texts: one vector each, from a sentence encoder (BERT, DistilBERT)
///
/// Reads JSON lines {"id", "text"}, or plain lines, whose ids are their numbers from 1, and writes
/// one line each, in the same order: {"id", "embedding"}. How a text's vector is read (mean, first
/// token or maximum, of length 1 or not) is what the model's folder says, else the normalised mean.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  bench embed --model all-MiniLM-L6-v2/ --text 'The nurse said that she was tired.'
  bench embed --model all-MiniLM-L6-v2/ prompts.jsonl > embeddings.jsonl
  bench embed --model all-MiniLM-L6-v2/ < lines.txt

Lines are JSON if the first that is not blank begins with {.")]
pub struct Args {
    /// The encoder: a Hugging Face folder
    #[arg(long, value_name = "DIR")]
    model: String,
    /// A text, in place of lines (repeatable)
    #[arg(long = "text", value_name = "TEXT", conflicts_with_all = ["file", "input"])]
    texts: Vec<String>,
    #[command(flatten)]
    input: Input,
    #[command(flatten)]
    numbers: Numbers,
    #[command(flatten)]
    loading: Loading,
}

/// Lines read before they are embedded and written.
const WINDOW: usize = 4096;

/// A text to embed.
struct Item {
    id: Id,
    text: String,
}

/// A text as it is written.
#[derive(Deserialize)]
struct Written {
    #[serde(default)]
    id: Option<Id>,
    text: String,
}

/// A line of output.
#[derive(Serialize)]
struct Embedded<'a> {
    id: &'a Id,
    embedding: &'a [f32],
}

impl Args {
    pub(super) fn execute(self, session: Session) -> anyhow::Result<Exit> {
        let device = self.loading.prepare()?;
        let checkpoint = ModelSource::resolve(&self.model)?.checkpoint()?;
        let checkpoint = checkpoint.allow_nan(self.loading.allow_nan);
        let encoder = Encoder::open(&checkpoint, &device)?;
        for note in encoder.notes() {
            session.printer.warn(note);
        }
        let view = self.numbers.view();
        if !self.texts.is_empty() {
            let texts = self.texts.into_iter().enumerate();
            let items: Vec<Item> = texts.map(|(index, text)| plain(index + 1, text)).collect();
            write(session, &encoder, &items, &view)?;
            return Ok(Exit::Done);
        }
        let mut lines = Lines::open(&self.input)?;
        let mut json = None;
        loop {
            let items = lines.window_of(WINDOW, |line, number| {
                let begins = line.trim_ascii_start().starts_with(b"{");
                read(line, number, *json.get_or_insert(begins))
            })?;
            if items.is_empty() {
                return Ok(Exit::Done);
            }
            write(session, &encoder, &items, &view)?;
        }
    }
}

fn write(session: Session, encoder: &Encoder, items: &[Item], view: &View) -> anyhow::Result<()> {
    let texts: Vec<&str> = items.iter().map(|item| item.text.as_str()).collect();
    let vectors = encoder.embed(&texts, view)?;
    let mut text = Vec::new();
    for (item, embedding) in items.iter().zip(&vectors) {
        let id = &item.id;
        serde_json::to_writer(&mut text, &Embedded { id, embedding })?;
        text.write_all(b"\n").context("cannot write to memory")?;
    }
    session.printer.lines(&text)
}

/// The item on line `number`; the error says what is wrong with it.
fn read(line: &[u8], number: usize, json: bool) -> Result<Item, String> {
    if !json {
        let line = std::str::from_utf8(line).map_err(|problem| problem.to_string())?;
        let text = line.trim_end_matches(['\n', '\r']);
        return Ok(plain(number, text.to_owned()));
    }
    let Written { id, text } =
        serde_json::from_slice(line).map_err(|problem| problem.to_string())?;
    Ok(match id {
        Some(id) => Item { id, text },
        None => plain(number, text),
    })
}

fn plain(number: usize, text: String) -> Item {
    Item {
        id: Id::Text(number.to_string()),
        text,
    }
}
