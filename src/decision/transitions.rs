//! Where the agent may go from where, and why: one table of (phase, trigger) → phase.
//!
//! Every pair has exactly one row or is listed in [`IGNORED`] with a reason;
//! `tests/rules/tables.rs` checks it. `agent explain transitions` prints this table.

use std::fmt;

use crate::decision::state::Phase;

/// What can move the agent from one phase to another. Found by `decide`, in this order of urgency.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Trigger {
    /// A plan cannot go on and cannot be undone.
    PlanStuck,
    /// The lease is gone: deadline passed, or a higher epoch was seen.
    LeaseLost,
    /// The own node may take writes, and this site has no lease for it.
    FenceCalled,
    /// The lease is held in vain, and the own node may take writes that nobody wants there.
    HeldUnfenced,
    /// Every step of the running plan up to the commit point is done.
    PlanDone,
    /// The running plan failed before the commit point and was undone.
    PlanUndone,
    /// The lease was asked for and not granted.
    LeaseRefused,
    /// The lease is held and the own node is the recorded primary, or the first one ever.
    HeldAsPrimary,
    /// The lease is held, and the own node is a standby to be promoted.
    HeldAsStandby,
    /// The lease is held, the record names this site, and its node does not run.
    HeldWhileDown,
    /// The lease is held, but node and record do not allow this site to be active.
    HeldInVain,
    /// The node that was promoted or started is dead again, before its first write was proved.
    NodeDied,
    /// An outage of the active site calls for handing over, and nothing speaks against it.
    GiveUpCalled,
    /// The own node is dead and handing over is not possible: start it again where it is.
    RestartCalled,
    /// This site should have the lease: released to it, left over from before, or called for.
    ClaimCalled,
}

impl Trigger {
    /// Every trigger, most urgent first.
    pub const ALL: [Self; 15] = [
        Self::PlanStuck,
        Self::LeaseLost,
        Self::FenceCalled,
        Self::HeldUnfenced,
        Self::PlanDone,
        Self::PlanUndone,
        Self::LeaseRefused,
        Self::HeldAsPrimary,
        Self::HeldAsStandby,
        Self::HeldWhileDown,
        Self::HeldInVain,
        Self::NodeDied,
        Self::GiveUpCalled,
        Self::RestartCalled,
        Self::ClaimCalled,
    ];
}

/// What is done on the way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Deed {
    /// Nothing but the change of phase.
    Nothing,
    /// Ask the lease machine for the lease.
    AskForLease,
    /// Give the lease back, to the other site.
    GiveBack,
    /// Write the first record, or none if it says so already, and converge.
    Settle,
    /// End the running plan as superseded.
    DropPlan,
    /// End the running plan, if any, and begin the plan of this phase.
    ReplacePlan,
    /// Do nothing more and call a human.
    CallHuman,
}

/// One row of the table.
#[derive(Debug)]
pub struct Transition {
    /// Where the agent stands.
    pub from: Phase,
    /// What happened.
    pub trigger: Trigger,
    /// Where it goes.
    pub to: Phase,
    /// What is done.
    pub deed: Deed,
    /// What a person is told.
    pub sentence: &'static str,
}

const fn row(
    from: Phase,
    trigger: Trigger,
    to: Phase,
    deed: Deed,
    sentence: &'static str,
) -> Transition {
    Transition {
        from,
        trigger,
        to,
        deed,
        sentence,
    }
}

use Deed as D;
use Phase as P;
use Trigger as T;

/// The whole table.
#[rustfmt::skip]
pub const TRANSITIONS: &[Transition] = &[
    // Watching: look and report.
    row(P::Watching, T::FenceCalled, P::Fencing, D::ReplacePlan,
        "the own node takes writes without a lease: fence it"),
    row(P::Watching, T::HeldUnfenced, P::Fencing, D::ReplacePlan,
        "the lease is of no use here and the own node may take writes: fence it, then give back"),
    row(P::Watching, T::ClaimCalled, P::Asking, D::AskForLease,
        "this site should have the lease: ask for it"),
    row(P::Watching, T::HeldAsPrimary, P::Active, D::Settle,
        "the lease is held and the own node is the primary: active"),
    row(P::Watching, T::HeldAsStandby, P::TakingOver, D::ReplacePlan,
        "the lease is held and the own node is a standby: take over"),
    row(P::Watching, T::HeldWhileDown, P::Restarting, D::ReplacePlan,
        "the lease is held and the recorded primary is down here: start it"),
    row(P::Watching, T::HeldInVain, P::Watching, D::GiveBack,
        "the lease is of no use here: give it back"),
    // Asking: waiting for the voters, then for the first look at the own node.
    row(P::Asking, T::LeaseRefused, P::Watching, D::Nothing,
        "the voters did not grant the lease: watch on"),
    row(P::Asking, T::LeaseLost, P::Watching, D::Nothing,
        "the lease ran out before it could be used: watch on"),
    row(P::Asking, T::FenceCalled, P::Fencing, D::ReplacePlan,
        "the own node takes writes and the lease did not come in time: fence it"),
    row(P::Asking, T::HeldUnfenced, P::Fencing, D::ReplacePlan,
        "the lease is of no use here and the own node may take writes: fence it, then give back"),
    row(P::Asking, T::HeldAsPrimary, P::Active, D::Settle,
        "the lease is held and the own node is the primary: active"),
    row(P::Asking, T::HeldAsStandby, P::TakingOver, D::ReplacePlan,
        "the lease is held and the own node is a standby: take over"),
    row(P::Asking, T::HeldWhileDown, P::Restarting, D::ReplacePlan,
        "the lease is held and the recorded primary is down here: start it"),
    row(P::Asking, T::HeldInVain, P::Watching, D::GiveBack,
        "the lease is of no use here: give it back"),
    // Active: the own node is the primary.
    row(P::Active, T::LeaseLost, P::Watching, D::DropPlan,
        "the lease is gone and the own node was fenced at its deadline: watch"),
    row(P::Active, T::HeldAsStandby, P::TakingOver, D::ReplacePlan,
        "the own node was to be the primary and runs as a standby: finish its promotion"),
    row(P::Active, T::GiveUpCalled, P::GivingUp, D::ReplacePlan,
        "the site cannot go on: fence what is left and hand over"),
    row(P::Active, T::RestartCalled, P::Restarting, D::ReplacePlan,
        "the own node is dead and nobody could take over: start it again here"),
    // GivingUp: fence, hand over.
    row(P::GivingUp, T::PlanStuck, P::Stopped, D::CallHuman,
        "giving up can neither go on nor be undone: call a human"),
    row(P::GivingUp, T::LeaseLost, P::Watching, D::DropPlan,
        "the lease ran out while giving up: watch, the own node is fenced"),
    row(P::GivingUp, T::PlanDone, P::Watching, D::Nothing,
        "handed over: watch the other site take over"),
    row(P::GivingUp, T::PlanUndone, P::Active, D::Nothing,
        "giving up failed and was undone: still active"),
    // TakingOver: check, record, promote, verify.
    row(P::TakingOver, T::PlanStuck, P::Stopped, D::CallHuman,
        "the take-over can neither go on nor be undone: call a human"),
    row(P::TakingOver, T::LeaseLost, P::Watching, D::DropPlan,
        "the lease ran out during the take-over: stop at once"),
    row(P::TakingOver, T::HeldUnfenced, P::Fencing, D::ReplacePlan,
        "the take-over failed and the own node may take writes: fence it, then give back"),
    row(P::TakingOver, T::PlanDone, P::Active, D::Nothing,
        "the own node takes writes: active"),
    row(P::TakingOver, T::PlanUndone, P::Watching, D::GiveBack,
        "the own standby could not be promoted: give the lease back"),
    row(P::TakingOver, T::NodeDied, P::Active, D::DropPlan,
        "the promoted node died before its first proved write: active without a node, start it"),
    // Restarting: start the own node under the lease.
    row(P::Restarting, T::PlanStuck, P::Stopped, D::CallHuman,
        "the restart can neither go on nor be undone: call a human"),
    row(P::Restarting, T::LeaseLost, P::Watching, D::DropPlan,
        "the lease ran out during the restart: the own node was fenced at its deadline"),
    row(P::Restarting, T::PlanDone, P::Active, D::Nothing,
        "the own node takes writes again: active"),
    row(P::Restarting, T::PlanUndone, P::Active, D::Nothing,
        "the own node could not be started: active without a node, hand over or try again"),
    row(P::Restarting, T::NodeDied, P::Active, D::DropPlan,
        "the started node died before its first proved write: active without a node"),
    // Fencing: no lease, no writes.
    row(P::Fencing, T::PlanStuck, P::Stopped, D::CallHuman,
        "the own node could not be fenced: call a human"),
    row(P::Fencing, T::PlanDone, P::Watching, D::Nothing,
        "the own node is fenced: watch"),
    row(P::Fencing, T::PlanUndone, P::Stopped, D::CallHuman,
        "the own node could not be fenced: call a human"),
    // Stopped: only safety goes on.
    row(P::Stopped, T::FenceCalled, P::Stopped, D::ReplacePlan,
        "even while stopped, a node without a lease may not take writes: fence it"),
];

/// Pairs without a row, and why nothing happens.
pub const IGNORED: &[(Phase, &[Trigger], &str)] = &[
    (
        P::Watching,
        &[
            T::PlanStuck,
            T::PlanDone,
            T::PlanUndone,
            T::LeaseLost,
            T::LeaseRefused,
            T::GiveUpCalled,
            T::RestartCalled,
            T::NodeDied,
        ],
        "only converging may run here, which ends by itself; what needs the lease waits for it",
    ),
    (
        P::Asking,
        &[
            T::PlanStuck,
            T::PlanDone,
            T::PlanUndone,
            T::GiveUpCalled,
            T::RestartCalled,
            T::ClaimCalled,
            T::NodeDied,
        ],
        "the answer of the voters comes first",
    ),
    (
        P::Active,
        &[
            T::PlanStuck,
            T::PlanDone,
            T::PlanUndone,
            T::LeaseRefused,
            T::FenceCalled,
            T::HeldAsPrimary,
            T::HeldWhileDown,
            T::HeldInVain,
            T::ClaimCalled,
            T::NodeDied,
            T::HeldUnfenced,
        ],
        "the lease is held; diagnoses, not the lease, move an active site",
    ),
    (
        P::GivingUp,
        &[
            T::LeaseRefused,
            T::FenceCalled,
            T::HeldAsPrimary,
            T::HeldAsStandby,
            T::HeldWhileDown,
            T::HeldInVain,
            T::GiveUpCalled,
            T::RestartCalled,
            T::ClaimCalled,
            T::NodeDied,
            T::HeldUnfenced,
        ],
        "one plan at a time: this one ends first (S14)",
    ),
    (
        P::TakingOver,
        &[
            T::LeaseRefused,
            T::FenceCalled,
            T::HeldAsPrimary,
            T::HeldAsStandby,
            T::HeldWhileDown,
            T::HeldInVain,
            T::GiveUpCalled,
            T::RestartCalled,
            T::ClaimCalled,
        ],
        "one plan at a time: this one ends first (S14)",
    ),
    (
        P::Restarting,
        &[
            T::LeaseRefused,
            T::FenceCalled,
            T::HeldAsPrimary,
            T::HeldAsStandby,
            T::HeldWhileDown,
            T::HeldInVain,
            T::GiveUpCalled,
            T::RestartCalled,
            T::ClaimCalled,
            T::HeldUnfenced,
        ],
        "one plan at a time: this one ends first (S14)",
    ),
    (
        P::Fencing,
        &[
            T::LeaseLost,
            T::LeaseRefused,
            T::FenceCalled,
            T::HeldAsPrimary,
            T::HeldAsStandby,
            T::HeldWhileDown,
            T::HeldInVain,
            T::GiveUpCalled,
            T::RestartCalled,
            T::ClaimCalled,
            T::NodeDied,
            T::HeldUnfenced,
        ],
        "the fence comes first; a grant that comes meanwhile is used after it",
    ),
    (
        P::Stopped,
        &[
            T::PlanStuck,
            T::LeaseLost,
            T::PlanDone,
            T::PlanUndone,
            T::LeaseRefused,
            T::HeldAsPrimary,
            T::HeldAsStandby,
            T::HeldWhileDown,
            T::HeldInVain,
            T::GiveUpCalled,
            T::RestartCalled,
            T::ClaimCalled,
            T::NodeDied,
            T::HeldUnfenced,
        ],
        "a person must look first: stop and start the agent in order when it is put right",
    ),
];

/// The row for a phase and a trigger, if there is one.
#[must_use]
pub fn transition(from: Phase, trigger: Trigger) -> Option<&'static Transition> {
    TRANSITIONS
        .iter()
        .find(|row| row.from == from && row.trigger == trigger)
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Watching => "watching",
            Self::Asking => "asking",
            Self::Active => "active",
            Self::GivingUp => "giving_up",
            Self::TakingOver => "taking_over",
            Self::Restarting => "restarting",
            Self::Fencing => "fencing",
            Self::Stopped => "stopped",
        })
    }
}

impl fmt::Display for Trigger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::PlanStuck => "plan_stuck",
            Self::LeaseLost => "lease_lost",
            Self::FenceCalled => "fence_called",
            Self::HeldUnfenced => "held_unfenced",
            Self::PlanDone => "plan_done",
            Self::PlanUndone => "plan_undone",
            Self::LeaseRefused => "lease_refused",
            Self::HeldAsPrimary => "held_as_primary",
            Self::HeldAsStandby => "held_as_standby",
            Self::HeldWhileDown => "held_while_down",
            Self::HeldInVain => "held_in_vain",
            Self::NodeDied => "node_died",
            Self::GiveUpCalled => "give_up_called",
            Self::RestartCalled => "restart_called",
            Self::ClaimCalled => "claim_called",
        })
    }
}

impl fmt::Display for Deed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Nothing => "-",
            Self::AskForLease => "ask for the lease",
            Self::GiveBack => "give the lease back",
            Self::Settle => "settle",
            Self::DropPlan => "drop plan",
            Self::ReplacePlan => "begin plan, dropping another",
            Self::CallHuman => "call a human",
        })
    }
}
