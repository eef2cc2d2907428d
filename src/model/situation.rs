//! Everything that matters for a diagnosis, as a handful of small closed facts, so that tests can
//! try every combination.

use std::fmt;

use serde::{Deserialize, Serialize};

/// All facts at one moment, as one agent knows them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a fact of its own, and they occur in every combination"
)]
pub struct Facts {
    /// Who holds the lease.
    pub standing: Standing,
    /// What the cluster record says about the primary.
    pub record: RecordSays,
    /// The own node.
    pub own: NodeState,
    /// What is wrong with its disk. It explains a node that cannot write, is dead or hangs, and is
    /// looked at for no other.
    #[serde(default)]
    pub disk: Disk,
    /// The other site's node, as seen from here, from the witness and by its own report.
    pub peer_node: PeerNode,
    /// The other agent.
    pub peer_agent: Reach,
    /// The witness.
    pub witness: Reach,
    /// Whether the own and the other node are of one database cluster.
    pub identity: Identity,
    /// The other site's node as somebody to hand over to (active site), or the own node's
    /// replication (standby site).
    pub standby: StandbyState,
    /// A trip rule of this site is broken.
    pub tripped: bool,
    /// Some endpoint is down.
    pub endpoint_down: bool,
    /// The own node has no guard (S4).
    #[serde(default)]
    pub guard_lost: bool,
    /// Finishing the promotion that the record announces was tried, and failed.
    #[serde(default)]
    pub finish_failed: bool,
    /// This agent is no judge of others: what only accuses them is left out of these facts.
    #[serde(default)]
    pub unfit: bool,
}

/// Who holds the lease, seen from here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Standing {
    /// Not known: no majority of voters has answered lately.
    Unknown,
    /// This agent holds it and a majority still answers.
    Active,
    /// This agent holds it, but a majority has stopped answering.
    ActiveCutOff,
    /// The voters still count a grant to this site that this process does not hold: the agent
    /// was restarted.
    Inherited,
    /// The other site holds it.
    Peer,
    /// Nobody holds it, and it was released to this site.
    FreeForMe,
    /// Nobody holds it.
    Free,
}

/// What the cluster record says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RecordSays {
    /// There is none yet.
    Nothing,
    /// This site has the primary.
    Mine,
    /// This site is about to promote its node.
    MinePromoting,
    /// The other site has the primary.
    Theirs,
    /// The other site began a promotion that is not known to have succeeded.
    TheirsPromoting,
}

/// The own node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NodeState {
    /// Not seen long enough to say.
    Unknown,
    /// Takes writes.
    Primary,
    /// Follows.
    Standby,
    /// Alive, no free connection slot.
    Busy,
    /// Alive, starting up.
    Starting,
    /// Alive, refuses the agent's user.
    RefusesUs,
    /// Cannot commit, or will not for long, though it answers reads.
    CannotWrite,
    /// Nothing answers this agent, but the others still get answers.
    Disputed,
    /// The process exists, nothing answers.
    Hung,
    /// No process.
    Dead,
}

/// The disk below the own node.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
#[serde(rename_all = "snake_case")]
pub enum Disk {
    /// Nothing is known against it.
    #[default]
    Fine,
    /// Full.
    Full,
    /// Takes no writes.
    ReadOnly,
    /// The data directory was removed, renamed or unmounted.
    Gone,
}

/// The other site's node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PeerNode {
    /// Not known: neither seen nor reported lately.
    Unknown,
    /// Says it is a primary.
    Primary,
    /// Says it is a standby.
    Standby,
    /// Alive, but its role cannot be read (busy, starting, refuses us) or it still sends WAL.
    Alive,
    /// Nobody reaches it.
    Down,
}

/// Whether a member answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reach {
    /// There is no such member.
    Absent,
    /// Not asked often enough to say.
    Unknown,
    /// It answers.
    Answers,
    /// It has not answered for longer than a few renewals.
    Silent,
}

/// Whether two nodes belong together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Identity {
    /// One of the system identifiers is not known.
    Unknown,
    /// The same system identifier.
    Same,
    /// Different ones.
    Differs,
}

/// How good the standby is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StandbyState {
    /// Not known.
    Unknown,
    /// It could be promoted now.
    Ready,
    /// It lacks more than `lag_max`.
    Lagging,
    /// It is up but receives nothing.
    NotReceiving,
    /// It is down, not a standby, or its site must not become active.
    Unusable,
}

macro_rules! all_of {
    ($type:ident: $($variant:ident),+ $(,)?) => {
        impl $type {
            /// Every value, for tests that try all of them.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];
        }
    };
}

all_of!(Standing: Unknown, Active, ActiveCutOff, Inherited, Peer, FreeForMe, Free);
all_of!(RecordSays: Nothing, Mine, MinePromoting, Theirs, TheirsPromoting);
all_of!(
    NodeState: Unknown,
    Primary,
    Standby,
    Busy,
    Starting,
    RefusesUs,
    CannotWrite,
    Disputed,
    Hung,
    Dead,
);
all_of!(Disk: Fine, Full, ReadOnly, Gone);
all_of!(PeerNode: Unknown, Primary, Standby, Alive, Down);
all_of!(Reach: Absent, Unknown, Answers, Silent);
all_of!(Identity: Unknown, Same, Differs);
all_of!(StandbyState: Unknown, Ready, Lagging, NotReceiving, Unusable);

impl fmt::Display for NodeState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Unknown => "not seen yet",
            Self::Primary => "primary, takes writes",
            Self::Standby => "standby",
            Self::Busy => "alive, every connection slot taken",
            Self::Starting => "starting up",
            Self::RefusesUs => "alive, refuses the agent's user",
            Self::CannotWrite => "answers reads, cannot commit",
            Self::Disputed => "answers others, but not this agent",
            Self::Hung => "process exists, nothing answers",
            Self::Dead => "no process",
        })
    }
}

impl fmt::Display for PeerNode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Unknown => "not known",
            Self::Primary => "primary",
            Self::Standby => "standby",
            Self::Alive => "alive",
            Self::Down => "not reachable from anywhere",
        })
    }
}

impl fmt::Display for Standing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Unknown => "lease not known: no majority of voters answers",
            Self::Active => "active: this site holds the lease",
            Self::ActiveCutOff => "active, but cut off from a majority of voters",
            Self::Inherited => "this site holds the lease from before the agent's restart",
            Self::Peer => "standby: the other site holds the lease",
            Self::FreeForMe => "nobody holds the lease; it was released to this site",
            Self::Free => "nobody holds the lease",
        })
    }
}
