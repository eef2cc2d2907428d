//! The lease: who may be active, for how long, and the small state that survives with it.
//!
//! Wire types (they travel between agents and are persisted by voters); the rules are in
//! `decision::lease`. Durations travel, moments never do: no clock is compared between hosts (S2).

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::brakes::Brakes;
use super::{ClusterName, Epoch, Lsn, Member, Moment, SiteName, SystemId, Timeline, Timestamp};

/// Where the lease is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum LeaseStore {
    /// With the two agents and the witness: a majority of them grants it, and grants run out.
    Quorum,
    /// In an etcd cluster: by compare-and-swap, and what is not renewed runs out.
    Etcd,
    /// With the two agents alone: it moves by handover or by a person, and never runs out (S7).
    Pair,
}

impl LeaseStore {
    /// Its name in `agent.toml`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Quorum => "quorum",
            Self::Etcd => "etcd",
            Self::Pair => "pair",
        }
    }

    /// Whether a lease that is not renewed runs out, so that a silent site may be taken over.
    #[must_use]
    pub fn runs_out(self) -> bool {
        match self {
            Self::Quorum | Self::Etcd => true,
            Self::Pair => false,
        }
    }
}

/// The small state that survives with the lease. The holder carries it in every renewal; voters
/// keep the newest by [`ClusterRecord::version`].
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClusterRecord {
    /// The epoch under which this version was written.
    pub epoch: Epoch,
    /// Grows with each change within an epoch.
    pub revision: u64,
    /// The site whose node is the primary: the only one that may start as primary (S10).
    pub primary: SiteName,
    /// Set from just before a promotion until its first verified write. While it is set, nobody
    /// but `primary` may assume to know which node has the newest data.
    pub promoting: bool,
    /// The database cluster that all this is about.
    pub system_id: SystemId,
    /// The primary's timeline when last seen.
    pub timeline: Timeline,
    /// The primary's WAL position when last seen: the newest write that may exist.
    pub last_lsn: Lsn,
    /// When the primary last moved by an automatic failover, for the anti-flap block (S14).
    pub last_failover: Option<Timestamp>,
    /// What keeps the agents from acting by themselves.
    #[serde(default, skip_serializing_if = "Brakes::is_empty")]
    pub brakes: Box<Brakes>,
}

impl ClusterRecord {
    /// What orders two records: the epoch first, then the revision.
    #[must_use]
    pub fn version(&self) -> (Epoch, u64) {
        (self.epoch, self.revision)
    }

    /// The site whose lease does not run out, because somebody switched its guard off.
    #[must_use]
    pub fn pinned_to(&self) -> Option<&SiteName> {
        let paused = self.brakes.paused.as_ref();
        paused
            .is_some_and(|paused| paused.guard_off)
            .then_some(&self.primary)
    }

    /// Makes it the next version under this epoch.
    pub fn succeed(&mut self, epoch: Epoch) {
        self.revision = if self.epoch == epoch {
            self.revision.saturating_add(1)
        } else {
            1
        };
        self.epoch = epoch;
    }

    /// The lease is not pinned, or no more.
    pub fn unpin(&mut self) {
        if let Some(paused) = &mut self.brakes.paused {
            paused.guard_off = false;
        }
    }
}

/// What every request to a voter says about the sender's idea of the cluster. A mismatch is
/// refused.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ClusterIdentity {
    /// The cluster's configured name.
    pub cluster: ClusterName,
    /// Hash over the sorted voter names: two agents with different voter sets could each find a
    /// majority of their own.
    pub voters_hash: String,
}

/// A request to one voter.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum LeaseRequest {
    /// What do you know? Changes nothing.
    Read,
    /// Would you grant this epoch to this candidate now? Changes nothing.
    PreVote {
        /// Who asks.
        candidate: SiteName,
        /// The epoch that would be asked for.
        epoch: Epoch,
    },
    /// Grant me this epoch.
    Acquire {
        /// Who asks.
        candidate: SiteName,
        /// The epoch asked for: one above the highest seen.
        epoch: Epoch,
    },
    /// Extend my grant by one ttl from receipt, and keep my record.
    Renew {
        /// The holder.
        holder: SiteName,
        /// The epoch it holds.
        epoch: Epoch,
        /// The newest record, if there is one yet.
        record: Option<ClusterRecord>,
    },
    /// I will never act under this epoch again.
    Release {
        /// The holder, or a candidate that gives back what it won in vain.
        holder: SiteName,
        /// The epoch given up.
        epoch: Epoch,
        /// Who should take the lease next; others wait one ttl.
        to: Option<SiteName>,
        /// The newest record.
        record: Option<ClusterRecord>,
    },
}

/// A voter's answer: whether it did what was asked, and all it knows.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct LeaseReply {
    /// The verdict on the request. `Ok` for [`LeaseRequest::Read`] unless the voter abstains.
    pub verdict: Verdict,
    /// What the voter knows after the request.
    pub knows: VoterView,
}

/// What a voter says to a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// Done (or, for a pre-vote, would be done).
    Ok,
    /// Somebody else's grant still runs.
    GrantRuns,
    /// The lease was released to somebody else, who has one ttl to take it.
    ReservedForSuccessor,
    /// The epoch is not above what was promised, or is not the granted one, or was released.
    StaleEpoch,
    /// The voter's memory is gone: it abstains until it has learnt the epoch and one ttl passed.
    Abstains,
    /// Cluster name or voter set differ from the voter's own.
    WrongCluster,
    /// The voter could not make its promise durable, so it did not give it.
    NotDurable,
    /// The store that keeps the lease does not answer.
    StoreSilent,
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Ok => "granted",
            Self::GrantRuns => "another site's lease still runs",
            Self::ReservedForSuccessor => "the lease was released to another site",
            Self::StaleEpoch => "a higher epoch is known",
            Self::Abstains => "the voter lost its memory and abstains",
            Self::WrongCluster => "cluster name or voter set differ",
            Self::NotDurable => "the voter could not write its promise to disk",
            Self::StoreSilent => "the lease store does not answer",
        })
    }
}

/// All that a voter knows, as of its answer.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
pub struct VoterView {
    /// The highest epoch it ever promised.
    pub promised: Epoch,
    /// The grant it counts as running, if any.
    pub grant: Option<GrantView>,
    /// The released epoch's intended successor, if the newest epoch was released to somebody.
    pub released_to: Option<SiteName>,
    /// True when the newest epoch was released and not merely run out.
    pub released: bool,
    /// The newest record it has.
    pub record: Option<ClusterRecord>,
}

/// A running grant as told to others: a remaining span, never a point in time.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct GrantView {
    /// Who holds it.
    pub holder: SiteName,
    /// Under which epoch.
    pub epoch: Epoch,
    /// How long the voter will still count it as running. `None`: it does not run out (`pair`).
    pub left: Option<Duration>,
}

/// What a voter writes to disk before it answers a request that changed it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct StoredVote {
    /// The format of this file.
    pub version: u32,
    /// The cluster it was promised in.
    pub identity: ClusterIdentity,
    /// The highest epoch promised.
    pub promised: Epoch,
    /// Who was granted that epoch, if anybody.
    pub granted_to: Option<SiteName>,
    /// True once that epoch was released.
    pub released: bool,
    /// The successor named by the release.
    pub released_to: Option<SiteName>,
    /// The newest record.
    pub record: Option<ClusterRecord>,
}

/// The lease as one agent sees it, after putting together what the voters said.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub enum LeaseView {
    /// No majority has answered yet, or not lately.
    #[default]
    Unknown,
    /// Held by this site.
    Held {
        /// The epoch held.
        epoch: Epoch,
        /// When the fence must begin if no renewal succeeds: `t_sent + ttl·(1 − ρ) − F` (S2).
        fence_at: Moment,
    },
    /// A majority says another site holds it.
    Other {
        /// Who.
        holder: SiteName,
        /// Under which epoch.
        epoch: Epoch,
    },
    /// A majority says nobody holds it: never granted, released, or run out.
    Free {
        /// The highest epoch seen.
        epoch: Epoch,
        /// Whom the last holder named as its successor.
        released_to: Option<SiteName>,
    },
}

/// What the lease machine tells the decision loop.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum LeaseChange {
    /// The view changed (also when only `fence_at` moved), with the newest record seen.
    View {
        /// The lease now.
        view: LeaseView,
        /// The newest record of any voter that answered.
        record: Option<ClusterRecord>,
        /// Which voters answered lately.
        reached: Vec<Member>,
    },
    /// An acquisition ended without the lease.
    NotAcquired {
        /// The most telling verdict.
        verdict: Verdict,
    },
    /// The deadline passed without a renewal: the fence has been started (S2). The lease is gone.
    Lost {
        /// The epoch that was held.
        epoch: Epoch,
    },
    /// The fence at a deadline has ended: no process of the own node is left (S3).
    Fenced {
        /// How long it took.
        took: Duration,
    },
    /// The release of this epoch is known to a majority.
    Released {
        /// The epoch given up.
        epoch: Epoch,
        /// The named successor.
        to: Option<SiteName>,
    },
    /// The record that was handed in is held by a majority.
    RecordKept {
        /// Its epoch and revision.
        version: (Epoch, u64),
    },
}

/// What the decision loop asks of the lease machine.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum LeaseCommand {
    /// Try to get the lease.
    Acquire,
    /// Give it up, naming a successor.
    Release {
        /// Who should have it next.
        to: Option<SiteName>,
    },
    /// Carry this record from now on, starting with a renewal at once.
    Keep(Box<ClusterRecord>),
}
