//! `bench generate`: greedy continuations.

use std::path::PathBuf;

use serde::Serialize;

use super::Session;
use crate::compute::{Input, Loading, Numbers};
use crate::exit::Exit;
use crate::generation::{Continuer, Prompt};
use crate::lines::{Id, Lines};

/// Continue prompts greedily
///
/// A prompt by flag, or JSON lines {"id", "prompt", "image"} from a file or standard input. Ends
/// at the tokens that generation_config.json or config.json name, and at each --stop text.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  bench generate --model path/to/gpt2 --prompt 'The nurse said that'
  bench generate --model path/to/blip2 --prompt 'Question: Who is it? Answer:' --image a.png
  bench generate --model path/to/folder --json < prompts.jsonl

With --json or lines as input, one line each: {\"id\", \"text\", \"tokens\"}.")]
pub struct Args {
    /// The model: a name, or a Hugging Face folder
    #[arg(long, value_name = "ID|DIR")]
    model: String,
    /// A prompt, in place of lines
    #[arg(long, value_name = "TEXT", conflicts_with_all = ["file", "input"])]
    prompt: Option<String>,
    /// The picture of --prompt
    #[arg(long, value_name = "FILE", requires = "prompt")]
    image: Option<PathBuf>,
    #[command(flatten)]
    input: Input,
    /// The folder that images of lines are relative to
    #[arg(long, value_name = "DIR", default_value = ".")]
    images: PathBuf,
    /// Put nothing around the prompt: no chat template, no text around the picture
    #[arg(long)]
    raw: bool,
    /// Most tokens to add
    #[arg(long, value_name = "N", default_value_t = 32, value_parser = clap::value_parser!(u32).range(1..))]
    max_tokens: u32,
    /// A text that ends a continuation; it is cut off (repeatable)
    #[arg(long, value_name = "TEXT")]
    stop: Vec<String>,
    /// Go on behind the model's end tokens
    #[arg(long)]
    ignore_end: bool,
    #[command(flatten)]
    numbers: Numbers,
    #[command(flatten)]
    loading: Loading,
}

/// Lines read before they are continued and written.
const WINDOW: usize = 256;

/// One line of output.
#[derive(Serialize)]
struct Continued<'a> {
    id: &'a Id,
    text: String,
    tokens: Vec<u32>,
}

impl Args {
    pub(super) fn execute(self, session: Session) -> anyhow::Result<Exit> {
        let by_flag = self.prompt.map(|prompt| Prompt {
            id: Id::Text("1".to_owned()),
            prompt,
            image: self.image.map(|path| path.to_string_lossy().into_owned()),
        });
        let mut lines = match by_flag {
            Some(_) => None,
            None => Some(Lines::open(&self.input)?),
        };
        let continuer = Continuer {
            ends: match self.ignore_end {
                true => Vec::new(),
                false => self.loading.end_tokens(&self.model)?,
            },
            model: self.loading.open(&self.model)?,
            view: self.numbers.view(),
            printer: session.printer,
            images: self.images,
            raw: self.raw,
            max_tokens: self.max_tokens as usize,
            stops: self.stop,
        };
        let plain = by_flag.is_some() && !session.json;
        let mut prompts: Vec<Prompt> = by_flag.into_iter().collect();
        loop {
            if let Some(lines) = &mut lines {
                prompts = lines.window(WINDOW)?;
            }
            if prompts.is_empty() {
                return Ok(Exit::Done);
            }
            for (prompt, (text, tokens)) in prompts.iter().zip(continuer.run(&prompts)?) {
                let id = &prompt.id;
                match plain {
                    true => session.printer.result(&text)?,
                    false => session.printer.result(&serde_json::to_string(&Continued {
                        id,
                        text,
                        tokens,
                    })?)?,
                }
            }
            prompts.clear();
        }
    }
}
