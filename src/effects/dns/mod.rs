//! DNS: records that point at the active site, moved at the provider that serves them.
//!
//! Owns: what every provider has in common — look, decide ([`mod@diff`]: pure), change, read back.
//! A provider is a file, a trait and a line in [`DNS_PROVIDERS`]. Must not: create or delete
//! records, or wait for the world to notice (S9: DNS is never waited for).
//!
//! Upholds S8: the epoch stands in the record's comment, and a higher one there stops us. A
//! provider without compare-and-swap leaves a gap between look and change: right before the change
//! the lease must still be held, with time to spare, however long the look was held up.

pub mod cloudflare;
pub mod diff;
pub mod rfc2136;

use std::fmt;
use std::time::Duration;

use async_trait::async_trait;

use self::diff::{Change, diff, epoch_in, same_content};
use super::error::EffectError;
use super::permit::Permit;
use crate::config::settings::DnsRecord;
use crate::model::{Epoch, SiteName};

/// A provider's API, opened for one configured record's zone.
#[async_trait]
pub trait DnsProvider: fmt::Debug + Send + Sync {
    /// Every record of this name, of any type.
    ///
    /// # Errors
    /// When the provider cannot be asked or refuses.
    async fn records(&self, name: &str) -> Result<Vec<Record>, EffectError>;

    /// The record with this id, as it is now.
    ///
    /// # Errors
    /// When the provider cannot be asked or refuses.
    async fn record(&self, id: &str) -> Result<Record, EffectError>;

    /// Changes content and comment of the record that was seen, and nothing else. A provider that
    /// can compare and swap refuses when it does not look as it was seen any more.
    ///
    /// # Errors
    /// `OutcomeUnknown` when the change was sent and no answer came.
    async fn patch(
        &self,
        seen: &Record,
        content: &str,
        comment: &str,
        within: Duration,
    ) -> Result<(), EffectError>;
}

/// A kind of provider.
#[derive(Debug, Clone, Copy)]
pub struct ProviderKind {
    /// Its name in `agent.toml`.
    pub name: &'static str,
    /// What it is, for people.
    pub summary: &'static str,
    /// Opens it for a record; `None` when that is another kind's.
    pub build: fn(&DnsRecord) -> Option<Opened>,
}

/// An opened provider, or why it cannot be opened.
pub type Opened = Result<Box<dyn DnsProvider>, EffectError>;

/// Every kind of provider.
pub const DNS_PROVIDERS: &[ProviderKind] = &[cloudflare::PROVIDER, rfc2136::PROVIDER];

/// The provider of a configured record.
///
/// # Errors
/// When its kind is unknown or its settings cannot work.
pub fn provider_of(settings: &DnsRecord) -> Result<Box<dyn DnsProvider>, EffectError> {
    let mut kinds = DNS_PROVIDERS.iter();
    kinds
        .find_map(|kind| (kind.build)(settings))
        .unwrap_or_else(|| {
            let provider = settings.access.provider();
            Err(EffectError::permanent(format!(
                "dns {}: no provider is called {provider:?}",
                settings.name
            )))
        })
}

/// A record at a provider.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// The provider's name for it.
    pub id: String,
    /// Fully qualified.
    pub name: String,
    /// `A`, `AAAA`, `CNAME`…
    pub kind: String,
    /// Where it points.
    pub content: String,
    /// What people and the agent wrote beside it; empty if nothing.
    pub comment: String,
    /// Seconds that resolvers may keep it; `None` when the provider decides.
    pub ttl: Option<u32>,
    /// True when the provider answers with its own addresses and forwards the traffic.
    pub proxied: bool,
}

/// A record as it should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    /// Fully qualified, no final dot.
    pub name: String,
    /// `A`, `AAAA` or `CNAME`.
    pub kind: String,
    /// Where it should point.
    pub content: String,
    /// The epoch under which it should be changed.
    pub epoch: Epoch,
    /// The site that is active in that epoch.
    pub site: SiteName,
}

/// What [`observe`] saw.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Observed {
    /// The record is as wanted, and says so with this epoch.
    AlreadyDone,
    /// One record is to be changed.
    Needed {
        /// Its content now.
        from: String,
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

/// Looks whether the record is as wanted, changing nothing.
///
/// # Errors
/// When the provider cannot be asked, when a newer epoch was here, or when it is not clear which
/// record to change.
pub async fn observe(provider: &dyn DnsProvider, wanted: &Wanted) -> Result<Observed, EffectError> {
    Ok(match change(provider, wanted).await? {
        None => Observed::AlreadyDone,
        Some(Patch { seen, .. }) => Observed::Needed { from: seen.content },
    })
}

/// Makes the record as wanted. It looks before it changes, every time: after an attempt whose
/// outcome is unknown, the next one finds it done or does it, never twice.
///
/// # Errors
/// As [`observe`]; what `permit` says right before the change; `OutcomeUnknown` when the change was
/// sent and no answer came.
pub async fn apply(
    provider: &dyn DnsProvider,
    wanted: &Wanted,
    permit: &dyn Permit,
) -> Result<Applied, EffectError> {
    let Some(patch) = change(provider, wanted).await? else {
        return Ok(Applied {
            changed: false,
            note: format!("{} was {} already", describe(wanted), wanted.content),
        });
    };
    let held = permit.still_held()?;
    provider
        .patch(&patch.seen, &wanted.content, &patch.comment, held)
        .await?;
    let now = provider.record(&patch.seen.id).await?;
    compare(&now, wanted)?;
    let what = describe(wanted);
    let note = if patch.seen.content == wanted.content {
        format!(
            "{what} was {} already; it now says epoch {}",
            wanted.content, wanted.epoch
        )
    } else {
        format!(
            "{what} moved from {} to {}; {}",
            patch.seen.content,
            wanted.content,
            visible(&now)
        )
    };
    Ok(Applied {
        changed: true,
        note,
    })
}

/// Proves that the provider has the record as wanted.
///
/// # Errors
/// When it has not, or cannot be asked.
pub async fn verify(provider: &dyn DnsProvider, wanted: &Wanted) -> Result<(), EffectError> {
    match change(provider, wanted).await? {
        None => Ok(()),
        Some(patch) => Err(EffectError::retryable(format!(
            "{} is {}, not {} under epoch {}",
            describe(wanted),
            patch.seen.content,
            wanted.content,
            wanted.epoch
        ))),
    }
}

struct Patch {
    seen: Record,
    comment: String,
}

/// The change to make, if any; every reason to make none is an error.
async fn change(provider: &dyn DnsProvider, wanted: &Wanted) -> Result<Option<Patch>, EffectError> {
    let records = provider.records(&wanted.name).await?;
    let what = describe(wanted);
    let (why, hint) = match diff(&records, wanted) {
        Change::None => return Ok(None),
        Change::Patch { seen, comment } => return Ok(Some(Patch { seen, comment })),
        Change::Newer { epoch } => return Err(newer(wanted, epoch)),
        Change::Missing => (
            format!("{what} does not exist at the provider"),
            "create it once by hand, with a TTL of 60 seconds; the agent only changes records",
        ),
        Change::Ambiguous { n } => (
            format!("{what} exists {n} times: it is not clear which one to change"),
            "leave one record of that name and type",
        ),
        Change::Foreign { kind } => (
            format!("{what} cannot exist: the name is a {kind} record"),
            "correct the type in the configuration, or replace the record by hand",
        ),
    };
    Err(EffectError::permanent(why).hint(hint))
}

fn compare(now: &Record, wanted: &Wanted) -> Result<(), EffectError> {
    let noted = epoch_in(&now.comment);
    if let Some(epoch) = noted.filter(|epoch| *epoch > wanted.epoch) {
        return Err(newer(wanted, epoch));
    }
    if same_content(&wanted.kind, &now.content, &wanted.content) && noted == Some(wanted.epoch) {
        return Ok(());
    }
    Err(EffectError::retryable(format!(
        "{} is {} with epoch {:?} after it was changed to {}",
        describe(wanted),
        now.content,
        noted.map(|epoch| epoch.0),
        wanted.content
    ))
    .hint("something else changes it too"))
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

/// When clients will see the change.
fn visible(record: &Record) -> String {
    match (record.proxied, record.ttl) {
        (true, _) => "proxied: clients follow at the provider's edge".to_owned(),
        (false, Some(ttl)) => format!("resolvers may keep the old one for {ttl} s"),
        (false, None) => "resolvers may keep the old one for as long as the provider says".into(),
    }
}
