//! `bench embed`: sentence embeddings of an encoder.

use std::io::Write;

use debias_data::{Content, Entry};
use debias_model::{Encoder, View};
use serde::Deserialize;

use super::Session;
use crate::compute::{Input, Loading, Numbers};
use crate::models::ModelSource;
use crate::terminal::exit::Exit;
use crate::terminal::failure::Refusal;
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

Lines are JSON if the first that is not blank begins with { or, for a list, with [ and {.")]
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
    text: String,
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
        let mut lines = Lines::open(&self.input, Content::JsonOrText)?;
        loop {
            let items = window(&mut lines)?;
            if items.is_empty() {
                return Ok(Exit::Done);
            }
            write(session, &encoder, &items, &view)?;
        }
    }
}

/// The next texts; none at the end.
fn window(lines: &mut Lines) -> anyhow::Result<Vec<Item>> {
    let mut items = Vec::new();
    while items.len() < WINDOW
        && let Some(entry) = lines.next_entry()?
    {
        let (line, item) = (entry.line, read(&entry));
        items.push(item.map_err(|problem| {
            Refusal::new(Exit::Refused, format!("{}: {problem}", lines.place(line)))
                .help("Each line is one JSON object; see --help for its fields.")
        })?);
    }
    Ok(items)
}

fn write(session: Session, encoder: &Encoder, items: &[Item], view: &View) -> anyhow::Result<()> {
    let texts: Vec<&str> = items.iter().map(|item| item.text.as_str()).collect();
    let vectors = encoder.embed(&texts, view)?;
    let mut text = Vec::new();
    for (item, embedding) in items.iter().zip(&vectors) {
        // Not through a number of JSON's: an id may have more digits than one keeps.
        write!(text, "{{\"id\":{},\"embedding\":", item.id.written())?;
        serde_json::to_writer(&mut text, embedding)?;
        text.extend_from_slice(b"}\n");
    }
    session.printer.lines(&text)
}

/// The item of an entry; the error says what is wrong with it.
fn read(entry: &Entry) -> Result<Item, String> {
    if entry.is_text {
        let text = std::str::from_utf8(entry.bytes).map_err(|problem| problem.to_string())?;
        return Ok(plain(entry.line, text.to_owned()));
    }
    let Written { text } = entry.parse().map_err(|fault| fault.to_string())?;
    Ok(match Id::of(entry)? {
        Some(id) => Item { id, text },
        None => plain(entry.line, text),
    })
}

fn plain(number: usize, text: String) -> Item {
    Item {
        id: Id::text(number.to_string()),
        text,
    }
}
