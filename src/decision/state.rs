//! All that an agent knows and is doing. Owned by one task; changed only by `decide`.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::decision::brake_command::Waiting;
use crate::decision::brakes::FirstSeen;
use crate::decision::health::Health;
use crate::decision::observing::Intention;
use crate::decision::policy::Policy;
use crate::decision::progress::PlanRun;
use crate::decision::resume::Resumed;
use crate::model::diagnosis::Diagnosis;
use crate::model::lease::{ClusterRecord, LeaseView};
use crate::model::observation::Target;
use crate::model::peer::PeerReport;
use crate::model::plan::Cause;
use crate::model::situation::Facts;
use crate::model::{Epoch, Member, Moment, PlanId, SiteName};

/// Where the agent stands. What it may do next is in `transitions::TRANSITIONS`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Phase {
    /// No lease, no plan: it looks and reports.
    Watching,
    /// It asked for the lease, or has just got it and does not know yet what for.
    Asking,
    /// It holds the lease and its node is the primary.
    Active,
    /// It gives the active role up: fence, hand over.
    GivingUp,
    /// It takes the active role: check, record, promote, verify.
    TakingOver,
    /// It starts its own node again, under the held lease.
    Restarting,
    /// It makes its own node unable to commit, because it has no lease.
    Fencing,
    /// Something is wrong that only a person can put right; nothing is done until then.
    Stopped,
}

impl Phase {
    /// Every phase.
    pub const ALL: [Self; 8] = [
        Self::Watching,
        Self::Asking,
        Self::Active,
        Self::GivingUp,
        Self::TakingOver,
        Self::Restarting,
        Self::Fencing,
        Self::Stopped,
    ];
}

/// A member's last report.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Contact {
    /// The report and when it came.
    pub report: Option<(PeerReport, Moment)>,
    /// Since when requests have failed without a break.
    pub missed_since: Option<Moment>,
    /// This host's clock minus the member's, in milliseconds, when the report came.
    pub clock_ahead_ms: Option<i64>,
}

/// A step that the lease machine carries out: it ends with news of the lease.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeaseStep {
    /// Of which plan.
    pub plan: PlanId,
    /// Its index.
    pub step: usize,
    /// Which attempt.
    pub attempt: u32,
    /// Whether it is the undo.
    pub undo: bool,
    /// When it was begun.
    pub begun: Moment,
    /// What ends it.
    pub awaits: Awaits,
}

/// What ends a [`LeaseStep`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Awaits {
    /// A majority keeps the record of this version.
    Record(Epoch, u64),
    /// A majority knows the release of this epoch.
    Release(Epoch),
}

/// What an agent that has just started may assume about the lease of its previous life (S2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Inherited {
    /// It has never been part of this cluster: a primary may be running as before.
    NeverActive,
    /// Its previous life had to fence at this moment of the same boot.
    FenceAt(Moment),
    /// It took part before, and nothing is known of a deadline: after a reboot, say.
    NoDeadline,
}

/// The agent's whole memory.
#[derive(Debug, Clone)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a fact of its own, and they occur in every combination"
)]
pub struct State {
    /// When this process started.
    pub started: Moment,
    /// Where it stands.
    pub phase: Phase,
    /// Since when.
    pub phase_since: Moment,
    /// Why it stopped, when it did.
    pub stopped: Option<String>,
    /// The judgement of every target.
    pub health: BTreeMap<Target, Health>,
    /// The other agent.
    pub peer: Contact,
    /// The witness.
    pub witness: Contact,
    /// The lease.
    pub lease: LeaseView,
    /// Voters that answered lately.
    pub reached: Vec<Member>,
    /// The newest epoch that this process gave up: voters that still count it have not heard yet.
    pub released: Option<Epoch>,
    /// The newest cluster record seen.
    pub record: Option<ClusterRecord>,
    /// By when an own primary without a lease must be fenced; set at start and when it turns up.
    pub fence_by: Option<Moment>,
    /// The running plan.
    pub run: Option<PlanRun>,
    /// The last plan that ended, for status.
    pub last_run: Option<PlanRun>,
    /// The number of the next plan.
    pub next_plan: u64,
    /// No new attempt of the same thing before this.
    pub not_before: Option<Moment>,
    /// The primary's site for which this site's files (and DNS, when active) are right, and the
    /// epoch that they note (S8): under a newer one they are brought in line once more.
    pub converged: Option<(SiteName, Epoch)>,
    /// The journal cannot be written.
    pub journal_broken: Option<String>,
    /// When this process first saw each time that the record's brakes name.
    pub first_seen: FirstSeen,
    /// When this agent was last later than it may be, and by how much.
    pub late: Option<(Moment, Duration)>,
    /// What it would do if it did not only observe.
    pub intention: Option<Intention>,
    /// Changes of the brakes that wait until a majority keeps them.
    pub brakes_waiting: Vec<Waiting>,
    /// Since when each trip rule's condition has held.
    pub trip_since: BTreeMap<String, Moment>,
    /// An operator's wish that passed its guards: move the primary although nothing tripped.
    pub wanted: Option<String>,
    /// A step of the running plan that the lease machine is carrying out.
    pub lease_step: Option<LeaseStep>,
    /// A restart in place was tried since the own node last worked.
    pub restart_tried: bool,
    /// A promotion of a former life could not be finished since the own node last worked.
    pub finish_failed: bool,
    /// The facts as of the last event.
    pub facts: Option<Facts>,
    /// The last that is known of the own node is that a fence left no process of it (S3).
    pub fenced: bool,
    /// When another postmaster of the own node was last seen to be there.
    pub process_since: Moment,
    /// The diagnoses as of the last event, most severe first.
    pub diagnoses: Vec<Diagnosis>,
    /// Why nothing is done about them, in words.
    pub refusals: Vec<String>,
    /// The diagnoses that people were told of, so that each is told once.
    pub told: Vec<Diagnosis>,
    /// Why the lease was last asked for.
    pub asked_because: Option<Cause>,
    /// The plan of a previous life that had not ended.
    pub unfinished: Option<PlanId>,
    /// That plan was to take the active role.
    pub was_taking_over: bool,
    /// The last take-over's promotion is known to have happened.
    pub promoted: bool,
    /// The promotion that the record announces may have been asked for in a former life.
    pub promotion_pending: bool,
    /// When the record was last refreshed with the primary's WAL position.
    pub record_refreshed: Moment,
    /// Why nothing but this agent would fence the own node at its deadline (S4).
    pub guard_lost: Option<String>,
}

impl State {
    /// The memory of an agent that starts at `now`.
    #[must_use]
    pub fn new(policy: &Policy, resumed: &Resumed, inherited: Inherited, now: Moment) -> Self {
        let fence_by = match inherited {
            Inherited::NeverActive => None,
            // One that has passed meanwhile is due at once: others may be starting already (S2).
            Inherited::FenceAt(deadline) => Some(deadline.max(now)),
            // Long enough for one round of asking, short enough to matter (S10).
            Inherited::NoDeadline => Some(now + policy.request_timeout * 2),
        };
        Self {
            started: now,
            phase: if resumed.stopped.is_some() {
                Phase::Stopped
            } else {
                Phase::Watching
            },
            phase_since: now,
            stopped: resumed.stopped.clone(),
            health: BTreeMap::new(),
            peer: Contact::default(),
            witness: Contact::default(),
            lease: LeaseView::Unknown,
            reached: Vec::new(),
            released: None,
            record: resumed.record.clone(),
            fence_by,
            run: None,
            last_run: None,
            next_plan: resumed.next_plan,
            not_before: None,
            converged: None,
            journal_broken: None,
            first_seen: FirstSeen::new(),
            late: None,
            intention: None,
            brakes_waiting: Vec::new(),
            trip_since: BTreeMap::new(),
            wanted: None,
            lease_step: None,
            restart_tried: false,
            finish_failed: false,
            facts: None,
            fenced: false,
            process_since: now,
            diagnoses: Vec::new(),
            refusals: Vec::new(),
            told: Vec::new(),
            asked_because: None,
            unfinished: resumed.unfinished.clone(),
            was_taking_over: resumed.was_taking_over,
            promoted: resumed.promoted,
            promotion_pending: resumed.promotion_pending,
            record_refreshed: now,
            guard_lost: None,
        }
    }

    /// The epoch held, if any.
    #[must_use]
    pub fn held_epoch(&self) -> Option<Epoch> {
        match self.lease {
            LeaseView::Held { epoch, .. } => Some(epoch),
            LeaseView::Unknown | LeaseView::Other { .. } | LeaseView::Free { .. } => None,
        }
    }

    /// The highest epoch known from lease and record.
    #[must_use]
    pub fn epoch(&self) -> Epoch {
        let lease = match self.lease {
            LeaseView::Held { epoch, .. }
            | LeaseView::Other { epoch, .. }
            | LeaseView::Free { epoch, .. } => epoch,
            LeaseView::Unknown => Epoch::NONE,
        };
        lease.max(
            self.record
                .as_ref()
                .map_or(Epoch::NONE, |record| record.epoch),
        )
    }

    /// The health of a target, if it was ever looked at.
    #[must_use]
    pub fn health(&self, target: &Target) -> Option<&Health> {
        self.health.get(target)
    }

    /// True while the own node may be taking writes by our will, so that losing the lease must
    /// fence it. The lease keeper asks this at its deadline (S2, S4).
    #[must_use]
    pub fn armed(&self) -> bool {
        use crate::model::situation::RecordSays;
        // A promotion of a former life may still come true.
        let promoting = self.promotion_pending
            && self
                .facts
                .is_some_and(|facts| facts.record == RecordSays::MinePromoting);
        match self.phase {
            Phase::Active | Phase::GivingUp | Phase::Restarting => true,
            Phase::TakingOver => {
                promoting
                    || self.own_may_write()
                    || self.run.as_ref().is_some_and(PlanRun::promotion_begun)
            }
            Phase::Watching | Phase::Asking | Phase::Fencing | Phase::Stopped => {
                promoting || self.own_may_write()
            }
        }
    }

    /// The own node was last seen as a primary, or its role is not known.
    #[must_use]
    pub fn own_may_write(&self) -> bool {
        use crate::model::situation::NodeState;
        self.facts.is_none_or(|facts| match facts.own {
            NodeState::Standby => false,
            // Backends outlive a killed postmaster, and can still commit.
            NodeState::Dead => !self.fenced,
            NodeState::Unknown
            | NodeState::Primary
            | NodeState::Busy
            | NodeState::Starting
            | NodeState::RefusesUs
            | NodeState::CannotWrite
            | NodeState::Disputed
            | NodeState::Hung => true,
        })
    }
}
