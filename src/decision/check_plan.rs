//! Refuses a plan that breaks an invariant, whoever made it. Runs before the plan is journalled.

use crate::model::plan::{Plan, PlanKind, Step, StepKind};
use crate::model::{Epoch, SiteName};

/// What is wrong with a plan.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unsafe {
    /// It has no steps.
    #[error("the plan has no steps")]
    Empty,
    /// Its epoch is not the one held.
    #[error("the plan is for epoch {plan}, the lease held is for {held:?} (S8)")]
    WrongEpoch {
        /// The plan's.
        plan: Epoch,
        /// The one held.
        held: Option<Epoch>,
    },
    /// A step comes before one that must precede it.
    #[error("step '{early}' must not come before '{late}' (S9)")]
    Order {
        /// The step that is too early.
        early: StepKind,
        /// The step that must come first.
        late: StepKind,
    },
    /// A step needs another one before it, which is missing.
    #[error("step '{step}' needs '{needs}' before it (S9)")]
    Missing {
        /// The step.
        step: StepKind,
        /// What it needs.
        needs: StepKind,
    },
    /// A step that has no place in a plan of this kind.
    #[error("step '{step}' has no place in a plan to {kind}")]
    Misplaced {
        /// The step.
        step: StepKind,
        /// The plan's kind.
        kind: PlanKind,
    },
    /// The lease would be handed to the site that already has it.
    #[error("the plan hands over to its own site")]
    HandOverToSelf,
}

/// Steps a kind of plan may consist of.
fn allowed(kind: PlanKind) -> &'static [StepKind] {
    use StepKind as K;
    match kind {
        PlanKind::GiveUp => &[K::FenceOwn, K::HandOver],
        PlanKind::TakeOver => &[
            K::CheckCandidate,
            K::RecordPrimary,
            K::Promote,
            K::VerifyWrites,
            K::RewriteAppConfig,
            K::UpdateDns,
            K::Notify,
        ],
        PlanKind::Restart => &[
            K::StartOwn,
            K::VerifyWrites,
            K::RewriteAppConfig,
            K::UpdateDns,
            K::Notify,
        ],
        PlanKind::Fence => &[K::FenceOwn],
        PlanKind::Converge => &[K::RewriteAppConfig, K::UpdateDns, K::Notify],
    }
}

/// What must have come before a step, if it is in the same plan or not.
const NEEDS: &[(PlanKind, StepKind, StepKind)] = &[
    (PlanKind::GiveUp, StepKind::HandOver, StepKind::FenceOwn),
    (
        PlanKind::TakeOver,
        StepKind::Promote,
        StepKind::CheckCandidate,
    ),
    (
        PlanKind::TakeOver,
        StepKind::Promote,
        StepKind::RecordPrimary,
    ),
    (
        PlanKind::TakeOver,
        StepKind::RewriteAppConfig,
        StepKind::VerifyWrites,
    ),
    (
        PlanKind::TakeOver,
        StepKind::UpdateDns,
        StepKind::VerifyWrites,
    ),
    (
        PlanKind::Restart,
        StepKind::VerifyWrites,
        StepKind::StartOwn,
    ),
];

/// Checks a plan that is about to be made under the held epoch.
///
/// # Errors
/// The first invariant that it would break.
pub fn check_plan(plan: &Plan, held: Option<Epoch>, me: &SiteName) -> Result<(), Unsafe> {
    if plan.steps.is_empty() {
        return Err(Unsafe::Empty);
    }
    let needs_lease = match plan.kind {
        PlanKind::GiveUp | PlanKind::TakeOver | PlanKind::Restart => true,
        PlanKind::Fence | PlanKind::Converge => false,
    };
    let moves_dns = plan
        .steps
        .iter()
        .any(|step| step.kind() == StepKind::UpdateDns);
    if (needs_lease || moves_dns) && held != Some(plan.epoch) {
        return Err(Unsafe::WrongEpoch {
            plan: plan.epoch,
            held,
        });
    }
    let kinds: Vec<StepKind> = plan.steps.iter().map(Step::kind).collect();
    if let Some(&step) = kinds.iter().find(|step| !allowed(plan.kind).contains(step)) {
        return Err(Unsafe::Misplaced {
            step,
            kind: plan.kind,
        });
    }
    let rank = |kind: StepKind| StepKind::ALL.iter().position(|known| *known == kind);
    for pair in kinds.windows(2) {
        if let [early, late] = *pair
            && rank(early) > rank(late)
        {
            return Err(Unsafe::Order { early, late });
        }
    }
    for &(kind, step, needs) in NEEDS {
        if plan.kind == kind && kinds.contains(&step) {
            let place = kinds.iter().position(|kind| *kind == step);
            let need = kinds.iter().position(|kind| *kind == needs);
            // A take-over that finds its promotion already done has none to prepare.
            if need.is_none() || need > place {
                return Err(Unsafe::Missing { step, needs });
            }
        }
    }
    let to_self = plan
        .steps
        .iter()
        .any(|step| matches!(step, Step::HandOver { to } if to == me));
    if to_self {
        Err(Unsafe::HandOverToSelf)
    } else {
        Ok(())
    }
}
