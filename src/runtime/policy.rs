//! Config → [`Policy`]: what matters for deciding, in the words of `decision`.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::config::Config;
use crate::config::settings::{
    AppConfig, AppConfigFile, AppConfigValue, Control, ProbeTiming, Site, Upstream,
};
use crate::decision::policy::{
    AppConfigTarget, DnsTarget, NodeAddress, Policy, Thresholds, TripRule,
};
use crate::model::Member;
use crate::model::lease::LeaseStore;
use crate::model::plan::{ConfigEdit, EditValue, FileEdits};
use crate::model::{ProbeName, SiteName};

/// Builds the policy of the agent of `config.site`; nothing for the witness, which decides nothing.
#[must_use]
pub fn policy(config: &Config) -> Option<Policy> {
    let me = config.own_site()?;
    let peer = config.peer_site()?;
    Some(Policy {
        me: me.name.clone(),
        peer: peer.name.clone(),
        voters: members(config),
        lease_in_store: config.lease_store == LeaseStore::Etcd,
        ttl: config.lease.ttl,
        renew_every: config.lease.renew_every,
        request_timeout: config.lease.request_timeout,
        fence_budget: config.lease.fence_budget,
        database: thresholds(config.database.timing, config.database.fresh_interval),
        endpoints: endpoints(config, &me.name),
        trips: trips(config, &me.name),
        lag_max: config.failover.lag_max,
        block: config.failover.block,
        max_automatic: config.failover.max_automatic as usize,
        window: config.failover.window,
        conduct: config.mode,
        neutral: config
            .self_check
            .targets
            .iter()
            .map(ProbeName::new)
            .collect(),
        self_check: thresholds(config.self_check.timing, config.self_check.timing.interval),
        late_max: config.self_check.late_max,
        stop_grace: config.failover.stop_grace,
        promote_timeout: config.failover.promote_timeout,
        start_timeout: config.failover.start_timeout,
        restart_budget: config.failover.restart_budget,
        can_fence: config
            .sites
            .iter()
            .map(|site| (site.name.clone(), can_fence(&site.node.control)))
            .collect(),
        nodes: config.sites.iter().map(node_address).collect(),
        app_configs: config
            .app_configs
            .iter()
            .map(|app| app_config(config, app))
            .collect(),
        dns: config
            .dns
            .iter()
            .map(|record| dns(config, record))
            .collect(),
        notifies: !config.notifiers.is_empty(),
    })
}

/// The endpoints that this site's agent probes.
fn endpoints(config: &Config, me: &SiteName) -> BTreeMap<ProbeName, Thresholds> {
    let groups = config.upstreams.iter().filter(|group| group.is_at(me));
    let groups = groups.map(|group| (group.target(), group_thresholds(group)));
    let probes = config
        .probes
        .iter()
        .filter(|probe| probe.sites.is_empty() || probe.sites.contains(me))
        .map(|probe| {
            (
                probe.name.clone(),
                thresholds(probe.timing, probe.timing.interval),
            )
        });
    probes.chain(groups).collect()
}

/// A group as a whole: hysteresis is its members' business.
fn group_thresholds(group: &Upstream) -> Thresholds {
    Thresholds {
        fall: 1,
        rise: 1,
        ..thresholds(group.timing, group.timing.interval)
    }
}

fn trips(config: &Config, me: &SiteName) -> Vec<TripRule> {
    let groups = config.upstreams.iter().filter(|group| group.is_at(me));
    let groups = groups.filter_map(|group| {
        Some(TripRule {
            name: group.target().to_string(),
            probes: vec![group.target()],
            at_least: 1,
            down_for: group.trip?.down_for,
        })
    });
    let trips = config.trips.iter().map(|trip| TripRule {
        name: trip.name.clone(),
        probes: trip.probes.clone(),
        at_least: trip.at_least,
        down_for: trip.down_for,
    });
    trips.chain(groups).collect()
}

fn node_address(site: &Site) -> (SiteName, NodeAddress) {
    let address = NodeAddress {
        host: site.node.host.clone(),
        port: site.node.port,
    };
    (site.name.clone(), address)
}

/// A node that is controlled by commands can only be fenced by commands that say so (S3).
fn members(config: &Config) -> Vec<Member> {
    let members = config.members().into_iter();
    members.map(|(member, _)| member).collect()
}

fn can_fence(control: &Control) -> bool {
    match control {
        Control::Local | Control::Systemd { .. } => true,
        Control::Commands(commands) => commands.fence.is_some() && commands.fenced.is_some(),
    }
}

/// Knowledge is stale after three slow looks that all took their whole time.
pub(super) fn thresholds(timing: ProbeTiming, slowest: Duration) -> Thresholds {
    Thresholds {
        fall: timing.fall,
        rise: timing.rise,
        stale_after: (timing.interval.max(slowest) + timing.timeout) * 3,
    }
}

fn app_config(config: &Config, app: &AppConfig) -> AppConfigTarget {
    let by_site = config.sites.iter().map(|primary| {
        let mut files = file_edits(app, primary).into_iter();
        let first = files.next().map(|file| file.edits).unwrap_or_default();
        let name = primary.name.clone();
        ((name.clone(), first), (name, files.collect()))
    });
    let (edits, also) = by_site.unzip();
    AppConfigTarget {
        name: app.name.clone(),
        site: app.site.clone(),
        path: app
            .files
            .first()
            .map(|file| file.path.clone())
            .unwrap_or_default(),
        edits,
        also,
        longest: app.longest(),
    }
}

/// What each file of an app must say once the primary is at this site.
#[must_use]
pub fn file_edits(app: &AppConfig, primary: &Site) -> Vec<FileEdits> {
    app.files
        .iter()
        .map(|file| FileEdits {
            path: file.path.clone(),
            edits: edits(file, primary),
        })
        .collect()
}

fn edits(file: &AppConfigFile, primary: &Site) -> Vec<ConfigEdit> {
    let fill = |text: &str| {
        text.replace("{host}", &primary.node.host)
            .replace("{port}", &primary.node.port.to_string())
            .replace("{site}", primary.name.as_str())
    };
    file.edits
        .iter()
        .map(|edit| ConfigEdit {
            key: edit.key.clone(),
            to: match &edit.value {
                AppConfigValue::Text(text) => EditValue::Text(fill(text)),
                AppConfigValue::UrlAuthority => EditValue::UrlAuthority {
                    host: primary.node.host.clone(),
                    port: primary.node.port,
                },
                AppConfigValue::Field { name, text } => EditValue::Field {
                    name: name.clone(),
                    text: fill(text),
                },
            },
        })
        .collect()
}

fn dns(config: &Config, record: &crate::config::settings::DnsRecord) -> DnsTarget {
    let contents: BTreeMap<_, _> = config
        .sites
        .iter()
        .map(|site| site.name.clone())
        .zip(record.contents.iter().cloned())
        .collect();
    DnsTarget {
        name: record.name.clone(),
        provider: record.access.provider().to_owned(),
        record: record.record.clone(),
        kind: record.kind.clone(),
        contents,
    }
}
