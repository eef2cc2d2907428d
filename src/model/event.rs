//! The closed list of everything that can wake the decision loop.

use std::time::Duration;

use super::brakes::{Brake, Braked};
use super::lease::LeaseChange;
use super::observation::Observation;
use super::outcome::Failure;
use super::peer::PeerReport;
use super::{Epoch, Member, PlanId, SiteName};

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
    /// This agent did something later than it was due.
    Late {
        /// How much later.
        by: Duration,
    },
    /// The time asked for as `wake_at` has come.
    Tick,
    /// The guard is gone and could not be started again, or cannot do its work (S4).
    GuardLost {
        /// Why.
        why: String,
    },
    /// The guard is at work.
    GuardBack,
    /// The guard has fenced the own node at a deadline; maybe while no agent ran.
    GuardFenced {
        /// The epoch that ran out.
        epoch: Epoch,
        /// When the fence ended.
        at: super::Timestamp,
        /// How long it took.
        took: Duration,
    },
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

/// What a person asked for, with the number under which the answer is awaited.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Command {
    /// Matches the answer to the question.
    pub id: u64,
    /// What is asked.
    pub wish: Wish,
}

/// What a person can ask for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wish {
    /// Move the primary to this site.
    Failover {
        /// Where to.
        to: SiteName,
        /// Only say what would be done.
        dry_run: bool,
    },
    /// Change what keeps the agents from acting by themselves.
    Brake {
        /// How.
        brake: Brake,
        /// Who asks, and where.
        by: String,
        /// Only say what would be done.
        dry_run: bool,
    },
    /// Bring this site's files and the DNS records in line with the cluster record once more,
    /// because somebody else changed them.
    Converge {
        /// Only say what would be done.
        dry_run: bool,
    },
    /// Change this site's files by hand: may it be, and is it in the journal?
    Files {
        /// What is about to be done, and who asks.
        what: String,
    },
    /// Keep in the journal what became of something that a person asked for.
    Note {
        /// What.
        text: String,
    },
}

/// The answer to a command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// A plan was begun.
    Started {
        /// Which.
        plan: PlanId,
    },
    /// The lease was asked for; a plan follows when it is won.
    AskingForLease,
    /// The active site must do this: it was passed on.
    PassedOn {
        /// To whom.
        to: SiteName,
    },
    /// A dry run: the exact plan or plans, by site, in order.
    WouldDo {
        /// Site and its steps.
        plans: Vec<(SiteName, super::plan::Plan)>,
    },
    /// It is in the journal, or comes into it as soon as that can be written.
    Noted,
    /// Files may be changed, and that is in the journal.
    FilesMayChange {
        /// The site that they have to name.
        primary: SiteName,
        /// The epoch under which they are changed.
        epoch: Epoch,
    },
    /// The brakes are (or, in a dry run, would be) so; a majority keeps it.
    Braked(Box<Braked>),
    /// It was passed on, and no answer came back: it may be under way. Look before asking again.
    MayHaveBegun {
        /// Whom it was passed on to.
        at: SiteName,
        /// What became of the answer.
        why: String,
    },
    /// Refused for these reasons.
    Refused {
        /// Each a sentence.
        reasons: Vec<String>,
    },
}
