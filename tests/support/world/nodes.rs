//! Made-up PostgreSQL nodes: what a probe would see of each.

use std::time::Duration;

use failover_agent::model::observation::{
    DatabaseSeen, DirectorySeen, DiskFault, NodeReport, ProcessSeen,
};
use failover_agent::model::{Lsn, Role, SystemId, Timeline};

/// The database cluster of every test.
pub(crate) const SYSTEM: SystemId = SystemId(7_300_000_000_000_000_001);
/// Where the primary of every test stands at first.
pub(crate) const HEAD: Lsn = Lsn(0x3000_0000);

/// How a node is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum How {
    Primary,
    /// `true`: its WAL receiver streams.
    Standby(bool),
    Busy,
    /// A lock keeps the canary out; all else works.
    LockedOut,
    Starting,
    RefusesUs,
    CannotWrite,
    /// As [`How::CannotWrite`], and it says why.
    DiskFull,
    /// Its file system has become read-only; its next write ends it.
    DiskReadOnly,
    /// It serves, but its data directory was unmounted.
    DirectoryGone,
    /// It serves, but from where its agent looks the file system is read-only.
    ReadOnlyFromHere,
    Hung,
    /// Nothing answers, though the process runs.
    Mute,
    /// Nothing listens, and nobody watches its process.
    NotListening,
    Gone,
    /// No probe ends.
    Unseen,
}

/// A node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Node {
    pub how: How,
    pub system: SystemId,
    pub timeline: Timeline,
    pub lsn: Lsn,
}

impl Node {
    pub(crate) fn new(how: How) -> Self {
        Self {
            how,
            system: SYSTEM,
            timeline: Timeline(1),
            lsn: HEAD,
        }
    }

    pub(crate) fn report(&self) -> NodeReport {
        let streaming = matches!(self.how, How::Standby(true) | How::Primary);
        let standby = matches!(self.how, How::Standby(_));
        NodeReport {
            system_id: self.system,
            role: if standby {
                Role::Standby
            } else {
                Role::Primary
            },
            timeline: self.timeline,
            lsn: self.lsn,
            replayed: self.lsn,
            streaming,
            heard: (standby && streaming).then_some(Duration::from_millis(100)),
            canary: (!standby).then_some(Duration::from_millis(1)),
        }
    }

    /// What a database probe sees; nothing while no probe ends.
    pub(crate) fn seen(&self) -> Option<DatabaseSeen> {
        Some(match self.how {
            How::Primary | How::Standby(_) | How::DirectoryGone | How::ReadOnlyFromHere => {
                DatabaseSeen::Answered(self.report())
            }
            How::Busy => DatabaseSeen::TooManyClients,
            How::LockedOut => DatabaseSeen::Locked {
                why: "agent.heartbeat is locked by psql".to_owned(),
            },
            How::Starting => DatabaseSeen::StartingUp,
            How::RefusesUs => DatabaseSeen::RefusesUs {
                why: "28P01: password authentication failed".to_owned(),
            },
            How::CannotWrite => self.cannot_write(None, "58030: could not fsync file: I/O error"),
            How::DiskFull => {
                let why = "53100: could not extend file: No space left on device";
                self.cannot_write(Some(DiskFault::Full), why)
            }
            How::DiskReadOnly => {
                let why = "42501: could not write to log file: Read-only file system";
                self.cannot_write(Some(DiskFault::ReadOnly), why)
            }
            How::Hung | How::Mute => DatabaseSeen::TimedOut {
                phase: "query".to_owned(),
            },
            How::NotListening | How::Gone => DatabaseSeen::NothingListens,
            How::Unseen => return None,
        })
    }

    fn cannot_write(&self, fault: Option<DiskFault>, why: &str) -> DatabaseSeen {
        DatabaseSeen::CannotWrite {
            report: self.report(),
            fault,
            why: why.to_owned(),
        }
    }

    /// What a look at its data directory sees.
    pub(crate) fn directory(&self) -> DirectorySeen {
        match self.how {
            How::DirectoryGone => DirectorySeen::Gone {
                why: "another directory is at /data".to_owned(),
            },
            How::DiskReadOnly | How::ReadOnlyFromHere => DirectorySeen::ReadOnly,
            How::NotListening | How::Unseen => DirectorySeen::Unknown {
                why: "behind commands".to_owned(),
            },
            How::Primary
            | How::Standby(_)
            | How::Busy
            | How::LockedOut
            | How::Starting
            | How::RefusesUs
            | How::CannotWrite
            | How::DiskFull
            | How::Hung
            | How::Mute
            | How::Gone => DirectorySeen::Fine,
        }
    }

    /// What the process watch sees.
    pub(crate) fn process(&self) -> ProcessSeen {
        match self.how {
            How::Gone => ProcessSeen::Gone,
            How::NotListening | How::Unseen => ProcessSeen::Unknown {
                why: "behind commands".to_owned(),
            },
            How::Hung => ProcessSeen::Stopped { pid: 100 },
            How::Primary
            | How::Standby(_)
            | How::Busy
            | How::LockedOut
            | How::Starting
            | How::RefusesUs
            | How::Mute
            | How::CannotWrite
            | How::DiskFull
            | How::DiskReadOnly
            | How::DirectoryGone
            | How::ReadOnlyFromHere => ProcessSeen::Running { pid: 100 },
        }
    }

    /// It may commit now, or as soon as it thaws.
    pub(crate) fn may_write(&self) -> bool {
        matches!(
            self.how,
            How::Primary
                | How::Busy
                | How::LockedOut
                | How::RefusesUs
                | How::CannotWrite
                | How::DiskFull
                | How::DiskReadOnly
                | How::DirectoryGone
                | How::ReadOnlyFromHere
                | How::Mute
                | How::Hung
        )
    }
}
