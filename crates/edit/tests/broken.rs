//! An editor broken in one way for each property: the kit finds that property missing, and no
//! other.
//!
//! C14, C15 and C20 cannot be broken by an edit of weights: one scorer asks for both answers, no
//! weights make a causal model look ahead, and the size of an edit is computed from what it holds.
//! Their judgements are tested on doctored scores beside the code.

mod support;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use debias_core::{FilterContexts, Norm, Preset, Record, Split};
use debias_edit::conformance::{Finding, Options, World, check, fingerprint};
use debias_edit::{
    Card, Claims, Ctx, Edit, Editor, Effect, Footprint, Learns, Lessons, Prepared, Request, Result,
    Settings, Touches,
};
use debias_model::{Change, Delta, Model, Parameters, Side};
use support::toys::{Learner, Learning, OneStep, Step, card};
use support::{fine_tuning, llama, model, opt, scaled, world};

/// What is wrong with an editor that is FT-L otherwise.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Flaw {
    /// An error in one batch leaks into the next.
    RemembersErrors,
    /// Unusable requests get an edit of nothing.
    SwallowsErrors,
    /// The settings of its identity take a step.
    IsNoIdentity,
    /// The seed decides something.
    DependsOnTheSeed,
    /// A parameter is declared and not changed.
    DeclaresTooMuch,
    /// The card says that it edits the input.
    WrongCard,
    /// It says that it edits the vision side only.
    ClaimsTheVisionSide,
    /// It goes up the hill.
    Backwards,
    /// It claims reliability and goes a hundredth of the way.
    ClaimsTooMuch,
    /// Jointly, those that come first count more.
    FirstComeFirstServed,
    /// The more requests at once, the smaller the edits.
    SharesOut,
    /// The more records it has seen, the larger the edits of new ones.
    Grows,
    /// A second edit of a record after another one's is larger.
    Leaks,
    /// One value of each edit is NaN.
    NotANumber,
}

struct Broken(Flaw);

static CARD: Card = card(
    "broken",
    Footprint::of(&[Touches::Weights], "those of ft-l"),
);
static WRONG_CARD: Card = card("broken", Footprint::of(&[Touches::Input], "a prefix"));

impl Editor for Broken {
    fn card(&self) -> &'static Card {
        match self.0 {
            Flaw::WrongCard => &WRONG_CARD,
            _ => &CARD,
        }
    }

    fn defaults(&self, preset: Preset) -> Settings {
        let settings = fine_tuning().defaults(preset);
        match self.0 {
            Flaw::ClaimsTooMuch => settings.with("lr", 1e-6),
            _ => settings.with("lr", 0.01),
        }
    }

    fn learns(&self, settings: &Settings) -> Result<Learns> {
        fine_tuning().learns(settings)
    }

    fn claims(&self, settings: &Settings) -> Result<Claims> {
        let claims = fine_tuning().claims(settings)?;
        Ok(match self.0 {
            Flaw::ClaimsTheVisionSide => Claims {
                side: Some(Side::Vision),
                ..claims
            },
            Flaw::ClaimsTooMuch => Claims {
                effect: Effect::Reliability,
                ..claims
            },
            _ => claims,
        })
    }

    fn identity(&self, settings: &Settings) -> Option<Settings> {
        match self.0 {
            Flaw::IsNoIdentity => Some(settings.clone().with("steps", 1)),
            _ => fine_tuning().identity(settings),
        }
    }

    fn check(&self, model: &Model, settings: &Settings) -> Result<()> {
        fine_tuning().check(model, settings)
    }

    fn prepare<'m>(
        &self,
        model: &'m Model,
        lessons: &Lessons,
        ctx: &Ctx,
    ) -> Result<Box<dyn Prepared + 'm>> {
        Ok(Box::new(Spoilt {
            inner: fine_tuning().prepare(model, lessons, ctx)?,
            flaw: self.0,
            seed: ctx.seed,
            model,
            memory: Mutex::default(),
        }))
    }
}

struct Spoilt<'m> {
    inner: Box<dyn Prepared + 'm>,
    flaw: Flaw,
    seed: u64,
    model: &'m Model,
    memory: Mutex<Memory>,
}

/// What the editor should not know.
#[derive(Default)]
struct Memory {
    failed: bool,
    /// Factor of every record, by when it was first seen.
    factors: BTreeMap<String, f32>,
    /// Records edited alone, in order.
    alone: Vec<String>,
}

impl Spoilt<'_> {
    fn memory(&self) -> std::sync::MutexGuard<'_, Memory> {
        self.memory.lock().expect("one thread")
    }

    /// A parameter that FT-L does not touch, with a change of nothing.
    fn untouched(&self) -> (String, Delta) {
        let outline = self.model.decoder().outline();
        let site = outline.feed_forward_sites(0).swap_remove(0);
        let value = self.model.value(&site).expect("a parameter");
        (site, Delta::Dense(value.zeros_like()))
    }

    fn spoil(&self, requests: &[Request], edits: Vec<Arc<Edit>>) -> Vec<Arc<Edit>> {
        let id = |at: usize| requests[at].record.id.clone();
        match self.flaw {
            Flaw::RemembersErrors if std::mem::take(&mut self.memory().failed) => {
                scaled(&edits, |_| 1.5)
            }
            Flaw::DependsOnTheSeed => scaled(&edits, |_| 1.0 + self.seed as f32),
            Flaw::Backwards => scaled(&edits, |_| -1.0),
            Flaw::SharesOut => scaled(&edits, |_| 1.0 / requests.len() as f32),
            Flaw::Grows => {
                let factors = &mut self.memory().factors;
                for at in 0..edits.len() {
                    let next = 1.0 + factors.len() as f32;
                    factors.entry(id(at)).or_insert(next);
                }
                scaled(&edits, |at| factors[&id(at)])
            }
            Flaw::Leaks if requests.len() == 1 => {
                let alone = &mut self.memory().alone;
                let returned = alone.contains(&id(0)) && alone.last() != Some(&id(0));
                alone.push(id(0));
                scaled(&edits, |_| if returned { 1.5 } else { 1.0 })
            }
            Flaw::NotANumber => scaled(&edits, |_| f32::NAN),
            Flaw::DeclaresTooMuch => edits.iter().map(|edit| self.declaring(edit)).collect(),
            _ => edits,
        }
    }

    fn declaring(&self, edit: &Edit) -> Arc<Edit> {
        let mut change = edit.change().expect("it changes weights").clone();
        if !change.is_identity() {
            change.weights.extend([self.untouched()]);
        }
        Arc::new(Edit::Weights(change))
    }
}

impl Prepared for Spoilt<'_> {
    fn edit_each(&self, requests: &[Request], start: &Change) -> Result<Vec<Arc<Edit>>> {
        match self.inner.edit_each(requests, start) {
            Ok(edits) => Ok(self.spoil(requests, edits)),
            Err(_) if self.flaw == Flaw::SwallowsErrors => {
                Ok(requests.iter().map(|_| Arc::default()).collect())
            }
            Err(error) => {
                self.memory().failed = true;
                Err(error)
            }
        }
    }

    fn edit_jointly(&self, requests: &[Request]) -> Result<Edit> {
        let edits = self.edit_each(requests, &Change::default())?;
        match self.flaw {
            Flaw::FirstComeFirstServed => Edit::joined(&scaled(&edits, |at| 1.0 / (at + 1) as f32)),
            _ => Edit::joined(&edits),
        }
    }
}

/// An editor that lacks nothing.
const WHOLE: Learner = Learner(Learning::Whole);

fn found(editor: &dyn Editor, world: &World, options: &Options) -> Vec<Finding> {
    let settings = editor.defaults(Preset::Project);
    check(editor, world, &settings, options).expect("it can be tested")
}

/// The id and the reason of the only failure.
fn only_failure(findings: &[Finding]) -> (&'static str, String) {
    let failed: Vec<&Finding> = findings.iter().filter(|f| f.verdict.is_failed()).collect();
    assert_eq!(failed.len(), 1, "{failed:#?}");
    (failed[0].id, failed[0].verdict.detail().to_owned())
}

/// Asserts that `editor` lacks exactly the property `id`, for a reason that holds `why`.
fn lacks(editor: &dyn Editor, id: &str, why: &str) {
    let model = model(llama);
    let (found, reason) = only_failure(&found(editor, &world(&model), &Options::default()));
    assert_eq!(found, id, "{reason}");
    assert!(reason.contains(why), "{reason}");
}

#[test]
fn c1_an_error_that_leaks_into_the_next_edit() {
    let why = "after an error in the middle of a batch 3 of 3 requests get another edit";
    lacks(&Broken(Flaw::RemembersErrors), "C1", why);
}

#[test]
fn c1_the_fingerprint_knows_weights_of_another_seed() {
    let (one, other) = (model(opt), support::seeded_model(opt, 8));
    let print = |model: &Model| fingerprint(&world(model)).expect("a fingerprint");
    assert_eq!(print(&one), print(&model(opt)));
    assert_ne!(print(&one), print(&other));
}

#[test]
fn c2_unusable_requests_that_are_no_error() {
    let model = model(llama);
    let editor = Broken(Flaw::SwallowsErrors);
    let (id, reason) = only_failure(&found(&editor, &world(&model), &Options::default()));
    assert_eq!(id, "C2");
    for why in [
        "edit_each without requests is no error",
        "an empty target is no error",
        "equal answers is no error",
        "an over-long prompt is no error",
    ] {
        assert!(reason.contains(why), "{reason}");
    }
}

#[test]
fn c3_an_identity_that_takes_a_step() {
    lacks(
        &Broken(Flaw::IsNoIdentity),
        "C3",
        "edited alone, 4 of 4 records change",
    );
}

#[test]
fn c4_a_seed_that_decides_undeclared_things() {
    let why = "another seed makes other edits, and nothing is declared random";
    lacks(&Broken(Flaw::DependsOnTheSeed), "C4", why);
}

#[test]
fn c4_another_process_that_disagrees() {
    let model = model(llama);
    let world = world(&model);
    for (answer, why) in [
        (
            Ok("another digest".to_owned()),
            "another process makes other edits",
        ),
        (
            Err("it crashed".to_owned()),
            "another process fails: it crashed",
        ),
    ] {
        let elsewhere = || answer.clone();
        let options = Options {
            elsewhere: Some(&elsewhere),
            ..Options::default()
        };
        let found = only_failure(&found(&WHOLE, &world, &options));
        assert_eq!(found, ("C4", why.to_owned()));
    }
}

#[test]
fn c5_a_declared_parameter_that_keeps_its_value() {
    lacks(
        &Broken(Flaw::DeclaresTooMuch),
        "C5",
        "is declared but keeps its value",
    );
}

#[test]
fn c5_a_card_that_says_something_else() {
    let why = "the card says it touches `input`, an edit touches weights";
    lacks(&Broken(Flaw::WrongCard), "C5", why);
}

#[test]
fn c6_a_vision_editor_that_edits_the_language_side() {
    let why = "text-only predictions move on 4 of 4 records";
    lacks(&Broken(Flaw::ClaimsTheVisionSide), "C6", why);
}

#[test]
fn c7_an_editor_that_goes_the_wrong_way() {
    lacks(&Broken(Flaw::Backwards), "C7", "the margin goes from");
}

#[test]
fn c7_reliability_that_is_claimed_and_not_reached() {
    let model = model(llama);
    let mut world = world(&model);
    let admission = world.admission;
    orient(
        &model,
        &mut world.train,
        |margin| margin < 0.0,
        admission.norm,
    );
    let editor = Broken(Flaw::ClaimsTooMuch);
    let (id, reason) = only_failure(&found(&editor, &world, &Options::default()));
    assert_eq!(id, "C7");
    let why = "reliability is claimed, but the margin is still";
    assert!(reason.contains(why), "{reason}");
}

/// Exchanges answers until the base margin of every record is as `wanted`.
fn orient(model: &Model, records: &mut [Record], wanted: fn(f64) -> bool, norm: Norm) {
    let chunk = support::chunk(model, records.to_vec());
    for (record, before) in records.iter_mut().zip(chunk.before()) {
        if !wanted(before.prompt.margin(norm)) {
            *record = record.clone().swapped();
        }
    }
}

#[test]
fn c8_requests_that_count_by_their_place() {
    lacks(
        &Broken(Flaw::FirstComeFirstServed),
        "C8",
        "the requests in another order are off by",
    );
}

#[test]
fn c9_an_edit_that_depends_on_its_company() {
    lacks(
        &Broken(Flaw::SharesOut),
        "C9",
        "edited alone a record is off by",
    );
}

#[test]
fn c10_factors_that_cancel() {
    // Large factors that cancel also disturb what else is compared closely (order, rank, identity);
    // what they must not do is pass C10.
    let model = model(llama);
    let editor = OneStep(Step::Cancelling);
    let findings = found(&editor, &world(&model), &Options::default());
    let of_c10 = findings.iter().find(|finding| finding.id == "C10");
    let verdict = &of_c10.expect("all twenty").verdict;
    assert!(verdict.is_failed());
    assert!(verdict.detail().contains("side path and dense matrix are"));
}

#[test]
fn c11_edits_that_count_those_before_them() {
    lacks(
        &Broken(Flaw::Grows),
        "C11",
        "with one of 3 edits dropped, scores are",
    );
}

#[test]
fn c12_an_edit_that_leaks_into_the_next_one() {
    lacks(
        &Broken(Flaw::Leaks),
        "C12",
        "made again after another edit it holds other values",
    );
}

#[test]
fn c13_records_that_were_never_biased() {
    let model = model(llama);
    let mut world = world(&model);
    let admission = world.admission;
    orient(
        &model,
        &mut world.eval,
        |margin| margin > 0.0,
        admission.norm,
    );
    world.admission.contexts = FilterContexts::Prompt;
    let (id, reason) = only_failure(&found(&WHOLE, &world, &Options::default()));
    assert_eq!(id, "C13");
    assert!(reason.contains("it prefers y_less"), "{reason}");
}

#[test]
fn c16_trainings_that_lose_something() {
    for (flaw, why) in [
        (
            Learning::SavesRounded,
            "saved and loaded parts make other edits",
        ),
        (
            Learning::ForgetsStatistics,
            "resumed after an interruption, `gain` ends differently",
        ),
        (
            Learning::BeginsAgain,
            "resumed, it trains all 8 steps again",
        ),
        (
            Learning::GoesOn,
            "its training goes on after its store told it to stop",
        ),
        (
            Learning::KeepsNothing,
            "it learns parts but hands none to its store",
        ),
    ] {
        lacks(&Learner(flaw), "C16", why);
    }
}

#[test]
fn c17_edits_that_are_not_numbers() {
    lacks(
        &Broken(Flaw::NotANumber),
        "C17",
        "values of its edit are not finite",
    );
}

#[test]
fn c18_an_evaluation_group_among_the_lessons() {
    let model = model(llama);
    for (id, group, why) in [
        ("eval-1", "elsewhere", "id `eval-1` is in train and in eval"),
        (
            "elsewhere",
            "eval-group-1",
            "group `eval-group-1` is in train and in eval",
        ),
    ] {
        let mut world = world(&model);
        let mut record = support::record(Split::Train, 0);
        (record.id, record.group) = (id.to_owned(), group.to_owned());
        world.train.push(record);
        let found = only_failure(&found(&WHOLE, &world, &Options::default()));
        assert_eq!(found, ("C18", why.to_owned()));
    }
}

#[test]
fn c19_gradients_that_are_none() {
    lacks(
        &OneStep(Step::Scaled),
        "C19",
        "the probe is 1.0e-2 from the gradient",
    );
    lacks(
        &OneStep(Step::LowRank),
        "C19",
        "of the edit's norm lies beyond rank",
    );
}

#[test]
fn the_whole_toys_lack_nothing() {
    for family in support::FAMILIES {
        let model = model(family);
        let toys: [(&dyn Editor, &str); 2] = [
            (&OneStep(Step::Whole), "C19"),
            (&Learner(Learning::Whole), "C16"),
        ];
        for (editor, applies) in toys {
            let findings = found(editor, &world(&model), &Options::default());
            let failed: Vec<_> = findings.iter().filter(|f| f.verdict.is_failed()).collect();
            assert!(failed.is_empty(), "{failed:#?}");
            let tested = findings.iter().find(|finding| finding.id == applies);
            let verdict = &tested.expect("all twenty").verdict;
            assert!(
                matches!(verdict, debias_edit::conformance::Verdict::Passed(_)),
                "{verdict:?}"
            );
        }
    }
}
