//! The family of task arithmetic: `θ + λ Σ w_i sparse(θ_i - θ)`, with or without an election of
//! signs. `ties`, `dare_*`, `della*` and `breadcrumbs*` differ only in the sparsifier, the election
//! and two defaults (spec, section 2.6).

mod bits;
mod elect;
mod keep;
pub(crate) mod parameters;
mod ranked;
mod sparsifier;

use crate::card::{MergerCard, Values};
use crate::error::Result;
use crate::merger::{Facts, Merger};
use crate::stream::Reading;
use crate::target::Target;

use elect::{Elect, Election};
pub(crate) use sparsifier::Sparsifier;

/// A member of the family.
pub(crate) struct TaskVectors {
    pub card: MergerCard,
    pub sparsifier: Sparsifier,
    /// Whether values of the minority's sign are left out.
    pub elects: bool,
}

impl Merger for TaskVectors {
    fn card(&self) -> &MergerCard {
        &self.card
    }

    fn check(
        &self,
        _shared: &Values,
        others: &[&Values],
    ) -> std::result::Result<(), (&'static str, String)> {
        others.iter().try_for_each(|values| match self.sparsifier {
            Sparsifier::Ranked => check_ranked(values),
            Sparsifier::Outliers => check_outliers(values),
            Sparsifier::Dense | Sparsifier::Magnitude | Sparsifier::Bernoulli => Ok(()),
        })
    }

    fn passes(&self) -> usize {
        match self.sparsifier {
            Sparsifier::Dense => 1,
            _ => 2,
        }
    }

    fn merge(&self, target: &Target, _facts: &Facts) -> Result<()> {
        let reading = match self.sparsifier {
            Sparsifier::Ranked => target.deltas_by_row(),
            _ => target.deltas(),
        };
        let weights = target.of_others("weight");
        let total: f64 = weights.iter().sum();
        let by_count = self.elects && target.text("consensus") == "count";
        let elect = Elect {
            kept: keep::decide(self.sparsifier, target, reading)?,
            divisor: if total.abs() < 1e-8 {
                1.0
            } else {
                total as f32
            },
            weights: weights.iter().map(|w| *w as f32).collect(),
            election: match (self.elects, by_count) {
                (false, _) => Election::None,
                (true, false) => Election::Sum,
                (true, true) => Election::Count,
            },
            normalize: target.flag("normalize"),
            lambda: target.number("lambda") as f32,
        };
        target.each(reading, &elect)
    }
}

fn check_ranked(values: &Values) -> std::result::Result<(), (&'static str, String)> {
    let (density, epsilon) = (values.number("density"), values.number("epsilon"));
    let inside = density - epsilon > 0.0 && density + epsilon < 1.0 && epsilon >= 0.0;
    if density >= 1.0 || density <= 0.0 || inside {
        Ok(())
    } else {
        Err((
            "epsilon",
            format!("density {density} ± epsilon {epsilon} leaves (0, 1); take a smaller epsilon"),
        ))
    }
}

fn check_outliers(values: &Values) -> std::result::Result<(), (&'static str, String)> {
    let gamma = values.number("gamma");
    if (0.0..=1.0).contains(&gamma) {
        Ok(())
    } else {
        Err(("gamma", format!("{gamma} is no share between 0 and 1")))
    }
}

impl Target<'_> {
    /// [`Target::deltas`], cut so that blocks hold whole rows along the first axis.
    fn deltas_by_row(&self) -> Reading<'_> {
        let mut reading = self.deltas();
        let row = match self.shape() {
            [] => 1,
            [one] => *one,
            [_, rest @ ..] => rest.iter().product(),
        };
        reading.grain = reading.grain.of_rows(row);
        reading
    }
}
