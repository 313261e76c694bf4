//! `bench check-editor`: the conformance kit against one editor.

use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use debias_core::{FORMAT, Preset, Protocol, Task};
use debias_data::{Collection, datasets};
use debias_edit::conformance::{self, Finding, Options, Verdict, World};
use debias_edit::{Editor, Settings, editors};
use debias_model::device::Placement;
use serde::Serialize;

use super::{PresetName, Session, TaskName};
use crate::external::External;
use crate::models::{self, ModelSource};
use crate::planner::{self, merged_settings};
use crate::pretrain::check_world::{self, Size};
use crate::roots::Roots;
use crate::terminal::exit::Exit;
use crate::terminal::failure::Refusal;
use crate::terminal::interrupt::Interrupt;
use crate::terminal::machine;
use crate::terminal::printer::wrapped;

/// Test an editor against the twenty properties that every editor must have
///
/// A few records of each split are edited on every model, in every way that a property asks for:
/// again, alone and together, in another order, in another process, with unusable requests. Trained
/// editors learn on two dozen records; --set train.steps=N and the like shorten that.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  bench check-editor ft-l
  bench check-editor ft-v --model tiny-blip2 --set ft-v.steps=5 --json
  bench check-editor mend --model path/to/gpt2 --task text
  bench check-editor --command 'python3 my_editor.py'

Exit status: 0 every property holds or does not apply, 1 one is missing.")]
pub struct Args {
    /// The editor
    #[arg(
        value_name = "NAME",
        required_unless_present = "command",
        conflicts_with = "command"
    )]
    name: Option<String>,
    /// An editor of your own: a command that is asked in JSON lines
    #[arg(long, value_name = "COMMAND")]
    command: Option<String>,
    /// How long the command may take for an answer
    #[arg(long, value_name = "SECONDS", default_value_t = 120, value_parser = clap::value_parser!(u32).range(1..))]
    timeout: u32,
    /// On this model: a name, or a Hugging Face folder (repeatable) [default: the embedded ones]
    #[arg(long = "model", value_name = "ID|DIR")]
    models: Vec<String>,
    /// On records of this task; those of text are visual questions without their pictures
    #[arg(long, value_enum, value_name = "TASK", default_value = "vqa")]
    task: TaskName,
    /// On records of this dataset
    #[arg(long, value_name = "NAME", default_value = "toytown")]
    dataset: String,
    /// Where a dataset is; else DEBIAS_BENCH_DATA, else the cache folder (repeatable)
    #[arg(long, value_name = "NAME=DIR")]
    data: Vec<String>,
    /// Edit N records; four times as many are there to learn from
    #[arg(long, value_name = "N", default_value_t = 6, value_parser = clap::value_parser!(u32).range(1..))]
    limit: u32,
    /// Seed of every random stream
    #[arg(long, value_name = "N", default_value_t = 0)]
    seed: u64,
    /// A setting, e.g. ft-l.steps=25 (repeatable)
    #[arg(long = "set", value_name = "KEY=VALUE")]
    settings: Vec<String>,
    /// The bundle of settings to start from
    #[arg(long, value_enum, default_value = "project")]
    preset: PresetName,
    /// Print only the digest of what the editor does: the other process of C4
    #[arg(long, hide = true)]
    digest: bool,
}

/// What is printed with `--json`.
#[derive(Serialize)]
struct Report {
    format: &'static str,
    editor: String,
    ok: bool,
    models: Vec<Checked>,
}

/// The kit's findings on one model.
#[derive(Serialize)]
struct Checked {
    model: String,
    task: Task,
    settings: Settings,
    /// Why nothing could be tested.
    error: Option<String>,
    findings: Vec<Finding>,
}

impl Checked {
    fn ok(&self) -> bool {
        self.error.is_none() && !self.findings.iter().any(|f| f.verdict.is_failed())
    }
}

impl Args {
    pub(super) fn execute(self, session: Session) -> anyhow::Result<Exit> {
        let interrupt = Interrupt::listen().context("cannot listen for SIGINT and SIGTERM")?;
        let preset = Preset::from(self.preset);
        let given = planner::given(preset, &self.settings)?;
        let protocol = Protocol::of(preset).with(&given)?;
        let dataset = datasets::find(&self.dataset)?;
        let data: Arc<dyn Collection> = Roots::new(&self.data)?.open(dataset, self.seed)?.into();
        let editor = self.editor(&protocol, &data, &interrupt)?;
        let names = match self.models.is_empty() {
            true => models::originals()?
                .map(|model| model.name().to_owned())
                .collect(),
            false => self.models.clone(),
        };
        let sources = names
            .iter()
            .map(|name| ModelSource::resolve(name))
            .collect::<debias_core::Result<Vec<_>>>()?;
        let placement = Placement::default();
        let mut checked = Vec::new();
        for (name, source) in names.iter().zip(&sources) {
            let model = planner::open(source, &placement)?;
            let settings = merged_settings(editor.as_ref(), preset, source, &given)?;
            editor.check(&model, &settings)?;
            let size = Size::of(self.limit as usize);
            let world = check_world::world(&model, &*data, self.task.into(), &protocol, size)?;
            if self.digest {
                let digest = conformance::digest(editor.as_ref(), &world, &settings, self.seed)?;
                session.printer.result(&digest)?;
                continue;
            }
            let what = format!("checking {} on {}", editor.card().id, model.name());
            session.printer.detail(&what);
            checked.push(self.checked(editor.as_ref(), &world, settings, name));
            interrupt.check()?;
        }
        if self.digest {
            return Ok(Exit::Done);
        }
        let report = Report {
            format: FORMAT,
            editor: editor.card().id.to_owned(),
            ok: checked.iter().all(Checked::ok),
            models: checked,
        };
        match session.json {
            true => session.print_json(&report)?,
            false => session.printer.result(&table(&report))?,
        }
        Ok(match report.ok {
            true => Exit::Done,
            false => Exit::Gate,
        })
    }

    /// The editor of that name, or the command as one.
    fn editor(
        &self,
        protocol: &Protocol,
        data: &Arc<dyn Collection>,
        interrupt: &Interrupt,
    ) -> anyhow::Result<Arc<dyn Editor>> {
        let command = match (&self.name, &self.command) {
            (Some(name), _) => return Ok(editors::shared(name)?),
            (None, command) => command.clone().unwrap_or_default(),
        };
        if command.trim().is_empty() {
            return Err(Refusal::new(Exit::Usage, "--command is empty")
                .help("For example --command 'python3 my_editor.py'.")
                .into());
        }
        // The kit asks under another seed too; the records are the same.
        let seeds = [self.seed, conformance::other_seed(self.seed)];
        Ok(Arc::new(External::new(
            command,
            Duration::from_secs(self.timeout.into()),
            protocol.templates.clone(),
            seeds.map(|seed| (seed, data.clone())).to_vec(),
            interrupt.clone(),
        )))
    }

    fn checked(
        &self,
        editor: &dyn Editor,
        world: &World,
        settings: Settings,
        model: &str,
    ) -> Checked {
        let elsewhere = || self.elsewhere(model).map_err(|error| format!("{error:#}"));
        let options = Options {
            seed: self.seed,
            peak_bytes: Some(machine::peak_bytes),
            elsewhere: Some(&elsewhere),
        };
        let tested = conformance::check(editor, world, &settings, &options);
        let (findings, error) = match tested {
            Ok(findings) => (findings, None),
            Err(error) => (Vec::new(), Some(error.to_string())),
        };
        Checked {
            model: world.model.name().to_owned(),
            task: self.task.into(),
            settings,
            error,
            findings,
        }
    }

    /// The digest of the same edits, made by another process of this program.
    fn elsewhere(&self, model: &str) -> anyhow::Result<String> {
        let program = std::env::current_exe().context("this program has no path")?;
        let mut command = Command::new(program);
        command
            .args(["check-editor", "--digest", "-q", "--model", model])
            .args(["--dataset", &self.dataset])
            .args(["--limit", &self.limit.to_string()])
            .args(["--seed", &self.seed.to_string()]);
        let task = Task::from(self.task).name();
        command.args(["--task", task, "--preset", Preset::from(self.preset).name()]);
        match (&self.name, &self.command) {
            (Some(name), _) => command.arg(name),
            (None, external) => command
                .args(["--timeout", &self.timeout.to_string(), "--command"])
                .arg(external.as_deref().unwrap_or_default()),
        };
        for pair in &self.data {
            command.args(["--data", pair]);
        }
        for setting in &self.settings {
            command.args(["--set", setting]);
        }
        let output = command
            .stdin(Stdio::null())
            .output()
            .context("it does not start")?;
        let said = String::from_utf8_lossy(&output.stderr);
        anyhow::ensure!(output.status.success(), "{}", said.trim());
        Ok(String::from_utf8(output.stdout)?.trim().to_owned())
    }
}

/// One block per model.
fn table(report: &Report) -> String {
    let blocks: Vec<String> = report
        .models
        .iter()
        .map(|checked| block(&report.editor, checked))
        .collect();
    blocks.join("\n\n")
}

fn block(editor: &str, checked: &Checked) -> String {
    let head = format!("{editor} on {}, {}", checked.model, checked.task.name());
    if let Some(error) = &checked.error {
        return format!("{head}: cannot be tested\n{}", wrapped(error, "  "));
    }
    let (mut passed, mut failed, mut other) = (0, 0, 0);
    let lines: Vec<String> = checked
        .findings
        .iter()
        .map(|finding| {
            let word = match finding.verdict {
                Verdict::Passed(_) => {
                    passed += 1;
                    "passed"
                }
                Verdict::Failed(_) => {
                    failed += 1;
                    "FAILED"
                }
                Verdict::NotApplicable(_) => {
                    other += 1;
                    "n. a."
                }
            };
            let label = format!("{:<4} {:<20} {word:<7} ", finding.id, finding.title);
            let text = wrapped(finding.verdict.detail(), &" ".repeat(label.len()));
            format!("{label}{}", text.trim_start())
        })
        .collect();
    format!(
        "{head}: {passed} passed, {failed} failed, {other} do not apply\n{}",
        lines.join("\n")
    )
}
