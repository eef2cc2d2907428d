//! What a probe saw: one target, one moment, one typed result. Never an opinion.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{Lsn, Moment, ProbeName, Role, SystemId, Timeline};

/// One look at one target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Observation {
    /// What was looked at.
    pub target: Target,
    /// When the look ended.
    pub at: Moment,
    /// How long it took.
    pub took: Duration,
    /// What was seen.
    pub seen: Seen,
}

/// Everything an agent looks at.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Target {
    /// This site's postmaster process, by pidfd.
    OwnProcess,
    /// This site's data directory.
    OwnDirectory,
    /// This site's PostgreSQL node.
    OwnDatabase(Channel),
    /// The other site's PostgreSQL node, as seen from here.
    PeerDatabase(Channel),
    /// A configured endpoint.
    Endpoint(ProbeName),
    /// Something that has nothing to do with the cluster: whether this agent reaches anything.
    Neutral(ProbeName),
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OwnProcess => f.write_str("own postmaster process"),
            Self::OwnDirectory => f.write_str("own data directory"),
            Self::OwnDatabase(channel) => write!(f, "own database ({channel})"),
            Self::PeerDatabase(channel) => write!(f, "peer's database ({channel})"),
            Self::Endpoint(name) => write!(f, "probe {name}"),
            Self::Neutral(name) => write!(f, "neutral target {name}"),
        }
    }
}

/// Which connection a database probe uses. A connection that is already open can work while new
/// ones hang, and the other way round.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Channel {
    /// Kept open between probes.
    Persistent,
    /// A new connection for every probe.
    Fresh,
}

impl fmt::Display for Channel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Persistent => "persistent connection",
            Self::Fresh => "fresh connection",
        })
    }
}

/// What was seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Seen {
    /// A database probe's result.
    Database(DatabaseSeen),
    /// A tcp or http probe's result.
    Endpoint(EndpointSeen),
    /// The postmaster process.
    Process(ProcessSeen),
    /// The data directory.
    Directory(DirectorySeen),
}

/// The postmaster process, by pid file and pidfd.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ProcessSeen {
    /// It runs.
    Running {
        /// Its process id.
        pid: u32,
    },
    /// It is stopped by a signal (state `T` in `/proc`), and so cannot serve or shut down.
    Stopped {
        /// Its process id.
        pid: u32,
    },
    /// There is no such process.
    Gone,
    /// It cannot be known (no pid file access, not a local node).
    Unknown {
        /// Why not.
        why: String,
    },
}

/// The data directory, as the file system of its host shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DirectorySeen {
    /// It is where it was, and its files can be opened for writing.
    Fine,
    /// It is where it was, and its disk has less room than the next WAL file needs. No fault by
    /// itself, but it explains one.
    Full,
    /// It is where it was, on a file system that takes no writes (`EROFS`).
    ReadOnly,
    /// Removed, renamed, or unmounted. The server goes on writing to what no path leads to.
    Gone {
        /// What is in its place.
        why: String,
    },
    /// It cannot be known: the disk hangs, or says something else than yes or no.
    Unknown {
        /// Why not.
        why: String,
    },
}

/// What is wrong with the disk below a node that cannot write.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DiskFault {
    /// No space, or no quota, is left.
    Full,
    /// The file system takes no writes.
    ReadOnly,
    /// The data directory is not there any more.
    Gone,
}

/// What a database probe saw. The cases are those that lead to different actions.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "seen", rename_all = "snake_case")]
pub enum DatabaseSeen {
    /// It answered, and (where asked for) committed the write canary.
    Answered(NodeReport),
    /// Alive, but every connection slot is taken (SQLSTATE 53300).
    TooManyClients,
    /// Alive, but somebody's lock keeps the canary out of its table.
    Locked {
        /// Who holds it.
        why: String,
    },
    /// Alive, but starting up or recovering (57P03).
    StartingUp,
    /// It is being shut down on purpose (57P01, 57P02, or 57P03 with that text).
    ShuttingDown,
    /// It answers reads but a write failed: disk full (53100), read-only transactions (25006), I/O
    /// error (58030).
    CannotWrite {
        /// The node as read before the write failed.
        report: NodeReport,
        /// What is wrong with its disk, where the error says so.
        #[serde(default)]
        fault: Option<DiskFault>,
        /// SQLSTATE and message.
        why: String,
    },
    /// It answers, but refuses this client: password, pg_hba, missing grant, missing database.
    /// A fault of configuration, not an outage.
    RefusesUs {
        /// SQLSTATE and message, without secrets.
        why: String,
    },
    /// Nothing listens at the address (connection refused).
    NothingListens,
    /// No answer within the deadline.
    TimedOut {
        /// What was being waited for: `connect`, `startup`, `query`, `write`.
        phase: String,
    },
    /// This host is at fault: no free port or descriptor, a name that cannot be resolved. It says
    /// nothing of the node (S13).
    LocalFault {
        /// The error.
        why: String,
    },
    /// The connection broke or the network said no.
    Unreachable {
        /// The error.
        why: String,
    },
}

/// What a node says of itself. Sources: PostgreSQL manual 9.27 (control and recovery functions),
/// 28.2 (`pg_stat_replication`, `pg_stat_wal_receiver`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeReport {
    /// `pg_control_system()`.
    pub system_id: SystemId,
    /// `pg_is_in_recovery()`.
    pub role: Role,
    /// Primary: the timeline of the current WAL file. Standby: the last received one, else that of
    /// the last checkpoint.
    pub timeline: Timeline,
    /// Primary: `pg_current_wal_flush_lsn()`. Standby: the newest WAL it has on disk, the greater
    /// of received and replayed.
    pub lsn: Lsn,
    /// Standby: `pg_last_wal_replay_lsn()`. Primary: same as `lsn`.
    pub replayed: Lsn,
    /// Standby: its WAL receiver streams from a sender right now. Primary: at least one standby
    /// streams from it.
    pub streaming: bool,
    /// Standby: how long ago its WAL receiver last heard from the sender; `None` without one.
    /// A connection to a host that has vanished still looks like streaming for a minute.
    pub heard: Option<Duration>,
    /// How long the write canary took; `None` where none was asked for or the node is a standby.
    pub canary: Option<Duration>,
}

/// What a tcp or http probe saw.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EndpointSeen {
    /// Whether all conditions of the probe held.
    pub result: EndpointResult,
    /// Where the time went.
    pub phases: Phases,
}

/// The outcome of an endpoint probe, in HAProxy's spirit: *where* it failed matters.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "result", rename_all = "snake_case")]
pub enum EndpointResult {
    /// All conditions held.
    Passed,
    /// The name did not resolve, or this host has no network: says nothing about the target (S13).
    LocalFault {
        /// What failed here.
        why: String,
    },
    /// Nothing listens.
    Refused,
    /// No answer in time.
    TimedOut {
        /// `resolve`, `connect`, `tls`, `first_byte` or `body`.
        phase: String,
    },
    /// TLS failed: certificate or protocol.
    Tls {
        /// The error.
        why: String,
    },
    /// It answered, and the answer broke a condition.
    WrongAnswer {
        /// Which condition, with what was seen.
        why: String,
    },
    /// The connection broke.
    Broken {
        /// The error.
        why: String,
    },
}

/// Time spent in each phase of an endpoint probe; `None` where it was not reached or not apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Phases {
    /// Name resolution.
    pub resolve: Option<Duration>,
    /// TCP connect.
    pub connect: Option<Duration>,
    /// TLS handshake.
    pub tls: Option<Duration>,
    /// From the request sent to the response head.
    pub first_byte: Option<Duration>,
    /// The body, up to the bound.
    pub body: Option<Duration>,
}
