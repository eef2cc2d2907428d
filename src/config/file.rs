//! The shape of `agent.toml`: which section becomes which part of [`Config`].

use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use super::problem::Refusal;
use super::reader::{Spot, Table};
use super::settings::{Config, Failover, Guard, Lease, Objectives, Peer, PeerTls, WatchdogMode};
use super::sites::Sites;
use super::validate;
use super::{
    MemberRole, defaults, dns, dns_check, keys, lease_store, moves, probes, secret_source, sites,
    syntax, units, upstreams,
};
use crate::model::brakes::Conduct;
use crate::model::{ClusterName, LagBytes, SiteName};

/// Below 2 s a single lost packet is a quarter of it; above 5 minutes nobody calls it failover.
const TTL: RangeInclusive<Duration> = Duration::from_secs(2)..=Duration::from_secs(300);
const RENEW_EVERY: RangeInclusive<Duration> = Duration::from_millis(50)..=Duration::from_secs(150);
const REQUEST_TIMEOUT: RangeInclusive<Duration> =
    Duration::from_millis(20)..=Duration::from_secs(30);
const FENCE_BUDGET: RangeInclusive<Duration> = Duration::from_millis(100)..=Duration::from_secs(60);
const BLOCK: RangeInclusive<Duration> = Duration::ZERO..=Duration::from_secs(30 * 86_400);
/// The cluster record remembers no more than these.
const MAX_AUTOMATIC: RangeInclusive<u32> = 1..=10;
const WINDOW: RangeInclusive<Duration> = Duration::from_secs(60)..=Duration::from_secs(30 * 86_400);
/// What an operation on a node may take.
const NODE_TIMEOUT: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(3600);
const STOP_GRACE: RangeInclusive<Duration> = Duration::ZERO..=Duration::from_secs(600);
const RESTART_BUDGET: RangeInclusive<Duration> = Duration::ZERO..=Duration::from_secs(60);
const OBJECTIVE: RangeInclusive<Duration> = Duration::ZERO..=Duration::from_secs(365 * 86_400);
const LAG_MAX: RangeInclusive<u64> = 0..=1 << 40;

/// Longest path of a unix socket. Source: unix(7), `sun_path` has 108 bytes with the final zero.
const SOCKET_PATH_MAX: usize = 107;

/// Shortest shared secret: below this it could be guessed.
const PEER_SECRET_MIN: usize = 16;

/// Reads the whole file; `None` only after an error was reported.
pub(super) fn read(root: &Table<'_>, site: Option<&str>, role: MemberRole) -> Option<Config> {
    let cluster = root.parsed("cluster", syntax::name);
    let sites = sites::read(root);
    let site = own_site(root, &sites, site, role);
    let witness = witness(root, role);
    let peer = peer(root);
    validate::members(root, &sites, witness.as_ref(), peer.as_ref());
    let lease_table = root.table_or_empty("lease", &keys::LEASE);
    let lease = lease(lease_table.as_ref());
    let (lease_store, etcd) = match &lease_table {
        Some(table) => lease_store::read(root, table, role),
        None => (None, None),
    };
    let database = probes::database(root, &sites, role);
    let failover = failover(root);
    let self_check = probes::self_check(root);
    let probes = probes::endpoints(root, &sites);
    let trips = probes::trips(root, &probes.names);
    let app_configs = moves::app_configs(root, &sites, role);
    let upstreams = upstreams::upstreams(root, &sites, &app_configs);
    let dns = dns::records(root, &sites, role);
    let dns_check = dns_check::read(root);
    let notifiers = moves::notifiers(root, role);
    let objectives = objectives(root, &lease);
    let guard = guard(root);
    let (state_dir, socket) = places(root);
    let mode = mode(root);

    let site = match role {
        MemberRole::Agent => Some(site?),
        MemberRole::Witness => None,
    };
    Some(Config {
        cluster: ClusterName::new(cluster.unwrap_or_else(|| defaults::CLUSTER.to_owned())),
        site,
        mode,
        state_dir,
        socket,
        sites: sites.pair()?,
        witness: witness.map(|(address, _)| address.to_string()),
        peer: peer?,
        lease,
        lease_store: lease_store?,
        etcd,
        database: database?,
        failover: failover?,
        self_check: self_check?,
        probes: probes.read,
        trips,
        upstreams: only_at_agents(role, upstreams),
        app_configs: only_at_agents(role, app_configs),
        dns,
        dns_check: dns_check?,
        notifiers,
        objectives: objectives?,
        guard: guard?,
    })
}

/// The witness runs no step and writes no file.
fn only_at_agents<T>(role: MemberRole, read: Vec<T>) -> Vec<T> {
    match role {
        MemberRole::Agent => read,
        MemberRole::Witness => Vec::new(),
    }
}

/// The site of this process; asked for only where an agent runs.
fn own_site(
    root: &Table<'_>,
    sites: &Sites,
    option: Option<&str>,
    role: MemberRole,
) -> Option<SiteName> {
    let written = root.text("site");
    match role {
        MemberRole::Agent => {}
        MemberRole::Witness => return None,
    }
    let option_spot = Spot {
        line: None,
        key: "--site".to_owned(),
    };
    let (name, spot) = match option {
        Some(option) => (option, option_spot),
        None => {
            if !root.has("site") {
                root.error("site", Refusal::new("missing").hint(site_hint(sites)));
            }
            (written?, root.spot("site"))
        }
    };
    sites.known(name).or_else(|| {
        root.reader.error(&spot, sites.unknown(name));
        None
    })
}

/// Whether the agents act.
fn mode(root: &Table<'_>) -> Conduct {
    match root
        .has("mode")
        .then(|| root.choice("mode", &["act", "observe"]))
    {
        Some(Some("observe")) => Conduct::Observe,
        Some(_) | None => defaults::MODE,
    }
}

/// What there is to choose from.
fn site_hint(sites: &Sites) -> String {
    let names: Vec<_> = sites.names.iter().map(|(name, _)| name.as_str()).collect();
    match names.as_slice() {
        [] => "say which site this is: --site <name>".to_owned(),
        names => format!(
            "say which site this is: --site {}",
            names.join(" or --site ")
        ),
    }
}

fn witness(root: &Table<'_>, role: MemberRole) -> Option<(syntax::HostPort, Spot)> {
    if !root.has("witness") {
        if role == MemberRole::Witness {
            let refusal = Refusal::new("missing").hint("[witness] address = \"…\"");
            root.error("witness", refusal);
        }
        return None;
    }
    let table = root.table("witness", &keys::WITNESS)?;
    table.need(
        "address",
        "where the others reach the witness, as host:port",
    );
    let address = table.parsed("address", syntax::host_port)?;
    Some((address, table.spot("address")))
}

fn peer(root: &Table<'_>) -> Option<Peer> {
    let table = root.table_or_empty("peer", &keys::PEER)?;
    let secret = secret_source::require(&table, &keys::PEER_SECRET);
    if secret
        .as_ref()
        .is_some_and(|secret| secret.reveal().len() < PEER_SECRET_MIN)
    {
        let refusal = Refusal::new(format!(
            "the secret is shorter than {PEER_SECRET_MIN} bytes"
        ));
        let key = secret_source::named(&table, &keys::PEER_SECRET);
        table.error(key, refusal.hint("make one: openssl rand -hex 32"));
    }
    let insecure = table.boolean("insecure", false);
    let tls = table
        .table("tls", &keys::PEER_TLS)
        .and_then(|tls| peer_tls(&tls));
    if insecure && table.has("tls") {
        table.warning(
            "insecure",
            Refusal::new("has no effect, because tls is given"),
        );
    }
    if table.has("tls") && tls.is_none() {
        return None;
    }
    Some(Peer {
        secret: secret?,
        tls,
        insecure,
    })
}

fn peer_tls(table: &Table<'_>) -> Option<PeerTls> {
    let (cert, key, ca) = (file(table, "cert"), file(table, "key"), file(table, "ca"));
    Some(PeerTls {
        cert: cert?,
        key: key?,
        ca: ca?,
    })
}

/// A PEM file that must be named and must be there.
fn file(table: &Table<'_>, key: &'static str) -> Option<PathBuf> {
    table.need(key, "a PEM file");
    existing_file(table, key)
}

/// A file that must be there if it is named.
pub(super) fn existing_file(table: &Table<'_>, key: &'static str) -> Option<PathBuf> {
    let path = table.path(key)?;
    let why = match std::fs::metadata(&path) {
        Ok(metadata) if metadata.is_file() => return Some(path),
        Ok(_) => "not a regular file".to_owned(),
        Err(error) => error.to_string(),
    };
    let what = format!("cannot use {}: {why}", path.display());
    table.error(key, Refusal::new(what));
    None
}

fn lease(table: Option<&Table<'_>>) -> Lease {
    let Some(table) = table else {
        return defaults::lease(defaults::LEASE_TTL);
    };
    let ttl = table.duration("ttl", &TTL).unwrap_or(defaults::LEASE_TTL);
    let derived = defaults::lease(ttl);
    let time = |key, range, default| table.duration(key, range).unwrap_or(default);
    let lease = Lease {
        ttl,
        renew_every: time("renew_every", &RENEW_EVERY, derived.renew_every),
        request_timeout: time("request_timeout", &REQUEST_TIMEOUT, derived.request_timeout),
        fence_budget: time("fence_budget", &FENCE_BUDGET, derived.fence_budget),
    };
    // A wrong value was replaced by its default: what follows from that would be beside the point.
    if !table.reader.has_errors_in("lease")
        && let Err(refusal) = validate::lease(&lease)
    {
        table.reader.error(&table.here, refusal);
    }
    lease
}

fn failover(root: &Table<'_>) -> Option<Failover> {
    let table = root.table_or_empty("failover", &keys::FAILOVER)?;
    let time = |key, range, default| table.duration(key, range).unwrap_or(default);
    let lag_max = table.size("lag_max", &LAG_MAX);
    Some(Failover {
        lag_max: LagBytes(lag_max.unwrap_or(defaults::FAILOVER_LAG_MAX)),
        block: time("block", &BLOCK, defaults::FAILOVER_BLOCK),
        max_automatic: table
            .integer("max_automatic", &MAX_AUTOMATIC)
            .unwrap_or(defaults::FAILOVER_MAX_AUTOMATIC),
        window: time("window", &WINDOW, defaults::FAILOVER_WINDOW),
        stop_grace: time("stop_grace", &STOP_GRACE, defaults::FAILOVER_STOP_GRACE),
        promote_timeout: time(
            "promote_timeout",
            &NODE_TIMEOUT,
            defaults::FAILOVER_PROMOTE_TIMEOUT,
        ),
        start_timeout: time(
            "start_timeout",
            &NODE_TIMEOUT,
            defaults::FAILOVER_START_TIMEOUT,
        ),
        restart_budget: time(
            "restart_budget",
            &RESTART_BUDGET,
            defaults::FAILOVER_RESTART_BUDGET,
        ),
    })
}

fn guard(root: &Table<'_>) -> Option<Guard> {
    let table = root.table_or_empty("guard", &keys::GUARD)?;
    let written = table.choice("watchdog", &["off", "automatic", "required"]);
    let device = table.path("watchdog_device");
    Some(Guard {
        watchdog: match written.unwrap_or(defaults::GUARD_WATCHDOG) {
            "automatic" => WatchdogMode::Automatic,
            "required" => WatchdogMode::Required,
            _ => WatchdogMode::Off,
        },
        watchdog_device: device.unwrap_or_else(|| defaults::GUARD_WATCHDOG_DEVICE.into()),
    })
}

fn objectives(root: &Table<'_>, lease: &Lease) -> Option<Objectives> {
    let table = root.table_or_empty("objectives", &keys::OBJECTIVES)?;
    let rto = table.duration("rto", &OBJECTIVE);
    if let Some(rto) = rto
        && rto < lease.ttl
    {
        let (rto, ttl) = (units::show_duration(rto), units::show_duration(lease.ttl));
        let what = format!("{rto} cannot be met when a site falls silent: the ttl alone is {ttl}");
        table.warning("rto", Refusal::new(what));
    }
    Some(Objectives {
        rto,
        rpo: table.duration("rpo", &OBJECTIVE),
    })
}

/// State directory and socket.
pub(super) fn places(root: &Table<'_>) -> (PathBuf, PathBuf) {
    let path = |key, default: &str| root.path(key).unwrap_or_else(|| PathBuf::from(default));
    let state_dir = path("state_dir", defaults::STATE_DIR);
    let socket = path("socket", defaults::SOCKET);
    if socket.as_os_str().len() > SOCKET_PATH_MAX {
        let what = format!("a unix socket's path has at most {SOCKET_PATH_MAX} bytes");
        root.error("socket", Refusal::new(what));
    }
    (state_dir, socket)
}
