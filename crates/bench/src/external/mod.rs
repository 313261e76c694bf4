//! An editor that is a command of the user's: JSON lines over stdin and stdout, weights in
//! safetensors files (`spec/cli.md`, "External editors").
//!
//! The command is started once for each model and task. Whatever it does wrong fails its cell with
//! the reason and the last lines of its stderr; the run goes on.

mod delta;
mod paths;
mod process;
mod reply;

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use debias_core::{FORMAT, Preset, Templates};
use debias_data::Collection;
use debias_edit::{
    Card, Claims, Ctx, Edit, Editor, Error, Footprint, Learns, Lessons, Prepared, Request, Result,
    Settings, Touches, check_requests,
};
use debias_model::{Change, Model};
use serde_json::{Value, json};

use self::paths::Scratch;
use self::process::{Ended, Process};
use self::reply::Reply;
use crate::terminal::interrupt::Interrupt;

/// The name under which a command stands in plans and tables.
pub const NAME: &str = "external";

static CARD: Card = Card {
    id: NAME,
    version: 1,
    title: "an editor of your own, behind --command",
    summary: "Starts the command once for each model and task and asks it for one edit per request, \
              in JSON lines; the answer is a safetensors file of deltas, or a text in front of \
              every prompt.",
    paper: "the command's own",
    equation: "θe = θ + what the command answers",
    touches: Footprint::of(
        &[Touches::Weights, Touches::Input],
        "as the command answers",
    ),
    cost: "the command's own; requests wait for each other",
    failures: &[
        "the command and the files it names are part of a result's identity, what these import is not",
        "cannot edit in sequence: the command is never told of earlier edits",
    ],
    settings: &[("command", "the command, as given to the shell")],
};

/// A command as an editor.
pub struct External {
    command: String,
    timeout: Duration,
    templates: Templates,
    /// The data, by seed.
    data: Vec<(u64, Arc<dyn Collection>)>,
    interrupt: Interrupt,
}

impl External {
    /// `command`, which has `timeout` for each answer; nothing is started.
    pub fn new(
        command: String,
        timeout: Duration,
        templates: Templates,
        data: Vec<(u64, Arc<dyn Collection>)>,
        interrupt: Interrupt,
    ) -> Self {
        Self {
            command,
            timeout,
            templates,
            data,
            interrupt,
        }
    }
}

/// An error that fails the cell.
fn ended(problem: impl ToString) -> Error {
    Error::Ended {
        editor: NAME,
        problem: problem.to_string(),
    }
}

impl Editor for External {
    fn card(&self) -> &'static Card {
        &CARD
    }

    fn defaults(&self, _preset: Preset) -> Settings {
        Settings::of(&json!({"command": self.command}))
    }

    /// The files among the words of the command.
    fn inputs(&self, _settings: &Settings) -> Result<Vec<PathBuf>> {
        let words = shlex::split(&self.command).unwrap_or_default();
        let paths = words.into_iter().map(PathBuf::from);
        Ok(paths.filter(|path| path.is_file()).collect())
    }

    fn learns(&self, _settings: &Settings) -> Result<Learns> {
        Ok(Learns::Examples)
    }

    fn claims(&self, _settings: &Settings) -> Result<Claims> {
        Ok(Claims {
            random: "whatever the command draws from it",
            ..Claims::default()
        })
    }

    fn check(&self, _model: &Model, _settings: &Settings) -> Result<()> {
        Ok(())
    }

    fn prepare<'m>(
        &self,
        model: &'m Model,
        lessons: &Lessons,
        ctx: &Ctx,
    ) -> Result<Box<dyn Prepared + 'm>> {
        let data = self.data.iter().find(|(seed, _)| *seed == ctx.seed);
        let (_, data) = data.ok_or_else(|| ended("there is no data under this seed"))?;
        let scratch = Scratch::new(data.clone(), self.templates.clone()).map_err(ended)?;
        let folder = scratch.model(model.location()).map_err(ended)?;
        let mut process =
            Process::start(&self.command, self.timeout, self.interrupt.clone()).map_err(ended)?;
        process.tell(&json!({
            "op": "hello",
            "format": FORMAT,
            "model": folder,
            "seed": ctx.seed,
            "scratch": scratch.path(),
        }));
        let learned = [lessons.train.records(), lessons.val.records()].concat();
        if !learned.is_empty() {
            let train = scratch.train(&learned).map_err(ended)?;
            process.tell(&json!({"op": "prepare", "train": train}));
        }
        Ok(Box::new(Answering {
            model,
            scratch,
            process: Mutex::new(process),
        }))
    }
}

/// A command that runs.
struct Answering<'m> {
    model: &'m Model,
    scratch: Scratch,
    process: Mutex<Process>,
}

impl Answering<'_> {
    /// Asks for one edit of `requests`.
    fn ask(&self, id: &str, requests: &[Request]) -> Result<Edit> {
        let described = requests
            .iter()
            .map(|request| self.scratch.request(&request.record))
            .collect::<anyhow::Result<Vec<Value>>>()
            .map_err(|error| ended(format!("{error:#}")))?;
        let mut process = self.process();
        let message = json!({"op": "edit", "id": id, "requests": described});
        let reply = process.ask(&message, id).map_err(|end| match end {
            Ended::Stopped => Error::Stopped,
            Ended::Failed(problem) => ended(problem),
        })?;
        match reply {
            Reply::Refused(problem) => Err(Error::Elsewhere {
                editor: NAME,
                problem,
            }),
            Reply::Context(prefix) => Ok(Edit::from(debias_edit::Context::prefix(prefix))),
            // Read while no other request can make the command write again.
            Reply::Weights(file) => self
                .change(&file)
                .map(Edit::Weights)
                .map_err(|problem| ended(process.give_up(&problem))),
        }
    }

    fn change(&self, file: &str) -> std::result::Result<Change, String> {
        let path = self.scratch.answer(Path::new(file))?;
        delta::read(&path, file, self.model)
    }

    fn process(&self) -> MutexGuard<'_, Process> {
        // A thread that panicked leaves the process as it was between two answers, or ended.
        self.process
            .lock()
            .unwrap_or_else(|poison| poison.into_inner())
    }
}

/// A command is asked for what can be edited, and knows nothing of earlier edits.
fn from_scratch(model: &Model, requests: &[Request], start: &Change) -> Result<()> {
    check_requests(model, requests)?;
    match start.is_identity() {
        true => Ok(()),
        false => Err(Error::Elsewhere {
            editor: NAME,
            problem: "cannot edit in sequence; use --mode joint".to_owned(),
        }),
    }
}

impl Prepared for Answering<'_> {
    fn edit_each(&self, requests: &[Request], start: &Change) -> Result<Vec<Arc<Edit>>> {
        from_scratch(self.model, requests, start)?;
        let one = |request: &Request| {
            let edit = self.ask(&request.record.id, std::slice::from_ref(request))?;
            Ok(Arc::new(edit))
        };
        requests.iter().map(one).collect()
    }

    fn edit_jointly(&self, requests: &[Request]) -> Result<Edit> {
        from_scratch(self.model, requests, &Change::default())?;
        match requests {
            [request] => self.ask(&request.record.id, requests),
            _ => self.ask("joint", requests),
        }
    }
}
