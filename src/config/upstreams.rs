//! `[[upstream]]`: groups of app servers, and the proxy's file that names the healthy ones.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::path::Path;
use std::time::Duration;

use super::moves::taken;
use super::probes::{http_request, timing};
use super::problem::{Refusal, quoted};
use super::reader::Table;
use super::settings::{
    AppConfig, AppConfigFile, HttpProbe, ProxyFormat, TargetSettings, Upstream, UpstreamFile,
    UpstreamMember, UpstreamTrip,
};
use super::sites::Sites;
use super::{defaults, keys, syntax, targets, validate};
use crate::model::SiteName;

const SETTLE: RangeInclusive<Duration> = Duration::ZERO..=Duration::from_secs(60);
const DOWN_FOR: RangeInclusive<Duration> = Duration::ZERO..=Duration::from_secs(86_400);
const MEMBERS: RangeInclusive<u32> = 1..=10_000;
/// What both proxies take. Source: HAProxy configuration manual, 5.2, `weight`.
const WEIGHT: RangeInclusive<u32> = 1..=256;
const CONNECTIONS: RangeInclusive<u32> = 1..=1_000_000;

/// The version that comes back when the proxy does not take the new one; older ones are of no use.
const KEEP: u32 = 1;

/// What stands for a member's address in the URL of its probe.
const ADDRESS: &str = "{address}";

/// The groups that could be read.
pub(super) fn upstreams(
    root: &Table<'_>,
    sites: &Sites,
    app_configs: &[AppConfig],
) -> Vec<Upstream> {
    let tables = root.tables("upstream", &keys::UPSTREAM);
    validate::names_differ(&tables);
    let mut read: Vec<Upstream> = Vec::new();
    for table in &tables {
        let Some(upstream) = upstream(table, sites) else {
            continue;
        };
        // Two that rewrite one file as a whole could undo each other's work.
        let path = &upstream.file.path;
        let meets =
            |site: &Option<_>| site.is_none() || upstream.site.is_none() || *site == upstream.site;
        let group = read
            .iter()
            .find(|other| other.file.path == *path && meets(&other.site))
            .map(|other| format!("upstream {}", quoted(&other.name)));
        let app = app_configs
            .iter()
            .find(|app| app.files.iter().any(|file| file.path == *path) && meets(&app.site))
            .map(|app| format!("app config {}", quoted(&app.name)));
        if let Some(other) = group.or(app) {
            let refusal = Refusal::new(format!("{other} already rewrites this file"));
            table.error(
                "path",
                refusal.hint("a file for each: nginx includes several, HAProxy takes several -f"),
            );
        }
        read.push(upstream);
    }
    read
}

fn upstream(table: &Table<'_>, sites: &Sites) -> Option<Upstream> {
    table.need("name", "how reports call it");
    table.need("members", "a list of { address = \"host:port\" }");
    let name = table.parsed("name", syntax::name);
    let site = table.parsed("site", |name| {
        sites.known(name).ok_or_else(|| sites.unknown(name))
    });
    let members = members(table);
    let count = members.as_ref().map_or(0, Vec::len);
    let timing = timing(table, &defaults::UPSTREAM_TIMING);
    let http = http(table, timing.timeout);
    let min_healthy = share(table, "min_healthy", count);
    let change_max = share(table, "max_change", count);
    let settle = table.duration("settle", &SETTLE);
    if settle.is_some_and(|settle| settle > timing.interval) {
        table.error("settle", Refusal::new("must not be longer than interval"));
    }
    let file = file(table, name.as_deref(), site.clone());
    let trip = trip(table, count);
    Some(Upstream {
        name: name?,
        site,
        members: members?,
        http: http?,
        timing,
        min_healthy: min_healthy.unwrap_or(defaults::UPSTREAM_MIN_HEALTHY),
        change_max: change_max.unwrap_or(count),
        settle: settle.unwrap_or(defaults::UPSTREAM_SETTLE.min(timing.interval)),
        file: file?,
        trip,
    })
}

fn members(table: &Table<'_>) -> Option<Vec<UpstreamMember>> {
    if !table.has("members") {
        return None;
    }
    let tables = table.tables("members", &keys::UPSTREAM_MEMBER);
    let mut members = Vec::new();
    let mut lines: BTreeMap<String, Option<usize>> = BTreeMap::new();
    for table in &tables {
        let Some(member) = member(table) else {
            continue;
        };
        let line = table.spot("address").line;
        if let Some(first) = lines.insert(member.address.clone(), line) {
            let first = first.map_or_else(String::new, |line| format!(" in line {line}"));
            let refusal = Refusal::new(format!("this address is already listed{first}"));
            table.error(
                "address",
                refusal.hint("weight gives a member a larger share"),
            );
        }
        members.push(member);
    }
    if members.len() < tables.len() || table.reader.has_errors_in(&table.spot("members").key) {
        return None;
    }
    if members.iter().all(|member| member.backup) {
        let refusal = Refusal::new("names no member that is not a backup");
        table.error("members", refusal.hint("backups take over from others"));
        return None;
    }
    if members.len() > *MEMBERS.end() as usize {
        let what = format!("more than {} members", MEMBERS.end());
        table.error("members", Refusal::new(what));
    }
    let named = members.iter().filter(|member| is_name(&member.address));
    if let Some(member) = named.into_iter().next() {
        let what = format!(
            "{} is a name, which the proxy looks up itself",
            member.address
        );
        let hint = "write IP addresses: while names are not answered, no reload succeeds";
        table.warning("members", Refusal::new(what).hint(hint));
    }
    Some(members)
}

fn is_name(address: &str) -> bool {
    address.parse::<std::net::SocketAddr>().is_err()
}

fn member(table: &Table<'_>) -> Option<UpstreamMember> {
    table.need("address", "host:port");
    let address = table.parsed("address", syntax::host_port);
    let backup = table.boolean("backup", false);
    let weight = table.integer("weight", &WEIGHT);
    let connections_max = table.integer("max_conns", &CONNECTIONS);
    Some(UpstreamMember {
        address: address?.to_string(),
        backup,
        weight,
        connections_max,
    })
}

/// The request to each member; `Some(None)` where there is none.
fn http(table: &Table<'_>, timeout: Duration) -> Option<Option<Box<HttpProbe>>> {
    if !table.has("http") {
        return Some(None);
    }
    let table = table.table("http", &keys::UPSTREAM_HTTP)?;
    table.need("url", "e.g. \"http://{address}/health\"");
    let url = table.parsed("url", |text| {
        if !text.contains(ADDRESS) {
            let refusal = Refusal::new("does not say where the member's address belongs");
            return Err(refusal.hint("e.g. \"http://{address}/health\""));
        }
        syntax::only_variables(text, &["address"])?;
        let sample = syntax::url(&text.replace(ADDRESS, "127.0.0.1:80"))?;
        Ok((sample, text.to_owned()))
    });
    http_request(&table, timeout, url).map(|http| Some(Box::new(http)))
}

/// A number of members, or a percentage of them, rounded up.
fn share(table: &Table<'_>, key: &'static str, count: usize) -> Option<usize> {
    if !table.is_text(key) {
        let number = table.integer(key, &MEMBERS)? as usize;
        // Without members there is nothing to compare with, and that has been said.
        if number > count && count > 0 {
            let what = format!("more than the {count} that members lists");
            table.error(key, Refusal::new(what));
        }
        return Some(number);
    }
    table.parsed(key, |text| {
        let refuse = || {
            let what = format!("neither a number nor a percentage: {}", quoted(text));
            Refusal::new(what).hint("e.g. 2 or \"50%\"")
        };
        let percent = text.strip_suffix('%').ok_or_else(refuse)?;
        let digits = percent.chars().all(|sign| sign.is_ascii_digit());
        let percent: usize = percent.parse().map_err(|_| refuse())?;
        if !digits || !(1..=100).contains(&percent) {
            return Err(Refusal::new("must be from \"1%\" to \"100%\""));
        }
        Ok((count * percent).div_ceil(100))
    })
}

fn file(table: &Table<'_>, name: Option<&str>, site: Option<SiteName>) -> Option<UpstreamFile> {
    table.need("format", "\"nginx\" or \"haproxy\"");
    table.need("path", "the proxy's file");
    let format = table.choice("format", &["nginx", "haproxy"]);
    let format = format.map(|format| match format {
        "haproxy" => ProxyFormat::Haproxy,
        _ => ProxyFormat::Nginx,
    });
    let path = table.path("path");
    let block = table.parsed("block", block_name);
    let render = table.choice("render", &["block", "servers"]);
    let servers_only = render == Some("servers");
    if servers_only {
        table.refuse_keys(&["block"], "only for render = \"block\"");
    }
    // A key of the target's own, so that its memory is not taken for that of an app config.
    let target_name = name.map(|name| format!("upstream:{name}"));
    let files = path.clone().map(|path| {
        vec![AppConfigFile {
            path,
            format: None,
            edits: Vec::new(),
            template: None,
        }]
    });
    let ready_made = format.and_then(|format| targets::of_upstream(table, format));
    refuse_unread(table, path.as_deref(), ready_made.as_ref());
    let target = taken(table, (target_name, site), files, &[], (KEEP, ready_made));
    Some(UpstreamFile {
        format: format?,
        path: path?,
        block: block.or_else(|| name.map(str::to_owned))?,
        servers_only,
        target: target?,
    })
}

/// HAProxy checks what its settings here name: another file would go unchecked.
fn refuse_unread(table: &Table<'_>, path: Option<&Path>, target: Option<&TargetSettings>) {
    let Some((TargetSettings::Haproxy(haproxy), path)) = target.zip(path) else {
        return;
    };
    if haproxy.config.iter().all(|file| file != path) {
        let refusal = Refusal::new("the files of haproxy.config do not have this one among them");
        let hint = "name every file of HAProxy there, in its order: config = [\"…\", \"…\"]";
        table.error("path", refusal.hint(hint));
    }
}

/// What both proxies take for a name without quotes. Source: HAProxy configuration manual, 2.2:
/// letters, digits, `-`, `_`, `.` and `:`; nginx does not take a `:` there, because it would be the
/// port of a `proxy_pass`.
fn block_name(text: &str) -> Result<String, Refusal> {
    let allowed = |sign: char| sign.is_ascii_alphanumeric() || "-_.".contains(sign);
    match text.len() <= 63 && text.chars().all(allowed) {
        true => Ok(text.to_owned()),
        false => Err(Refusal::new(format!("not a name: {}", quoted(text)))
            .hint("letters, digits, \"-\", \"_\" and \".\", at most 63")),
    }
}

fn trip(table: &Table<'_>, count: usize) -> Option<UpstreamTrip> {
    let down_for = table.duration("down_for", &DOWN_FOR);
    if !table.has("trip_below") {
        table.refuse_keys(&["down_for"], "has no meaning without trip_below");
        return None;
    }
    let below = share(table, "trip_below", count)?;
    Some(UpstreamTrip {
        below,
        down_for: down_for.unwrap_or(defaults::TRIP_DOWN_FOR),
    })
}
