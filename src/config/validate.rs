//! What is checked across keys and sections: rules that no single value can break.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use super::problem::{Refusal, quoted};
use super::reader::{Spot, Table};
use super::settings::{CLOCK_ERROR_MAX, Lease, Peer};
use super::sites::Sites;
use super::syntax::HostPort;
use super::units::show_duration;

/// S2: two renewals in a row may be lost, and the holder still learns in time whether it may go on.
pub(super) fn lease(lease: &Lease) -> Result<(), Refusal> {
    let sure = lease.ttl.mul_f64(1.0 - CLOCK_ERROR_MAX);
    let left = sure.saturating_sub(lease.fence_budget);
    let needed = lease.renew_every.saturating_mul(2) + lease.request_timeout;
    if left > needed {
        return Ok(());
    }
    let show = show_duration;
    let what = format!(
        "two lost renewals would end the lease: ttl {} less {} clock error less fence_budget {} \
         leaves {}, which must be more than 2 x renew_every {} + request_timeout {} = {}",
        show(lease.ttl),
        show(lease.ttl.saturating_sub(sure).max(Duration::from_millis(1))),
        show(lease.fence_budget),
        show(left),
        show(lease.renew_every),
        show(lease.request_timeout),
        show(needed),
    );
    Err(Refusal::new(what).hint("make ttl longer, or the others shorter or leave them out"))
}

/// What load balancers ask is another thing than what members say to each other.
pub(super) fn routing(
    table: &Table<'_>,
    address: Option<&HostPort>,
    listen: Option<SocketAddr>,
    routing: Option<SocketAddr>,
    node_port: Option<u16>,
) {
    let members = listen
        .map(|listen| listen.port())
        .or(address.map(|address| address.port));
    if routing.is_some_and(|routing| Some(routing.port()) == members) {
        let refusal = Refusal::new("this port is the one where members talk to each other");
        table.error(
            "routing",
            refusal.hint("another one, e.g. \"0.0.0.0:8008\""),
        );
    }
    // While its server is down the port is free, and then taken when it is started again.
    if routing.is_some_and(|routing| Some(routing.port()) == node_port) {
        let refusal = Refusal::new("this port is PostgreSQL's");
        let hint = "another one, e.g. \"0.0.0.0:8008\"";
        table.error("routing", refusal.hint(hint));
    }
}

/// Members must be told apart by their addresses, nodes by theirs, and talk in private.
pub(super) fn members(
    root: &Table<'_>,
    sites: &Sites,
    witness: Option<&(HostPort, Spot)>,
    peer: Option<&Peer>,
) {
    let agents = sites
        .read
        .iter()
        .map(|read| (&read.address, &read.address_spot));
    let members: Vec<_> = agents
        .chain(witness.map(|(address, spot)| (address, spot)))
        .collect();
    let mut seen: BTreeMap<String, &Spot> = BTreeMap::new();
    for (address, spot) in &members {
        if let Some(first) = seen.insert(address.to_string(), spot) {
            let what = format!("{address} is the address of {} as well", first.key);
            root.reader.error(spot, Refusal::new(what));
        }
    }
    let mut nodes: BTreeMap<(&str, u16), &Spot> = BTreeMap::new();
    for read in &sites.read {
        let node = &read.site.node;
        if let Some(first) = nodes.insert((&node.host, node.port), &read.node_spot) {
            let what = format!("{}:{} is {} as well", node.host, node.port, first.key);
            root.reader.error(&read.node_spot, Refusal::new(what));
        }
    }
    let private = peer.is_none_or(|peer| peer.tls.is_some() || peer.insecure);
    if !private && let Some((address, _)) = members.iter().find(|(to, _)| !to.is_loopback()) {
        let what = format!("{address} is another host, and the link to it has no tls");
        let hint = "peer.tls = { cert, key, ca }; or peer.insecure = true to say that it is meant";
        let spot = root.spot("peer");
        root.reader.error(&spot, Refusal::new(what).hint(hint));
    }
}

/// No two tables of a list have the same name.
pub(super) fn names_differ(tables: &[Table<'_>]) {
    let mut seen: BTreeMap<&str, Option<usize>> = BTreeMap::new();
    for table in tables {
        let Some(name) = table.written_name() else {
            continue;
        };
        if let Some(first) = seen.get(name) {
            let line = first.map_or_else(String::new, |line| format!(" in line {line}"));
            let what = format!("the name {} is already taken{line}", quoted(name));
            table.error("name", Refusal::new(what));
        } else {
            seen.insert(name, table.spot("name").line);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::defaults;

    #[test]
    fn defaults_survive_two_lost_renewals_at_every_ttl() {
        for millis in (2_000..=300_000).step_by(10) {
            let times = defaults::lease(Duration::from_millis(millis));
            assert_eq!(lease(&times), Ok(()), "ttl {millis} ms: {times:?}");
        }
    }

    #[test]
    fn lease_that_two_lost_renewals_end_is_refused() {
        let mut times = defaults::lease(Duration::from_secs(10));
        // 9.95 s - 2 s leaves 7.95 s; 2 x 3.275 s + 1.4 s is exactly that.
        times.renew_every = Duration::from_millis(3275);
        times.request_timeout = Duration::from_millis(1400);
        assert!(lease(&times).is_err());
        times.renew_every = Duration::from_millis(3274);
        assert_eq!(lease(&times), Ok(()));
    }
}
