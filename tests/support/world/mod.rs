//! What tests of the decision core share: a policy, nodes that say what they are, and an agent
//! whose every verdict is checked against the rules that hold always.
#![expect(
    dead_code,
    reason = "each test file uses another part of the support code"
)]

pub(crate) mod agent;
pub(crate) mod nodes;
pub(crate) mod rules;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use failover_agent::decision::policy::{
    AppConfigTarget, DnsTarget, NodeAddress, Policy, Thresholds, TripRule,
};
use failover_agent::model::plan::{ConfigEdit, EditValue};
use failover_agent::model::{LagBytes, Member, ProbeName, SiteName};

/// The two sites of every test.
pub(crate) const SITES: [&str; 2] = ["fra", "ams"];

/// The other one.
pub(crate) fn other(site: &str) -> &'static str {
    if site == SITES[0] { SITES[1] } else { SITES[0] }
}

fn voters() -> Vec<Member> {
    let mut voters: Vec<Member> = SITES.map(SiteName::new).map(Member::Site).into();
    voters.push(Member::Witness);
    voters
}

/// The policy of the agent of `site`, with the defaults of the configuration: one app config file
/// at both sites, one DNS record, one endpoint that trips the site after 5 s.
pub(crate) fn policy(site: &str) -> Policy {
    let site_names = || SITES.map(SiteName::new);
    let probe = ProbeName::new("web");
    let thresholds = |fall| Thresholds {
        fall,
        rise: 2,
        stale_after: Duration::from_secs(18),
    };
    Policy {
        me: SiteName::new(site),
        peer: SiteName::new(other(site)),
        voters: voters(),
        lease_in_store: false,
        ttl: Duration::from_secs(10),
        renew_every: Duration::from_secs(2),
        request_timeout: Duration::from_millis(1400),
        fence_budget: Duration::from_secs(2),
        database: thresholds(2),
        endpoints: BTreeMap::from([(probe.clone(), thresholds(3))]),
        trips: vec![TripRule {
            name: "shop".to_owned(),
            probes: vec![probe],
            at_least: 1,
            down_for: Duration::from_secs(5),
        }],
        lag_max: LagBytes(16 << 20),
        block: Duration::from_hours(1),
        max_automatic: 3,
        window: Duration::from_secs(86_400),
        conduct: failover_agent::model::brakes::Conduct::Act,
        neutral: vec![ProbeName::new("router:443")],
        self_check: Thresholds {
            rise: 3,
            ..thresholds(2)
        },
        late_max: Duration::from_secs(1),
        stop_grace: Duration::from_secs(5),
        promote_timeout: Duration::from_mins(1),
        start_timeout: Duration::from_mins(1),
        restart_budget: Duration::ZERO,
        can_fence: site_names().map(|site| (site, true)).into(),
        nodes: site_names()
            .map(|site| {
                let host = format!("db.{site}.example");
                (site, NodeAddress { host, port: 5432 })
            })
            .into(),
        app_configs: vec![app_config()],
        dns: vec![DnsTarget {
            name: "www".to_owned(),
            provider: "cloudflare".to_owned(),
            record: "www.example.org".to_owned(),
            kind: "CNAME".to_owned(),
            contents: site_names()
                .map(|site| (site.clone(), vec![format!("{site}.example.org")]))
                .into(),
        }],
        notifies: true,
    }
}

/// A file at both sites that names the primary.
fn app_config() -> AppConfigTarget {
    let edit = |site: &SiteName| ConfigEdit {
        key: "DB_HOST".to_owned(),
        to: EditValue::Text(format!("db.{site}.example")),
    };
    let sites = SITES.map(SiteName::new).into_iter();
    AppConfigTarget {
        name: "shop".to_owned(),
        site: None,
        path: PathBuf::from("/srv/shop/.env"),
        edits: sites
            .map(|site| (site.clone(), vec![edit(&site)]))
            .collect(),
        also: BTreeMap::new(),
        longest: Duration::from_mins(5),
    }
}
