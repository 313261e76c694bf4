//! `bench generate`: continuations of prompts, greedy, drawn or by beams.

use std::path::PathBuf;

use debias_core::Decoding;
use debias_data::Content;
use debias_edit::Respondent;
use debias_model::engine::Batching;

use super::Session;
use super::decoding::DecodingArgs;
use super::variant::{EditArgs, VariantArgs};
use crate::asking::{
    Answers, AskedModel, Continued, Line, PictureFolder, Prompt, Teller, answered, style,
};
use crate::compute::{Input, Loading, Numbers};
use crate::terminal::exit::Exit;
use crate::terminal::lines::{Given, Id, Lines};

/// Continue prompts: greedily, by draws (--temperature, --top-k, --top-p) or by beams
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
        let mut lines = match &self.prompt {
            Some(_) => None,
            None => Some(Lines::open(&self.input, Content::Json)?),
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
        asking.ask(
            (&pictures, &teller),
            Batching::default(),
            |respondent, before| {
                let writing = Writing {
                    args: &self,
                    how: &decoding,
                    session,
                    asking: &asking,
                    respondents: (respondent, before),
                };
                match lines.as_mut() {
                    None => writing.by_flag(),
                    Some(lines) => writing.of_lines(lines),
                }
            },
        )
    }
}

/// Prompts that are continued: by whom, and how.
struct Writing<'a> {
    args: &'a Args,
    how: &'a Decoding,
    session: Session,
    asking: &'a AskedModel,
    respondents: (&'a dyn Respondent, Option<&'a dyn Respondent>),
}

impl<'a> Writing<'a> {
    /// Continues the prompt that a flag gives.
    fn by_flag(&self) -> anyhow::Result<Exit> {
        let image = self.args.image.as_ref();
        let prompt = Prompt {
            prompt: self.args.prompt.clone().unwrap_or_default(),
            image: image.map(|path| path.to_string_lossy().into_owned()),
        };
        let given = [Given {
            line: 1,
            id: Some(Id::text("1".to_owned())),
            asked: Ok(prompt),
        }];
        let mut answers = Answers::new(self.session.printer);
        for (given, line) in given.iter().zip(self.continued(&given)?) {
            match line {
                Ok(line) if !self.session.json => {
                    self.session.printer.result(&said(&line))?;
                }
                line => answers.put(None, given, line)?,
            }
        }
        answers.end()
    }

    /// Continues line after line.
    fn of_lines(&self, lines: &mut Lines) -> anyhow::Result<Exit> {
        let mut answers = Answers::new(self.session.printer);
        loop {
            self.asking.check()?;
            let prompts: Vec<Given<Prompt>> = lines.window(WINDOW)?;
            if prompts.is_empty() {
                return answers.end();
            }
            for (prompt, line) in prompts.iter().zip(self.continued(&prompts)?) {
                answers.put(Some(lines), prompt, line)?;
            }
            answers.flush()?;
        }
    }

    /// What is written behind each prompt.
    fn continued(
        &self,
        prompts: &[Given<Prompt>],
    ) -> anyhow::Result<Vec<Result<Line<'a, Continued>, String>>> {
        let raw = self.args.raw;
        let ask = |prompt: &Prompt, name| prompt.asked(name, raw);
        let template = self.asking.template(style(raw));
        let several = self.how.choosing.count() > 1;
        answered(
            prompts,
            ask,
            self.respondents,
            template,
            |respondent, asked| {
                let written = respondent.write(asked, self.how)?.into_iter();
                let said = |error: debias_edit::Error| error.to_string();
                let all = written.map(|written| Ok(Continued::of(written.map_err(said)?, several)));
                Ok(all.collect())
            },
        )
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
