//! Random histories: whatever comes, in whatever order, every verdict keeps the rules of
//! `tests/support/world/rules.rs`, and the journal the rules of `decision::journal_rules`.

mod history;
mod life;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use failover_agent::model::journal::JournalEntry;
use failover_agent::model::outcome::FailureKind;
use failover_agent::model::plan::{Plan, PlanKind, StepKind};
use proptest::prelude::*;
use proptest::sample::select;
use proptest::strategy::ValueTree as _;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};

use history::{End, Happening, happening};
use life::Life;

use crate::world::nodes::How;

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    /// The rules themselves stand in `support/world`: no promotion without a lease of its epoch
    /// and a kept record, one plan at a time, everything journalled first, only fences while
    /// stopped, the same output for the same input, and never a wake-up in the past.
    #[test]
    fn no_history_breaks_a_rule(
        start in select(vec![How::Primary, How::Standby(true)]),
        history in prop::collection::vec((0_u64..3000, happening()), 1..120),
    ) {
        let mut life = Life::new(start);
        for (after, happening) in history {
            life.now = life.now + Duration::from_millis(after);
            life.happen(happening);
        }
        // No plan's id was ever used twice, through all restarts.
        prop_assert!(life.started.values().all(|times| *times == 1), "{:?}", life.started);
    }
}

/// An active site, and another one that could take over; then its node dies, and the fence fails.
fn healthy_until_the_fence_fails() -> [Happening; 10] {
    [
        Happening::OwnProbe(How::Primary, true),
        Happening::PeerReports(How::Standby(true), true),
        Happening::WitnessReports,
        Happening::Free(None),
        Happening::Granted,
        Happening::Renewed,
        Happening::RecordKept,
        Happening::OwnProbe(How::Gone, true),
        Happening::Steps(End::Fails(FailureKind::Permanent)),
        Happening::Steps(End::Well),
    ]
}

/// The generator is of use only if it gets somewhere: over many histories every kind of plan is
/// begun, and promotions are among what is run.
#[test]
fn random_histories_get_everywhere() {
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &[7; 32]);
    let mut runner = TestRunner::new_with_rng(Config::default(), rng);
    let histories = prop::collection::vec((0_u64..3000, happening()), 120);
    let mut plans = BTreeSet::new();
    let mut steps = BTreeSet::new();
    for round in 0..600 {
        let start = if round % 2 == 0 {
            How::Primary
        } else {
            How::Standby(true)
        };
        let mut life = Life::new(start);
        // Some begin with a healthy site, or few would come to where there is one to lose.
        let beginning = healthy_until_the_fence_fails();
        let taken = [beginning.len(), 0, 7, 0][round % 4];
        for happening in beginning.into_iter().take(taken) {
            life.now = life.now + Duration::from_millis(10);
            life.happen(happening);
        }
        let tree = histories.new_tree(&mut runner);
        for (after, happening) in tree.map(|tree| tree.current()).unwrap_or_default() {
            life.now = life.now + Duration::from_millis(after);
            life.happen(happening);
        }
        // A plan stands in the journal before its steps.
        let mut known: BTreeMap<_, &Plan> = BTreeMap::new();
        for line in &life.agent.lines {
            if let JournalEntry::Planned { plan, .. } = &line.entry {
                plans.insert(plan.kind);
                known.insert(&plan.id, plan);
            }
            if let JournalEntry::StepStarted {
                plan, step, undo, ..
            } = &line.entry
            {
                steps.insert((known[plan].steps[*step].kind(), *undo));
            }
        }
    }
    assert_eq!(plans.len(), 6, "{plans:?}");
    assert!(plans.contains(&PlanKind::TakeOver));
    for kind in StepKind::ALL {
        assert!(steps.contains(&(kind, false)), "no history runs '{kind}'");
    }
    for kind in [
        StepKind::FenceOwn,
        StepKind::RecordPrimary,
        StepKind::Promote,
    ] {
        assert!(steps.contains(&(kind, true)), "no history undoes '{kind}'");
    }
}
