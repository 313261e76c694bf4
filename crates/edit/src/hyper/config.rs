//! The settings of an editor that is a hyper-network: what is edited, those of the network and its
//! objective, and those of training.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::sites::Sites;
use crate::card::Setting;
use crate::training::Schedule;

/// All settings of a hyper-network's editor.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Config<N> {
    /// What is edited.
    #[serde(flatten)]
    pub sites: Sites,
    /// Those of the network and the objective.
    #[serde(flatten)]
    pub network: N,
    /// Parts that were trained before.
    pub trained: Option<PathBuf>,
    /// How long and how fast to train.
    #[serde(flatten)]
    pub schedule: Schedule,
}

/// The one setting of [`Config`] that belongs to none of its parts.
pub(crate) const TRAINED: &[Setting] = &[(
    "trained",
    "file of parts trained before, in place of training; null trains",
)];
