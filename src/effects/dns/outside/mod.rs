//! What the world sees of a record: every authoritative server of its zone is asked, and then
//! resolvers, all at once, each within its time. It is looked at and shown; nothing waits for it
//! (S9).
//!
//! Start reading at [`look`]. What it means is said by [`OutsideView`].

mod ask;
mod zone;

use std::net::SocketAddr;
use std::time::Duration;

use hickory_proto::op::{Message, ResponseCode};
use hickory_proto::rr::{Name, RData, Record, RecordType};

use self::ask::{Asked, NoAnswer, ask};
use self::zone::{Finder, Found, LostServer, ZoneServer};
use super::diff::same_content;
use crate::config::settings::DnsCheck;
use crate::effects::together::together;
use crate::model::dns::{Heard, OutsideView, ServerAnswer, ServerKind};

/// The zone's servers are found by several questions, one after the other.
const FIND_WITHIN: Duration = Duration::from_secs(15);

/// What is looked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Question {
    /// Fully qualified, no final dot.
    pub name: String,
    /// `A`, `AAAA`, `CNAME` or `TXT`.
    pub kind: String,
    /// What it should be, in any order.
    pub wanted: Vec<String>,
    /// The zone that it is in, where that is known.
    pub zone: Option<String>,
}

/// Asks everybody, and never fails: whatever goes wrong is what was seen.
pub async fn look(settings: &DnsCheck, question: &Question) -> OutsideView {
    let (Some(name), Ok(kind)) = (name(&question.name), question.kind.parse::<RecordType>()) else {
        return OutsideView {
            servers: Vec::new(),
            unfound: Some(format!("{} is no domain name", question.name)),
        };
    };
    let found = tokio::time::timeout(FIND_WITHIN, servers(settings, question, &name)).await;
    let (found, unfound) = match found {
        Ok(Ok(found)) => {
            let unfound = unfound(&found.lost);
            (found, unfound)
        }
        Ok(Err(why)) => (Found::default(), Some(why)),
        Err(_) => {
            let why = format!("not found within {} s", FIND_WITHIN.as_secs());
            (Found::default(), Some(why))
        }
    };
    let authoritative = found.servers.into_iter().map(|server| Place {
        server: server.address,
        name: Some(server.name).filter(|name| !name.is_empty()),
        kind: ServerKind::Authoritative,
    });
    let resolvers = settings.resolvers.iter().map(|resolver| Place {
        server: *resolver,
        name: None,
        kind: ServerKind::Resolver,
    });
    let asked = authoritative
        .chain(resolvers)
        .map(|place| place.hear(question, &name, kind, settings.timeout));
    let heard = together(asked.collect()).await;
    let lost = found.lost.into_iter().map(silent);
    OutsideView {
        servers: lost.chain(heard).collect(),
        unfound,
    }
}

/// Which servers are not found, in words; `None`: all are.
fn unfound(lost: &[LostServer]) -> Option<String> {
    let words = lost.iter().map(|it| format!("{}: {}", it.name, it.why));
    let words: Vec<String> = words.collect();
    (!words.is_empty()).then(|| words.join("; "))
}

/// A server that cannot be asked counts as one that says nothing: resolvers elsewhere may find it,
/// and hear something old from it.
fn silent(lost: LostServer) -> ServerAnswer {
    ServerAnswer {
        server: ServerAnswer::NOWHERE.to_owned(),
        name: Some(lost.name),
        kind: ServerKind::Authoritative,
        heard: Heard::Silent { why: lost.why },
    }
}

/// The zone's servers: as settings name them, or as found.
async fn servers(settings: &DnsCheck, question: &Question, name: &Name) -> Result<Found, String> {
    if !settings.authoritative.is_empty() {
        let named = settings.authoritative.iter().map(|address| ZoneServer {
            name: String::new(),
            address: *address,
        });
        return Ok(Found {
            servers: named.collect(),
            lost: Vec::new(),
        });
    }
    let own;
    let resolvers = match settings.resolvers.as_slice() {
        [] => {
            own = zone::of_this_host()?;
            &own
        }
        resolvers => resolvers,
    };
    let finder = Finder {
        resolvers,
        timeout: settings.timeout,
    };
    let zone = question.zone.as_deref().and_then(self::name);
    finder.servers(name, zone).await
}

/// A server to be asked.
struct Place {
    server: SocketAddr,
    name: Option<String>,
    kind: ServerKind,
}

impl Place {
    async fn hear(
        self,
        question: &Question,
        name: &Name,
        kind: RecordType,
        timeout: Duration,
    ) -> ServerAnswer {
        let asked = Asked {
            name: name.clone(),
            kind,
            recursive: self.kind == ServerKind::Resolver,
        };
        let heard = match ask(self.server, &asked, timeout).await {
            Ok(answer) => judge(&answer, question, &asked),
            Err(NoAnswer::Silent(why)) => Heard::Silent { why },
            Err(NoAnswer::Unaskable(error)) => Heard::Unaskable {
                why: error.to_string(),
            },
        };
        ServerAnswer {
            server: self.server.to_string(),
            name: self.name,
            kind: self.kind,
            heard,
        }
    }
}

/// What an answer means.
fn judge(answer: &Message, question: &Question, asked: &Asked) -> Heard {
    let refused = |why: &str| Heard::Refused {
        why: why.to_owned(),
    };
    let code = answer.metadata.response_code;
    if !matches!(code, ResponseCode::NoError | ResponseCode::NXDomain) {
        return refused(&code.to_string());
    }
    if !asked.recursive && !answer.metadata.authoritative {
        return refused("it is not authoritative for the zone");
    }
    if asked.recursive && !answer.metadata.recursion_available {
        return refused("it resolves nothing for this host");
    }
    let at_name = || answer.answers.iter().filter(|it| it.name == asked.name);
    let ours: Vec<&Record> = at_name()
        .filter(|it| it.record_type() == asked.kind)
        .collect();
    let Some(ttl_s) = ours.iter().map(|record| record.ttl).min() else {
        let alias = at_name().find_map(|record| {
            let RData::CNAME(to) = &record.data else {
                return None;
            };
            Some(Heard::Alias {
                to: to.0.to_string().trim_end_matches('.').to_owned(),
                ttl_s: record.ttl,
            })
        });
        return alias.unwrap_or_else(|| Heard::Absent {
            ttl_s: negative_ttl(answer),
        });
    };
    let mut values: Vec<String> = ours.iter().map(|it| content(&it.data)).collect();
    values.sort();
    values.dedup();
    match same_values(&question.kind, &values, &question.wanted) {
        true => Heard::Wanted { ttl_s },
        false => Heard::Other { values, ttl_s },
    }
}

/// How long it may be remembered that there is nothing. Source: RFC 2308, 5.
fn negative_ttl(answer: &Message) -> u32 {
    let soa = answer.authorities.iter().find_map(|record| {
        let RData::SOA(soa) = &record.data else {
            return None;
        };
        Some(record.ttl.min(soa.minimum))
    });
    soa.unwrap_or(0)
}

/// True when both are the same set, however each value is spelt.
#[must_use]
pub fn same_values(kind: &str, some: &[String], others: &[String]) -> bool {
    let within = |these: &[String], those: &[String]| {
        these
            .iter()
            .all(|one| those.iter().any(|other| same_content(kind, one, other)))
    };
    within(some, others) && within(others, some)
}

/// A fully qualified name.
fn name(text: &str) -> Option<Name> {
    let mut name = Name::from_ascii(text).ok()?;
    name.set_fqdn(true);
    Some(name)
}

/// As people write it: a name without its final dot, a text without its quotes.
fn content(data: &RData) -> String {
    if let RData::TXT(text) = data {
        return String::from_utf8_lossy(&text.txt_data.concat()).into_owned();
    }
    data.to_string().trim_end_matches('.').to_owned()
}
