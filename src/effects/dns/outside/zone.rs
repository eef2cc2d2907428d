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
const ADDRESSES_MAX: usize = 64;
/// Resolvers that are tried, one after the other, before the zone counts as not found.
const RESOLVERS_TRIED_MAX: usize = 3;

/// A server of a zone.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct ZoneServer {
    pub(super) name: String,
    pub(super) address: SocketAddr,
}

/// A server of a zone that cannot be asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct LostServer {
    pub(super) name: String,
    /// In words.
    pub(super) why: String,
}

/// Every server of a zone.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Found {
    pub(super) servers: Vec<ZoneServer>,
    /// They may serve something else all the same.
    pub(super) lost: Vec<LostServer>,
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
    /// The servers of the zone that `name` is in, by name and address. An error when there is none
    /// with an address.
    pub(super) async fn servers(&self, name: &Name, zone: Option<Name>) -> Result<Found, String> {
        let zone = match zone {
            Some(zone) => zone,
            None => self.zone_of(name).await?,
        };
        let answer = self.ask(&zone, RecordType::NS).await?;
        let mut names: Vec<Name> = Vec::new();
        for record in &answer.answers {
            if let RData::NS(ns) = &record.data
                && record.name == zone
                && !names.contains(&ns.0)
            {
                names.push(ns.0.clone());
            }
        }
        if names.is_empty() {
            return Err(format!("the zone {zone} has no NS records"));
        }
        let found = self.all(names, &answer).await;
        match (found.servers.is_empty(), found.lost.first()) {
            (false, _) => Ok(found),
            (true, None) => Err(format!("no server of the zone {zone} has an address")),
            (true, Some(LostServer { name, why })) => Err(format!(
                "no server of the zone {zone} has an address: {name}: {why}"
            )),
        }
    }

    /// The servers of these names: each of them is found or lost.
    async fn all(&self, mut names: Vec<Name>, beside: &Message) -> Found {
        let mut found = Found::default();
        let beyond = names.split_off(names.len().min(NAME_SERVERS_MAX));
        let looked_up = names.iter().map(|server| self.server(server, beside));
        for (addresses, lost) in together(looked_up.collect()).await {
            found.servers.extend(addresses);
            found.lost.extend(lost);
        }
        found.servers.sort();
        found.servers.dedup();
        let count = found.servers.len().min(ADDRESSES_MAX);
        let too_many = found.servers.split_off(count).into_iter();
        found.lost.extend(too_many.map(|server| LostServer {
            why: format!(
                "{} is not asked: only {ADDRESSES_MAX} addresses are",
                server.address
            ),
            name: server.name,
        }));
        found.lost.extend(beyond.iter().map(|server| LostServer {
            name: text(server),
            why: format!("it is not asked: only {NAME_SERVERS_MAX} name servers are"),
        }));
        found
    }

    /// The addresses of a server, and that it is lost: it has none, or those may be missing that
    /// can be asked from everywhere.
    async fn server(
        &self,
        server: &Name,
        beside: &Message,
    ) -> (Vec<ZoneServer>, Option<LostServer>) {
        let (v4, v6) = tokio::join!(
            self.addresses(server, RecordType::A, beside),
            self.addresses(server, RecordType::AAAA, beside)
        );
        let lost = match (&v4, &v6) {
            (Ok(v4), Ok(v6)) if v4.is_empty() && v6.is_empty() => Some("it has no address"),
            (Ok(v4), Err(why)) if v4.is_empty() => Some(why.as_str()),
            (Err(why), _) => Some(why.as_str()),
            (Ok(_), _) => None,
        };
        let lost = lost.map(|why| LostServer {
            name: text(server),
            why: format!("its address is not found: {why}"),
        });
        let found = [v4, v6].into_iter().flatten().flatten().collect();
        (found, lost)
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
    ) -> Result<Vec<ZoneServer>, String> {
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
                    name: text(server),
                    address: SocketAddr::new(ip, DNS_PORT),
                })
                .collect()
        };
        let glue = of(beside);
        if !glue.is_empty() {
            return Ok(glue);
        }
        // One without an address of this kind is no failure.
        Ok(of(&self.ask(server, kind).await?))
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

/// A name as people write it.
fn text(name: &Name) -> String {
    name.to_string().trim_end_matches('.').to_owned()
}
