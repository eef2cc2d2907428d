//! What one schedule is configured with: times, thresholds, and the rule that is broken on purpose.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use failover_agent::decision::lease::{BrokenRule, LeaseRules, Mode};
use failover_agent::decision::policy::{
    AppConfigTarget, DnsTarget, NodeAddress, Policy, Thresholds, TripRule,
};
use failover_agent::model::plan::{ConfigEdit, EditValue};
use failover_agent::model::{ClusterName, LagBytes, Member, ProbeName, SiteName};

use crate::clock::Rng;

/// What is broken on purpose, to show that the simulation notices.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mutation {
    /// Nothing: the product as it is.
    None,
    /// A rule of the lease.
    Rule(BrokenRule),
    /// The keeper does nothing at its deadline.
    KeeperNeverFences,
    /// A node starts as primary at boot, whatever `standby.signal` says.
    SignalIgnored,
    /// The executor begins what was abandoned, and targets take any epoch.
    EpochIgnored,
    /// Steps are begun before the journal has them.
    JournalLate,
    /// A step is begun however late it comes.
    LateStepRuns,
    /// A restarted agent does not find its vote file and votes as a newcomer.
    VoteLost,
    /// A restarted agent does not find its journal.
    JournalLost,
    /// The fence proves nothing: it says done at once, while backends go on for a while.
    FenceUnproved,
    /// An agent takes the lease over although it sees the other database alive.
    VetoIgnored,
}

pub(crate) fn site_name(index: usize) -> SiteName {
    SiteName::new(["a", "b"][index])
}

/// The member on a host.
pub(crate) fn member(host: usize) -> Member {
    match host {
        0 | 1 => Member::Site(site_name(host)),
        _ => Member::Witness,
    }
}

/// The host of a member.
pub(crate) fn host(member: &Member) -> usize {
    match member {
        Member::Site(site) => index(site),
        Member::Witness => 2,
    }
}

pub(crate) fn index(site: &SiteName) -> usize {
    usize::from(*site == site_name(1))
}

/// The one endpoint of each site.
pub(crate) fn app() -> ProbeName {
    ProbeName::new("app")
}

/// Times and rules of one schedule.
#[derive(Debug, Clone)]
pub(crate) struct Setup {
    pub(crate) policies: [Policy; 2],
    pub(crate) rules: [LeaseRules; 3],
    pub(crate) pair: bool,
    pub(crate) probe_every: Duration,
    pub(crate) probe_fast: Duration,
    pub(crate) fresh_every: Duration,
    pub(crate) probe_timeout: Duration,
    /// No wall clock is wrong or jumps, so that blocks between failovers can be checked.
    pub(crate) walls_agree: bool,
    /// `agent gate` runs before the host starts its node.
    pub(crate) gate: bool,
    pub(crate) mutation: Mutation,
}

fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

fn rules(ttl: Duration, pair: bool, mutation: Mutation) -> LeaseRules {
    let request_timeout = ttl / 8;
    let mut voters = vec![member(0), member(1)];
    if !pair {
        voters.push(member(2));
    }
    LeaseRules {
        ttl,
        renew_every: ttl / 5,
        request_timeout,
        fence_budget: ttl / 5,
        mode: if pair { Mode::Pair } else { Mode::Quorum },
        me: member(0),
        identity: LeaseRules::identity_of(ClusterName::new("shop"), &voters),
        voters,
        broken: match mutation {
            Mutation::Rule(rule) => Some(rule),
            _ => None,
        },
    }
}

fn www() -> DnsTarget {
    let contents = [0, 1].map(|site| (site_name(site), vec![content(site)]));
    DnsTarget {
        name: "www".to_owned(),
        provider: "cloudflare".to_owned(),
        record: "www.shop.example".to_owned(),
        kind: "A".to_owned(),
        contents: contents.into(),
    }
}

impl Setup {
    pub(crate) fn draw(rng: &mut Rng, mutation: Mutation) -> Self {
        let pair = rng.chance(80);
        let ttl = ms(rng.pick(&[2000, 2000, 2000, 5000]));
        let rules = rules(ttl, pair, mutation);
        let block = ms(rng.pick(&[1, 8_000, 20_000, 3_600_000]));
        let restart_budget = ms(rng.pick(&[0, 0, 0, 3000]));
        let (fresh_every, probe_timeout) = (ms(2000), ms(500));
        let thresholds = Thresholds {
            fall: 2,
            rise: 2,
            stale_after: (fresh_every + probe_timeout) * 3,
        };
        let policy = |me: usize| Policy {
            me: site_name(me),
            peer: site_name(1 - me),
            voters: rules.voters.clone(),
            lease_in_store: false,
            ttl,
            renew_every: rules.renew_every,
            request_timeout: rules.request_timeout,
            fence_budget: rules.fence_budget,
            database: thresholds,
            endpoints: BTreeMap::from([(app(), thresholds)]),
            trips: vec![TripRule {
                name: "app".to_owned(),
                probes: vec![app()],
                at_least: 1,
                down_for: ms(1500),
            }],
            lag_max: LagBytes(64 << 10),
            block,
            max_automatic: 3,
            window: Duration::from_secs(86_400),
            conduct: failover_agent::model::brakes::Conduct::Act,
            neutral: Vec::new(),
            self_check: Thresholds {
                rise: 3,
                ..thresholds
            },
            late_max: Duration::from_secs(1),
            stop_grace: ms(1000),
            promote_timeout: ms(3000),
            start_timeout: ms(3000),
            restart_budget,
            can_fence: [0, 1].map(|site| (site_name(site), true)).into(),
            nodes: [0, 1].map(|site| (site_name(site), address(site))).into(),
            app_configs: vec![app_config()],
            dns: vec![www()],
            notifies: true,
        };
        Self {
            policies: [policy(0), policy(1)],
            rules: [0, 1, 2].map(|host| LeaseRules {
                me: member(host),
                ..rules.clone()
            }),
            pair,
            probe_every: ms(500),
            probe_fast: ms(200),
            fresh_every,
            probe_timeout,
            walls_agree: rng.chance(500),
            gate: rng.chance(700) || mutation == Mutation::SignalIgnored,
            mutation,
        }
    }

    /// The time within which an agent that has just come back notices that its node writes
    /// without a lease, and has fenced it: one first look, one round of asking, one fence.
    pub(crate) fn notice_span(&self) -> Duration {
        let rules = &self.rules[0];
        ms(1300) + rules.request_timeout * 3 + rules.fence_budget
    }
}

fn app_config() -> AppConfigTarget {
    AppConfigTarget {
        name: "env".to_owned(),
        site: None,
        path: PathBuf::from("/srv/shop/.env"),
        edits: [0, 1].map(|site| (site_name(site), edits(site))).into(),
        also: BTreeMap::new(),
        longest: Duration::from_mins(5),
    }
}

fn address(site: usize) -> NodeAddress {
    NodeAddress {
        host: format!("db-{}", site_name(site)),
        port: 5432,
    }
}

fn edits(primary: usize) -> Vec<ConfigEdit> {
    vec![ConfigEdit {
        key: "PRIMARY".to_owned(),
        to: EditValue::Text(site_name(primary).to_string()),
    }]
}

/// What the DNS record says while this site is active.
pub(crate) fn content(site: usize) -> String {
    format!("192.0.2.{}", site + 1)
}
