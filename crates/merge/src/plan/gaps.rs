//! What only some models have: refused, copied or left out.

use std::collections::{BTreeMap, BTreeSet};

use super::extras;
use super::jobs::{Job, Planner, Tensor, Work};
use super::layers::{self, in_layer};
use super::open::several;
use crate::error::{Error, Result};

/// Tensors that only some models have and the others may lack, by the model that has them.
#[derive(Default)]
pub(super) struct Lacking {
    /// Taken from that model as they are.
    copied: BTreeMap<usize, Vec<String>>,
    left_out: BTreeMap<usize, Vec<String>>,
    /// Which tensors stand for which that they are taken to be tied to, in sentences.
    pub(super) guessed: BTreeSet<String>,
}

impl Planner<'_> {
    /// What a reader should know, one sentence each.
    pub(super) fn notes(&self) -> Vec<String> {
        let label = |model: &usize| &self.models[*model].label;
        let list = |names: &[String]| {
            let names: Vec<&str> = names.iter().map(String::as_str).collect();
            several(&names)
        };
        let copied = self.lacking.copied.iter().map(|(model, names)| {
            format!(
                "copied from `{}`, because other models lack them: {}",
                label(model),
                list(names)
            )
        });
        let left_out = self.lacking.left_out.iter().map(|(model, names)| {
            format!(
                "left out, because `{}` has them and the model whose form the output takes does not: {}",
                label(model),
                list(names)
            )
        });
        let guessed = self.lacking.guessed.iter().cloned();
        copied.chain(left_out).chain(guessed).collect()
    }

    /// Refuses models of different depth, stack by stack; layers that a model may lack do not count.
    pub(super) fn check_depth(
        &self,
        models: &BTreeSet<usize>,
        names: &BTreeSet<&str>,
    ) -> Result<()> {
        let mut first: BTreeMap<&str, (usize, usize)> = BTreeMap::new();
        for at in models {
            let opened = &self.models[*at];
            let others: Vec<_> = models.iter().map(|at| &self.models[*at].config).collect();
            let counted = opened.names().filter(|name| {
                let info = opened.info(name);
                names.contains(name)
                    && !info.is_some_and(|info| {
                        extras::may_be_lacking(name, info, &opened.config, &others)
                    })
            });
            for (stack, layers) in layers::stacks(counted) {
                let (other, depth) = *first.entry(stack).or_insert((*at, layers));
                if depth != layers {
                    return Err(Error::Model {
                        model: opened.label.clone(),
                        problem: format!(
                            "has {layers} layers of `{stack}`, and `{}` has {depth}; merge models of one depth, or name layers by `slices`",
                            self.models[other].label
                        ),
                    });
                }
            }
        }
        Ok(())
    }

    /// Copies what all models have and the configuration determines; whether `name` is that.
    pub(super) fn copy_buffer(&mut self, name: &str, form: usize, inputs: &[Tensor]) -> bool {
        let model = &self.models[form];
        let own = inputs.iter().find(|tensor| tensor.model == form);
        let buffer = own.filter(|tensor| {
            let info = model.info(&tensor.name);
            info.is_some_and(|info| extras::is_buffer(&tensor.name, info))
        });
        self.jobs.extend(buffer.map(|tensor| Job {
            name: name.to_owned(),
            work: Work::Copy {
                model: form,
                tensor: tensor.name.clone(),
            },
        }));
        buffer.is_some()
    }

    /// Copies a tensor that models may lack from the one whose form the output takes, or leaves it
    /// out where that one lacks it too; `false` where it may not be lacking.
    pub(super) fn settle(
        &mut self,
        name: &str,
        form: usize,
        having: &[Tensor],
        lacking: &[usize],
    ) -> bool {
        let configs: Vec<_> = lacking.iter().map(|at| &self.models[*at].config).collect();
        let Some(first) = having.first() else {
            return false;
        };
        let model = &self.models[first.model];
        let may = model
            .info(&first.name)
            .is_some_and(|info| extras::may_be_lacking(&first.name, info, &model.config, &configs));
        if !may {
            return false;
        }
        match having.iter().find(|tensor| tensor.model == form) {
            Some(tensor) => {
                let copied = self.lacking.copied.entry(form).or_default();
                copied.push(name.to_owned());
                self.jobs.push(Job {
                    name: name.to_owned(),
                    work: Work::Copy {
                        model: form,
                        tensor: tensor.name.clone(),
                    },
                });
            }
            None => {
                let left_out = self.lacking.left_out.entry(first.model).or_default();
                left_out.push(name.to_owned());
            }
        }
        true
    }

    /// Tensors of the donor that no part makes: what the recipe leaves out of the merge.
    ///
    /// # Errors
    /// A tensor that the recipe does not leave out and no listed model has.
    pub(super) fn copy_rest(&mut self, claimed: &BTreeSet<String>) -> Result<()> {
        let donor = &self.models[self.donor];
        let whole =
            self.recipe.only.is_empty() && self.recipe.parts.iter().all(|p| p.name.is_none());
        let cut = |name: &str| in_layer(name).is_some_and(|i| self.layers.contains_key(i.stack));
        let rest = donor
            .names()
            .filter(|name| !claimed.contains(*name) && !cut(name));
        let rest: Vec<String> = rest.map(str::to_owned).collect();
        for name in rest {
            let tensor = Tensor {
                model: self.donor,
                name: name.clone(),
            };
            let others: Vec<usize> = (0..self.models.len())
                .filter(|at| *at != self.donor)
                .collect();
            if !whole {
                self.jobs.push(Job {
                    work: Work::Copy {
                        model: self.donor,
                        tensor: name.clone(),
                    },
                    name,
                });
            } else if !self.settle(&name, self.donor, &[tensor], &others) {
                return Err(Error::MissingTensor {
                    tensor: name,
                    model: self.models[others.first().copied().unwrap_or(self.donor)]
                        .label
                        .clone(),
                });
            }
        }
        Ok(())
    }
}
