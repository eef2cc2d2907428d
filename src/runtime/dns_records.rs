//! The providers of the DNS records, tended while nothing moves: whether each could be used right
//! now is looked at, shown and told.
//!
//! Tending is nobody's step: no plan waits for it, and a provider that cannot even be opened stops
//! nothing else. It is tried again as long as the agent runs.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::dns_desk::{DnsDesk, in_words};
use super::dns_watch::Audience;
use super::tasks::spawn_named;
use crate::config::settings::{DnsAccess, DnsRecord};
use crate::effects::clock::{boottime, wall};
use crate::effects::dns::Tended;
use crate::effects::dns::moved::MovedSender;
use crate::effects::error::EffectError;
use crate::effects::steps::DnsRecordTool;
use crate::model::Moment;
use crate::model::alert::{Alert, AlertLevel};
use crate::model::dns_provider::{DnsProviderStatus, DnsTrouble};
use crate::model::outcome::FailureKind;

/// After a failure: long enough to trouble nobody, short enough to be ready again in time.
const AFTER_FAILURE: Duration = Duration::from_mins(1);
/// What may pass by itself is told when it has not.
const TOLD_AFTER: Duration = Duration::from_mins(10);
/// Records and agents do not come all at once.
const JITTER: std::ops::Range<f64> = 0.9..1.1;
/// A record whose zone is kept from a former life need not be looked at at once, but so much later.
const FIRST_EACH: Duration = Duration::from_secs(5);
/// Longest wait for the disk.
const SAVE_WAIT: Duration = Duration::from_secs(5);

/// Every record's provider, in the order of the settings.
pub type DnsProviders = Vec<DnsProviderStatus>;

/// What steps move records with, with `moved` in the order of the settings.
pub(super) fn tools(desk: &DnsDesk, moved: Vec<MovedSender>) -> Vec<DnsRecordTool> {
    let records = desk.records().iter().zip(moved);
    records
        .map(|(record, moved)| DnsRecordTool {
            name: record.settings.name.clone(),
            record: record.settings.record.clone(),
            kind: record.settings.kind.clone(),
            provider: Arc::clone(&record.provider),
            moved,
        })
        .collect()
}

/// Tends every provider of the desk until `stop`.
#[must_use]
pub fn tend(
    desk: &DnsDesk,
    audience: &Audience,
    stop: &CancellationToken,
) -> watch::Receiver<DnsProviders> {
    let unknown = desk.records().iter().map(|record| DnsProviderStatus {
        name: record.settings.name.clone(),
        provider: record.settings.access.provider().to_owned(),
        verified_at: None,
        expires_at: None,
        trouble: None,
    });
    let (shown, seen) = watch::channel(unknown.collect::<Vec<_>>());
    let shown = Arc::new(shown);
    for (index, record) in desk.records().iter().enumerate() {
        let tending = Tending {
            index,
            desk: desk.clone(),
            audience: audience.clone(),
            shown: Arc::clone(&shown),
            ails: None,
            unsaved: false,
        };
        let stop = stop.clone();
        spawn_named(format!("dns {}", record.settings.name), async move {
            stop.run_until_cancelled(tending.run()).await;
        });
    }
    seen
}

/// Within what time so many records are looked at for the first time; a single one is at once.
fn first_within(count: usize) -> Duration {
    FIRST_EACH.saturating_mul(u32::try_from(count.saturating_sub(1)).unwrap_or(u32::MAX))
}

/// One provider.
struct Tending {
    index: usize,
    desk: DnsDesk,
    audience: Audience,
    shown: Arc<watch::Sender<DnsProviders>>,
    ails: Option<Ails>,
    /// What was found could not be written down, and that was logged.
    unsaved: bool,
}

/// A provider that cannot be used.
struct Ails {
    since: Moment,
    told: bool,
}

impl Tending {
    async fn run(mut self) {
        let desk = self.desk.clone();
        let Some(record) = desk.records().get(self.index) else {
            return;
        };
        let name = &record.settings.name;
        // bounded: by the number of records
        tokio::time::sleep(self.first_pause(&record.settings)).await;
        loop {
            let pause = match record.provider.tend().await {
                Ok(tended) => {
                    self.is_well(name, tended);
                    tended.again
                }
                Err(error) => {
                    let asked = error.retry_after.unwrap_or_default();
                    let pause = asked.max(AFTER_FAILURE);
                    self.is_ailing(name, error);
                    pause
                }
            };
            self.save_zones().await;
            // bounded: by what the provider asks for
            tokio::time::sleep(pause.mul_f64(rand::random_range(JITTER))).await;
        }
    }

    /// Cloudflare counts every request of a token, and a move right after a start needs its share.
    /// Source: Cloudflare API docs, "Rate limits": 1200 in five minutes.
    fn first_pause(&self, settings: &DnsRecord) -> Duration {
        let common = self.desk.common();
        let spread = |it: &DnsRecord| match it.access {
            DnsAccess::Cloudflare { .. } => common.zones.kept(it),
            // Whose credentials are fetched as early as can be, or who counts nothing.
            DnsAccess::Route53(_) | DnsAccess::Rfc2136 { .. } => false,
        };
        if !spread(settings) {
            return Duration::ZERO;
        }
        let records = self.desk.records().iter();
        let count = records.filter(|it| spread(&it.settings)).count();
        first_within(count).mul_f64(rand::random_range(0.0..1.0))
    }

    fn is_well(&mut self, name: &str, tended: Tended) {
        if let Some(ails) = self.ails.take() {
            tracing::info!(%name, "the DNS provider can be used again");
            if ails.told {
                let summary = format!("the DNS provider of record {name} can be used again");
                self.tell(AlertLevel::Info, summary, None);
            }
        }
        self.show(|status| {
            if tended.proved {
                status.verified_at = Some(wall());
            }
            status.expires_at = tended.expires;
            status.trouble = None;
        });
    }

    fn is_ailing(&mut self, name: &str, error: EffectError) {
        let refused = error.kind == FailureKind::Permanent;
        if self.ails.is_none() {
            let hint = error.hint.as_deref().unwrap_or_default();
            tracing::warn!(%name, %error, hint, "the record could not be moved now");
        }
        let since = self.ails.as_ref().map_or_else(boottime, |ails| ails.since);
        let told = self.ails.as_ref().is_some_and(|ails| ails.told);
        let hint = error.hint.clone();
        let why = in_words(error);
        let tells = !told && (refused || boottime().since(since) >= TOLD_AFTER);
        self.ails = Some(Ails {
            since,
            told: told || tells,
        });
        if tells {
            let summary = format!("the DNS record {name} could not be moved now: {why}");
            self.tell(AlertLevel::Warn, summary, hint);
        }
        self.show(|status| {
            let since = status.trouble.as_ref().map_or_else(wall, |it| it.since);
            status.trouble = Some(DnsTrouble {
                why: why.clone(),
                since,
                refused,
            });
        });
    }

    fn show(&self, change: impl FnOnce(&mut DnsProviderStatus)) {
        self.shown.send_modify(|all| {
            if let Some(status) = all.get_mut(self.index) {
                change(status);
            }
        });
    }

    fn tell(&self, level: AlertLevel, summary: String, hint: Option<String>) {
        self.audience.outbox.push(Alert {
            cluster: self.audience.cluster.clone(),
            site: Some(self.audience.site.clone()),
            event: "dns_provider".to_owned(),
            level,
            summary,
            details: hint.into_iter().collect(),
            epoch: None,
            plan: None,
            at: wall(),
        });
    }

    /// On a thread of its own: a disk that hangs holds up nobody.
    async fn save_zones(&mut self) {
        let common = self.desk.common();
        let saving = tokio::task::spawn_blocking(move || common.zones.save());
        let error = match tokio::time::timeout(SAVE_WAIT, saving).await {
            Ok(Ok(Ok(()))) => {
                self.unsaved = false;
                return;
            }
            Ok(Ok(Err(error))) => error.to_string(),
            Ok(Err(error)) => error.to_string(),
            Err(_) => "the disk does not answer".to_owned(),
        };
        if !std::mem::replace(&mut self.unsaved, true) {
            tracing::warn!(%error, "the DNS zones that were found cannot be kept for a restart");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_kept_records_leave_a_move_most_of_the_rate_limit() {
        // One that is deep below its zone: three names asked for, and the record.
        const REQUESTS_EACH: f64 = 4.0;
        assert_eq!(first_within(1), Duration::ZERO);
        for count in [60, 150, 1000] {
            let within = first_within(count).as_secs_f64();
            let asked = f64::from(u32::try_from(count).unwrap()) * REQUESTS_EACH;
            let in_five_minutes = asked * (300.0 / within).min(1.0);
            assert!(in_five_minutes < 300.0, "{count}: {in_five_minutes}");
        }
    }
}
