//! Refuses a plan that breaks an invariant, whoever made it. Runs before the plan is journalled.

use crate::decision::patience::wave;
use crate::model::lease::ClusterRecord;
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
    /// A plan of this kind is no use without this step.
    #[error("a plan to {kind} needs the step '{step}' (S9)")]
    Incomplete {
        /// The plan's kind.
        kind: PlanKind,
        /// What is missing.
        step: StepKind,
    },
    /// A step of the sequence stands twice.
    #[error("step '{step}' stands twice")]
    Twice {
        /// The step.
        step: StepKind,
    },
    /// The record would name another site than the one whose node is promoted.
    #[error("the plan records another site than its own as primary (S10)")]
    RecordsAnother,
    /// The record announces no promotion of this site that could be finished.
    #[error("the plan finishes a promotion that the record does not announce (S9)")]
    NothingToFinish,
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
        PlanKind::FinishTakeOver => &[
            K::StartStandby,
            K::CheckCandidate,
            K::RecordPrimary,
            K::Promote,
            K::VerifyWrites,
            K::RewriteAppConfig,
            K::UpdateDns,
            K::Notify,
        ],
        PlanKind::Restart => &[
            K::FenceOwn,
            K::RecordPrimary,
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

/// Steps without which a kind of plan must not be begun at all: what it would leave behind is
/// worse than what it found.
fn required(kind: PlanKind) -> &'static [StepKind] {
    use StepKind as K;
    match kind {
        PlanKind::GiveUp => &[K::FenceOwn, K::HandOver],
        PlanKind::TakeOver => &[K::Promote, K::VerifyWrites],
        // One that finds its promotion already done has no promotion to begin.
        PlanKind::FinishTakeOver => &[K::VerifyWrites],
        PlanKind::Restart => &[K::RecordPrimary, K::StartOwn, K::VerifyWrites],
        PlanKind::Fence => &[K::FenceOwn],
        PlanKind::Converge => &[],
    }
}

/// (step, what must be in the same plan): a promotion is checked and recorded, or not done; and
/// nobody checks for nothing.
const NEEDS: &[(StepKind, StepKind)] = &[
    (StepKind::Promote, StepKind::CheckCandidate),
    (StepKind::Promote, StepKind::RecordPrimary),
    (StepKind::CheckCandidate, StepKind::Promote),
    (StepKind::StartStandby, StepKind::Promote),
];

/// Checks a plan that is about to be made under the held epoch and the newest record.
///
/// # Errors
/// The first invariant that it would break.
pub fn check_plan(
    plan: &Plan,
    held: Option<Epoch>,
    record: Option<&ClusterRecord>,
    me: &SiteName,
) -> Result<(), Unsafe> {
    if plan.steps.is_empty() {
        return Err(Unsafe::Empty);
    }
    let needs_lease = match plan.kind {
        PlanKind::GiveUp | PlanKind::TakeOver | PlanKind::FinishTakeOver | PlanKind::Restart => {
            true
        }
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
    in_order(&kinds)?;
    // Nobody records a primary for nothing: that is what promotes, or what starts.
    let moves = kinds
        .iter()
        .any(|step| matches!(step, StepKind::Promote | StepKind::StartOwn));
    if kinds.contains(&StepKind::RecordPrimary) && !moves {
        let (step, needs) = (StepKind::RecordPrimary, StepKind::Promote);
        return Err(Unsafe::Missing { step, needs });
    }
    let finishes = plan.kind == PlanKind::FinishTakeOver;
    if finishes && !record.is_some_and(|record| record.promoting && record.primary == *me) {
        return Err(Unsafe::NothingToFinish);
    }
    for &(step, needs) in NEEDS {
        if kinds.contains(&step) && !kinds.contains(&needs) {
            return Err(Unsafe::Missing { step, needs });
        }
    }
    let missing = required(plan.kind)
        .iter()
        .find(|step| !kinds.contains(step));
    if let Some(&step) = missing {
        let kind = plan.kind;
        return Err(Unsafe::Incomplete { kind, step });
    }
    names_its_own_sites(plan, me)
}

/// The order of S9, which is that of [`StepKind::ALL`]; only what converges may stand twice.
fn in_order(kinds: &[StepKind]) -> Result<(), Unsafe> {
    let rank = |kind: StepKind| StepKind::ALL.iter().position(|known| *known == kind);
    for pair in kinds.windows(2) {
        let [early, late] = *pair else { continue };
        if rank(early) > rank(late) {
            return Err(Unsafe::Order { early, late });
        }
        if early == late && wave(early).is_none() {
            return Err(Unsafe::Twice { step: early });
        }
    }
    Ok(())
}

fn names_its_own_sites(plan: &Plan, me: &SiteName) -> Result<(), Unsafe> {
    for step in &plan.steps {
        match step {
            Step::HandOver { to } if to == me => return Err(Unsafe::HandOverToSelf),
            Step::RecordPrimary { site } if site != me => return Err(Unsafe::RecordsAnother),
            Step::HandOver { .. }
            | Step::RecordPrimary { .. }
            | Step::FenceOwn { .. }
            | Step::StartStandby { .. }
            | Step::StartOwn { .. }
            | Step::CheckCandidate { .. }
            | Step::Promote { .. }
            | Step::VerifyWrites { .. }
            | Step::RewriteAppConfig { .. }
            | Step::UpdateDns { .. }
            | Step::Notify { .. } => {}
        }
    }
    Ok(())
}
