//! What the configuration says that matters for deciding. Built once by `runtime::policy`.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use crate::model::brakes::Conduct;
use crate::model::plan::{ConfigEdit, FileEdits};
use crate::model::{LagBytes, Member, ProbeName, SiteName};

/// Settings of the decisions of one agent.
#[derive(Debug, Clone)]
pub struct Policy {
    /// This site.
    pub me: SiteName,
    /// The other site.
    pub peer: SiteName,
    /// Everybody with a vote.
    pub voters: Vec<Member>,
    /// The lease is kept in a store of its own, and not with the voters.
    pub lease_in_store: bool,
    /// How long a grant runs.
    pub ttl: Duration,
    /// How often the lease and the reports are renewed.
    pub renew_every: Duration,
    /// Bound on one request to another member.
    pub request_timeout: Duration,
    /// Time reserved for a fence.
    pub fence_budget: Duration,
    /// Thresholds of database probes.
    pub database: Thresholds,
    /// Thresholds of endpoint probes that this agent runs.
    pub endpoints: BTreeMap<ProbeName, Thresholds>,
    /// Which endpoints may fail the site over.
    pub trips: Vec<TripRule>,
    /// Most WAL that a promotion may lose.
    pub lag_max: LagBytes,
    /// No second automatic failover for this long (S14).
    pub block: Duration,
    /// At most so many automatic failovers …
    pub max_automatic: usize,
    /// … within this.
    pub window: Duration,
    /// Whether this agent acts at all.
    pub conduct: Conduct,
    /// What this agent must reach some of to judge others; empty: it is not asked.
    pub neutral: Vec<ProbeName>,
    /// Thresholds of those.
    pub self_check: Thresholds,
    /// Whatever it does later than this after it was due makes it unfit to judge.
    pub late_max: Duration,
    /// Clean stop before the fence when an operator moves a living primary.
    pub stop_grace: Duration,
    /// Bound on promotion.
    pub promote_timeout: Duration,
    /// Bound on starting a node.
    pub start_timeout: Duration,
    /// Restart in place instead of failover, if it can finish within this; zero: never.
    pub restart_budget: Duration,
    /// Whether each site's node can be fenced by its agent (S3).
    pub can_fence: BTreeMap<SiteName, bool>,
    /// Where each site's node is reached.
    pub nodes: BTreeMap<SiteName, NodeAddress>,
    /// App config files.
    pub app_configs: Vec<AppConfigTarget>,
    /// DNS records.
    pub dns: Vec<DnsTarget>,
    /// Whether anybody is to be told.
    pub notifies: bool,
}

/// When a probe's target is down or up again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Thresholds {
    /// Consecutive failures to be down.
    pub fall: u32,
    /// Consecutive successes to be up.
    pub rise: u32,
    /// The longest time between two looks: older knowledge is no knowledge.
    pub stale_after: Duration,
}

/// When broken endpoints fail the whole site over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TripRule {
    /// Its name.
    pub name: String,
    /// The probes it looks at.
    pub probes: Vec<ProbeName>,
    /// How many must be down.
    pub at_least: usize,
    /// For how long.
    pub down_for: Duration,
}

/// Where a node is reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeAddress {
    /// Host name or address.
    pub host: String,
    /// Port.
    pub port: u16,
}

/// The files of an app that follow the primary.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AppConfigTarget {
    /// Its name.
    pub name: String,
    /// Where it lies; `None`: on both sites.
    pub site: Option<SiteName>,
    /// The file, or the first of them.
    pub path: PathBuf,
    /// What it must say, by the primary's site.
    pub edits: BTreeMap<SiteName, Vec<ConfigEdit>>,
    /// The other files, which change together with it, by the primary's site.
    pub also: BTreeMap<SiteName, Vec<FileEdits>>,
    /// The longest that a change of them takes, reload and the way back included.
    pub longest: Duration,
}

/// A DNS record that follows the primary.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DnsTarget {
    /// Its name in `agent.toml`.
    pub name: String,
    /// The provider's kind.
    pub provider: String,
    /// The DNS name.
    pub record: String,
    /// The record's type.
    pub kind: String,
    /// What its records must contain, by the primary's site.
    pub contents: BTreeMap<SiteName, Vec<String>>,
}

impl Policy {
    /// A member that has not answered for this long is silent: three renewals and one request.
    #[must_use]
    pub fn silent_after(&self) -> Duration {
        self.renew_every * 3 + self.request_timeout
    }

    /// There is a witness: it looks from a third place, and votes unless there is a store.
    #[must_use]
    pub fn has_witness(&self) -> bool {
        self.voters.contains(&Member::Witness)
    }

    /// A lease that is not renewed runs out, so a silent site may be taken over (S7): a third vote,
    /// or a store, tells a silent site from a cut link.
    #[must_use]
    pub fn lease_runs_out(&self) -> bool {
        self.has_witness() || self.lease_in_store
    }

    /// Time that must be left on the lease before a step that cannot be taken back (S8).
    #[must_use]
    pub fn step_reserve(&self) -> Duration {
        self.request_timeout
    }
}
