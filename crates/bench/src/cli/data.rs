//! `bench data`: the datasets themselves.

use std::path::{Path, PathBuf};

use clap::Subcommand;
use debias_data::{Collection, Dataset, Manifest, check, datasets};
use serde_json::{Value, json};

use super::Session;
use crate::roots::Roots;
use crate::terminal::exit::Exit;
use crate::terminal::progress::Progress;

/// List, build and check datasets
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// List the datasets and whether their files are found
    #[command(after_help = "Example:\n  bench data list --data pairs=/data/pairs")]
    List {
        /// Where a dataset is; else DEBIAS_BENCH_DATA, else the cache folder (repeatable)
        #[arg(long, value_name = "NAME=DIR")]
        data: Vec<String>,
    },
    /// Write a dataset as a folder of PNG and JSON that EasyEdit-style readers open
    #[command(after_help = "Examples:
  bench data build toytown --out toytown
  bench data build pairs --from path/to/clone/of/PAIRS --out pairs")]
    Build {
        /// The dataset
        name: String,
        /// The folder to write; it appears whole or not at all
        #[arg(short, long, value_name = "DIR")]
        out: PathBuf,
        /// A clone of what the dataset's authors publish, in the place of this project's files
        #[arg(long, value_name = "DIR")]
        from: Option<PathBuf>,
        /// Seed of wordings and pairings
        #[arg(long, value_name = "N", default_value_t = 0)]
        seed: u64,
        /// Where a dataset is; else DEBIAS_BENCH_DATA, else the cache folder (repeatable)
        #[arg(long, value_name = "NAME=DIR")]
        data: Vec<String>,
        /// Replace a dataset that was built there before
        #[arg(long)]
        force: bool,
    },
    /// Check a built folder: records, splits, every picture, digests
    #[command(after_help = "Example:\n  bench data check toytown")]
    Check {
        /// The folder
        dir: PathBuf,
    },
}

impl Args {
    pub(super) fn execute(self, session: Session) -> anyhow::Result<Exit> {
        match self.action {
            Action::List { data } => list(session, &Roots::new(&data)?),
            Action::Build {
                name,
                out,
                from,
                seed,
                data,
                force,
            } => {
                let roots = Roots::new(&data)?;
                let dataset = datasets::find(&name)?;
                let open = |seed| match &from {
                    Some(clone) => dataset.open_clone(clone, roots.common(), seed),
                    None => dataset.open(roots.root_of(dataset).as_deref(), seed),
                };
                let manifest = build(session, dataset, open, (&out, seed, force))?;
                match session.json {
                    true => session.print_json(&manifest)?,
                    false => session.printer.result(&format!(
                        "{}: {} pictures, digest {}",
                        out.display(),
                        manifest.pictures,
                        manifest.content_digest
                    ))?,
                }
                Ok(Exit::Done)
            }
            Action::Check { dir } => checked(session, &dir),
        }
    }
}

fn build(
    session: Session,
    dataset: &dyn Dataset,
    open: impl FnOnce(u64) -> debias_data::Result<Box<dyn Collection>>,
    (out, seed, force): (&Path, u64, bool),
) -> anyhow::Result<Manifest> {
    let progress = Progress::new(session.printer);
    progress.start(&format!("building {}", dataset.card().name), 0);
    let built = debias_data::build(dataset, open, seed, out, force, &mut |done, of| {
        progress.reach(done, of);
    });
    progress.clear();
    Ok(built?)
}

fn checked(session: Session, dir: &Path) -> anyhow::Result<Exit> {
    let checked = check(dir)?;
    let good = checked.problems.is_empty();
    match session.json {
        true => session.print_json(&json!({
            "dataset": checked.dataset,
            "records": checked.records,
            "pictures": checked.pictures,
            "problems": checked.problems,
            "ok": good,
        }))?,
        false => {
            let mut lines = checked.problems;
            let problems = match lines.len() {
                0 => "no problem".to_owned(),
                1 => "1 problem".to_owned(),
                n => format!("{n} problems"),
            };
            lines.push(format!(
                "{}: {} records, {} pictures, {problems}",
                dir.display(),
                checked.records,
                checked.pictures,
            ));
            session.printer.result(&lines.join("\n"))?;
        }
    }
    Ok(if good { Exit::Done } else { Exit::Refused })
}

fn list(session: Session, roots: &Roots) -> anyhow::Result<Exit> {
    let mut rows: Vec<Value> = Vec::new();
    let mut lines = Vec::new();
    for dataset in datasets::ALL {
        let card = dataset.card();
        let problem = roots.open(*dataset, 0).err().map(|error| error.to_string());
        let tasks: Vec<_> = card.tasks.iter().map(|task| task.name()).collect();
        lines.push(format!(
            "{}  {}\n  tasks: {}\n  licence: {}\n  {}",
            card.name,
            card.title,
            tasks.join(", "),
            card.licence,
            problem.as_deref().unwrap_or("found"),
        ));
        rows.push(json!({
            "name": card.name,
            "title": card.title,
            "tasks": tasks,
            "licence": card.licence,
            "found": problem.is_none(),
            "problem": problem,
        }));
    }
    match session.json {
        true => session.print_json(&json!({"datasets": rows}))?,
        false => session.printer.result(&lines.join("\n\n"))?,
    }
    Ok(Exit::Done)
}
