//! What is wrong, by name. The table that finds it is `decision::diagnose::DIAGNOSES`.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A named situation. Detection never depends on whether anybody may act on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Diagnosis {
    /// Two nodes say that they are primary.
    TwoPrimaries,
    /// The own node belongs to another database cluster than the record or the peer's node.
    WrongCluster,
    /// A promotion was recorded but never proved, and the promoted node is out of sight: nobody
    /// knows which node is newest.
    PromotionUnfinished,
    /// The own node takes writes although another site holds the lease.
    PrimaryWithoutLease,
    /// This agent cannot reach a majority of voters.
    CutOff,
    /// The active site's data directory was removed, renamed or unmounted.
    DataDirectoryGone,
    /// The active site's node cannot write: its file system takes no writes.
    DiskReadOnly,
    /// The active site's node cannot write: its disk is full.
    DiskFull,
    /// The active site's postmaster is gone.
    DatabaseDead,
    /// The active site's postmaster exists but nothing answers: frozen, hung, out of resources.
    DatabaseHung,
    /// The active site's node answers reads but cannot commit, for a reason without a name.
    DatabaseCannotWrite,
    /// The active site's node is a standby although the record names it the primary.
    DatabaseDemoted,
    /// The active site's apps break a trip rule while its database works.
    SiteTripped,
    /// The other site is silent: its agent does not answer and nobody reaches its database; its
    /// lease ran out, or is that of a pair, which never does.
    SiteSilent,
    /// The other agent is silent, but its database lives.
    AgentSilent,
    /// Nobody holds the lease and no record exists; one node is a primary.
    FirstStart,
    /// Nobody holds the lease and no node is known to be a primary.
    NoPrimary,
    /// Nobody holds the lease; the record names this site.
    LeaseFree,
    /// This agent reaches nothing neutral, or was late itself: it is no judge of others.
    Unfit,
    /// The own node answers others, but not this agent.
    ProbeDisagrees,
    /// Every connection slot of the own node is taken.
    DatabaseBusy,
    /// The own node is starting up or recovering.
    DatabaseStarting,
    /// The own node refuses the agent's user.
    DatabaseRefusesUs,
    /// The other site's node would not be promotable: down, not following, or of another cluster.
    StandbyUnusable,
    /// The other site's node is further behind than `lag_max`.
    StandbyLagging,
    /// The own standby does not receive WAL although the primary lives.
    ReplicationBroken,
    /// Nobody reaches the active site's database, but its lease still runs.
    SiteUnreachable,
    /// The own node does not serve, and the other site is active: this one could not take over.
    OwnNodeDown,
    /// The witness does not answer: a silent site would not be failed over.
    WitnessSilent,
    /// A configured endpoint is down, without breaking a trip rule.
    EndpointDown,
    /// Nothing has been seen long enough to say.
    Unknown,
    /// All is well.
    Healthy,
    /// The active site's node has no guard that would fence it at its deadline.
    GuardLost,
    /// This site has no guard, so it does not become active.
    GuardMissing,
}

/// How bad a diagnosis is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// Nothing is wrong.
    Fine,
    /// Cannot be said yet.
    Unclear,
    /// Service works; protection or capacity is reduced.
    Degraded,
    /// Service is down or in danger.
    Outage,
    /// Data is in danger: nobody acts by themselves.
    Danger,
}

impl Diagnosis {
    /// Every diagnosis, most severe first.
    pub const ALL: [Self; 34] = [
        Self::WrongCluster,
        Self::PrimaryWithoutLease,
        Self::TwoPrimaries,
        Self::PromotionUnfinished,
        Self::CutOff,
        Self::DataDirectoryGone,
        Self::DiskReadOnly,
        Self::DiskFull,
        Self::DatabaseDead,
        Self::DatabaseHung,
        Self::DatabaseCannotWrite,
        Self::DatabaseDemoted,
        Self::SiteTripped,
        Self::GuardLost,
        Self::LeaseFree,
        Self::SiteSilent,
        Self::NoPrimary,
        Self::FirstStart,
        Self::Unfit,
        Self::AgentSilent,
        Self::ProbeDisagrees,
        Self::DatabaseBusy,
        Self::DatabaseRefusesUs,
        Self::StandbyUnusable,
        Self::StandbyLagging,
        Self::ReplicationBroken,
        Self::SiteUnreachable,
        Self::OwnNodeDown,
        Self::WitnessSilent,
        Self::EndpointDown,
        Self::GuardMissing,
        Self::DatabaseStarting,
        Self::Unknown,
        Self::Healthy,
    ];

    /// The name as written in `agent.toml`, JSON and metrics.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::TwoPrimaries => "two_primaries",
            Self::WrongCluster => "wrong_cluster",
            Self::PromotionUnfinished => "promotion_unfinished",
            Self::PrimaryWithoutLease => "primary_without_lease",
            Self::CutOff => "cut_off",
            Self::DataDirectoryGone => "data_directory_gone",
            Self::DiskReadOnly => "disk_read_only",
            Self::DiskFull => "disk_full",
            Self::DatabaseDead => "database_dead",
            Self::DatabaseHung => "database_hung",
            Self::DatabaseCannotWrite => "database_cannot_write",
            Self::DatabaseDemoted => "database_demoted",
            Self::SiteTripped => "site_tripped",
            Self::SiteSilent => "site_silent",
            Self::AgentSilent => "agent_silent",
            Self::FirstStart => "first_start",
            Self::NoPrimary => "no_primary",
            Self::LeaseFree => "lease_free",
            Self::Unfit => "unfit",
            Self::ProbeDisagrees => "probe_disagrees",
            Self::DatabaseBusy => "database_busy",
            Self::DatabaseStarting => "database_starting",
            Self::DatabaseRefusesUs => "database_refuses_us",
            Self::StandbyUnusable => "standby_unusable",
            Self::StandbyLagging => "standby_lagging",
            Self::ReplicationBroken => "replication_broken",
            Self::SiteUnreachable => "site_unreachable",
            Self::OwnNodeDown => "own_node_down",
            Self::WitnessSilent => "witness_silent",
            Self::EndpointDown => "endpoint_down",
            Self::Unknown => "unknown",
            Self::Healthy => "healthy",
            Self::GuardLost => "guard_lost",
            Self::GuardMissing => "guard_missing",
        }
    }
}

impl fmt::Display for Diagnosis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
