//! DNS: records that point at the active site, moved at the provider that serves them.
//!
//! Owns: what every provider has in common — look, decide ([`mod@diff`]: pure), change, read back.
//! A provider is a file, a trait and a line in [`DNS_PROVIDERS`]. Must not: create the first record
//! of a name, or wait for the world to notice (S9: DNS is never waited for).
//!
//! Upholds S8: the epoch stands in the records' comments, and a higher one there stops us. A
//! provider without compare-and-swap leaves a gap between look and change: right before the change
//! the lease must still be held, with time to spare, however long the look was held up.

mod apart;
pub mod cloudflare;
pub mod common;
pub mod diff;
pub mod edge;
pub mod late;
pub mod moved;
mod note;
pub mod outside;
pub mod rfc2136;
pub mod route53;
pub mod standing;
mod text;
pub mod zone_ids;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use self::common::Common;
use self::diff::{Change, Edit, diff};
use super::error::EffectError;
use super::permit::Permit;
use crate::config::settings::DnsRecord;
use crate::model::{Epoch, SiteName, Timestamp};

/// A provider's API, opened for one configured name's zone.
#[async_trait]
pub trait DnsProvider: fmt::Debug + Send + Sync {
    /// Every record of this name, of any type that can be wanted.
    ///
    /// # Errors
    /// When the provider cannot be asked or refuses.
    async fn records(&self, name: &str) -> Result<Vec<Record>, EffectError>;

    /// Makes the edit, wholly or not at all, and changes nothing else. A provider that can compare
    /// and swap refuses when the records do not look as they were seen any more.
    ///
    /// # Errors
    /// `OutcomeUnknown` when the change was sent and no answer came.
    async fn change(&self, edit: &Edit, within: Duration) -> Result<(), EffectError>;

    /// Gets ready, while nothing moves, what a move would otherwise wait for: proves that the
    /// credentials are good and finds the zone. Follows earlier moves to the servers.
    ///
    /// # Errors
    /// What a move would meet now; ask again later.
    async fn tend(&self) -> Result<Tended, EffectError>;
}

/// A provider that a move could use right now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tended {
    /// After how long to tend it again.
    pub again: Duration,
    /// Until when its credentials are good, as far as the provider says.
    pub expires: Option<Timestamp>,
    /// True when the provider was asked and took the credentials just now.
    pub proved: bool,
}

/// A kind of provider.
#[derive(Debug, Clone, Copy)]
pub struct ProviderKind {
    /// Its name in `agent.toml`.
    pub name: &'static str,
    /// What it is, for people.
    pub summary: &'static str,
    /// Opens it for a record; `None` when that is another kind's.
    pub build: fn(&DnsRecord, &Arc<Common>) -> Option<Opened>,
}

/// An opened provider, or why it cannot be opened.
pub type Opened = Result<Box<dyn DnsProvider>, EffectError>;

/// Every kind of provider.
pub const DNS_PROVIDERS: &[ProviderKind] =
    &[cloudflare::PROVIDER, rfc2136::PROVIDER, route53::PROVIDER];

/// The provider of a configured record, which has nothing in common with others.
///
/// # Errors
/// When its kind is unknown or its settings cannot work.
pub fn provider_of(settings: &DnsRecord) -> Opened {
    provider_with(settings, &Arc::default())
}

/// The provider of a configured record.
///
/// # Errors
/// As [`provider_of`].
pub fn provider_with(settings: &DnsRecord, common: &Arc<Common>) -> Opened {
    let mut kinds = DNS_PROVIDERS.iter();
    kinds
        .find_map(|kind| (kind.build)(settings, common))
        .unwrap_or_else(|| {
            let provider = settings.access.provider();
            Err(EffectError::permanent(format!(
                "dns {}: no provider is called {provider:?}",
                settings.name
            )))
        })
}

/// A record at a provider: one value of a name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// The provider's name for it.
    pub id: String,
    /// Fully qualified.
    pub name: String,
    /// `A`, `AAAA`, `CNAME`, `TXT`…
    pub kind: String,
    /// Where it points; of a `TXT` record the text, without the quotes of zone files.
    pub content: String,
    /// What people and the agent wrote beside it; empty if nothing.
    pub comment: String,
    /// Seconds that resolvers may keep it; `None` when the provider decides.
    pub ttl: Option<u32>,
    /// True when the provider answers with its own addresses and forwards the traffic.
    pub proxied: bool,
}

/// The records of one name and type as they should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    /// Fully qualified, no final dot.
    pub name: String,
    /// `A`, `AAAA`, `CNAME` or `TXT`.
    pub kind: String,
    /// Where they should point: these and no others.
    pub contents: Vec<String>,
    /// The epoch under which they should be changed.
    pub epoch: Epoch,
    /// The site that is active in that epoch.
    pub site: SiteName,
}

/// What [`observe`] saw.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Observed {
    /// The records are as wanted, and say so with this epoch.
    AlreadyDone,
    /// They are to be changed.
    Needed {
        /// Their contents now.
        from: Vec<String>,
    },
}

/// What [`apply`] did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Applied {
    /// True when a change was sent.
    pub changed: bool,
    /// One line for people.
    pub note: String,
}

/// Looks whether the records are as wanted, changing nothing.
///
/// # Errors
/// When the provider cannot be asked, when a newer epoch was here, or when it is not clear which
/// records to change.
pub async fn observe(provider: &dyn DnsProvider, wanted: &Wanted) -> Result<Observed, EffectError> {
    Ok(match needed(provider, wanted).await? {
        None => Observed::AlreadyDone,
        Some(edit) => Observed::Needed {
            from: edit.seen.into_iter().map(|record| record.content).collect(),
        },
    })
}

/// Makes the records as wanted. It looks before it changes, every time: after an attempt whose
/// outcome is unknown, the next one finds it done or does it, never twice. What it did is believed
/// only after [`verify`].
///
/// # Errors
/// As [`observe`]; what `permit` says right before the change; `OutcomeUnknown` when the change was
/// sent and no answer came.
pub async fn apply(
    provider: &dyn DnsProvider,
    wanted: &Wanted,
    permit: &dyn Permit,
) -> Result<Applied, EffectError> {
    let (what, to) = (describe(wanted), wanted.contents.join(", "));
    let Some(edit) = needed(provider, wanted).await? else {
        return Ok(Applied {
            changed: false,
            note: format!("{what} was {to} already"),
        });
    };
    let held = permit.still_held()?;
    provider.change(&edit, held).await?;
    let note = if edit.moves(&wanted.kind) {
        let from = contents_of(&edit.seen);
        format!("{what} moved from {from} to {to}; {}", visible(&edit.seen))
    } else {
        format!(
            "{what} was {to} already; it now says epoch {}",
            wanted.epoch
        )
    };
    Ok(Applied {
        changed: true,
        note,
    })
}

/// Proves that the provider has the records as wanted.
///
/// # Errors
/// When it has not, or cannot be asked.
pub async fn verify(provider: &dyn DnsProvider, wanted: &Wanted) -> Result<(), EffectError> {
    match needed(provider, wanted).await? {
        None => Ok(()),
        Some(edit) => Err(EffectError::retryable(format!(
            "{} is {}, not {} under epoch {}",
            describe(wanted),
            contents_of(&edit.seen),
            wanted.contents.join(", "),
            wanted.epoch
        ))
        .hint("something else changes it too")),
    }
}

/// The change to make, if any; every reason to make none is an error.
async fn needed(provider: &dyn DnsProvider, wanted: &Wanted) -> Result<Option<Edit>, EffectError> {
    let records = provider.records(&wanted.name).await?;
    let what = describe(wanted);
    let (why, hint) = match diff(&records, wanted) {
        Change::None => return Ok(None),
        Change::Edit(edit) => return Ok(Some(edit)),
        Change::Newer { epoch } => return Err(newer(wanted, epoch)),
        Change::Missing => (
            format!("{what} does not exist at the provider"),
            "create it once by hand, with a TTL of 60 seconds; the agent only changes what is there",
        ),
        Change::Foreign { kind } => (
            format!("{what} cannot exist: the name is a {kind} record"),
            "correct the type in the configuration, or replace the record by hand",
        ),
    };
    Err(EffectError::permanent(why).hint(hint))
}

fn newer(wanted: &Wanted, epoch: Epoch) -> EffectError {
    EffectError::permanent(format!(
        "{} was moved by a newer epoch, {epoch}; ours is {}",
        describe(wanted),
        wanted.epoch
    ))
    .hint("another site is active now; this one must not change DNS any more")
}

fn describe(wanted: &Wanted) -> String {
    format!("dns record {} {}", wanted.name, wanted.kind)
}

fn contents_of(records: &[Record]) -> String {
    let contents: Vec<&str> = records.iter().map(|it| it.content.as_str()).collect();
    contents.join(", ")
}

/// When clients will see the change.
fn visible(records: &[Record]) -> String {
    if records.iter().any(|record| record.proxied) {
        return "proxied: clients follow at the provider's edge".to_owned();
    }
    match records.iter().map(|record| record.ttl).max().flatten() {
        Some(ttl) => format!("resolvers may keep the old one for {ttl} s"),
        None => "resolvers may keep the old one for as long as the provider says".into(),
    }
}
