//! The command line: one file per subcommand, doc comments are the help.

mod check_editor;
mod data;
mod decoding;
mod doctor;
mod edit;
mod embed;
mod eval;
mod execution;
mod generate;
mod grade;
mod list;
mod merge;
mod plan;
mod pretrain;
mod run;
mod score;
mod selection;
mod session;
mod show;
mod tune;
mod variant;
mod verify;

use clap::{Parser, Subcommand};

pub use selection::{Common, PresetName, Requested, Selection, TaskName};

pub(crate) use self::session::Session;
use crate::terminal::exit::Exit;
use crate::terminal::printer::{ColorChoice, Printer};

/// Measures and removes bias in multimodal language models.
#[derive(Debug, Parser)]
#[command(
    name = "bench",
    version,
    max_term_width = 100,
    after_help = "Examples:
  bench run --suite debias-edit                   the paper's main table on the embedded models
  bench run --suite debias-edit --dataset pairs   the same on real photographs
  bench show ft-l                                 an editor's card: paper, settings, failures

Exit status: 0 done, 1 a gate failed, 2 wrong usage, 3 some cells failed, 4 an input was refused,
5 a stored format needs a newer bench, 6 no such device, 130 interrupted, 143 terminated."
)]
pub struct Args {
    #[command(flatten)]
    output: OutputArgs,
    #[command(subcommand)]
    command: Command,
}

/// How to print; the same for every command.
#[derive(Clone, Copy, Debug, clap::Args)]
#[command(next_help_heading = "Output")]
struct OutputArgs {
    /// Print one JSON object on stdout and nothing else
    #[arg(long, global = true)]
    json: bool,
    /// Say nothing but results, warnings and errors
    #[arg(short, long, global = true, conflicts_with = "verbose")]
    quiet: bool,
    /// Say more on stderr
    #[arg(short, long, global = true)]
    verbose: bool,
    /// When to use colours: auto (honours NO_COLOR), always or never
    #[arg(
        long,
        global = true,
        value_enum,
        value_name = "WHEN",
        default_value_t,
        hide_possible_values = true
    )]
    color: ColorChoice,
}

#[derive(Debug, Subcommand)]
enum Command {
    Run(run::Args),
    Plan(plan::Args),
    Edit(edit::Args),
    Eval(eval::Args),
    Merge(merge::Args),
    List(list::Args),
    Show(show::Args),
    CheckEditor(check_editor::Args),
    Data(data::Args),
    Pretrain(pretrain::Args),
    Tune(tune::Args),
    Verify(verify::Args),
    Score(score::Args),
    Generate(generate::Args),
    Grade(grade::Args),
    Embed(embed::Args),
    Doctor(doctor::Args),
}

impl Args {
    /// The printer that the flags ask for.
    pub fn printer(&self) -> Printer {
        let OutputArgs {
            quiet,
            verbose,
            color,
            ..
        } = self.output;
        Printer::new(quiet, verbose, color)
    }

    /// Runs the command.
    ///
    /// # Errors
    /// Whatever stopped it; [`crate::terminal::failure::classify`] gives the exit status.
    pub fn execute(self) -> anyhow::Result<Exit> {
        let session = Session {
            printer: self.printer(),
            json: self.output.json,
        };
        match self.command {
            Command::Run(args) => args.execute(session),
            Command::Plan(args) => args.execute(session),
            Command::Edit(args) => args.execute(session),
            Command::Eval(args) => args.execute(session),
            Command::Merge(args) => args.execute(session),
            Command::List(args) => args.execute(session),
            Command::Show(args) => args.execute(session),
            Command::CheckEditor(args) => args.execute(session),
            Command::Data(args) => args.execute(session),
            Command::Pretrain(args) => args.execute(session),
            Command::Tune(args) => args.execute(session),
            Command::Verify(args) => args.execute(session),
            Command::Score(args) => args.execute(session),
            Command::Generate(args) => args.execute(session),
            Command::Grade(args) => args.execute(session),
            Command::Embed(args) => args.execute(session),
            Command::Doctor(args) => args.execute(session),
        }
    }
}
