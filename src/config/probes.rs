//! `[database]`, `[[probe]]` and `[[trip]]`: what is looked at, how often, and what follows.

use std::ops::RangeInclusive;
use std::time::Duration;

use toml::de::DeValue;

use super::file::existing_file;
use super::problem::{Refusal, quoted};
use super::reader::{Table, type_of};
use super::settings::{
    Database, DatabaseTls, HttpProbe, Probe, ProbeKindSettings, ProbeTiming, SelfCheck, Trip,
};
use super::sites::Sites;
use super::{MemberRole, defaults, keys, secret_source, suggest, syntax, units, validate};
use crate::model::{ProbeName, SiteName};

const INTERVAL: RangeInclusive<Duration> = Duration::from_millis(50)..=Duration::from_secs(3600);
const TIMEOUT: RangeInclusive<Duration> = Duration::from_millis(10)..=Duration::from_secs(300);
const DOWN_FOR: RangeInclusive<Duration> = Duration::ZERO..=Duration::from_secs(86_400);
const LATE_MAX: RangeInclusive<Duration> = Duration::from_millis(200)..=Duration::from_secs(60);
const THRESHOLD: RangeInclusive<u32> = 1..=100;
const AT_LEAST: RangeInclusive<u32> = 1..=10_000;

/// How a database is probed; `None` only after an error was reported.
pub(super) fn database(root: &Table<'_>, sites: &Sites, role: MemberRole) -> Option<Database> {
    let table = root.table_or_empty("database", &keys::DATABASE)?;
    let user = table.parsed("user", syntax::sql_name);
    if user.as_deref().is_some_and(|user| user.starts_with("pg_")) {
        table.error(
            "user",
            Refusal::new("roles that begin with pg_ belong to PostgreSQL"),
        );
    }
    if user.as_deref() == Some("postgres") {
        let refusal = Refusal::new("usually a superuser: far more than the agent needs");
        table.warning("user", refusal.hint("make it a role of its own"));
    }
    let password = match role {
        MemberRole::Agent => secret_source::read(&table, &keys::DATABASE_PASSWORD),
        // Its host needs no database password: what it cannot see of the databases, the agents can.
        MemberRole::Witness => None,
    };
    let dbname = table.parsed("dbname", syntax::sql_name);
    let tls = database_tls(&table, sites);
    let heartbeat = table.parsed("heartbeat_table", syntax::table_name);
    let timing = timing(&table, &defaults::DATABASE_TIMING);
    let fresh_interval = table.duration("fresh_interval", &INTERVAL);
    let or_default = |text: Option<String>, default: &str| text.unwrap_or_else(|| default.into());
    Some(Database {
        user: or_default(user, defaults::DATABASE_USER),
        password,
        dbname: or_default(dbname, defaults::DATABASE_NAME),
        tls: tls?,
        timing,
        fresh_interval: fresh_interval.unwrap_or(defaults::DATABASE_FRESH_INTERVAL),
        heartbeat_table: or_default(heartbeat, defaults::HEARTBEAT_TABLE),
    })
}

fn database_tls(table: &Table<'_>, sites: &Sites) -> Option<DatabaseTls> {
    let ca = existing_file(table, "ca");
    let verify = match table.has("tls") {
        true => table.choice("tls", &["off", "verify"])? == "verify",
        false => false,
    };
    if verify {
        return match table.has("ca") && ca.is_none() {
            true => None,
            false => Some(DatabaseTls::Verify { ca }),
        };
    }
    table.refuse_keys(&["ca"], "only for tls = \"verify\"");
    let distant = sites
        .read
        .iter()
        .find(|read| !syntax::is_loopback(&read.site.node.host));
    if let Some(read) = distant
        && !table.has("tls")
    {
        let what = format!("connections to {} are not encrypted", read.site.node.host);
        let hint = "write tls = \"verify\", or tls = \"off\" to say that it is meant";
        table.warning("tls", Refusal::new(what).hint(hint));
    }
    Some(DatabaseTls::Off)
}

/// Rhythm and thresholds; a default that does not fit the given interval follows it.
pub(super) fn timing(table: &Table<'_>, default: &ProbeTiming) -> ProbeTiming {
    let interval = table.duration("interval", &INTERVAL);
    let fast_interval = table.duration("fast_interval", &INTERVAL);
    let interval_is_bad = interval.is_none() && table.has("interval");
    let interval = interval.unwrap_or(default.interval);
    let fast = fast_interval.unwrap_or(default.fast_interval.min(interval));
    if fast > interval && !interval_is_bad {
        let shown = units::show_duration(interval);
        let what = format!("must not be longer than interval, which is {shown}");
        table.error("fast_interval", Refusal::new(what));
    }
    ProbeTiming {
        interval,
        fast_interval: fast,
        timeout: table
            .duration("timeout", &TIMEOUT)
            .unwrap_or(default.timeout),
        fall: table.integer("fall", &THRESHOLD).unwrap_or(default.fall),
        rise: table.integer("rise", &THRESHOLD).unwrap_or(default.rise),
    }
}

/// Reads how an agent knows whether it may judge others.
pub(super) fn self_check(root: &Table<'_>) -> Option<SelfCheck> {
    let table = root.table_or_empty("self_check", &keys::SELF_CHECK)?;
    let mut targets: Vec<String> = Vec::new();
    let written = match table.has("targets") {
        true => table.texts("targets")?,
        false => Vec::new(),
    };
    for (text, spot) in written {
        let address = text.strip_prefix("tcp://").unwrap_or(text);
        match syntax::host_port(address).map(|address| address.to_string()) {
            Ok(address) if targets.contains(&address) => {
                table
                    .reader
                    .error(&spot, Refusal::new("already in this list"));
            }
            Ok(address) => targets.push(address),
            Err(refusal) => table.reader.error(&spot, refusal),
        }
    }
    if let [_] = targets.as_slice() {
        let refusal = Refusal::new("one neutral target: when it is down, this agent doubts itself");
        table.warning("targets", refusal.hint("name two or three"));
    }
    let default = defaults::SELF_CHECK_TIMING;
    let interval = table.duration("interval", &INTERVAL);
    let interval = interval.unwrap_or(default.interval);
    Some(SelfCheck {
        targets,
        timing: ProbeTiming {
            interval,
            fast_interval: default.fast_interval.min(interval),
            timeout: table
                .duration("timeout", &TIMEOUT)
                .unwrap_or(default.timeout),
            ..default
        },
        late_max: table
            .duration("late_max", &LATE_MAX)
            .unwrap_or(defaults::SELF_CHECK_LATE_MAX),
    })
}

/// What the file says of endpoint probes.
#[derive(Debug)]
pub(super) struct Probes<'r> {
    /// Every name, also of those that could not be read.
    pub(super) names: Vec<&'r str>,
    /// Those that could be read.
    pub(super) read: Vec<Probe>,
}

/// Reads every endpoint probe.
pub(super) fn endpoints<'r>(root: &Table<'r>, sites: &Sites) -> Probes<'r> {
    let tables = root.tables("probe", &keys::PROBE);
    validate::names_differ(&tables);
    let mut probes = Probes {
        names: Vec::new(),
        read: Vec::new(),
    };
    for table in &tables {
        table.need("name", "how reports and trips call it");
        let name = table.parsed("name", syntax::name);
        probes.names.extend(table.written_name());
        probes.read.extend(endpoint(table, name, sites));
    }
    probes
}

const HTTP_KEYS: [&str; 8] = [
    "url",
    "method",
    "headers",
    "body",
    "status",
    "body_contains",
    "latency_max",
    "ca",
];

fn endpoint(table: &Table<'_>, name: Option<String>, sites: &Sites) -> Option<Probe> {
    table.need("kind", "\"http\" or \"tcp\"");
    let timing = timing(table, &defaults::PROBE_TIMING);
    let vantage = vantage(table, sites);
    let kind = match table.choice("kind", &["http", "tcp"])? {
        "tcp" => {
            table.refuse_keys(&HTTP_KEYS, "only for kind = \"http\"");
            table.need("address", "host:port");
            let address = table.parsed("address", syntax::host_port)?;
            ProbeKindSettings::Tcp {
                address: address.to_string(),
            }
        }
        _ => {
            table.refuse_keys(&["address"], "only for kind = \"tcp\"");
            ProbeKindSettings::Http(Box::new(http(table, timing.timeout)?))
        }
    };
    Some(Probe {
        name: ProbeName::new(name?),
        sites: vantage?,
        kind,
        timing,
    })
}

/// The sites that run a probe.
fn vantage(table: &Table<'_>, sites: &Sites) -> Option<Vec<SiteName>> {
    if !table.has("sites") {
        return Some(Vec::new());
    }
    let mut vantage: Vec<SiteName> = Vec::new();
    for (name, spot) in table.texts("sites")? {
        match sites.known(name) {
            Some(site) if vantage.contains(&site) => {
                table
                    .reader
                    .error(&spot, Refusal::new("already in this list"));
            }
            Some(site) => vantage.push(site),
            None => table.reader.error(&spot, sites.unknown(name)),
        }
    }
    if vantage.is_empty() {
        let refusal = Refusal::new("names no site");
        table.error(
            "sites",
            refusal.hint("leave it out to probe from everywhere"),
        );
    }
    Some(vantage)
}

fn http(table: &Table<'_>, timeout: Duration) -> Option<HttpProbe> {
    table.need("url", "e.g. \"https://shop.example.com/health\"");
    let url = table.parsed("url", |text| Ok((syntax::url(text)?, text.to_owned())));
    http_request(table, timeout, url)
}

/// A request to a URL that was read already, with the text that it was read from.
pub(super) fn http_request(
    table: &Table<'_>,
    timeout: Duration,
    url: Option<(syntax::Url, String)>,
) -> Option<HttpProbe> {
    let methods = ["GET", "HEAD", "POST", "OPTIONS"];
    let method = table
        .choice("method", &methods)
        .unwrap_or(defaults::PROBE_METHOD);
    let body = table.text("body").map(str::to_owned);
    if method != "POST" {
        table.refuse_keys(&["body"], "only for method = \"POST\"");
    }
    let body_contains = table.text("body_contains").map(str::to_owned);
    if method == "HEAD" {
        table.refuse_keys(&["body_contains"], "the answer to HEAD has no body");
    }
    let latency_max = table.duration("latency_max", &TIMEOUT);
    if latency_max.is_some_and(|latency| latency > timeout) {
        table.error(
            "latency_max",
            Refusal::new("must not be longer than timeout"),
        );
    }
    if url.as_ref().is_some_and(|(url, _)| !url.https) {
        table.refuse_keys(&["ca"], "only for https");
    }
    let ca = existing_file(table, "ca");
    let status = status(table);
    let headers = headers(table);
    Some(HttpProbe {
        url: url?.1,
        method: method.to_owned(),
        headers: headers?,
        body,
        status: status?,
        body_contains,
        latency_max,
        ca,
    })
}

fn status(table: &Table<'_>) -> Option<Vec<(u16, u16)>> {
    if !table.has("status") {
        return Some(vec![defaults::PROBE_STATUS]);
    }
    let mut ranges = Vec::new();
    let texts = table.texts("status")?;
    if texts.is_empty() {
        table.error("status", Refusal::new("must not be empty"));
    }
    for (text, spot) in texts {
        match syntax::status_range(text) {
            Ok(range) => ranges.push(range),
            Err(refusal) => table.reader.error(&spot, refusal),
        }
    }
    Some(ranges)
}

/// Header values are never repeated in a problem: they may carry credentials.
fn headers(table: &Table<'_>) -> Option<Vec<(String, String)>> {
    if !table.has("headers") {
        return Some(Vec::new());
    }
    let mut headers = Vec::new();
    for (name, spot, value) in table.named("headers")? {
        if !syntax::is_header_name(name) {
            table
                .reader
                .error(&spot, Refusal::new("not the name of a header"));
        }
        match value {
            DeValue::String(text) if text.chars().any(char::is_control) => {
                let what = "the value has a line break or another control character in it";
                table.reader.error(&spot, Refusal::new(what));
            }
            DeValue::String(text) => headers.push((name.to_owned(), text.to_string())),
            DeValue::Integer(_)
            | DeValue::Float(_)
            | DeValue::Boolean(_)
            | DeValue::Datetime(_)
            | DeValue::Array(_)
            | DeValue::Table(_) => {
                let what = format!("expected a text in quotes, found {}", type_of(value));
                table.reader.error(&spot, Refusal::new(what));
            }
        }
    }
    Some(headers)
}

/// The trips that could be read.
pub(super) fn trips(root: &Table<'_>, known: &[&str]) -> Vec<Trip> {
    let tables = root.tables("trip", &keys::TRIP);
    validate::names_differ(&tables);
    tables
        .iter()
        .filter_map(|table| trip(table, known))
        .collect()
}

fn trip(table: &Table<'_>, known: &[&str]) -> Option<Trip> {
    table.need("name", "how reports call it");
    table.need("probes", "the names of the probes it looks at");
    let name = table.parsed("name", syntax::name);
    let at_least = table.integer("at_least", &AT_LEAST);
    let down_for = table.duration("down_for", &DOWN_FOR);
    let mut probes: Vec<ProbeName> = Vec::new();
    for (probe, spot) in table.texts("probes")? {
        if !known.contains(&probe) {
            let listed = || format!("known: {}", known.join(", "));
            let hint = suggest::did_you_mean(probe, known.iter().copied()).unwrap_or_else(listed);
            let what = format!("unknown probe {}", quoted(probe));
            table.reader.error(&spot, Refusal::new(what).hint(hint));
        } else if probes.iter().any(|other| other.as_str() == probe) {
            table
                .reader
                .error(&spot, Refusal::new("already in this list"));
        }
        probes.push(ProbeName::new(probe));
    }
    if probes.is_empty() {
        table.error("probes", Refusal::new("must not be empty"));
    }
    let count = probes.len();
    let at_least = at_least.and_then(|at_least| usize::try_from(at_least).ok());
    if at_least.is_some_and(|at_least| at_least > count) {
        let what = format!("more than the {count} that probes names: it could never trip");
        table.error("at_least", Refusal::new(what));
    }
    Some(Trip {
        name: name?,
        probes,
        at_least: at_least.unwrap_or(count),
        down_for: down_for.unwrap_or(defaults::TRIP_DOWN_FOR),
    })
}
