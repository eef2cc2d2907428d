//! Which servers serve a record's zone: found from its SOA and NS records, by asking resolvers.
//!
//! Sources: RFC 1034, 4.2.1 (NS records name the servers), RFC 2308, 3 (a negative answer carries
//! the zone's SOA).

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use hickory_proto::op::{Message, ResponseCode};
use hickory_proto::rr::{Name, RData, RecordType};

use super::ask::{Asked, NoAnswer, ask};
use crate::effects::together::together;

/// The port of DNS. Source: RFC 1035, 4.2.
const DNS_PORT: u16 = 53;
/// Labels that are walked up at most, until the zone begins.
const LABELS_MAX: usize = 10;
/// Name servers of a zone that are asked. Source: 13 fit into the answer for the root.
const NAME_SERVERS_MAX: usize = 13;
/// Addresses of them that are asked.
const ADDRESSES_MAX: usize = 32;
/// Resolvers that are tried, one after the other, before the zone counts as not found.
const RESOLVERS_TRIED_MAX: usize = 3;

/// A server of a zone.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct ZoneServer {
    pub(super) name: String,
    pub(super) address: SocketAddr,
}

/// The resolvers that this host uses itself. Source: resolv.conf(5).
pub(super) fn of_this_host() -> Result<Vec<SocketAddr>, String> {
    let (config, _) = hickory_resolver::system_conf::read_system_conf()
        .map_err(|error| format!("no usable /etc/resolv.conf: {error}"))?;
    let servers = config.name_servers().iter().map(|server| {
        let port = server.connections.first().map_or(DNS_PORT, |it| it.port);
        SocketAddr::new(server.ip, port)
    });
    Ok(servers.collect())
}

/// Asks resolvers, one after the other.
pub(super) struct Finder<'a> {
    pub(super) resolvers: &'a [SocketAddr],
    pub(super) timeout: Duration,
}

impl Finder<'_> {
    /// The servers of the zone that `name` is in, by name and address.
    pub(super) async fn servers(
        &self,
        name: &Name,
        zone: Option<Name>,
    ) -> Result<Vec<ZoneServer>, String> {
        let zone = match zone {
            Some(zone) => zone,
            None => self.zone_of(name).await?,
        };
        let answer = self.ask(&zone, RecordType::NS).await?;
        let mut names: Vec<Name> = Vec::new();
        for record in &answer.answers {
            if let RData::NS(ns) = &record.data
                && record.name == zone
                && names.len() < NAME_SERVERS_MAX
                && !names.contains(&ns.0)
            {
                names.push(ns.0.clone());
            }
        }
        if names.is_empty() {
            return Err(format!("the zone {zone} has no NS records"));
        }
        let looked_up = names.iter().flat_map(|server| {
            [RecordType::A, RecordType::AAAA].map(|kind| self.addresses(server, kind, &answer))
        });
        let found = together(looked_up.collect()).await;
        let mut servers: Vec<ZoneServer> = found.into_iter().flatten().collect();
        servers.sort();
        servers.dedup();
        servers.truncate(ADDRESSES_MAX);
        if servers.is_empty() {
            return Err(format!("no server of the zone {zone} has an address"));
        }
        Ok(servers)
    }

    /// Where the zone begins: what the SOA record belongs to that comes back, also when there is
    /// none at this name.
    async fn zone_of(&self, name: &Name) -> Result<Name, String> {
        let mut at = name.clone();
        for _ in 0..LABELS_MAX {
            if at.is_root() {
                break;
            }
            let answer = self.ask(&at, RecordType::SOA).await?;
            let mut all = answer.answers.iter().chain(&answer.authorities);
            // An alias leads to the SOA record of somebody else's zone.
            let soa = all.find(|record| {
                record.record_type() == RecordType::SOA && record.name.zone_of(name)
            });
            if let Some(soa) = soa {
                return Ok(soa.name.clone());
            }
            at = at.base_name();
        }
        Err(format!("no zone found for {name}"))
    }

    /// The addresses of a server: those beside the NS records, or looked up.
    async fn addresses(
        &self,
        server: &Name,
        kind: RecordType,
        beside: &Message,
    ) -> Vec<ZoneServer> {
        let of = |message: &Message| -> Vec<ZoneServer> {
            let all = message.answers.iter().chain(&message.additionals);
            let ours = all.filter(|record| record.record_type() == kind);
            let ips = ours.filter_map(|record| {
                if let RData::A(a) = &record.data {
                    return Some((record, IpAddr::V4(a.0)));
                }
                let RData::AAAA(a) = &record.data else {
                    return None;
                };
                Some((record, IpAddr::V6(a.0)))
            });
            ips.filter(|(record, _)| record.name == *server)
                .map(|(_, ip)| ZoneServer {
                    name: server.to_string().trim_end_matches('.').to_owned(),
                    address: SocketAddr::new(ip, DNS_PORT),
                })
                .collect()
        };
        let glue = of(beside);
        if !glue.is_empty() {
            return glue;
        }
        // One without an address of this kind is no failure.
        self.ask(server, kind)
            .await
            .map_or_else(|_| Vec::new(), |it| of(&it))
    }

    /// The first usable answer.
    async fn ask(&self, name: &Name, kind: RecordType) -> Result<Message, String> {
        let asked = Asked {
            name: name.clone(),
            kind,
            recursive: true,
        };
        let mut failed = "no resolver is known".to_owned();
        for resolver in self.resolvers.iter().take(RESOLVERS_TRIED_MAX) {
            match ask(*resolver, &asked, self.timeout).await {
                Ok(answer) => {
                    let code = answer.metadata.response_code;
                    if matches!(code, ResponseCode::NoError | ResponseCode::NXDomain) {
                        return Ok(answer);
                    }
                    failed = format!("resolver {resolver} says {code}");
                }
                Err(NoAnswer::Silent(why)) => failed = format!("resolver {resolver}: {why}"),
                Err(NoAnswer::Unaskable(why)) => failed = format!("resolver {resolver}: {why}"),
            }
        }
        Err(failed)
    }
}
