//! What a recovery is measured by: looks at both nodes, and the plans that make a primary.
//!
//! Owns the extract of the memory that `recovery` reads, with moments of this host's
//! `CLOCK_BOOTTIME`: a wall clock may be set back between two pictures, and would then measure
//! nothing. Must not judge. Start reading at [`Evidence::of`].

use std::time::Duration;

use crate::decision::progress::PlanRun;
use crate::decision::state::State;
use crate::model::observation::{Channel, DatabaseSeen, NodeReport, Seen, Target};
use crate::model::peer::StepState;
use crate::model::plan::{PlanKind, StepKind};
use crate::model::{Epoch, Lsn, Moment, PlanId, Role, Timeline};

/// What is known at one moment.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Evidence {
    /// When.
    pub now: Moment,
    /// The last good look at the own node.
    pub own: Option<Look>,
    /// The last good look from here at the other node; it writes nothing there.
    pub peer: Option<Look>,
    /// What the other agent last said of its own node, and when that came.
    pub reported: Option<Look>,
    /// The running plan and the last one that ended.
    pub runs: Vec<RunSeen>,
}

/// One look at a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Look {
    /// When it ended.
    pub at: Moment,
    /// What the node was.
    pub role: Role,
    /// In which history.
    pub timeline: Timeline,
    /// What was on its disk, as read before the canary.
    pub lsn: Lsn,
    /// A standby: it received WAL then, and for how long nothing has come.
    pub heard: Option<Duration>,
    /// A canary was committed by this look.
    pub committed: bool,
}

/// A plan.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunSeen {
    /// Which.
    pub plan: PlanId,
    /// What it is for.
    pub kind: PlanKind,
    /// Its epoch.
    pub epoch: Epoch,
    /// When it was begun.
    pub begun: Moment,
    /// When it had proved that its node commits.
    pub verified: Option<Moment>,
    /// It has ended.
    pub over: bool,
}

impl Evidence {
    /// Takes it from the memory.
    #[must_use]
    pub fn of(state: &State, now: Moment) -> Self {
        let reported = state.peer.report.as_ref();
        Self {
            now,
            own: look(state, Target::OwnDatabase),
            peer: look(state, Target::PeerDatabase),
            reported: reported.and_then(|(report, at)| match &report.own_database {
                Some(DatabaseSeen::Answered(node)) => Some(Look::new(*at, node)),
                _ => None,
            }),
            runs: [&state.run, &state.last_run]
                .into_iter()
                .flatten()
                .map(RunSeen::new)
                .collect(),
        }
    }
}

/// The kept connection alone: its looks follow each other, so that one begins after the last ended.
fn look(state: &State, target: fn(Channel) -> Target) -> Option<Look> {
    match state.health(&target(Channel::Persistent))?.last_good()? {
        (at, Seen::Database(DatabaseSeen::Answered(node))) => Some(Look::new(*at, node)),
        _ => None,
    }
}

impl Look {
    fn new(at: Moment, node: &NodeReport) -> Self {
        Self {
            at,
            role: node.role,
            timeline: node.timeline,
            lsn: node.lsn,
            heard: node.heard.filter(|_| node.streaming),
            committed: node.role == Role::Primary && node.canary.is_some(),
        }
    }
}

impl RunSeen {
    fn new(run: &PlanRun) -> Self {
        let mut steps = run.plan.steps.iter().zip(&run.steps);
        let proof = steps.find(|(step, progress)| {
            step.kind() == StepKind::VerifyWrites && progress.state == StepState::Done
        });
        Self {
            plan: run.plan.id.clone(),
            kind: run.plan.kind,
            epoch: run.plan.epoch,
            begun: run.begun,
            verified: proof.and_then(|(_, progress)| progress.ended),
            over: run.ended().is_some(),
        }
    }
}
