//! `bench score`: log-likelihoods of answers.

use std::path::PathBuf;
use std::time::Instant;

use debias_data::Content;
use debias_edit::Respondent;
use debias_model::engine::{Asked, Batching};

use super::Session;
use super::variant::{EditArgs, VariantArgs};
use crate::asking::{Answers, AskedModel, Item, PictureFolder, Score, Teller, answered, style};
use crate::compute::{Input, Loading, MemoryLimit, Numbers};
use crate::terminal::exit::Exit;
use crate::terminal::lines::{Given, Lines};

/// Score answers: the log-likelihood of each under a model, token by token
///
/// Reads JSON lines {"id", "prompt", "answer", "image", "join"} and writes one line each, in the
/// same order: {"id", "sum", "mean", "tokens", "token_logprobs"}, natural logarithms. The image is
/// optional; the answer follows the prompt after one space unless "join" says otherwise. A JSON list
/// and objects over several lines are read too. A line that cannot be scored costs no other its score:
/// it becomes {"id", "error"}, and the exit status 3, or 4 where no line could be scored.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  bench score --model path/to/folder questions.jsonl
  bench score --model path/to/blip2 --images photos/ --raw < questions.jsonl
  bench score --model path/to/blip2 --editor ike --edit request.json questions.jsonl
  bench score --model base --model tuned questions.jsonl
  bench score --model base --merge recipe.yaml questions.jsonl

A line: {\"id\": \"1\", \"prompt\": \"Question: Who is it? Answer:\", \"answer\": \"a nurse\", \"image\": \"a.png\"}
Rows with the same picture and prompt are read once for all their answers. With a variant (--editor
and --edit, --merge, a second --model) each line has the same of the model without it as \"before\".
An edit is made as `bench edit` makes it: of requests on which the model shows the bias, unless
--set filter.contexts=0; MEND, KE and SERAC train first, or take what is trained below --out.")]
pub struct Args {
    /// The model: a name, or a Hugging Face folder; given twice, the second is asked and the first
    /// stands beside
    #[arg(long = "model", value_name = "ID|DIR", required = true)]
    models: Vec<String>,
    #[command(flatten)]
    variant: VariantArgs,
    #[command(flatten)]
    edit_args: EditArgs,
    #[command(flatten)]
    input: Input,
    /// The folder that images are relative to
    #[arg(long, value_name = "DIR", default_value = ".")]
    images: PathBuf,
    /// Put nothing around the prompt: no chat template, no text around the picture
    #[arg(long)]
    raw: bool,
    /// Tokens per batch, padding included [default: 2048, on a card 4096, and what fits]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    batch_tokens: Option<u32>,
    /// Pictures seen at once [default: 8, on a card 64, and what fits]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    batch_pictures: Option<u32>,
    #[command(flatten)]
    memory: MemoryLimit,
    #[command(flatten)]
    numbers: Numbers,
    #[command(flatten)]
    loading: Loading,
}

/// Lines read before they are scored and written.
const WINDOW: usize = 2048;

impl Args {
    pub(super) fn execute(self, session: Session) -> anyhow::Result<Exit> {
        let start = Instant::now();
        let mut lines = Lines::open(&self.input, Content::Json)?;
        self.edit_args.seed_of(false, &self.variant)?;
        let how = (&self.loading, &self.numbers, self.memory.max_memory);
        let asking = self
            .variant
            .asking(&self.models, &self.edit_args, how, session.printer)?;
        let (pictures, teller) = (
            PictureFolder::new(&self.images),
            Teller::new(session.printer),
        );
        let batching = Batching {
            tokens: self.batch_tokens.map(|tokens| tokens as usize),
            pictures: self.batch_pictures.map(|pictures| pictures as usize),
            apart: self.variant.edits(),
        };
        let ready = start.elapsed().as_secs_f64();
        session
            .printer
            .detail(&format!("model ready after {ready:.2} s"));
        asking.ask((&pictures, &teller), batching, |respondent, before| {
            self.score((session, &asking), &mut lines, (respondent, before))
        })
    }

    /// Scores line after line, without the variant too where there is one.
    fn score(
        &self,
        (session, asking): (Session, &AskedModel),
        lines: &mut Lines,
        respondents: (&dyn Respondent, Option<&dyn Respondent>),
    ) -> anyhow::Result<Exit> {
        let mut answers = Answers::new(session.printer);
        let (mut tokens, mut seconds) = (0, 0.0);
        let template = asking.template(style(self.raw));
        loop {
            asking.check()?;
            let items: Vec<Given<Item>> = lines.window(WINDOW)?;
            if items.is_empty() {
                break;
            }
            let start = Instant::now();
            let ask = |item: &Item, name| item.asked(name, self.raw);
            let found = answered(&items, ask, respondents, template, scores)?;
            seconds += start.elapsed().as_secs_f64();
            for (item, line) in items.iter().zip(found) {
                tokens += line.as_ref().map_or(0, |line| line.answer.tokens);
                answers.put(Some(lines), item, line)?;
            }
            answers.flush()?;
        }
        session.printer.detail(&format!(
            "scored {} lines, {tokens} answer tokens, in {seconds:.3} s",
            answers.answered()
        ));
        answers.end()
    }
}

/// The score of each item, or why it has none.
fn scores(
    respondent: &dyn Respondent,
    asked: &[Asked],
) -> anyhow::Result<Vec<Result<Score, String>>> {
    let found = respondent.choices(asked)?.into_iter();
    let scores = found.map(|found| {
        let likelihood = found.map_err(|error| error.to_string())?.pop().flatten();
        let likelihood =
            likelihood.ok_or("the answer alone is longer than the model's positions")?;
        Ok(Score::from(likelihood))
    });
    Ok(scores.collect())
}
