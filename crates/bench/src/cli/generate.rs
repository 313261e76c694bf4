//! `bench generate`: continuations of prompts, greedy, drawn or by beams.

use std::path::PathBuf;

use debias_core::Decoding;
use debias_edit::Respondent;
use debias_model::engine::{Asked, Batching};

use super::Session;
use super::decoding::DecodingArgs;
use super::variant::{EditArgs, VariantArgs};
use crate::asking::{Continued, Line, PictureFolder, Prompt, Teller, in_item};
use crate::compute::{Input, Loading, Numbers};
use crate::terminal::exit::Exit;
use crate::terminal::lines::{Id, Lines};

/// Continue prompts: greedily, by draws (--temperature, --top-k, --top-p) or by beams
///
/// A prompt by flag, or JSON lines {"id", "prompt", "image"} from a file or standard input. Ends
/// at the tokens that generation_config.json or config.json name, and at each --stop text.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  bench generate --model path/to/gpt2 --prompt 'The nurse said that'
  bench generate --model path/to/blip2 --prompt 'Question: Who is it? Answer:' --image a.png
  bench generate --model path/to/folder --json < prompts.jsonl
  bench generate --model path/to/blip2 --editor ike --edit request.json --prompt 'Who is it?' --image a.png
  bench generate --model path/to/gpt2 --prompt 'The nurse said that' --samples 5 --top-p 0.9 --seed 7
  bench generate --model base --merge recipe.yaml --prompt 'The nurse said that'
  bench generate --model base --model tuned --prompt 'The nurse said that'

With --json or lines as input, one line each: {\"id\", \"text\", \"tokens\"}; with --samples or --beams also
\"samples\": [{\"text\", \"tokens\"}, …], of which the first is text and tokens. What is drawn depends on the
seed, the prompt's id and the sample's number, on no batch and no thread. With a variant
(--editor and --edit, --merge, a second --model) the same of the model without it stands beside: as
\"before\", or for people on a line of its own. An edit is made as `bench edit` makes it: of requests on
which the model shows the bias, unless --set filter.contexts=0.")]
pub struct Args {
    /// The model: a name, or a Hugging Face folder; given twice, the second is asked and the first
    /// stands beside
    #[arg(long = "model", value_name = "ID|DIR", required = true)]
    models: Vec<String>,
    #[command(flatten)]
    variant: VariantArgs,
    #[command(flatten)]
    edit_args: EditArgs,
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
    #[command(flatten)]
    decoding: DecodingArgs,
    #[command(flatten)]
    numbers: Numbers,
    #[command(flatten)]
    loading: Loading,
}

/// Lines read before they are continued and written.
const WINDOW: usize = 256;

impl Args {
    pub(super) fn execute(self, session: Session) -> anyhow::Result<Exit> {
        let by_flag = self.prompt.clone().map(|prompt| Prompt {
            id: Id::Text("1".to_owned()),
            prompt,
            image: self
                .image
                .as_ref()
                .map(|path| path.to_string_lossy().into_owned()),
        });
        let mut lines = match by_flag {
            Some(_) => None,
            None => Some(Lines::open(&self.input)?),
        };
        let seed = self
            .edit_args
            .seed_of(self.decoding.draws(), &self.variant)?;
        let decoding = self.decoding.decoding("generate", seed)?;
        let how = (&self.loading, &self.numbers, None);
        let asking = self
            .variant
            .asking(&self.models, &self.edit_args, how, session.printer)?;
        let (pictures, teller) = (
            PictureFolder::new(&self.images),
            Teller::new(session.printer),
        );
        let plain = by_flag.is_some() && !session.json;
        let mut prompts: Vec<Prompt> = by_flag.into_iter().collect();
        asking.ask(
            (&pictures, &teller),
            Batching::default(),
            |respondent, before| {
                loop {
                    asking.check()?;
                    if let Some(lines) = &mut lines {
                        prompts = lines.window(WINDOW)?;
                    }
                    if prompts.is_empty() {
                        return Ok(Exit::Done);
                    }
                    let written = self.continued(respondent, &prompts, &decoding)?;
                    let before = before
                        .map(|before| self.continued(before, &prompts, &decoding))
                        .transpose()?;
                    let mut before = before.map(Vec::into_iter);
                    for (prompt, answer) in prompts.iter().zip(written) {
                        let line = Line {
                            id: &prompt.id,
                            answer,
                            before: before.as_mut().and_then(Iterator::next),
                        };
                        session.printer.result(&if plain {
                            said(&line)
                        } else {
                            serde_json::to_string(&line)?
                        })?;
                    }
                    prompts.clear();
                }
            },
        )
    }

    /// What is written behind each prompt; the first that cannot be asked ends the command.
    fn continued(
        &self,
        respondent: &dyn Respondent,
        prompts: &[Prompt],
        how: &Decoding,
    ) -> anyhow::Result<Vec<Continued>> {
        let asked: Vec<Asked> = prompts
            .iter()
            .map(|prompt| prompt.asked(self.raw))
            .collect();
        let found = respondent.write(&asked, how)?.into_iter().zip(prompts);
        let written = found.map(|(found, prompt)| {
            let written = found.map_err(|error| in_item(&prompt.id, &error))?;
            Ok(Continued::of(written, how.choosing.count() > 1))
        });
        written.collect()
    }
}

/// Continuations for people, one below the other: alone, or below those of the model without the variant.
fn said(line: &Line<Continued>) -> String {
    let texts = |continued: &Continued, mark: &str| {
        let texts = continued.texts();
        let marked: Vec<String> = texts.map(|text| format!("{mark}{text}")).collect();
        marked.join("\n")
    };
    match &line.before {
        None => texts(&line.answer, ""),
        Some(before) => format!(
            "{}\n{}",
            texts(before, "before: "),
            texts(&line.answer, "after:  ")
        ),
    }
}
