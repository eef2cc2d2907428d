//! A simulated PostgreSQL node: its process, role, write-ahead log and `standby.signal`.
//!
//! A writer with open connections commits as long as the node can commit, so being writable is
//! enough to know: no commit is simulated by itself. Changes nothing outside the node.

use std::collections::BTreeMap;

use failover_agent::model::observation::{DatabaseSeen, DiskFault, NodeReport};
use failover_agent::model::{Epoch, Lsn, Role, SystemId, Timeline};

use crate::clock::{HostClock, Real, SEC};

/// A part of the history: everything from `start` until the next branch begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Branch {
    /// Unique in a schedule, unlike timelines, which two nodes may number alike.
    pub(crate) id: u32,
    pub(crate) start: u64,
}

/// What exists of the node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Process {
    Down,
    Starting,
    Up,
    /// A clean stop is under way: no sessions, WAL still flows.
    Stopping,
    /// The postmaster was killed, its backends finish what they do.
    Orphans,
}

/// What a look at the node comes to, if it comes to anything in time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Look {
    Seen(DatabaseSeen),
    /// No answer: what was waited for.
    Hangs(&'static str),
}

#[derive(Debug, Clone)]
pub(crate) struct Node {
    pub(crate) process: Process,
    /// Counts starts and ends, so that what was begun in one life does not end in another.
    pub(crate) instance: u32,
    pub(crate) frozen: bool,
    pub(crate) postmaster_frozen: bool,
    pub(crate) disk_full: bool,
    pub(crate) signal: bool,
    pub(crate) role: Role,
    pub(crate) promoting: bool,
    pub(crate) history: Vec<Branch>,
    pub(crate) lsn: u64,
    pub(crate) heartbeat: Epoch,
    pub(crate) streaming: bool,
    pub(crate) heard: Option<Real>,
    pub(crate) follower_heard: Real,
    /// When it began to take writes although nobody of this program started it so.
    pub(crate) self_started: Option<Real>,
    /// When it last failed to answer a new connection at once.
    pub(crate) mute_until: Real,
    written: Real,
    rate: u64,
}

impl Node {
    pub(crate) fn new(role: Role, rate: u64) -> Self {
        Self {
            process: Process::Up,
            instance: 1,
            frozen: false,
            postmaster_frozen: false,
            disk_full: false,
            signal: role == Role::Standby,
            role,
            promoting: false,
            history: vec![Branch { id: 1, start: 0 }],
            lsn: 10_000_000,
            heartbeat: Epoch::NONE,
            streaming: false,
            heard: None,
            follower_heard: 0,
            self_started: None,
            mute_until: 0,
            written: 0,
            rate,
        }
    }

    /// Commits at this instant, or would if the writer sent something.
    pub(crate) fn writable(&self) -> bool {
        matches!(self.process, Process::Up | Process::Orphans)
            && self.role == Role::Primary
            && !self.frozen
            && !self.disk_full
    }

    /// A process of it exists, so it may commit now or later.
    pub(crate) fn exists(&self) -> bool {
        self.process != Process::Down
    }

    /// Lets the writer's commits up to `now` happen. Called before anything changes or is read.
    pub(crate) fn write_until(&mut self, now: Real, acknowledged: &mut BTreeMap<u32, u64>) {
        if self.writable() {
            let grown = u128::from(self.rate) * u128::from(now - self.written) / u128::from(SEC);
            self.lsn += u64::try_from(grown).unwrap();
            if let Some(branch) = self.history.last() {
                acknowledged.insert(branch.id, self.lsn);
            }
        }
        self.written = now;
        if !self.serves() {
            self.mute_until = now;
        }
    }

    /// A new connection gets an answer.
    fn serves(&self) -> bool {
        self.process == Process::Up && !self.frozen && !self.postmaster_frozen
    }

    /// Answered every new connection since then.
    pub(crate) fn served_since(&self, since: Real) -> bool {
        self.serves() && self.mute_until <= since
    }

    pub(crate) fn timeline(&self) -> Timeline {
        Timeline(u32::try_from(self.history.len()).unwrap())
    }

    /// The commit at `lsn` of this branch is part of what this node has.
    pub(crate) fn contains(&self, branch: u32, lsn: u64) -> bool {
        let Some(index) = self.history.iter().position(|known| known.id == branch) else {
            return false;
        };
        let end = self
            .history
            .get(index + 1)
            .map_or(self.lsn, |next| next.start);
        lsn <= end
    }

    /// It can follow a node of this history that has reached this position.
    pub(crate) fn can_follow(&self, history: &[Branch], lsn: u64) -> bool {
        let end = history
            .get(self.history.len())
            .map_or(lsn, |next| next.start);
        history.starts_with(&self.history) && self.lsn <= end
    }

    pub(crate) fn begin_start(&mut self, now: Real) {
        self.process = Process::Starting;
        self.instance += 1;
        self.promoting = false;
        self.postmaster_frozen = false;
        self.role = if self.signal {
            Role::Standby
        } else {
            Role::Primary
        };
        self.streaming = false;
        self.heard = None;
        self.written = now;
        self.self_started = None;
    }

    pub(crate) fn begin_stop(&mut self) {
        self.process = Process::Stopping;
    }

    /// No process is left.
    pub(crate) fn end(&mut self) {
        if self.process != Process::Down {
            self.instance += 1;
        }
        self.process = Process::Down;
        self.promoting = false;
        self.frozen = false;
        self.postmaster_frozen = false;
        self.streaming = false;
        self.heard = None;
        self.self_started = None;
    }

    pub(crate) fn promote(&mut self, branch: u32) {
        let start = self.lsn;
        self.history.push(Branch { id: branch, start });
        self.role = Role::Primary;
        self.promoting = false;
        self.signal = false;
        self.streaming = false;
        self.heard = None;
    }

    /// A look through a connection that is `kept` since this instance of the node, or a new one.
    pub(crate) fn look(
        &self,
        kept: &mut Option<u32>,
        canary: bool,
        clock: &HostClock,
        now: Real,
    ) -> Look {
        let open = *kept == Some(self.instance);
        *kept = None;
        match self.process {
            Process::Down | Process::Orphans => return Look::Seen(DatabaseSeen::NothingListens),
            _ if self.frozen => return Look::Hangs("query"),
            _ if self.postmaster_frozen && !open => return Look::Hangs("connect"),
            Process::Starting => return Look::Seen(DatabaseSeen::StartingUp),
            Process::Stopping => return Look::Seen(DatabaseSeen::ShuttingDown),
            Process::Up => {}
        }
        *kept = Some(self.instance);
        let mut report = self.report(clock, now);
        if canary && self.role == Role::Primary {
            if self.disk_full {
                let why = "53100: no space left on device".to_owned();
                let fault = Some(DiskFault::Full);
                return Look::Seen(DatabaseSeen::CannotWrite { report, fault, why });
            }
            report.canary = Some(std::time::Duration::from_millis(1));
        }
        Look::Seen(DatabaseSeen::Answered(report))
    }

    pub(crate) fn report(&self, clock: &HostClock, now: Real) -> NodeReport {
        let primary = self.role == Role::Primary;
        NodeReport {
            system_id: SystemId(7),
            role: self.role,
            timeline: self.timeline(),
            lsn: Lsn(self.lsn),
            replayed: Lsn(self.lsn),
            streaming: if primary {
                now - self.follower_heard < 2 * SEC && self.follower_heard > 0
            } else {
                self.streaming
            },
            heard: self
                .heard
                .filter(|_| !primary)
                .map(|at| clock.moment(now).since(clock.moment(at))),
            canary: None,
        }
    }
}
