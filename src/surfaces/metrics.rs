//! The newest picture as metrics, in the text format that Prometheus reads.
//!
//! One table of names (`GAUGES`), and samples with labels below it. Each is taken from the
//! picture when somebody asks, so nothing is counted here and nothing grows (S16).
//! Source: Prometheus, "Exposition formats"; "Metric and label naming" (units in the name, base
//! units, `_total` for what only grows).

use std::collections::BTreeMap;
use std::time::Duration;

use metrics::{Label, counter, describe_counter, describe_gauge, gauge};
use metrics_exporter_prometheus::PrometheusBuilder;
use serde::Serialize;

use crate::model::diagnosis::Severity;
use crate::model::dns::{DnsStatus, ServerKind};
use crate::model::situation::Reach;
use crate::runtime::guard::link::GuardSeen;
use crate::runtime::guard::protocol::{GuardState, WatchdogSeen};
use crate::runtime::status::{Counter, CounterKind, Snapshot};
use crate::runtime::upstreams::UpstreamStatus;

/// One sample.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Sample {
    /// The metric.
    pub name: &'static str,
    /// What it means.
    #[serde(skip)]
    pub help: &'static str,
    /// What it is about.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<&'static str, String>,
    /// How much; 1 for yes, 0 for no.
    pub value: Value,
}

/// A sample's value.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[serde(untagged)]
pub enum Value {
    /// Goes up and down.
    Level(f64),
    /// Only grows, until the agent starts anew.
    Count(u64),
}

/// A metric without labels: its name, what it means, and where it is found. Nothing is shown of
/// what is not known.
type Gauge = (&'static str, &'static str, fn(&Snapshot) -> Option<Value>);

/// Every metric without labels.
const GAUGES: &[Gauge] = &[
    (
        "agent_active",
        "1 if this site holds the lease and its node serves",
        |it| yes(it.active),
    ),
    (
        "agent_picture_timestamp_seconds",
        "when the agent's loop last went round: an old picture says nothing of now",
        |it| Some(Value::Level(it.at.0 as f64 / 1000.0)),
    ),
    (
        "agent_stopped",
        "1 if the agent stopped acting and calls a person",
        |it| yes(it.stopped.is_some()),
    ),
    ("agent_lease_epoch", "the highest epoch known", |it| {
        number(it.lease.epoch.0)
    }),
    (
        "agent_lease_fence_in_seconds",
        "until the own node is fenced unless a renewal succeeds",
        |it| it.lease.fence_in_ms.map(seconds),
    ),
    (
        "agent_lease_voters_reached",
        "voters that answered lately",
        |it| number(it.lease.reached.len() as u64),
    ),
    (
        "agent_refusals",
        "reasons why it does not do what it would do",
        |it| number(it.refusals.len() as u64),
    ),
    (
        "agent_paused",
        "1 if acting by themselves is paused",
        |it| yes(it.brakes.paused.is_some()),
    ),
    (
        "agent_failovers_unacknowledged",
        "automatic failovers within the window that nobody acknowledged",
        |it| number(it.brakes.failovers as u64),
    ),
    (
        "agent_guard_at_work",
        "1 if a guard would fence the own node without the agent",
        |it| {
            it.guard_seen
                .as_ref()
                .and_then(|seen| yes(guard(seen).is_some()))
        },
    ),
    (
        "agent_guard_resident",
        "1 if the guard's memory cannot be swapped out",
        |it| yes(guard(it.guard_seen.as_ref()?)?.resident),
    ),
    (
        "agent_watchdog_wanted",
        "1 if settings ask for the watchdog device",
        |it| {
            let guard = guard(it.guard_seen.as_ref()?)?;
            yes(guard.watchdog != WatchdogSeen::Off)
        },
    ),
    (
        "agent_watchdog_usable",
        "0 if the watchdog device that settings ask for cannot be used: an alarm",
        |it| match &guard(it.guard_seen.as_ref()?)?.watchdog {
            WatchdogSeen::Off => None,
            WatchdogSeen::Ready | WatchdogSeen::Running => yes(true),
            WatchdogSeen::Unusable { .. } => yes(false),
        },
    ),
];

/// The picture's samples.
#[must_use]
pub fn samples(picture: &Snapshot) -> Vec<Sample> {
    let mut samples: Vec<_> = GAUGES
        .iter()
        .filter_map(|(name, help, of)| Some(sample(name, help, [], of(picture)?)))
        .collect();
    let info = [
        ("cluster", picture.cluster.to_string()),
        ("site", picture.site.to_string()),
        ("version", picture.version.clone()),
        ("phase", picture.phase.clone()),
    ];
    samples.push(sample(
        "agent_info",
        "which agent this is; always 1",
        info,
        level(true),
    ));
    samples.extend(picture.diagnoses.iter().map(|it| {
        let labels = [
            ("name", it.name.to_string()),
            ("severity", severity(it.severity).to_owned()),
        ];
        sample(
            "agent_diagnosis",
            "1 for each diagnosis made now",
            labels,
            level(true),
        )
    }));
    samples.extend(picture.members.iter().map(|it| {
        let labels = [("member", it.member.to_string())];
        let answers = level(it.reach == Reach::Answers);
        sample(
            "agent_member_answers",
            "1 if the member answers",
            labels,
            answers,
        )
    }));
    samples.extend(picture.targets.iter().filter_map(|it| {
        let up = match it.condition.as_str() {
            "up" => level(true),
            "down" => level(false),
            _ => return None,
        };
        let labels = [("target", it.target.clone())];
        let help = "1 if the target is up, 0 if down; nothing while that is not known";
        Some(sample("agent_target_up", help, labels, up))
    }));
    samples.extend(picture.dns.iter().flat_map(dns));
    samples.extend(picture.dns_providers.iter().map(|it| {
        let labels = [("record", it.name.clone())];
        let help = "0 if the record could not be moved now: an alarm";
        sample(
            "agent_dns_provider_usable",
            help,
            labels,
            level(it.trouble.is_none()),
        )
    }));
    samples.extend(picture.upstreams.iter().flat_map(upstream));
    samples.extend(picture.counters.iter().filter_map(counted));
    samples
}

/// What is seen of a record that this agent keeps.
fn dns(it: &DnsStatus) -> Vec<Sample> {
    let labels = || [("record", it.name.clone())];
    let mut samples = vec![sample(
        "agent_dns_drift",
        "1 if somebody else changed the record at its provider: an alarm",
        labels(),
        level(it.drift.is_some()),
    )];
    samples.extend(it.edge.as_ref().map(|edge| {
        let help = "1 if the site that should be reached answers through the provider's edge";
        sample(
            "agent_dns_edge_follows",
            help,
            labels(),
            level(edge.follows()),
        )
    }));
    let Some(view) = &it.view else {
        return samples;
    };
    for (name, help, kind) in [
        (
            "agent_dns_authoritative_share",
            "the share of the zone's own servers that have the record as it should be",
            ServerKind::Authoritative,
        ),
        (
            "agent_dns_resolver_share",
            "the share of the resolvers asked that have the record as it should be",
            ServerKind::Resolver,
        ),
    ] {
        let share = view.share(kind);
        if share.of > 0 {
            let value = Value::Level(share.has as f64 / share.of as f64);
            samples.push(sample(name, help, labels(), value));
        }
    }
    samples
}

/// A group of app servers. Its members are not told one by one: there may be thousands.
fn upstream(it: &UpstreamStatus) -> Vec<Sample> {
    let states = [
        ("healthy", Some(it.healthy)),
        ("down", Some(it.down)),
        ("unknown", Some(it.unknown)),
        ("in_file", it.in_file),
    ];
    let members = states.into_iter().filter_map(|(state, count)| {
        let labels = [("upstream", it.name.clone()), ("state", state.to_owned())];
        let help = "members of the group; in_file are those to which the proxy sends requests";
        let count = number(count? as u64)?;
        Some(sample("agent_upstream_members", help, labels, count))
    });
    let renderings = sample(
        "agent_upstream_renderings_total",
        "how often the proxy's file was changed",
        [("upstream", it.name.clone())],
        Value::Count(it.renderings),
    );
    let held = sample(
        "agent_upstream_held",
        "1 if the proxy's file is not what health calls for",
        [("upstream", it.name.clone())],
        level(it.why_not.is_some()),
    );
    members.chain([renderings, held]).collect()
}

/// Names of a fixed set, and targets of the settings: no sentence becomes a label.
fn counted(it: &Counter) -> Option<Sample> {
    let (name, help, label) = match it.kind {
        CounterKind::Event => (
            "agent_events_total",
            "things that happened to the agent itself since it started",
            "event",
        ),
        CounterKind::LateLook => (
            "agent_late_looks_total",
            "looks that were left out because the last one still ran",
            "target",
        ),
        // Told by `agent_member_answers`.
        CounterKind::Silence => return None,
    };
    let labels = [(label, it.name.clone())];
    Some(sample(name, help, labels, Value::Count(it.count)))
}

/// The picture in the text format.
#[must_use]
pub fn exposition(picture: &Snapshot) -> String {
    let recorder = PrometheusBuilder::new().build_recorder();
    metrics::with_local_recorder(&recorder, || samples(picture).into_iter().for_each(record));
    recorder.handle().render()
}

fn record(sample: Sample) {
    let Sample {
        name,
        help,
        labels,
        value,
    } = sample;
    let labels = labels.into_iter();
    let labels: Vec<_> = labels.map(|(key, text)| Label::new(key, text)).collect();
    match value {
        Value::Level(level) => {
            describe_gauge!(name, help);
            gauge!(name, labels).set(level);
        }
        Value::Count(count) => {
            describe_counter!(name, help);
            counter!(name, labels).absolute(count);
        }
    }
}

fn sample<const N: usize>(
    name: &'static str,
    help: &'static str,
    labels: [(&'static str, String); N],
    value: Value,
) -> Sample {
    let labels = labels.into();
    Sample {
        name,
        help,
        labels,
        value,
    }
}

fn severity(severity: Severity) -> &'static str {
    match severity {
        Severity::Fine => "fine",
        Severity::Unclear => "unclear",
        Severity::Degraded => "degraded",
        Severity::Outage => "outage",
        Severity::Danger => "danger",
    }
}

fn guard(seen: &GuardSeen) -> Option<&GuardState> {
    match seen {
        GuardSeen::AtWork(state) => Some(state),
        GuardSeen::Starting | GuardSeen::Gone => None,
    }
}

fn level(is: bool) -> Value {
    Value::Level(if is { 1.0 } else { 0.0 })
}

fn yes(is: bool) -> Option<Value> {
    Some(level(is))
}

/// Exact up to 2^53, as every number in that format.
fn number(number: u64) -> Option<Value> {
    Some(Value::Level(number as f64))
}

fn seconds(millis: u64) -> Value {
    Value::Level(Duration::from_millis(millis).as_secs_f64())
}
