//! Parameters that members of the family share.

use crate::card::{Base, Contract, Fallback, Kind, Parameter, ParameterScope, flag, number, word};

/// A base, and any number of fine-tunes of it.
pub(crate) const INPUTS: Contract = Contract {
    base: Base::Required,
    min: 0,
    max: None,
};

pub(crate) const DENSITY: Parameter = Parameter {
    name: "density",
    scope: ParameterScope::Other,
    kind: Kind::Number,
    default: Fallback::Number(1.0),
    help: "share of the task vector that is kept; 1 and above keeps everything, 0 and below nothing",
};

pub(crate) const EPSILON: Parameter = Parameter {
    name: "epsilon",
    scope: ParameterScope::Other,
    kind: Kind::Number,
    default: Fallback::Number(0.15),
    help: "half the span of keep probabilities: density - epsilon for the smallest of a row, density + epsilon for the largest",
};

pub(crate) const GAMMA: Parameter = Parameter {
    name: "gamma",
    scope: ParameterScope::Other,
    kind: Kind::Number,
    default: Fallback::Number(0.01),
    help: "share of the largest magnitudes that is dropped",
};

pub(crate) const LAMBDA: Parameter = number("lambda", 1.0, "scales the merged task vector");

pub(crate) const INT8_MASK: Parameter = flag(
    "int8_mask",
    false,
    "accepted for mergekit's recipes; memory is bounded anyway",
);

pub(crate) const RESCALE_MODE: Parameter = word(
    "rescale_mode",
    &["l1", "inverse_prob"],
    "what rescale means: one factor per tensor that restores Σ|δ| (as mergekit), or each survivor divided by its keep probability (as the papers)",
);

pub(crate) const CONSENSUS: Parameter = word(
    "consensus",
    &["sum", "count"],
    "whether weighted values or mere signs are summed to elect a sign",
);

/// Whether the sum is divided by the weights that entered it.
pub(crate) const fn normalize(default: bool) -> Parameter {
    flag(
        "normalize",
        default,
        "divide by the sum of the weights that entered",
    )
}

/// Whether survivors are scaled up.
pub(crate) const fn rescale(default: bool) -> Parameter {
    flag("rescale", default, "scale survivors up for those dropped")
}
