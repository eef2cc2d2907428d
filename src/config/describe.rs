//! What a `Config` makes the agents do, in plain words: for the operator who wants to know before
//! it happens. Never a secret.

mod apps;
mod upstreams;

use std::fmt::Write as _;

use self::apps::rewrites;
use super::Config;
use super::settings::{
    Control, DatabaseTls, DnsRecord, Lease, Probe, ProbeKindSettings, ProbeTiming, Site, Trip,
};
use super::units::{show_duration, show_size};
use crate::model::brakes::Conduct;
use crate::model::lease::LeaseStore;

/// The whole configuration in words, one sentence a line, the most important first.
#[must_use]
pub fn describe(config: &Config) -> String {
    let mut lines = vec![cluster(config)];
    lines.extend(observes(config));
    lines.extend(watches(config));
    lines.push(doubts_itself(config));
    lines.extend(fails_over(config));
    lines.extend(config.upstreams.iter().map(upstreams::upstream));
    lines.extend(config.app_configs.iter().map(rewrites));
    lines.extend(config.dns.iter().map(|record| moves(record, config)));
    lines.extend(checks_dns(config));
    lines.extend(config.sites.iter().filter_map(routes));
    lines.extend(tells(config));
    let mut text = String::new();
    for line in lines {
        text.push_str(&line);
        text.push('\n');
    }
    text
}

fn cluster(config: &Config) -> String {
    let [first, second] = &config.sites;
    let mut text = format!(
        "Cluster {} has the sites {} ({}) and {} ({})",
        config.cluster, first.name, first.address, second.name, second.address
    );
    match &config.witness {
        Some(address) => push(&mut text, format_args!(" and a witness ({address}).")),
        None => text.push_str(" and no witness."),
    }
    let link = match (&config.peer.tls, config.peer.insecure) {
        (Some(_), _) => " They talk by TLS.",
        (None, true) => " They talk in plain text, which was allowed on purpose.",
        (None, false) => " They talk in plain text within this host.",
    };
    text.push_str(link);
    text
}

/// An agent that does nothing says so before anything else.
fn observes(config: &Config) -> Option<String> {
    (config.mode == Conduct::Observe).then(|| {
        "Only observes: it says and journals what it would do, and does nothing of what follows."
            .to_owned()
    })
}

/// When an agent is no judge of others.
fn doubts_itself(config: &Config) -> String {
    let check = &config.self_check;
    let isolated = match check.targets.as_slice() {
        [] => String::new(),
        targets => format!(
            "it reaches none of {} (tried every {}), or ",
            targets.join(", "),
            show_duration(check.timing.interval)
        ),
    };
    format!(
        "An agent accuses nobody while {isolated}it was late by more than {} itself.",
        show_duration(check.late_max)
    )
}

/// What is looked at.
fn watches(config: &Config) -> Vec<String> {
    let database = &config.database;
    let link = match &database.tls {
        DatabaseTls::Off => "in plain text",
        DatabaseTls::Verify { .. } => "by TLS",
    };
    let nodes: Vec<_> = config.sites.iter().map(node).collect();
    let mut lines = vec![format!(
        "Watches PostgreSQL at {}, as {} {link}, every {} on an open connection and every {} on a \
         new one; on the primary it also commits to {}. {}",
        nodes.join(" and "),
        database.user,
        show_duration(database.timing.interval),
        show_duration(database.fresh_interval),
        database.heartbeat_table,
        thresholds(&database.timing),
    )];
    lines.extend(config.probes.iter().map(probe));
    lines
}

fn routes(site: &Site) -> Option<String> {
    let address = site.routing?;
    let name = &site.name;
    Some(format!(
        "Answers load balancers at {name} on {address}: whether {name} is primary or a standby."
    ))
}

fn node(site: &Site) -> String {
    let control = match &site.node.control {
        Control::Local => "by pg_ctl".to_owned(),
        Control::Systemd { unit } => format!("by the systemd unit {unit}"),
        Control::Commands(commands) if can_fence(site) => {
            format!(
                "by commands of at most {} each",
                show_duration(commands.timeout)
            )
        }
        Control::Commands(_) => "by commands that cannot fence it".to_owned(),
    };
    format!(
        "{}:{} (controlled {control})",
        site.node.host, site.node.port
    )
}

/// S3: only a node that can be fenced is failed over automatically.
fn can_fence(site: &Site) -> bool {
    match &site.node.control {
        Control::Local | Control::Systemd { .. } => true,
        Control::Commands(commands) => commands.fence.is_some() && commands.fenced.is_some(),
    }
}

fn probe(probe: &Probe) -> String {
    let place = match probe.sites.as_slice() {
        [] => "every member".to_owned(),
        sites => sites
            .iter()
            .map(ToString::to_string)
            .collect::<Vec<_>>()
            .join(" and "),
    };
    let every = show_duration(probe.timing.interval);
    format!(
        "Watches {} from {place} every {every}: {}. {}",
        probe.name,
        asks(&probe.kind),
        thresholds(&probe.timing)
    )
}

/// What a look at an endpoint asks.
fn asks(kind: &ProbeKindSettings) -> String {
    match kind {
        ProbeKindSettings::Tcp { address } => format!("whether {address} accepts a connection"),
        ProbeKindSettings::Http(http) => {
            let ranges = http.status.iter().map(|(low, high)| match low == high {
                true => low.to_string(),
                false => format!("{low}-{high}"),
            });
            let mut what = format!(
                "whether {} {} answers {}",
                http.method,
                http.url,
                ranges.collect::<Vec<_>>().join(" or ")
            );
            if let Some(text) = &http.body_contains {
                push(&mut what, format_args!(" with {text:?} in the body"));
            }
            if let Some(latency) = http.latency_max {
                push(
                    &mut what,
                    format_args!(" within {}", show_duration(latency)),
                );
            }
            what
        }
    }
}

fn thresholds(timing: &ProbeTiming) -> String {
    format!(
        "After {} it is down, after {} it is up again; no answer within {} is a failure, and \
         between the two it looks every {}.",
        times(timing.fall, "failure", "failures"),
        times(timing.rise, "success", "successes"),
        show_duration(timing.timeout),
        show_duration(timing.fast_interval),
    )
}

fn times(count: u32, one: &str, many: &str) -> String {
    match count {
        1 => format!("1 {one}"),
        _ => format!("{count} {many} in a row"),
    }
}

/// When the primary moves.
fn fails_over(config: &Config) -> Vec<String> {
    let failover = &config.failover;
    let [first, second] = &config.sites;
    let mut lines = vec![lease(&config.lease)];
    lines.extend(etcd(config));
    lines.push(match config.lease_store {
        LeaseStore::Quorum => {
            "Fails over by itself when the active site says that its database is dead, or \
                    falls silent and the other site and the witness agree."
                .to_owned()
        }
        LeaseStore::Etcd => "Fails over by itself when the active site says that its database is \
                             dead, or falls silent and its lease in etcd has run out."
            .to_owned(),
        LeaseStore::Pair => {
            "Fails over by itself only when the active site says that its database is dead; \
                 when it falls silent, a person must decide, because there is no witness."
                .to_owned()
        }
    });
    for (from, to) in [(first, second), (second, first)] {
        lines.push(match can_fence(from) {
            true => format!(
                "Fails over from {} to {} only if {} is fenced or its lease has run out, and the \
                 standby lacks at most {} of WAL.",
                from.name,
                to.name,
                from.name,
                show_size(failover.lag_max.0)
            ),
            false => format!(
                "Never fails over from {} to {} by itself: nothing can prove that {} is fenced.",
                from.name, to.name, from.name
            ),
        });
    }
    lines.extend(config.trips.iter().map(trip));
    lines.push(format!(
        "After a failover there is no second one by itself for {}, and never more than {} within \
         {}. A clean stop gets {}, a promotion {}, a start {}.",
        show_duration(failover.block),
        failover.max_automatic,
        show_duration(failover.window),
        show_duration(failover.stop_grace),
        show_duration(failover.promote_timeout),
        show_duration(failover.start_timeout),
    ));
    lines.push(match failover.restart_budget.is_zero() {
        true => "Never restarts a dead primary in place.".to_owned(),
        false => format!(
            "Restarts a dead primary in place first, if that takes at most {}.",
            show_duration(failover.restart_budget)
        ),
    });
    lines
}

fn lease(lease: &Lease) -> String {
    format!(
        "The active site holds a lease of {}, renewed every {}; without it, its node is fenced \
         within {} before the lease ends.",
        show_duration(lease.ttl),
        show_duration(lease.renew_every),
        show_duration(lease.fence_budget),
    )
}

/// Where the lease is kept, if not with the members.
fn etcd(config: &Config) -> Option<String> {
    let etcd = config.etcd.as_ref();
    let etcd = etcd.filter(|_| config.lease_store == LeaseStore::Etcd)?;
    let login = match &etcd.login {
        Some((user, _)) => format!(" as {user}"),
        None => String::new(),
    };
    Some(format!(
        "The lease is kept in etcd at {}{login}, under {}/{}. While etcd is away, the active site \
         goes on only as long as the other agent agrees, and nobody takes over.",
        etcd.endpoints.join(", "),
        etcd.prefix,
        config.cluster,
    ))
}

fn trip(trip: &Trip) -> String {
    let probes: Vec<_> = trip.probes.iter().map(ToString::to_string).collect();
    format!(
        "Fails the whole site over ({}) when {} of {} {} down for {}.",
        trip.name,
        trip.at_least,
        probes.join(", "),
        if trip.at_least == 1 { "is" } else { "are" },
        show_duration(trip.down_for),
    )
}

fn moves(record: &DnsRecord, config: &Config) -> String {
    let [first, second] = &config.sites;
    let [at_first, at_second] = record.contents.each_ref().map(|it| it.join(" and "));
    let seen = record.edge_check().map_or_else(String::new, |check| {
        let place = match &check.header {
            Some(header) => format!("header {header}"),
            None => "body".to_owned(),
        };
        let (url, expect) = (check.shown(), &check.expect);
        format!(" Seen through its edge: the {place} of {url} must say {expect}.")
    });
    format!(
        "Moves the {} record {} at {}: {at_first} when {} is active, {at_second} when {} is.{seen}",
        record.kind,
        record.record,
        record.access.provider(),
        first.name,
        second.name
    )
}

/// Whether the world has what was moved.
fn checks_dns(config: &Config) -> Option<String> {
    if config.dns.is_empty() {
        return None;
    }
    let check = &config.dns_check;
    let list = |servers: &[std::net::SocketAddr]| {
        let servers: Vec<_> = servers.iter().map(ToString::to_string).collect();
        servers.join(", ")
    };
    let authoritative = match check.authoritative.as_slice() {
        [] => "every authoritative server of its zone".to_owned(),
        servers => format!("the authoritative servers {}", list(servers)),
    };
    let resolvers = match check.resolvers.as_slice() {
        [] => String::new(),
        resolvers => format!(" and the resolvers {}", list(resolvers)),
    };
    Some(format!(
        "After a move it asks {authoritative}{resolvers} until all have it, and waits for none of \
         them; every {} it looks whether somebody else changed a record, and tells.",
        show_duration(check.drift_every)
    ))
}

fn tells(config: &Config) -> Vec<String> {
    let names: Vec<_> = config
        .notifiers
        .iter()
        .map(|notifier| format!("{} (by {})", notifier.name, notifier.kind))
        .collect();
    let mut lines = vec![match names.as_slice() {
        [] => "Tells nobody: there is no [[notify]].".to_owned(),
        names => format!("Tells {}.", names.join(", ")),
    }];
    let objectives = [
        ("service back within", config.objectives.rto),
        ("at most this much work lost:", config.objectives.rpo),
    ];
    for (what, objective) in objectives {
        if let Some(objective) = objective {
            lines.push(format!("Promised: {what} {}.", show_duration(objective)));
        }
    }
    lines
}

/// Writing to a `String` cannot fail.
fn push(text: &mut String, arguments: std::fmt::Arguments<'_>) {
    let written = text.write_fmt(arguments);
    debug_assert!(written.is_ok());
}
