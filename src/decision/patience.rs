//! What is known of each kind of step without its parameters: how often it is tried, whether it
//! can be undone, and when it converges.

use std::time::Duration;

use crate::model::plan::{PlanKind, StepKind};

/// How often a step is tried, and how long is waited in between.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Patience {
    /// `None`: until it is true.
    pub attempts_max: Option<u32>,
    /// After the first failure; doubles with each.
    pub pause_first: Duration,
    /// Never longer than this.
    pub pause_max: Duration,
}

/// How often a step of this kind is tried.
#[must_use]
pub fn patience(kind: StepKind) -> Patience {
    let bounded = |attempts, pause_ms| Patience {
        attempts_max: Some(attempts),
        pause_first: Duration::from_millis(pause_ms),
        pause_max: Duration::from_secs(1),
    };
    match kind {
        StepKind::FenceOwn | StepKind::Promote => bounded(3, 50),
        // A start has a long time of its own, and the plan is made anew after a pause.
        StepKind::StartOwn => bounded(1, 0),
        // Processes of the former run may take a moment to end; the plan itself is made once.
        StepKind::StartStandby => bounded(3, 200),
        StepKind::CheckCandidate => bounded(5, 100),
        // The lease machine repeats these itself for as long as the lease lives.
        StepKind::HandOver | StepKind::RecordPrimary => bounded(1, 0),
        StepKind::VerifyWrites => bounded(10, 200),
        StepKind::RewriteAppConfig | StepKind::UpdateDns | StepKind::Notify => Patience {
            attempts_max: None,
            pause_first: Duration::from_secs(1),
            pause_max: Duration::from_mins(1),
        },
    }
}

/// Whether a step's undo does anything.
#[must_use]
pub fn has_undo(kind: StepKind) -> bool {
    match kind {
        StepKind::FenceOwn | StepKind::RecordPrimary | StepKind::Promote => true,
        StepKind::HandOver
        | StepKind::StartStandby
        | StepKind::StartOwn
        | StepKind::CheckCandidate
        | StepKind::VerifyWrites
        | StepKind::RewriteAppConfig
        | StepKind::UpdateDns
        | StepKind::Notify => false,
    }
}

/// Whether a plan of this kind undoes a step of this kind that was begun.
#[must_use]
pub fn undoes(plan: PlanKind, step: StepKind) -> bool {
    // What was dead before is not started to make good for a start that failed.
    has_undo(step) && !(plan == PlanKind::Restart && step == StepKind::FenceOwn)
}

/// Whether a plan of this kind undoes a step of this kind even when it was not begun: the promotion
/// of a former life may still come true, wherever this one failed.
#[must_use]
pub fn pending(plan: PlanKind, step: StepKind) -> bool {
    plan == PlanKind::FinishTakeOver && step == StepKind::Promote
}

/// The order in which converging steps get their first attempt; `None` for the sequence.
#[must_use]
pub fn wave(kind: StepKind) -> Option<u8> {
    match kind {
        StepKind::RewriteAppConfig => Some(1),
        StepKind::UpdateDns => Some(2),
        StepKind::Notify => Some(3),
        StepKind::FenceOwn
        | StepKind::HandOver
        | StepKind::StartStandby
        | StepKind::StartOwn
        | StepKind::CheckCandidate
        | StepKind::RecordPrimary
        | StepKind::Promote
        | StepKind::VerifyWrites => None,
    }
}
