//! `[dns_check]`: how it is seen whether the world has what the records say.

use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::time::Duration;

use super::problem::Refusal;
use super::reader::Table;
use super::settings::DnsCheck;
use super::{defaults, dns, keys};

const TIMEOUT: RangeInclusive<Duration> = Duration::from_millis(100)..=Duration::from_secs(30);
/// More often than this, and providers that count requests refuse the one that matters.
const DRIFT_EVERY: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_hours(24);
/// Servers of one list: each is asked at the same time.
const SERVERS_MAX: usize = 16;

/// Reads how it is seen whether the world has what the records say.
pub(super) fn read(root: &Table<'_>) -> Option<DnsCheck> {
    let table = root.table_or_empty("dns_check", &keys::DNS_CHECK)?;
    let authoritative = servers(&table, "authoritative");
    let resolvers = servers(&table, "resolvers");
    let timeout = table.duration("timeout", &TIMEOUT);
    let drift_every = table.duration("drift_every", &DRIFT_EVERY);
    Some(DnsCheck {
        authoritative: authoritative?,
        resolvers: resolvers?,
        timeout: timeout.unwrap_or(defaults::DNS_CHECK_TIMEOUT),
        drift_every: drift_every.unwrap_or(defaults::DNS_CHECK_DRIFT_EVERY),
    })
}

fn servers(table: &Table<'_>, key: &'static str) -> Option<Vec<SocketAddr>> {
    if !table.has(key) {
        return Some(Vec::new());
    }
    let mut servers: Vec<SocketAddr> = Vec::new();
    for (text, spot) in table.texts(key)? {
        match dns::server(text) {
            Ok(server) if servers.contains(&server) => {
                let refusal = Refusal::new("already in this list");
                table.reader.error(&spot, refusal);
            }
            Ok(server) => servers.push(server),
            Err(refusal) => table.reader.error(&spot, refusal),
        }
    }
    if servers.len() > SERVERS_MAX {
        let refusal = Refusal::new(format!("more than {SERVERS_MAX} servers"));
        table.error(key, refusal.hint("name those that users of the record use"));
    }
    Some(servers)
}
