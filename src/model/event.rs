//! The closed list of everything that can wake the decision loop.

use std::time::Duration;

use super::lease::LeaseChange;
use super::observation::Observation;
use super::outcome::Failure;
use super::peer::PeerReport;
use super::{Member, PlanId, SiteName};

/// Something that happened. Events are the only input of `decision::decide`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// A probe looked.
    Observed(Observation),
    /// The lease machine has news.
    Lease(LeaseChange),
    /// A peer or the witness reported.
    Reported(Box<PeerReport>),
    /// A peer or the witness did not answer.
    ReportMissed {
        /// Who.
        from: Member,
    },
    /// A person asked for something.
    Command(Command),
    /// A step (or its undo) ended.
    StepFinished(StepFinished),
    /// The journal cannot be written: nothing that must be journalled first may begin (S11).
    JournalBroken {
        /// Why.
        why: String,
    },
    /// The journal can be written again.
    JournalMended,
    /// The time asked for as `wake_at` has come.
    Tick,
}

/// How a step (or its undo) ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StepFinished {
    /// Of which plan.
    pub plan: PlanId,
    /// Its index in the plan.
    pub step: usize,
    /// Which attempt.
    pub attempt: u32,
    /// True when it was the undo.
    pub undo: bool,
    /// How long it took.
    pub took: Duration,
    /// What it learned, or why it failed.
    pub result: Result<Learned, Failure>,
}

/// What a finished step learned, beyond having finished.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Learned {
    /// One line for people.
    pub note: String,
    /// The node as it is now, where the step looked at it.
    pub node: Option<super::observation::NodeReport>,
}

/// What a person can ask for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// Move the primary to this site.
    Failover {
        /// Where to.
        to: SiteName,
        /// Skips *preference* checks only (S15).
        force: bool,
    },
}
