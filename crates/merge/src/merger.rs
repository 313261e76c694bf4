//! A merge's contract.

use serde_json::{Map, Value};

use crate::adapter::Factors;
use crate::card::{MergerCard, Values};
use crate::error::Result;
use crate::target::{Run, Target};

/// What a merge must know of the whole model before its first tensor, and what its reader wants to
/// know.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Facts {
    /// For the merge itself.
    pub numbers: Vec<f64>,
    /// For people, one sentence each.
    pub remarks: Vec<String>,
    /// For the manifest, by tensor.
    pub statistics: Map<String, Value>,
}

/// One module of LoRA adapters that are merged among themselves, without a base.
pub struct AdapterModule<'a> {
    /// Its name.
    pub name: &'a str,
    /// The factors of the adapters that change it.
    pub factors: Vec<Factors>,
    /// Which adapters those are, in the order of the recipe.
    pub changing: Vec<usize>,
    /// The shared parameters.
    pub shared: &'a Values,
    /// The parameters of every adapter, in the order of the recipe.
    pub each: &'a [Values],
}

/// How a merge makes one LoRA adapter of several, where it merges the two factors of a module with
/// each other. Other merges take `A` and `B` each as a tensor, with zeros for a base.
pub trait AdapterMerger: Sync {
    /// The rank of a module that adapters of these ranks change; `None` where the parameters ask
    /// for its factors to be merged each as a tensor.
    fn rank(&self, shared: &Values, ranks: &[usize]) -> Option<usize>;

    /// Whether a module may have another rank in each adapter, and none in some.
    fn takes_any_rank(&self) -> bool;

    /// Whether the merge takes adapters and nothing else, onto a base too.
    fn takes_only_adapters(&self) -> bool {
        false
    }

    /// The weight of an adapter in the mean of tensors that were trained whole.
    fn weight(&self, values: &Values) -> f64;

    /// Makes the factors of one module, of the rank that [`AdapterMerger::rank`] gives.
    fn merge(&self, module: &AdapterModule, run: &Run) -> Factors;
}

/// A merge of checkpoints, tensor by tensor.
pub trait Merger: Sync {
    /// Name, paper, equation, parameters, inputs.
    fn card(&self) -> &MergerCard;

    /// Refuses parameters that no tensor can be merged with, before any weight is read. `others`
    /// holds the values of the inputs besides the base, or of all of them where the base is ignored.
    ///
    /// # Errors
    /// What is wrong, and with which parameter.
    fn check(
        &self,
        _shared: &Values,
        _others: &[&Values],
    ) -> std::result::Result<(), (&'static str, String)> {
        Ok(())
    }

    /// Reads all tensors once or more, for merges whose tensors are not independent.
    ///
    /// # Errors
    /// A value that is not finite; an interruption.
    fn survey(&self, _targets: &[&Target]) -> Result<Facts> {
        Ok(Facts::default())
    }

    /// Passes over the inputs that a survey and a merge take together, for the estimate of
    /// `--check`.
    fn passes(&self) -> usize {
        1
    }

    /// How LoRA adapters are merged among themselves, for merges that do not take their factors
    /// each as a tensor.
    fn on_adapters(&self) -> Option<&dyn AdapterMerger> {
        None
    }

    /// Makes one tensor.
    ///
    /// # Errors
    /// A value that is not finite, inputs without a result, a disk that is full, an interruption.
    fn merge(&self, target: &Target, facts: &Facts) -> Result<()>;
}
