//! Amazon Route 53. A record set and the note of its epoch are replaced in one batch, on the
//! condition that both still look as they were seen: `DELETE` names the whole set as it was, and a
//! batch is made as a whole or not at all.
//! Source: Amazon Route 53 API Reference, `ChangeResourceRecordSets`.
//!
//! The epoch stands in a TXT record one label below, `_agent.<name>`: record sets have no comment.
//! Must not: touch aliases and sets with a routing policy, or wait until the servers have a change
//! ([`DnsProvider::tend`] follows it there, see `follow`, and also keeps credentials and the
//! zone's id ready).

mod api;
mod credentials;
mod follow;
mod xml;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use reqwest::Url;

use self::api::{Api, Batch};
use self::credentials::Credentials;
use self::follow::Followed;
use self::xml::{Action, Page, RecordSet};
use super::common::Common;
use super::diff::Edit;
use super::zone_ids::ZoneSlot;
use super::{DnsProvider, Opened, ProviderKind, Record, Tended, note};
use crate::config::settings::{DnsAccess, DnsRecord, Route53};
use crate::effects::clock::boottime;
use crate::effects::error::EffectError;
use crate::effects::http_client;
use crate::model::Moment;
use crate::model::outcome::FailureKind;

/// Where the API is. Source: AWS General Reference, "Amazon Route 53 endpoints and quotas".
const ENDPOINT: &str = "https://route53.amazonaws.com";
/// Of the note, too.
const TEXT: &str = "TXT";
/// A record is this deep in its zone at most: each level is a request.
const LEVELS_MAX: usize = 10;
/// How often credentials are looked at while nothing moves.
const TEND_EVERY: Duration = Duration::from_secs(60);
/// How often the record is read, and its zone looked for anew, while nothing moves.
const PROVE_EVERY: Duration = Duration::from_hours(1);
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

fn build(settings: &DnsRecord, common: &Arc<Common>) -> Option<Opened> {
    match &settings.access {
        DnsAccess::Route53(access) => Some(open(settings, access, common)),
        DnsAccess::Cloudflare { .. } | DnsAccess::Rfc2136 { .. } => None,
    }
}

fn open(settings: &DnsRecord, access: &Route53, common: &Arc<Common>) -> Opened {
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
        slot: ZoneSlot::of(settings, common),
        proved: Mutex::new(None),
        followed: Followed::default(),
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
    slot: ZoneSlot,
    /// When the record was last read while nothing moved.
    proved: Mutex<Option<Moment>>,
    followed: Followed,
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
        let may_follow = note::may_follow(&first.comment, &now.comment(), &edit.comment);
        // The set itself must be as it was seen; of the note that is asked here.
        for record in &mut records {
            record.comment.clone_from(&first.comment);
        }
        if records != edit.seen || !may_follow {
            return Err(self.moved(first));
        }
        self.replace(first, now, edit, asked).await
    }

    async fn tend(&self) -> Result<Tended, EffectError> {
        let deadline = boottime() + self.timeout;
        let expires = self.api.credentials.renew(deadline).await?;
        let proved = self.prove(deadline).await?;
        let busy = self.followed.look(&self.api, &self.record, self.timeout);
        let again = busy.await.unwrap_or(TEND_EVERY);
        Ok(Tended {
            again,
            expires,
            proved,
        })
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
        let below = note::name(name);
        let is_note = |set: &RecordSet| set.kind == TEXT && set.name() == below;
        let (zone, page) = self.first_page(name, asked).await?;
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

    /// The record sets from a name on, and the zone that they are in.
    async fn first_page(
        &self,
        name: &str,
        asked: (&str, Moment),
    ) -> Result<(String, Page), EffectError> {
        let known = self.zone_id.clone().or_else(|| self.slot.get());
        let zone = match &known {
            Some(zone) => zone.clone(),
            None => self.find_zone(asked.1).await?,
        };
        let error = match self.api.sets_from(&zone, name, None, asked).await {
            Ok(page) => return Ok((zone, page)),
            Err(error) => error,
        };
        if error.kind != FailureKind::Permanent || self.zone_id.is_some() {
            return Err(error);
        }
        // A zone that was made anew has another id; so has that of another account.
        self.slot.forget();
        if known.is_none() {
            return Err(error);
        }
        let anew = self.find_zone(asked.1).await?;
        if anew == zone {
            return Err(error);
        }
        let page = self.api.sets_from(&anew, name, None, asked).await?;
        Ok((anew, page))
    }

    /// Finds the zone anew and reads the record, now and then: that proves the credentials. True
    /// when it was time.
    async fn prove(&self, deadline: Moment) -> Result<bool, EffectError> {
        let proved = *self.proved.lock().unwrap_or_else(PoisonError::into_inner);
        if proved.is_some_and(|at| boottime().since(at) < PROVE_EVERY) {
            return Ok(false);
        }
        if self.zone_id.is_none()
            && let Err(error) = self.find_zone(deadline).await
        {
            if error.kind == FailureKind::Permanent {
                self.slot.forget();
            }
            return Err(error);
        }
        let what = format!("look {} up", self.record);
        self.look(&self.record, (&what, deadline)).await?;
        *self.proved.lock().unwrap_or_else(PoisonError::into_inner) = Some(boottime());
        Ok(true)
    }

    /// The id of the longest public zone that the record is in.
    async fn find_zone(&self, deadline: Moment) -> Result<String, EffectError> {
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
                self.slot.set(&zone.id);
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
                self.followed.add(change.id);
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
                self.followed.add(change.id);
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
                spelt: format!("{}.", note::name(name)),
                kind: TEXT.to_owned(),
                set_identifier: None,
                ttl: Some(note::TTL),
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
