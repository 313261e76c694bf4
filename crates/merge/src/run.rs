//! A planned merge is carried out: tensor after tensor, in small groups, on all threads.

use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use debias_weights::{Sharding, StreamedFolder, TensorInfo, check_target};
use rayon::prelude::*;
use serde::Serialize;

use crate::card::{Base, Values};
use crate::combine::Combination;
use crate::error::{Error, Result};
use crate::merger::Facts;
use crate::plan::{Planned, Work};
use crate::stream::Grain;
use crate::target::{Run, Sink, Target};

const UNBROKEN: &str = "no thread panics while it adds a line";

/// Values of a group of tensors that are merged at the same time: small tensors keep all threads
/// busy together, a large one does alone.
const GROUP: usize = 4 << 20;

/// Bytes of a tensor that is copied that one thread takes at a time.
const COPIED: usize = 1 << 20;

/// Is told of the progress, and asked whether to stop.
pub trait Watch: Sync {
    /// So many bytes of output more are written.
    fn advance(&self, _bytes: u64) {}

    /// Whether to stop; nothing is left behind then.
    fn stop(&self) -> bool {
        false
    }
}

/// Nobody watches.
pub struct Unwatched;

impl Watch for Unwatched {}

/// What was done.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Outcome {
    /// The method.
    pub method: String,
    /// Tensors written.
    pub tensors: usize,
    /// Values written.
    pub parameters: u64,
    /// Bytes of input.
    pub bytes_read: u64,
    /// Bytes of weights written.
    pub bytes_written: u64,
    /// What the method has to say about these models.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub remarks: Vec<String>,
}

struct Folder<'a> {
    folder: &'a StreamedFolder,
    watch: &'a dyn Watch,
}

impl Sink for Folder<'_> {
    fn write(&self, tensor: usize, offset: u64, bytes: &[u8]) -> Result<()> {
        self.folder.write_at(tensor, offset, bytes)?;
        self.watch.advance(bytes.len() as u64);
        Ok(())
    }
}

/// Takes everything and keeps nothing, up to a number of bytes.
struct Nowhere {
    left: AtomicU64,
}

impl Sink for Nowhere {
    fn write(&self, _tensor: usize, _offset: u64, bytes: &[u8]) -> Result<()> {
        let taken = bytes.len() as u64;
        let before = self.left.fetch_sub(
            taken.min(self.left.load(Ordering::Relaxed)),
            Ordering::Relaxed,
        );
        if before <= taken {
            Err(Error::Interrupted)
        } else {
            Ok(())
        }
    }
}

impl Planned {
    /// Writes the merged folder to `dir`: beside it, then renamed.
    ///
    /// # Errors
    /// A target that exists (without `force`) or cannot be written; a value that is not finite; a
    /// tensor without a result; an interruption. Nothing is left behind.
    pub fn write(&self, dir: &Path, force: bool, watch: &dyn Watch) -> Result<Outcome> {
        check_target(dir, force)?;
        let tensors: Vec<(String, TensorInfo)> = self
            .tensors
            .iter()
            .map(|t| (t.job.name.clone(), t.info.clone()))
            .collect();
        let sharding = Sharding {
            stem: match self.among {
                Some(_) => "adapter_model",
                None => "model",
            },
            limit: self.options.shard,
        };
        let folder = StreamedFolder::create(dir, &tensors, sharding, force)?;
        for (name, bytes) in &self.files {
            folder.file(name, bytes)?;
        }
        let sink = Folder {
            folder: &folder,
            watch,
        };
        let facts = self.carry_out(&sink, watch)?;
        folder.file("merge.json", &self.manifest(&facts)?)?;
        folder.finish()?;
        let size = self.size();
        Ok(Outcome {
            method: self.recipe.merger.card().id.to_owned(),
            tensors: size.tensors,
            parameters: size.parameters,
            bytes_read: size.bytes_read,
            bytes_written: size.bytes_written,
            remarks: facts.remarks,
        })
    }

    /// Computes tensors without writing them until `bytes` of output have come, or all; how many
    /// came. Surveys of the whole model are left out. For an estimate of the time.
    ///
    /// # Errors
    /// As [`Planned::write`].
    pub fn rehearse(&self, bytes: u64) -> Result<u64> {
        let sink = Nowhere {
            left: AtomicU64::new(bytes),
        };
        match self.carry_out(&sink, &Unwatched) {
            Ok(_) | Err(Error::Interrupted) => {}
            Err(error) => return Err(error),
        }
        Ok(bytes - sink.left.load(Ordering::Relaxed))
    }

    fn carry_out(&self, sink: &dyn Sink, watch: &dyn Watch) -> Result<Facts> {
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(self.options.threads.max(1))
            .build();
        let warnings = Mutex::new(Vec::new());
        let run = Run {
            sink,
            seed: self.seed(),
            masks: self.masks.as_ref(),
            allow_nonfinite: self.options.allow_nonfinite,
            stop: &|| watch.stop(),
            warn: &|message| warnings.lock().expect(UNBROKEN).push(message),
            grain: Grain::default(),
        };
        let mut facts = match pool {
            Ok(pool) => pool.install(|| self.merge_all(&run)),
            // A machine that gives no more threads still has this one.
            Err(_) => self.merge_all(&run),
        }?;
        // In the order of names, whichever thread came first.
        let mut warnings = warnings.into_inner().expect(UNBROKEN);
        warnings.sort();
        facts.remarks.extend(warnings);
        Ok(facts)
    }

    fn merge_all(&self, run: &Run) -> Result<Facts> {
        if let Some(among) = &self.among {
            return self.merge_among(among, run);
        }
        let targets: Result<Vec<_>> = (0..self.tensors.len())
            .map(|at| self.target(at, run))
            .collect();
        let targets = targets?;
        let merged: Vec<&Target> = targets
            .iter()
            .filter(|(_, made)| matches!(made, Treatment::Merged))
            .map(|(target, _)| target)
            .collect();
        let facts = if merged.is_empty() {
            Facts::default()
        } else {
            self.recipe.merger.survey(&merged)?
        };
        for group in groups(&targets) {
            group.par_iter().try_for_each(|(target, made)| match made {
                Treatment::Copied(bytes) => copy(target, bytes),
                Treatment::Converted => target.each(target.values(), &Combination::of([1.0])),
                Treatment::Merged => self.recipe.merger.merge(target, &facts),
            })?;
        }
        Ok(facts)
    }

    /// Tensor `at` as a target, and how it is made.
    fn target<'a>(&'a self, at: usize, run: &'a Run<'a>) -> Result<(Target<'a>, Treatment<'a>)> {
        let tensor = &self.tensors[at];
        static NONE: Values = Values::EMPTY;
        let (inputs, base, shared, each): (Vec<(usize, &str)>, _, _, &[Values]) =
            match &tensor.job.work {
                Work::Copy { model, tensor } => (vec![(*model, tensor.as_str())], None, &NONE, &[]),
                Work::Merge {
                    inputs,
                    base,
                    shared,
                    each,
                } => {
                    let inputs = inputs.iter().map(|i| (i.model, i.name.as_str()));
                    (inputs.collect(), *base, shared, each)
                }
            };
        let made = match &tensor.job.work {
            Work::Merge { .. } => Treatment::Merged,
            Work::Copy {
                model: at,
                tensor: name,
            } => {
                let model = &self.models[*at];
                let info = model.info(name);
                let same = info.is_some_and(|info| info.dtype == tensor.info.dtype);
                let as_it_is = !model.is_adapted(name) && !self.changes_rows(&tensor.job.name, *at);
                if same && as_it_is {
                    Treatment::Copied(model.bytes(name)?)
                } else {
                    Treatment::Converted
                }
            }
        };
        let ignored = self.recipe.merger.card().inputs.base == Base::Ignored;
        let base = base.filter(|_| !ignored);
        let all: Vec<usize> = (0..inputs.len()).collect();
        let others: Vec<usize> = all.iter().copied().filter(|at| base != Some(*at)).collect();
        let opened = |model: usize| &self.models[model];
        let target = Target {
            run,
            at,
            name: &tensor.job.name,
            shape: &tensor.info.shape,
            dtype: tensor.info.dtype,
            labels: inputs
                .iter()
                .map(|(model, _)| opened(*model).label.as_str())
                .collect(),
            inputs: match made {
                Treatment::Copied(_) => Vec::new(),
                Treatment::Converted | Treatment::Merged => {
                    let inputs = inputs.iter();
                    inputs
                        .map(|(model, name)| self.input(&tensor.job.name, *model, name))
                        .collect::<Result<_>>()?
                }
            },
            base,
            base_first: base.iter().chain(&others).copied().collect(),
            others,
            all,
            shared,
            each,
        };
        Ok((target, made))
    }
}

/// How a tensor of the output comes about.
enum Treatment<'a> {
    /// These bytes of an input.
    Copied(&'a [u8]),
    /// One input in another format, or with its adapter.
    Converted,
    /// By the method.
    Merged,
}

/// Targets in runs of about [`GROUP`] values.
fn groups<'t, 'a>(
    targets: &'t [(Target<'a>, Treatment<'a>)],
) -> Vec<&'t [(Target<'a>, Treatment<'a>)]> {
    let mut groups = Vec::new();
    let (mut start, mut held) = (0, 0);
    for (at, (target, _)) in targets.iter().enumerate() {
        if held > 0 && held + target.len() > GROUP {
            groups.push(&targets[start..at]);
            (start, held) = (at, 0);
        }
        held += target.len();
    }
    groups.push(&targets[start..]);
    groups
}

fn copy(target: &Target, bytes: &[u8]) -> Result<()> {
    target.run.check()?;
    bytes
        .par_chunks(COPIED)
        .enumerate()
        .try_for_each(|(at, piece)| {
            target
                .run
                .sink
                .write(target.at, (at * COPIED) as u64, piece)
        })
}
