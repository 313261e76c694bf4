//! A planned merge of adapters among themselves is carried out.

use debias_weights::Dtype;
use rayon::prelude::*;

use super::Adapter;
use super::factors::{Factors, common_scale};
use crate::card::Values;
use crate::combine::Combination;
use crate::error::Result;
use crate::merger::{AdapterMerger, AdapterModule, Facts};
use crate::plan::{Among, Planned, PlannedModule, Whole, Work, adapter_of};
use crate::stream::{Input, Stored};
use crate::target::{Run, Target};

impl Planned {
    /// Writes all tensors of a merged adapter.
    ///
    /// # Errors
    /// A value that is not finite; a disk that is full; an interruption.
    pub(crate) fn merge_among(&self, among: &Among, run: &Run) -> Result<Facts> {
        let modules = among.modules.iter();
        let (together, apart): (Vec<_>, Vec<_>) = modules.partition(|module| module.together);
        let facts = self.merge_apart(among, &apart, run)?;
        if let Some(merger) = self.recipe.merger.on_adapters() {
            together
                .par_iter()
                .try_for_each(|module| self.merge_together(among, module, merger, run))?;
        }
        among
            .wholes
            .iter()
            .try_for_each(|whole| self.average(among, whole, run))?;
        Ok(facts)
    }

    fn adapters<'a>(&'a self, among: &'a Among) -> impl Iterator<Item = &'a Adapter> {
        let models = among.inputs.iter();
        models.map(|at| adapter_of(&self.models, *at))
    }

    /// The factors of the inputs that change a module.
    fn factors(&self, among: &Among, module: &str) -> Result<Vec<Factors>> {
        let all = self.adapters(among).map(|adapter| adapter.factors(module));
        all.filter_map(Result::transpose).collect()
    }

    /// What the plan says of the tensor `at`.
    fn values(&self, at: usize) -> (&Values, &[Values]) {
        match &self.tensors[at].job.work {
            Work::Merge { shared, each, .. } => (shared, each),
            Work::Copy { .. } => unreachable!("no tensor of an adapter is copied"),
        }
    }

    fn one<'a>(
        &'a self,
        at: usize,
        run: &'a Run<'a>,
        inputs: Vec<Input<'a>>,
        labels: Vec<&'a str>,
        base: Option<usize>,
    ) -> Target<'a> {
        let tensor = &self.tensors[at];
        let (shared, each) = self.values(at);
        let all: Vec<usize> = (0..inputs.len()).collect();
        let others: Vec<usize> = all.iter().copied().filter(|at| base != Some(*at)).collect();
        Target {
            run,
            at,
            name: &tensor.job.name,
            shape: &tensor.info.shape,
            dtype: tensor.info.dtype,
            inputs,
            labels,
            base,
            base_first: base.iter().chain(&others).copied().collect(),
            others,
            all,
            shared,
            each,
        }
    }

    /// Merges `A` and `B` of modules each as a tensor, by the method.
    fn merge_apart(&self, among: &Among, modules: &[&PlannedModule], run: &Run) -> Result<Facts> {
        let mut factors: Vec<(usize, Vec<Vec<u8>>)> = Vec::new();
        for module in modules {
            let all = self.factors(among, &module.name)?;
            let scale = common_scale(all.iter().map(|one| one.scale));
            let [a, b] = module.places;
            factors.push((a, all.iter().map(|one| bytes(&one.a)).collect()));
            factors.push((
                b,
                all.iter().map(|one| bytes(&one.rescaled(scale))).collect(),
            ));
        }
        let mut labels: Vec<&str> = self.adapters(among).map(Adapter::label).collect();
        let of_zeros = among.base == Some(among.inputs.len());
        if of_zeros {
            labels.push("zeros");
        }
        let targets: Vec<Target> = factors
            .iter()
            .map(|(at, values)| {
                let stored = values.iter().map(|values| floats(values));
                let zeros = of_zeros.then_some(Input::Zero);
                self.one(
                    *at,
                    run,
                    stored.chain(zeros).collect(),
                    labels.clone(),
                    among.base,
                )
            })
            .collect();
        if targets.is_empty() {
            return Ok(Facts::default());
        }
        let merger = self.recipe.merger;
        let facts = merger.survey(&targets.iter().collect::<Vec<_>>())?;
        let all = targets.par_iter();
        all.try_for_each(|target| merger.merge(target, &facts))?;
        Ok(facts)
    }

    /// Merges the factors of one module with each other.
    fn merge_together(
        &self,
        among: &Among,
        module: &PlannedModule,
        merger: &dyn AdapterMerger,
        run: &Run,
    ) -> Result<()> {
        run.check()?;
        let (shared, each) = self.values(module.places[0]);
        let has = |(_, adapter): &(usize, &Adapter)| adapter.module(&module.name).is_some();
        let changing = self.adapters(among).enumerate().filter(has);
        let merged = merger.merge(
            &AdapterModule {
                name: &module.name,
                factors: self.factors(among, &module.name)?,
                changing: changing.map(|(at, _)| at).collect(),
                shared,
                each,
            },
            run,
        );
        for (at, values) in module.places.into_iter().zip([&merged.a, &merged.b]) {
            let values = bytes(values);
            let target = self.one(
                at,
                run,
                vec![floats(&values)],
                vec![self.recipe.merger.card().id],
                None,
            );
            target.each(target.values(), &Combination::of([1.0]))?;
        }
        Ok(())
    }

    /// The mean of a tensor that the adapters trained whole, or the one that all of them have.
    fn average(&self, among: &Among, whole: &Whole, run: &Run) -> Result<()> {
        let (_, each) = self.values(whole.place);
        let mut weights: Vec<f64> = match self.recipe.merger.on_adapters() {
            Some(merger) => each.iter().map(|values| merger.weight(values)).collect(),
            None => vec![1.0; among.inputs.len()],
        };
        let (mut inputs, mut labels) = (Vec::new(), Vec::new());
        for adapter in self.adapters(among) {
            if let Some((stored, _)) = adapter.replaced(&whole.name)? {
                inputs.push(Input::Stored(stored));
                labels.push(adapter.label());
            }
        }
        if whole.same {
            weights = vec![1.0];
            inputs.truncate(1);
        }
        let mut mean = Combination::of(weights.iter().copied());
        mean.divisor = weights.iter().sum::<f64>() as f32;
        let target = self.one(whole.place, run, inputs, labels, None);
        target.each(target.values(), &mean)
    }
}

fn bytes(values: &[f32]) -> Vec<u8> {
    values
        .iter()
        .flat_map(|value| value.to_le_bytes())
        .collect()
}

fn floats(bytes: &[u8]) -> Input<'_> {
    Input::Stored(Stored::new(Dtype::F32, bytes).expect("F32 is read"))
}
