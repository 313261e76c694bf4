//! `bench verify`: a checkpoint folder against its golden file.

use std::path::{Path, PathBuf};

use anyhow::Context;
use debias_core::Picture;
use debias_data::read_picture;
use debias_model::verify::{Case, Compared, Comparison, verify, verify_encoder, verify_pictures};
use debias_model::{Encoder, family};
use debias_weights::Checkpoint;
use serde::Serialize;

use super::Session;
use crate::compute::Loading;
use crate::models::ModelSource;
use crate::report::grid;
use crate::terminal::exit::Exit;

/// Compare a checkpoint folder with what the reference implementation computes from it
///
/// The golden file holds inputs and outputs of the reference: hidden states, logits, losses,
/// gradients, greedy continuations. Everything it holds is computed again and compared at the
/// tolerances in `case.json` beside it (or in the folder), or at the published ones. A golden file of
/// pictures alone needs no weights: every processor and every grid of tiles is compared.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  bench verify path/to/folder
  bench verify path/to/folder --golden elsewhere/golden.safetensors --json

Exit status: 0 all within tolerance, 1 not, or not everything could be computed.")]
pub struct Args {
    /// The checkpoint folder
    dir: String,
    /// The golden file [default: golden.safetensors in the folder]
    #[arg(long, value_name = "FILE")]
    golden: Option<PathBuf>,
    #[command(flatten)]
    loading: Loading,
}

/// What is printed with `--json`.
#[derive(Serialize)]
struct Report {
    arch: String,
    tensors: Vec<Comparison>,
    ok: bool,
}

impl Args {
    pub(super) fn execute(self, session: Session) -> anyhow::Result<Exit> {
        let source = ModelSource::resolve(&self.dir)?;
        let golden = match (&self.golden, &source) {
            (Some(path), _) => path.clone(),
            (None, ModelSource::Folder(dir)) => dir.join("golden.safetensors"),
            (None, ModelSource::Embedded(model)) => PathBuf::from(model.name()),
        };
        let beside = golden.parent().unwrap_or(Path::new(".")).to_owned();
        let golden = Checkpoint::open_file(&golden)
            .with_context(|| format!("no golden file for {}", self.dir))?;
        if let Some(Compared { arch, tensors }) = verify_pictures(&golden, &beside, picture)? {
            return reported(session, &Report::new(arch, tensors));
        }
        let device = self.loading.prepare()?;
        let checkpoint = source.checkpoint()?.allow_nan(self.loading.allow_nan);
        let (files, folder) = match &source {
            ModelSource::Folder(dir) if golden.bytes_if_present("case.json")?.is_none() => {
                (&checkpoint, dir)
            }
            _ => (&golden, &beside),
        };
        let config = checkpoint_config(&checkpoint);
        let case = Case::read(files, folder, config.as_ref(), picture)?;
        let tensors = match Encoder::knows(&checkpoint)? {
            true => verify_encoder(&Encoder::open(&checkpoint, &device)?, &golden, &case)?,
            false => verify(&self.loading.open_source(&source, None)?, &golden, &case)?,
        };
        for note in checkpoint.notes() {
            session.printer.warn(note);
        }
        let arch = family(&checkpoint)?.replace('-', "");
        reported(session, &Report::new(arch, tensors))
    }
}

impl Report {
    fn new(arch: String, tensors: Vec<Comparison>) -> Self {
        Self {
            arch,
            ok: tensors.iter().all(|tensor| tensor.ok == Some(true)),
            tensors,
        }
    }
}

fn reported(session: Session, report: &Report) -> anyhow::Result<Exit> {
    match session.json {
        true => session.print_json(report)?,
        false => session.printer.result(&table(report))?,
    }
    Ok(match report.ok {
        true => Exit::Done,
        false => Exit::Gate,
    })
}

fn checkpoint_config(checkpoint: &Checkpoint) -> Option<serde_json::Value> {
    checkpoint.json_if_present("config.json").ok().flatten()
}

fn picture(path: &Path) -> Result<Picture, String> {
    read_picture(path).map_err(|error| error.to_string())
}

/// One line per tensor and one for all.
fn table(report: &Report) -> String {
    let number = |value: Option<f64>| match value {
        Some(value) => format!("{value:.1e}"),
        None => "-".to_owned(),
    };
    let rows = report.tensors.iter().map(|tensor| {
        let verdict = match tensor.ok {
            Some(true) => "ok",
            Some(false) => "WRONG",
            None => "not computed",
        };
        [
            tensor.name.clone(),
            format!("{:?}", tensor.shape),
            number(tensor.max_abs),
            format!("{:.1e}", tensor.tolerance),
            tensor.computed_in.to_owned(),
            verdict.to_owned(),
        ]
    });
    let within = report.tensors.iter().filter(|t| t.ok == Some(true)).count();
    format!(
        "{}\n{}: {within} of {} tensors agree with the reference",
        grid(["tensor", "shape", "max abs", "allowed", "in", ""], rows),
        report.arch,
        report.tensors.len(),
    )
}
