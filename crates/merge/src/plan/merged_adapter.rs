//! What an adapter consists of that is merged from adapters.

/// A merge of adapters, besides its tensors.
pub(crate) struct Among {
    /// Models in the order of the recipe, the base where it stands there.
    pub inputs: Vec<usize>,
    /// The base among the inputs; behind the last, it is zeros.
    pub base: Option<usize>,
    pub modules: Vec<PlannedModule>,
    /// Tensors that were trained whole.
    pub wholes: Vec<Whole>,
}

/// A module of the output.
pub(crate) struct PlannedModule {
    pub name: String,
    /// Whether its factors are merged with each other, not each as a tensor.
    pub together: bool,
    /// Places of its `A` and `B` in the output.
    pub places: [usize; 2],
}

/// A tensor of the output that is no factor.
pub(crate) struct Whole {
    /// Its published name.
    pub name: String,
    /// Its place in the output.
    pub place: usize,
    /// Whether all adapters have the same.
    pub same: bool,
}
