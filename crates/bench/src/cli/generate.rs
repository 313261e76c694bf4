//! `bench generate`: greedy continuations.

use std::path::PathBuf;

use debias_core::Decoding;
use debias_data::Content;
use debias_edit::Respondent;
use debias_model::engine::Batching;

use super::Session;
use super::variant::{EditArgs, VariantArgs};
use crate::asking::{
    Answers, AskedModel, Continued, Line, PictureFolder, Prompt, Teller, answered, style,
};
use crate::compute::{Input, Loading, Numbers};
use crate::terminal::exit::Exit;
use crate::terminal::lines::{Given, Id, Lines};

/// Continue prompts greedily
///
/// A prompt by flag, or JSON lines {"id", "prompt", "image"} from a file or standard input. Ends
/// at the tokens that generation_config.json or config.json name, and at each --stop text. A line that
/// cannot be continued becomes {"id", "error"}, and the exit status 3, or 4 where none could be.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  bench generate --model path/to/gpt2 --prompt 'The nurse said that'
  bench generate --model path/to/blip2 --prompt 'Question: Who is it? Answer:' --image a.png
  bench generate --model path/to/folder --json < prompts.jsonl
  bench generate --model path/to/blip2 --editor ike --edit request.json --prompt 'Who is it?' --image a.png
  bench generate --model base --merge recipe.yaml --prompt 'The nurse said that'
  bench generate --model base --model tuned --prompt 'The nurse said that'

With --json or lines as input, one line each: {\"id\", \"text\", \"tokens\"}. With a variant
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

impl Args {
    pub(super) fn execute(self, session: Session) -> anyhow::Result<Exit> {
        let mut lines = match &self.prompt {
            Some(_) => None,
            None => Some(Lines::open(&self.input, Content::Json)?),
        };
        let how = (&self.loading, &self.numbers, None);
        let asking = self
            .variant
            .asking(&self.models, &self.edit_args, how, session.printer)?;
        let (pictures, teller) = (
            PictureFolder::new(&self.images),
            Teller::new(session.printer),
        );
        let batching = Batching::default();
        asking.ask(
            (&pictures, &teller),
            batching,
            |respondent, before| match lines.as_mut() {
                None => self.by_flag((session, &asking), (respondent, before)),
                Some(lines) => self.of_lines((session, &asking), lines, (respondent, before)),
            },
        )
    }

    /// Continues the prompt that a flag gives.
    fn by_flag(
        &self,
        (session, asking): (Session, &AskedModel),
        respondents: (&dyn Respondent, Option<&dyn Respondent>),
    ) -> anyhow::Result<Exit> {
        let image = self.image.as_ref();
        let prompt = Prompt {
            prompt: self.prompt.clone().unwrap_or_default(),
            image: image.map(|path| path.to_string_lossy().into_owned()),
        };
        let given = [Given {
            line: 1,
            id: Some(Id::text("1".to_owned())),
            asked: Ok(prompt),
        }];
        let mut answers = Answers::new(session.printer);
        for (given, line) in given
            .iter()
            .zip(self.continued(&given, asking, respondents)?)
        {
            match line {
                Ok(line) if !session.json => session.printer.result(&said(&line))?,
                line => answers.put(None, given, line)?,
            }
        }
        answers.end()
    }

    /// Continues line after line.
    fn of_lines(
        &self,
        (session, asking): (Session, &AskedModel),
        lines: &mut Lines,
        respondents: (&dyn Respondent, Option<&dyn Respondent>),
    ) -> anyhow::Result<Exit> {
        let mut answers = Answers::new(session.printer);
        loop {
            asking.check()?;
            let prompts: Vec<Given<Prompt>> = lines.window(WINDOW)?;
            if prompts.is_empty() {
                return answers.end();
            }
            let found = self.continued(&prompts, asking, respondents)?;
            for (prompt, line) in prompts.iter().zip(found) {
                answers.put(Some(lines), prompt, line)?;
            }
            answers.flush()?;
        }
    }

    /// What is written behind each prompt.
    fn continued<'a>(
        &self,
        prompts: &[Given<Prompt>],
        asking: &'a AskedModel,
        respondents: (&dyn Respondent, Option<&dyn Respondent>),
    ) -> anyhow::Result<Vec<Result<Line<'a, Continued>, String>>> {
        let how = Decoding {
            max_tokens: self.max_tokens as usize,
            stops: self.stop.clone(),
            ignore_end: self.ignore_end,
        };
        let ask = |prompt: &Prompt, name| prompt.asked(name, self.raw);
        let template = asking.template(style(self.raw));
        answered(prompts, ask, respondents, template, |respondent, asked| {
            let written = respondent.write(asked, &how)?.into_iter();
            let said = |error: debias_edit::Error| error.to_string();
            Ok(written
                .map(|written| Ok(written.map_err(said)?.into()))
                .collect())
        })
    }
}

/// A continuation for people: alone, or below that of the model without the variant.
fn said(line: &Line<Continued>) -> String {
    match &line.before {
        None => line.answer.text.clone(),
        Some(before) => format!("before: {}\nafter:  {}", before.text, line.answer.text),
    }
}
