//! `check_plan` against every order and omission of steps: S9.

use std::path::PathBuf;
use std::time::Duration;

use failover_agent::decision::check_plan::{Unsafe, check_plan};
use failover_agent::model::lease::ClusterRecord;
use failover_agent::model::plan::{Cause, Plan, PlanKind, Step, StepKind};
use failover_agent::model::{Epoch, LagBytes, Lsn, PlanId, SiteName, SystemId, Timeline};

use StepKind as K;

const HELD: Epoch = Epoch(7);

const KINDS: [PlanKind; 6] = [
    PlanKind::GiveUp,
    PlanKind::TakeOver,
    PlanKind::FinishTakeOver,
    PlanKind::Restart,
    PlanKind::Fence,
    PlanKind::Converge,
];

fn step(kind: StepKind) -> Step {
    let timeout = Duration::from_secs(1);
    let text = || "x".to_owned();
    match kind {
        K::FenceOwn => Step::FenceOwn {
            grace: timeout,
            budget: timeout,
        },
        K::HandOver => Step::HandOver {
            to: SiteName::new("ams"),
        },
        K::StartStandby => Step::StartStandby { timeout },
        K::StartOwn => Step::StartOwn { timeout },
        K::CheckCandidate => Step::CheckCandidate {
            system_id: SystemId(1),
            timeline: Timeline(1),
            last_lsn: Lsn(1),
            lag_max: LagBytes(1),
            finishes: false,
            silent: None,
        },
        K::RecordPrimary => Step::RecordPrimary {
            site: SiteName::new("fra"),
        },
        K::Promote => Step::Promote { timeout },
        K::VerifyWrites => Step::VerifyWrites { timeout },
        K::RewriteAppConfig => Step::RewriteAppConfig {
            target: text(),
            path: PathBuf::from("/x"),
            edits: Vec::new(),
            also: Vec::new(),
            primary: None,
        },
        K::UpdateDns => Step::UpdateDns {
            target: text(),
            provider: text(),
            name: text(),
            kind: text(),
            contents: vec![text()],
        },
        K::Notify => Step::Notify { summary: text() },
    }
}

fn plan(kind: PlanKind, steps: &[StepKind]) -> Plan {
    Plan {
        id: PlanId::new("fra-1"),
        kind,
        epoch: HELD,
        cause: Cause::RecordMoved,
        steps: steps.iter().copied().map(step).collect(),
    }
}

fn check(plan: &Plan, held: Option<Epoch>) -> Result<(), Unsafe> {
    check_plan(
        plan,
        held,
        Some(&record("fra", true)),
        &SiteName::new("fra"),
    )
}

fn record(primary: &str, promoting: bool) -> ClusterRecord {
    ClusterRecord {
        epoch: HELD,
        revision: 1,
        primary: SiteName::new(primary),
        promoting,
        system_id: SystemId(1),
        timeline: Timeline(1),
        last_lsn: Lsn(1),
        last_failover: None,
        brakes: Box::default(),
    }
}

fn checked(kind: PlanKind, steps: &[StepKind]) -> Result<(), Unsafe> {
    check(&plan(kind, steps), Some(HELD))
}

/// The whole plans, as the agent makes them.
const WHOLE: [(PlanKind, &[StepKind]); 8] = [
    (PlanKind::GiveUp, &[K::FenceOwn, K::HandOver]),
    (
        PlanKind::TakeOver,
        &[
            K::CheckCandidate,
            K::RecordPrimary,
            K::Promote,
            K::VerifyWrites,
            K::RewriteAppConfig,
            K::UpdateDns,
            K::Notify,
        ],
    ),
    (
        PlanKind::FinishTakeOver,
        &[
            K::CheckCandidate,
            K::RecordPrimary,
            K::Promote,
            K::VerifyWrites,
            K::RewriteAppConfig,
            K::UpdateDns,
            K::Notify,
        ],
    ),
    (
        PlanKind::FinishTakeOver,
        &[
            K::StartStandby,
            K::CheckCandidate,
            K::RecordPrimary,
            K::Promote,
            K::VerifyWrites,
            K::RewriteAppConfig,
            K::UpdateDns,
            K::Notify,
        ],
    ),
    (
        PlanKind::FinishTakeOver,
        &[
            K::VerifyWrites,
            K::RewriteAppConfig,
            K::UpdateDns,
            K::Notify,
        ],
    ),
    (
        PlanKind::Restart,
        &[
            K::FenceOwn,
            K::RecordPrimary,
            K::StartOwn,
            K::VerifyWrites,
            K::RewriteAppConfig,
            K::UpdateDns,
        ],
    ),
    (PlanKind::Fence, &[K::FenceOwn]),
    (PlanKind::Converge, &[K::RewriteAppConfig, K::UpdateDns]),
];

#[test]
fn whole_plans_pass_and_their_converging_steps_may_be_many_or_none() {
    for (kind, steps) in WHOLE {
        assert_eq!(checked(kind, steps), Ok(()), "{kind}");
        let sequence: Vec<_> = steps
            .iter()
            .copied()
            .filter(|step| !step.converges() || *step == K::VerifyWrites)
            .collect();
        if !sequence.is_empty() {
            assert_eq!(checked(kind, &sequence), Ok(()), "{kind}");
        }
        let mut twice = sequence;
        twice.extend(steps.iter().copied().filter(|s| *s == K::RewriteAppConfig));
        twice.extend(steps.iter().copied().filter(|s| *s == K::RewriteAppConfig));
        if twice.contains(&K::RewriteAppConfig) {
            assert_eq!(checked(kind, &twice), Ok(()), "{kind}");
        }
    }
}

/// What S9 and the purpose of a plan ask for, said independently of how `check_plan` asks it.
fn safe(kind: PlanKind, steps: &[StepKind]) -> bool {
    let has = |step| steps.contains(&step);
    let at = |step| steps.iter().position(|known| *known == step);
    // Every step comes after all that S9 puts before it.
    let ranks = steps
        .iter()
        .map(|step| K::ALL.iter().position(|known| known == step));
    let ordered = ranks.is_sorted_by(|early, late| early < late);
    let only = |allowed: &[StepKind]| steps.iter().all(|step| allowed.contains(step));
    let converging = [K::RewriteAppConfig, K::UpdateDns, K::Notify];
    let with = |own: &[StepKind]| [own, &converging].concat();
    let fits = match kind {
        PlanKind::GiveUp => steps == [K::FenceOwn, K::HandOver],
        PlanKind::TakeOver => {
            let before = [K::CheckCandidate, K::RecordPrimary, K::Promote];
            let prepared = before.iter().all(|step| has(*step));
            let own = [
                K::CheckCandidate,
                K::RecordPrimary,
                K::Promote,
                K::VerifyWrites,
            ];
            only(&with(&own)) && has(K::VerifyWrites) && prepared
        }
        PlanKind::FinishTakeOver => {
            let before = [K::CheckCandidate, K::RecordPrimary, K::Promote];
            let prepared = before.iter().all(|step| has(*step));
            let finished = before.iter().all(|step| !has(*step)) && !has(K::StartStandby);
            let own = [&[K::StartStandby], &before[..], &[K::VerifyWrites]].concat();
            only(&with(&own)) && has(K::VerifyWrites) && (prepared || finished)
        }
        PlanKind::Restart => {
            let own = [K::FenceOwn, K::RecordPrimary, K::StartOwn, K::VerifyWrites];
            only(&with(&own))
                && has(K::RecordPrimary)
                && at(K::StartOwn).is_some()
                && at(K::VerifyWrites) > at(K::StartOwn)
        }
        PlanKind::Fence => steps == [K::FenceOwn],
        PlanKind::Converge => !steps.is_empty() && only(&converging),
    };
    ordered && fits
}

#[test]
fn s9_every_subset_and_every_swap_of_steps_is_judged_rightly() {
    for kind in KINDS {
        for mask in 0_u32..1 << K::ALL.len() {
            let steps: Vec<StepKind> = (0_u32..)
                .zip(K::ALL)
                .filter(|(bit, _)| mask & (1 << bit) != 0)
                .map(|(_, step)| step)
                .collect();
            let told = checked(kind, &steps);
            assert_eq!(
                told.is_ok(),
                safe(kind, &steps),
                "{kind} {steps:?}: {told:?}"
            );
            for first in 0..steps.len() {
                for second in first + 1..steps.len() {
                    let mut swapped = steps.clone();
                    swapped.swap(first, second);
                    assert!(checked(kind, &swapped).is_err(), "{kind} {swapped:?}");
                }
            }
        }
    }
}

#[test]
fn a_step_of_the_sequence_never_stands_twice() {
    for (kind, steps) in WHOLE {
        for (index, step) in steps.iter().enumerate() {
            let mut twice = steps.to_vec();
            twice.insert(index, *step);
            let repeatable = matches!(step, K::RewriteAppConfig | K::UpdateDns | K::Notify);
            assert_eq!(
                checked(kind, &twice).is_ok(),
                repeatable,
                "{kind} {twice:?}"
            );
        }
    }
}

#[test]
fn s8_a_plan_that_needs_the_lease_needs_its_own_epoch() {
    for (kind, steps) in WHOLE {
        let plan = plan(kind, steps);
        let needs = kind != PlanKind::Fence;
        for held in [None, Some(Epoch(6)), Some(Epoch(8))] {
            assert_eq!(check(&plan, held).is_err(), needs, "{kind} {held:?}");
        }
    }
    // Files of a standby's site follow the record without a lease; DNS does not.
    let files = plan(PlanKind::Converge, &[K::RewriteAppConfig]);
    assert_eq!(check(&files, None), Ok(()));
    let dns = plan(PlanKind::Converge, &[K::UpdateDns]);
    assert_eq!(
        check(&dns, None),
        Err(Unsafe::WrongEpoch {
            plan: HELD,
            held: None
        })
    );
}

#[test]
fn unsafe_plans_are_refused_by_name() {
    use PlanKind::{GiveUp, Restart, TakeOver};
    let missing = |step, needs| Err(Unsafe::Missing { step, needs });
    let incomplete = |kind, step| Err(Unsafe::Incomplete { kind, step });
    assert_eq!(checked(TakeOver, &[]), Err(Unsafe::Empty));
    assert_eq!(
        checked(TakeOver, &[K::CheckCandidate, K::Promote, K::VerifyWrites]),
        missing(K::Promote, K::RecordPrimary),
        "promotes what nobody recorded"
    );
    assert_eq!(
        checked(TakeOver, &[K::RecordPrimary, K::Promote, K::VerifyWrites]),
        missing(K::Promote, K::CheckCandidate),
        "promotes what nobody checked"
    );
    assert_eq!(
        checked(TakeOver, &[K::CheckCandidate, K::RecordPrimary, K::Promote]),
        incomplete(TakeOver, K::VerifyWrites),
        "leaves the record promoting for ever"
    );
    assert_eq!(
        checked(TakeOver, &[K::UpdateDns]),
        incomplete(TakeOver, K::Promote),
        "moves DNS to a node that nobody promoted"
    );
    assert_eq!(
        checked(GiveUp, &[K::HandOver]),
        incomplete(GiveUp, K::FenceOwn)
    );
    assert_eq!(
        checked(GiveUp, &[K::FenceOwn]),
        incomplete(GiveUp, K::HandOver)
    );
    assert_eq!(
        checked(Restart, &[K::RecordPrimary, K::VerifyWrites]),
        Err(Unsafe::Missing {
            step: K::RecordPrimary,
            needs: K::Promote
        }),
        "records for nothing"
    );
    assert_eq!(
        checked(Restart, &[K::StartOwn, K::VerifyWrites]),
        incomplete(Restart, K::RecordPrimary),
        "starts what no majority knows of"
    );
    assert_eq!(
        checked(GiveUp, &[K::HandOver, K::FenceOwn]),
        Err(Unsafe::Order {
            early: K::HandOver,
            late: K::FenceOwn
        }),
        "hands over what may still write"
    );
    let (kind, step) = (PlanKind::Converge, K::Promote);
    assert_eq!(
        checked(kind, &[step]),
        Err(Unsafe::Misplaced { step, kind })
    );
}

#[test]
fn s9_only_an_announced_promotion_of_this_site_is_finished() {
    let plan = plan(PlanKind::FinishTakeOver, &[K::VerifyWrites]);
    let me = SiteName::new("fra");
    for other in [None, Some(record("fra", false)), Some(record("ams", true))] {
        assert_eq!(
            check_plan(&plan, Some(HELD), other.as_ref(), &me),
            Err(Unsafe::NothingToFinish),
            "{other:?}"
        );
    }
}

#[test]
fn plans_name_the_right_sites() {
    let mut to_self = plan(PlanKind::GiveUp, &[K::FenceOwn, K::HandOver]);
    to_self.steps[1] = Step::HandOver {
        to: SiteName::new("fra"),
    };
    assert_eq!(check(&to_self, Some(HELD)), Err(Unsafe::HandOverToSelf));
    let steps = [
        K::CheckCandidate,
        K::RecordPrimary,
        K::Promote,
        K::VerifyWrites,
    ];
    let mut another = plan(PlanKind::TakeOver, &steps);
    another.steps[1] = Step::RecordPrimary {
        site: SiteName::new("ams"),
    };
    assert_eq!(check(&another, Some(HELD)), Err(Unsafe::RecordsAnother));
}
