//! Amazon Route 53. A record set and the note of its epoch are replaced in one batch, on the
//! condition that both still look as they were seen: `DELETE` names the whole set as it was, and a
//! batch is made as a whole or not at all.
//! Source: Amazon Route 53 API Reference, `ChangeResourceRecordSets`.
//!
//! The epoch stands in a TXT record one label below, `_agent.<name>`: record sets have no comment.
//! Must not: touch aliases and sets with a routing policy, or wait until the servers have a change
//! ([`DnsProvider::tend`] follows it there, and also keeps credentials and the zone's id ready).

mod api;
mod credentials;
mod xml;

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use reqwest::Url;

use self::api::{Api, Batch};
use self::credentials::Credentials;
use self::xml::{Action, RecordSet};
use super::diff::Edit;
use super::{DnsProvider, Opened, ProviderKind, Record};
use crate::config::settings::{DnsAccess, DnsRecord, Route53};
use crate::effects::clock::boottime;
use crate::effects::error::EffectError;
use crate::effects::http_client;
use crate::model::Moment;

/// Where the API is. Source: AWS General Reference, "Amazon Route 53 endpoints and quotas".
const ENDPOINT: &str = "https://route53.amazonaws.com";
/// Where the epoch is kept, below the record's name.
const NOTE_LABEL: &str = "_agent";
/// Of the note, too.
const TEXT: &str = "TXT";
/// For a note that is new: as long as the record itself lives at most, usually.
const NOTE_TTL: u32 = 60;
/// A record is this deep in its zone at most: each level is a request.
const LEVELS_MAX: usize = 10;
/// How often the servers are asked for while a change is on its way. Changes take about a minute;
/// the account has five requests a second for everything.
const FOLLOW_EVERY: Duration = Duration::from_secs(5);
/// After this a change is not followed any more, and a person should look.
const FOLLOWED_MAX: Duration = Duration::from_secs(600);
/// Newer changes push the oldest out.
const FOLLOWED_AT_ONCE: usize = 8;
/// How often credentials and zone are looked at while nothing moves.
const TEND_EVERY: Duration = Duration::from_secs(60);
/// What Route 53 says when a set is not as the batch expects. Source: observed answers; AWS
/// re:Post, "InvalidChangeBatch".
const NOT_AS_SEEN: &[&str] = &[
    "but it was not found",
    "do not match the current values",
    "but it already exists",
];

/// This provider.
pub const PROVIDER: ProviderKind = ProviderKind {
    name: "route53",
    summary: "Amazon Route 53, by AWS credentials that may change the record",
    build,
};

fn build(settings: &DnsRecord) -> Option<Opened> {
    match &settings.access {
        DnsAccess::Route53(access) => Some(open(settings, access)),
        DnsAccess::Cloudflare { .. } | DnsAccess::Rfc2136 { .. } => None,
    }
}

fn open(settings: &DnsRecord, access: &Route53) -> Opened {
    let target = &settings.name;
    let endpoint = access.endpoint.as_deref().unwrap_or(ENDPOINT);
    let endpoint = Url::parse(endpoint).map_err(|_| not_a_url(target))?;
    let local = matches!(
        endpoint.host_str(),
        Some("127.0.0.1" | "[::1]" | "localhost")
    );
    if endpoint.scheme() != "https" && !(endpoint.scheme() == "http" && local) {
        let why = format!("dns {target}: its endpoint is not https");
        return Err(EffectError::permanent(why).hint("use an https URL"));
    }
    let client = http_client::client(&endpoint, settings.timeout)?;
    let role = access.role.as_ref();
    let credentials = Credentials::new(target, &access.login, role, &access.region, &client);
    Ok(Box::new(Zones {
        record: settings.record.clone(),
        kind: settings.kind.clone(),
        api: Api {
            target: target.clone(),
            client,
            endpoint,
            region: access.region.clone(),
            credentials,
        },
        zone_id: access.zone_id.clone(),
        zone_found: Mutex::new(None),
        followed: Mutex::new(Vec::new()),
        timeout: settings.timeout,
    }))
}

fn not_a_url(target: &str) -> EffectError {
    EffectError::permanent(format!("dns {target}: its endpoint is not a URL"))
        .hint("leave endpoint out to use AWS's own")
}

#[derive(Debug)]
struct Zones {
    record: String,
    kind: String,
    api: Api,
    zone_id: Option<String>,
    /// The zone that was looked up, where none is configured.
    zone_found: Mutex<Option<String>>,
    /// Changes that the servers may not have yet, and since when.
    followed: Mutex<Vec<(String, Moment)>>,
    timeout: Duration,
}

/// What is kept at a name, and the note below it.
#[derive(Debug, PartialEq, Eq)]
struct Seen {
    zone: String,
    sets: Vec<RecordSet>,
    note: Option<RecordSet>,
}

impl Seen {
    fn comment(&self) -> String {
        let value = self.note.as_ref().and_then(|note| note.values.first());
        value.map(|value| xml::unquoted(value)).unwrap_or_default()
    }

    fn set(&self, kind: &str) -> Option<&RecordSet> {
        self.sets.iter().find(|set| set.kind == kind)
    }
}

#[async_trait]
impl DnsProvider for Zones {
    async fn records(&self, name: &str) -> Result<Vec<Record>, EffectError> {
        let what = format!("look {name} up");
        let seen = self.look(name, (&what, boottime() + self.timeout)).await?;
        Ok(records(name, &seen))
    }

    async fn change(&self, edit: &Edit, within: Duration) -> Result<(), EffectError> {
        let what = format!("change the records to {}", edit.contents.join(", "));
        let Some(first) = edit.seen.first() else {
            return Err(EffectError::permanent(
                self.api.text(&what, "none was seen"),
            ));
        };
        let asked = (what.as_str(), boottime() + within.min(self.timeout));
        let now = self.look(&first.name, asked).await?;
        let mut records = records(&first.name, &now);
        records.retain(|record| record.kind == first.kind);
        if records != edit.seen {
            return Err(self.moved(first));
        }
        self.replace(first, now, edit, asked).await
    }

    async fn tend(&self) -> Result<Option<Duration>, EffectError> {
        let deadline = boottime() + self.timeout;
        self.api.credentials.renew(deadline).await?;
        self.zone(deadline).await?;
        self.follow().await?;
        let idle = self.followed().is_empty();
        Ok(Some(if idle { TEND_EVERY } else { FOLLOW_EVERY }))
    }
}

/// One record for each value.
fn records(name: &str, seen: &Seen) -> Vec<Record> {
    let comment = seen.comment();
    let sets = seen.sets.iter();
    sets.flat_map(|set| {
        // An alias of another type than ours is not ours to judge, but it is in the way of a CNAME.
        let values = set.alias.iter().chain(&set.values);
        let records = values.map(|value| Record {
            id: format!("{} {name} {value}", set.kind),
            name: name.to_owned(),
            kind: set.kind.clone(),
            content: match set.kind.as_str() {
                TEXT => xml::unquoted(value),
                _ => value.clone(),
            },
            comment: comment.clone(),
            ttl: set.ttl,
            proxied: false,
        });
        records.collect::<Vec<_>>()
    })
    .collect()
}

impl Zones {
    /// Every record set of a name, and the note below it.
    async fn look(&self, name: &str, asked: (&str, Moment)) -> Result<Seen, EffectError> {
        let zone = self.zone(asked.1).await?;
        let below = format!("{NOTE_LABEL}.{}", name.trim_start_matches("*."));
        let is_note = |set: &RecordSet| set.kind == TEXT && set.name() == below;
        let page = self.api.sets_from(&zone, name, None, asked).await?;
        let all_of_it = page.sets.last().is_none_or(|set| set.name() != name);
        if page.truncated && !all_of_it {
            return Err(EffectError::permanent(format!(
                "dns {}: {name} has more record sets than anybody can look through",
                self.api.target
            )));
        }
        let mut notes: Vec<RecordSet> =
            page.sets.iter().filter(|it| is_note(it)).cloned().collect();
        if notes.is_empty() && page.truncated {
            // Other names stand between the name and its note.
            let page = self.api.sets_from(&zone, &below, Some(TEXT), asked).await?;
            notes = page.sets.into_iter().filter(is_note).collect();
        }
        let mut sets = page.sets;
        sets.retain(|set| set.name() == name);
        self.only_simple(name, &sets)?;
        let note = notes.pop();
        let values = note.as_ref().map_or(1, |note| note.values.len());
        if !notes.is_empty() || values != 1 {
            return Err(EffectError::permanent(format!(
                "dns {}: the TXT record {below}, which keeps the epoch, has not one value",
                self.api.target
            ))
            .hint("leave one simple record with one value there, or none"));
        }
        Ok(Seen { zone, sets, note })
    }

    /// Refuses what has no values of its own, and what Route 53 chooses between by itself.
    fn only_simple(&self, name: &str, sets: &[RecordSet]) -> Result<(), EffectError> {
        let ours = || sets.iter().filter(|set| set.kind == self.kind);
        let refuse = |why: String, hint: &str| {
            let text = format!("dns {}: {} {name} {why}", self.api.target, self.kind);
            Err(EffectError::permanent(text).hint(hint))
        };
        if let Some(alias) = ours().find_map(|set| set.alias.as_deref()) {
            return refuse(
                format!("is an alias of {}", alias.trim_end_matches('.')),
                "an alias has no value to change: replace it by a plain record with a TTL of 60 \
                 seconds",
            );
        }
        if let Some(id) = ours().find_map(|set| set.set_identifier.as_deref()) {
            return refuse(
                format!("has a routing policy (record {id:?})"),
                "leave one simple record of that name and type: Route 53's own choice between \
                 several would disagree with the agent's",
            );
        }
        Ok(())
    }

    /// The zone's id: the configured one, or that of the longest public zone that the record is in.
    async fn zone(&self, deadline: Moment) -> Result<String, EffectError> {
        if let Some(id) = &self.zone_id {
            return Ok(id.clone());
        }
        let found = self.zone_found.lock();
        let found = found.unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(id) = found {
            return Ok(id);
        }
        let what = format!("find the zone of {}", self.record);
        let refuse = |why: &str, hint: &str| {
            Err(EffectError::permanent(self.api.text(&what, why)).hint(hint))
        };
        let mut suffix = self.record.trim_start_matches("*.");
        for _ in 0..LEVELS_MAX {
            let mut zones = self.api.zones_from(suffix, (&what, deadline)).await?;
            zones.retain(|zone| zone.name == suffix && !zone.private);
            if zones.len() > 1 {
                let why = format!("{} public zones are called {suffix}", zones.len());
                return refuse(&why, "set zone_id");
            }
            if let Some(zone) = zones.pop() {
                let found = self.zone_found.lock();
                *found.unwrap_or_else(PoisonError::into_inner) = Some(zone.id.clone());
                return Ok(zone.id);
            }
            match suffix.split_once('.') {
                Some((_, rest)) => suffix = rest,
                None => break,
            }
        }
        refuse(
            "the account has no public zone for it",
            "set zone_id, or use credentials of the account that has the zone",
        )
    }

    /// Puts these values and this note in the place of what was seen.
    async fn replace(
        &self,
        record: &Record,
        seen: Seen,
        edit: &Edit,
        asked: (&str, Moment),
    ) -> Result<(), EffectError> {
        let Some(old) = seen.set(&record.kind).cloned() else {
            return Err(self.moved(record));
        };
        let values = edit.contents.iter().map(|it| value(&record.kind, it));
        let new = RecordSet {
            values: values.collect(),
            ..old.clone()
        };
        let comment = edit.comment.as_str();
        let note = self.note(&record.name, seen.note.as_ref(), comment);
        let mut changes = vec![(Action::Delete, old)];
        changes.extend(seen.note.clone().map(|note| (Action::Delete, note)));
        changes.extend([
            (Action::Create, new.clone()),
            (Action::Create, note.clone()),
        ]);
        let batch = xml::change_batch(comment, &changes);
        let refused = match self.api.send_batch(&seen.zone, batch, asked).await? {
            Batch::Accepted(change) => {
                self.keep_following(change.id);
                return Ok(());
            }
            Batch::Refused(messages) => messages,
        };
        if !refused.iter().any(|it| is_not_as_seen(it)) {
            return Err(self.refused_batch(asked.0, &refused));
        }
        if self.look(&record.name, asked).await? != seen {
            return Err(self.moved(record));
        }
        // It is as it was seen, and yet the comparison fails: it is spelt otherwise in there. Who
        // holds the lease, and has just looked again, may write over it.
        let changes = [(Action::Upsert, new), (Action::Upsert, note)];
        let batch = xml::change_batch(comment, &changes);
        match self.api.send_batch(&seen.zone, batch, asked).await? {
            Batch::Accepted(change) => {
                self.keep_following(change.id);
                Ok(())
            }
            Batch::Refused(messages) => Err(self.refused_batch(asked.0, &messages)),
        }
    }

    fn note(&self, name: &str, old: Option<&RecordSet>, comment: &str) -> RecordSet {
        let values = vec![xml::quoted(comment)];
        match old {
            Some(old) => RecordSet {
                values,
                ..old.clone()
            },
            None => RecordSet {
                spelt: format!("{NOTE_LABEL}.{}.", name.trim_start_matches("*.")),
                kind: TEXT.to_owned(),
                set_identifier: None,
                ttl: Some(NOTE_TTL),
                values,
                alias: None,
                health_check: None,
            },
        }
    }

    fn refused_batch(&self, what: &str, messages: &[String]) -> EffectError {
        EffectError::permanent(self.api.text(what, &messages.join("; ")))
            .hint("compare the record in the configuration with what Route 53 says")
    }

    fn moved(&self, seen: &Record) -> EffectError {
        EffectError::retryable(format!(
            "dns {}: {} {} is not as it was seen any more: somebody else changes it too",
            self.api.target, seen.kind, seen.name
        ))
    }

    fn keep_following(&self, id: String) {
        let mut followed = self.followed();
        if followed.len() >= FOLLOWED_AT_ONCE {
            followed.remove(0);
        }
        followed.push((id, boottime()));
    }

    /// Asks how far the changes are.
    async fn follow(&self) -> Result<(), EffectError> {
        let followed = self.followed().clone();
        for (id, since) in followed {
            let asked = ("follow a change", boottime() + self.timeout);
            let in_sync = self.api.change(&id, asked).await?.in_sync;
            let (name, span) = (&self.record, boottime().since(since));
            if in_sync {
                let seconds = span.as_secs();
                tracing::info!(%name, seconds, "every server of route 53 has the change");
            } else if span > FOLLOWED_MAX {
                tracing::warn!(%name, change = %id, "route 53 has not spread the change yet");
            } else {
                continue;
            }
            self.followed().retain(|(other, _)| *other != id);
        }
        Ok(())
    }

    fn followed(&self) -> MutexGuard<'_, Vec<(String, Moment)>> {
        self.followed.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// As a zone file has it.
fn value(kind: &str, content: &str) -> String {
    match kind {
        TEXT => xml::quoted(content),
        _ => content.to_owned(),
    }
}

fn is_not_as_seen(message: &str) -> bool {
    NOT_AS_SEEN.iter().any(|part| message.contains(part))
}
