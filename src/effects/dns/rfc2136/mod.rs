//! Servers that take signed updates: BIND, Knot, PowerDNS. The records of one name and
//! type are replaced in one message, on the condition that they still look as they were seen.
//!
//! The epoch stands in a TXT record one label below, `_agent.<name>`; both change in one message.
//! Sources: RFC 2136 (updates), RFC 8945 (signatures), RFC 1035.

mod exchange;
mod message;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hickory_proto::op::ResponseCode;
use hickory_proto::rr::rdata::tsig::TsigAlgorithm as Algorithm;
use hickory_proto::rr::{Name, RData, RecordType, TSigner};

use self::exchange::{Connection, Reply, Trouble};
use super::common::Common;
use super::diff::Edit;
use super::{DnsProvider, Opened, ProviderKind, Record, Tended, note};
use crate::config::settings::{DnsAccess, DnsRecord, TsigAlgorithm};
use crate::effects::error::EffectError;

/// How far the server's clock may be off, in seconds. Source: RFC 8945, 10: 300 is recommended.
const FUDGE: u16 = 300;
/// How often the key is proved while nothing moves.
const TEND_EVERY: Duration = Duration::from_hours(1);
/// What a name's records may be here.
const KINDS: [RecordType; 4] = [
    RecordType::A,
    RecordType::AAAA,
    RecordType::CNAME,
    RecordType::TXT,
];
/// Servers do not tell these apart.
const REFUSED: &str = "server must be the primary server of zone, and let the key change the record \
    and the TXT record _agent below it (BIND: update-policy; Knot: acl; PowerDNS: \
    TSIG-ALLOW-DNSUPDATE)";

/// This provider.
pub const PROVIDER: ProviderKind = ProviderKind {
    name: "rfc2136",
    summary: "a server that takes updates signed with TSIG (BIND, Knot, PowerDNS)",
    build,
};

fn build(settings: &DnsRecord, _: &Arc<Common>) -> Option<Opened> {
    let DnsAccess::Rfc2136 {
        server,
        zone,
        key_name,
        algorithm,
        key,
    } = &settings.access
    else {
        return None;
    };
    let refuse = |why: &str| {
        EffectError::permanent(format!("dns {}: {why}", settings.name))
            .hint("correct it in the configuration")
    };
    let open = || -> Opened {
        let key = STANDARD
            .decode(key.reveal().trim())
            .map_err(|_| refuse("its key is not base64"))?;
        let algorithm = match algorithm {
            TsigAlgorithm::HmacSha256 => Algorithm::HmacSha256,
            TsigAlgorithm::HmacSha384 => Algorithm::HmacSha384,
            TsigAlgorithm::HmacSha512 => Algorithm::HmacSha512,
        };
        let name = |text: &str| message::name(text).ok_or_else(|| refuse("a name is malformed"));
        let signer = TSigner::new(key, algorithm, name(key_name)?, FUDGE)
            .map_err(|_| refuse("its key algorithm cannot be used"))?;
        Ok(Box::new(Updates {
            target: settings.name.clone(),
            record: settings.record.clone(),
            server: *server,
            zone: name(zone)?,
            signer,
            timeout: settings.timeout,
        }))
    };
    Some(open())
}

struct Updates {
    target: String,
    record: String,
    server: SocketAddr,
    zone: Name,
    signer: TSigner,
    timeout: Duration,
}

impl std::fmt::Debug for Updates {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Updates")
            .field("target", &self.target)
            .field("server", &self.server)
            .field("zone", &self.zone.to_string())
            .finish_non_exhaustive()
    }
}

/// What is kept at a name, as the server has it.
struct Set {
    ttl: u32,
    rdata: Vec<RData>,
}

#[async_trait]
impl DnsProvider for Updates {
    async fn records(&self, name: &str) -> Result<Vec<Record>, EffectError> {
        let what = format!("look {name} up");
        self.within(self.timeout, &what, EffectError::retryable, async {
            let mut connection = self.connect(&what).await?;
            let note = self.note(&mut connection, name, &what).await?;
            let note = note.map(|set| message::note_text(&set.rdata));
            let note = note.unwrap_or_default();
            let mut records = Vec::new();
            for kind in KINDS {
                let set = self.look(&mut connection, name, kind, &what).await?;
                let Some(set) = set else { continue };
                records.extend(set.rdata.iter().map(|rdata| Record {
                    id: format!("{kind} {name} {}", message::content(rdata)),
                    name: name.to_owned(),
                    kind: kind.to_string(),
                    content: message::content(rdata),
                    comment: note.clone(),
                    ttl: Some(set.ttl),
                    proxied: false,
                }));
            }
            Ok(records)
        })
        .await
    }

    async fn change(&self, edit: &Edit, within: Duration) -> Result<(), EffectError> {
        let what = format!("change the records to {}", edit.contents.join(", "));
        let Some(seen) = edit.seen.first() else {
            let text = format!("dns {}: cannot {what}: none was seen", self.target);
            return Err(EffectError::permanent(text));
        };
        let span = within.min(self.timeout);
        self.within(span, &what, EffectError::unknown, async {
            let mut connection = self.connect(&what).await?;
            let note = self.note(&mut connection, &seen.name, &what).await?;
            let text = note.as_ref().map(|set| message::note_text(&set.rdata));
            let text = text.unwrap_or_default();
            if !note::may_follow(&seen.comment, &text, &edit.comment) {
                return Err(self.moved(seen));
            }
            let update = self.update(seen, edit, note).ok_or_else(|| {
                EffectError::permanent(format!(
                    "dns {}: cannot {what}: they are no {} records",
                    self.target, seen.kind
                ))
            })?;
            // From here on it may have happened, whatever comes back.
            let reply = connection.ask(update, &self.signer).await;
            let code = self.judged(&what, reply, true)?.code;
            if code == ResponseCode::NoError {
                Ok(())
            } else if matches!(code, ResponseCode::NXRRSet | ResponseCode::YXRRSet) {
                Err(self.moved_or_wildcard(seen, edit).await)
            } else {
                Err(self.refused(&what, code))
            }
        })
        .await
    }

    /// Reads the record: the server's signature proves the key. A key has no end of its own.
    async fn tend(&self) -> Result<Tended, EffectError> {
        self.records(&self.record).await?;
        Ok(Tended {
            again: TEND_EVERY,
            expires: None,
            proved: true,
        })
    }
}

impl Updates {
    /// Bounds everything that is asked for one purpose. A change that is late may have been made; a
    /// look is merely late.
    async fn within<T>(
        &self,
        span: Duration,
        what: &str,
        late: fn(String) -> EffectError,
        doing: impl Future<Output = Result<T, EffectError>>,
    ) -> Result<T, EffectError> {
        tokio::time::timeout(span, doing).await.unwrap_or_else(|_| {
            let span = span.as_millis();
            Err(late(format!(
                "dns {}: cannot {what} at {}: no answer within {span} ms",
                self.target, self.server
            )))
        })
    }

    async fn connect(&self, what: &str) -> Result<Connection, EffectError> {
        Connection::open(self.server).await.map_err(|error| {
            EffectError::retryable(format!(
                "dns {}: cannot {what} at {}: no connection",
                self.target, self.server
            ))
            .caused_by(error)
        })
    }

    /// The epoch's record; one at most, because nobody could say which counts.
    async fn note(
        &self,
        connection: &mut Connection,
        name: &str,
        what: &str,
    ) -> Result<Option<Set>, EffectError> {
        let name = note::name(name);
        let set = self.look(connection, &name, RecordType::TXT, what).await?;
        match set {
            Some(set) if set.rdata.len() > 1 => Err(EffectError::permanent(format!(
                "dns {}: the TXT record {name}, which keeps the epoch, exists {} times",
                self.target,
                set.rdata.len()
            ))
            .hint("leave one of them, or none")),
            set => Ok(set),
        }
    }

    /// What the server itself has at a name; `None`: nothing of this type.
    async fn look(
        &self,
        connection: &mut Connection,
        name: &str,
        kind: RecordType,
        what: &str,
    ) -> Result<Option<Set>, EffectError> {
        let name = self.name(name)?;
        let query = message::query(name.clone(), kind);
        let reply = connection.ask(query, &self.signer).await;
        let reply = self.judged(what, reply, false)?;
        if !matches!(reply.code, ResponseCode::NoError | ResponseCode::NXDomain) {
            return Err(self.refused(what, reply.code));
        }
        if !reply.authoritative {
            return Err(EffectError::permanent(format!(
                "dns {}: cannot {what}: {} is not authoritative for {}",
                self.target, self.server, self.zone
            ))
            .hint("server must be the zone's primary server, not a resolver"));
        }
        let mut found = Set {
            ttl: u32::MAX,
            rdata: Vec::new(),
        };
        for record in reply.answers {
            // A CNAME is answered, too, when an address is asked for.
            if record.name == name && record.record_type() == kind {
                found.ttl = found.ttl.min(record.ttl);
                found.rdata.push(record.data);
            }
        }
        Ok((!found.rdata.is_empty()).then_some(found))
    }

    fn name(&self, text: &str) -> Result<Name, EffectError> {
        message::name(text).ok_or_else(|| {
            EffectError::permanent(format!("dns {}: {text} is no domain name", self.target))
        })
    }

    /// Replaces the records and their note, if all are as they were seen.
    fn update(
        &self,
        seen: &Record,
        edit: &Edit,
        note: Option<Set>,
    ) -> Option<hickory_proto::op::Message> {
        let kind = seen.kind.parse().ok()?;
        let name = message::name(&seen.name)?;
        let below = message::name(&note::name(&seen.name))?;
        let rdata = |content: &str| message::rdata(kind, content);
        let old = edit.seen.iter().map(|it| rdata(&it.content));
        let new = edit.contents.iter().map(|content| rdata(content));
        let ttl = seen.ttl.unwrap_or(note::TTL);
        let mut update = message::update(self.zone.clone());
        message::require(&mut update, &name, kind, old.collect::<Option<_>>()?);
        let note_ttl = note.as_ref().map_or(note::TTL, |set| set.ttl);
        let noted = note.map(|set| set.rdata).unwrap_or_default();
        message::require(&mut update, &below, RecordType::TXT, noted);
        message::replace(&mut update, &name, (kind, ttl), new.collect::<Option<_>>()?);
        let note = vec![message::text(&edit.comment)];
        message::replace(&mut update, &below, (RecordType::TXT, note_ttl), note);
        Some(update)
    }

    /// What came back, if anything did and the key says that the server wrote it.
    fn judged(
        &self,
        what: &str,
        reply: Result<Reply, Trouble>,
        writes: bool,
    ) -> Result<Reply, EffectError> {
        let text = |why: &str| {
            format!(
                "dns {}: cannot {what} at {}: {why}",
                self.target, self.server
            )
        };
        match reply {
            Ok(reply) => Ok(reply),
            Err(Trouble::NotSent(error)) => {
                Err(EffectError::retryable(text("it could not be sent")).caused_by(error))
            }
            Err(Trouble::Refused(why)) => {
                // Nobody has signed this. A look changes nothing whoever said it; a change may have
                // been made all the same.
                let error = match writes {
                    true => EffectError::unknown,
                    false => EffectError::permanent,
                };
                Err(error(text(why.words())).hint(format!(
                    "key_name, key and key_algorithm must be the server's, and both clocks right; \
                     {REFUSED}"
                )))
            }
            Err(Trouble::NoAnswer(error)) if writes => {
                Err(EffectError::unknown(text("no answer")).caused_by(error))
            }
            Err(Trouble::NoAnswer(error)) => {
                Err(EffectError::retryable(text("no answer")).caused_by(error))
            }
            Err(Trouble::Unproved(code)) => {
                let error = match writes {
                    true => EffectError::unknown,
                    // A server that has no such zone does not look at the key.
                    false => EffectError::retryable,
                };
                Err(error(text(&format!(
                    "its answer ({code}) is not signed with the key"
                )))
                .hint(REFUSED))
            }
        }
    }

    /// Prerequisites look at what is really there, answers may come from a wildcard.
    async fn moved_or_wildcard(&self, seen: &Record, edit: &Edit) -> EffectError {
        let as_seen = |now: Vec<Record>| {
            let ours = now.iter().filter(|record| record.kind == seen.kind);
            ours.clone().count() == edit.seen.len()
                && ours.into_iter().all(|record| edit.seen.contains(record))
        };
        if !self.records(&seen.name).await.is_ok_and(as_seen) {
            return self.moved(seen);
        }
        EffectError::permanent(format!(
            "dns {}: {} {} is refused although it looks as it was seen: it, or the TXT record {} \
             that keeps the epoch, comes from a wildcard",
            self.target,
            seen.kind,
            seen.name,
            note::name(&seen.name)
        ))
        .hint("create both by hand, once; the agent only changes what is there")
    }

    fn moved(&self, seen: &Record) -> EffectError {
        EffectError::retryable(format!(
            "dns {}: {} {} is not as it was seen any more: somebody else changes it too",
            self.target, seen.kind, seen.name
        ))
    }

    fn refused(&self, what: &str, code: ResponseCode) -> EffectError {
        let text = format!(
            "dns {}: cannot {what} at {}: {code}",
            self.target, self.server
        );
        if code == ResponseCode::ServFail {
            return EffectError::retryable(text);
        }
        let error = EffectError::permanent(text);
        if matches!(
            code,
            ResponseCode::Refused | ResponseCode::NotAuth | ResponseCode::NotZone
        ) {
            error.hint(REFUSED)
        } else if code == ResponseCode::NotImp {
            error.hint("the server takes no updates (PowerDNS: dnsupdate=yes)")
        } else {
            error
        }
    }
}
