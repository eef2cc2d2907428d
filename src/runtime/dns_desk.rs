//! What a person asks about DNS: how each record is at its provider, and what the world sees of it.
//!
//! Owns the questions of `agent dns plan` and `agent dns verify`. Must not change anything: what is
//! to be put right is a plan of the loop, like after a move.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::config::settings::{DnsAccess, DnsCheck, DnsRecord, Proxy};
use crate::config::{Config, defaults};
use crate::effects::clock::wall;
use crate::effects::dns::common::Common;
use crate::effects::dns::edge;
use crate::effects::dns::late::LateProvider;
use crate::effects::dns::outside::{self, Question};
use crate::effects::dns::standing::standing;
use crate::effects::dns::zone_ids::ZoneIds;
use crate::effects::dns::{DnsProvider, Wanted};
use crate::effects::error::EffectError;
use crate::effects::together::together;
use crate::model::dns::{DnsKept, DnsPlanned, DnsVerified, Drift, OutsideView};
use crate::model::edge::EdgeView;
use crate::model::outcome::Failure;
use crate::model::{Epoch, SiteName, Timestamp};
use crate::runtime::status::Snapshot;

/// Longest wait of a person for a provider, however much patience its settings have.
const PROVIDER_WAIT_MAX: Duration = Duration::from_secs(30);

/// Every record of the settings. Cheap to clone.
#[derive(Debug, Clone)]
pub struct DnsDesk(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    records: Vec<DeskRecord>,
    check: DnsCheck,
    common: Arc<Common>,
}

/// A record and who keeps it.
pub(super) struct DeskRecord {
    pub(super) settings: DnsRecord,
    sites: [SiteName; 2],
    /// The one that steps use, too.
    pub(super) provider: Arc<dyn DnsProvider>,
}

impl fmt::Debug for DeskRecord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("DeskRecord")
            .field(&self.settings.name)
            .finish()
    }
}

/// Why a question about DNS has no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DeskError {
    /// There is no such record in the settings.
    #[error("there is no [[dns]] record {name:?}; {known}")]
    Unknown {
        /// What was asked for.
        name: String,
        /// What there is, in words.
        known: String,
    },
    /// Nobody knows yet what the records should be.
    #[error(
        "no site is recorded as the primary yet, so nobody knows what the records should be; see \
         `agent status`"
    )]
    NoPrimary,
}

impl Default for DnsDesk {
    /// A desk without records.
    fn default() -> Self {
        Self(Arc::new(Inner {
            records: Vec::new(),
            check: DnsCheck {
                authoritative: Vec::new(),
                resolvers: Vec::new(),
                timeout: defaults::DNS_CHECK_TIMEOUT,
                drift_every: defaults::DNS_CHECK_DRIFT_EVERY,
            },
            common: Arc::default(),
        }))
    }
}

impl DnsDesk {
    /// The desk for the records of these settings. A provider that cannot be opened is one that
    /// cannot be asked: nothing else waits for it, and it is tried again at each use.
    #[must_use]
    pub fn new(config: &Config) -> Self {
        let sites = config.sites.each_ref().map(|site| site.name.clone());
        let zones = ZoneIds::open(&config.state_dir, &config.dns);
        let common = Arc::new(Common::with(zones));
        let records = config.dns.iter().map(|settings| DeskRecord {
            provider: Arc::new(LateProvider::new(settings.clone(), Arc::clone(&common))),
            sites: sites.clone(),
            settings: settings.clone(),
        });
        Self(Arc::new(Inner {
            records: records.collect(),
            check: config.dns_check.clone(),
            common,
        }))
    }

    /// What its providers have in common.
    pub(super) fn common(&self) -> Arc<Common> {
        Arc::clone(&self.0.common)
    }

    pub(super) fn records(&self) -> &[DeskRecord] {
        &self.0.records
    }

    pub(super) fn check(&self) -> &DnsCheck {
        &self.0.check
    }

    /// How each record, or the one of this name, is at its provider.
    ///
    /// # Errors
    /// [`DeskError`]; that a provider does not answer is part of the answer.
    pub async fn plan(
        &self,
        picture: &Snapshot,
        name: Option<&str>,
    ) -> Result<Vec<DnsPlanned>, DeskError> {
        let asked = self.wanted(picture, name)?;
        let asked = asked
            .iter()
            .map(|(record, wanted)| record.planned(wanted))
            .collect();
        Ok(together(asked).await)
    }

    /// The same, and what the world sees of it.
    ///
    /// # Errors
    /// [`DeskError`]; that somebody does not answer is part of the answer.
    pub async fn verify(
        &self,
        picture: &Snapshot,
        name: Option<&str>,
    ) -> Result<Vec<DnsVerified>, DeskError> {
        let asked = self.wanted(picture, name)?;
        let asked = asked
            .iter()
            .map(|(record, wanted)| {
                let watched = record.watched_until(picture, wanted);
                record.verified(&self.0.check, wanted, watched)
            })
            .collect();
        Ok(together(asked).await)
    }

    fn wanted(
        &self,
        picture: &Snapshot,
        name: Option<&str>,
    ) -> Result<Vec<(&DeskRecord, Wanted)>, DeskError> {
        let records = self.named(name)?.into_iter();
        records
            .map(|record| {
                let wanted = record.wanted(picture).ok_or(DeskError::NoPrimary)?;
                Ok((record, wanted))
            })
            .collect()
    }

    fn named(&self, name: Option<&str>) -> Result<Vec<&DeskRecord>, DeskError> {
        let all = self.0.records.iter();
        let Some(name) = name else {
            return Ok(all.collect());
        };
        let found: Vec<_> = all.filter(|it| it.settings.name == name).collect();
        if found.is_empty() {
            let known: Vec<_> = self.0.records.iter().map(|it| &*it.settings.name).collect();
            return Err(DeskError::Unknown {
                name: name.to_owned(),
                known: match known.as_slice() {
                    [] => "the settings have none".to_owned(),
                    known => format!("there are {}", known.join(", ")),
                },
            });
        }
        Ok(found)
    }
}

impl DeskRecord {
    /// What the record should be, as the cluster record says.
    fn wanted(&self, picture: &Snapshot) -> Option<Wanted> {
        let record = picture.record.as_ref()?;
        self.wanted_for(&record.primary, record.epoch)
    }

    /// What the record should be when this site is the primary's, under this epoch.
    pub(super) fn wanted_for(&self, primary: &SiteName, epoch: Epoch) -> Option<Wanted> {
        let index = self.sites.iter().position(|site| site == primary)?;
        Some(Wanted {
            name: self.settings.record.clone(),
            kind: self.settings.kind.clone(),
            contents: self.settings.contents.get(index)?.clone(),
            epoch,
            site: primary.clone(),
        })
    }

    /// How it is at its provider.
    pub(super) async fn kept(&self, wanted: &Wanted) -> Result<DnsKept, EffectError> {
        let mut kept = standing(self.provider.as_ref(), wanted).await?;
        let said = self.settings.proxy().and_then(|proxy| proxy.proxied);
        let otherwise = said.is_some_and(|proxied| proxied != kept.proxied);
        if kept.drift.is_none() && otherwise {
            let proxied = kept.proxied;
            kept.drift = Some(Drift::Proxy { proxied });
        }
        Ok(kept)
    }

    /// What answers through the provider's edge; `None` where the settings name nothing to ask.
    pub(super) async fn through_edge(&self, wanted: &SiteName) -> Option<EdgeView> {
        let check = self.settings.edge_check()?;
        let other = self.sites.iter().find(|site| *site != wanted)?;
        let patience = self.settings.timeout.min(PROVIDER_WAIT_MAX);
        Some(edge::look(check, (wanted, other), patience).await)
    }

    /// What the world sees of it.
    pub(super) async fn look(&self, check: &DnsCheck, wanted: &[String]) -> OutsideView {
        let zone = match &self.settings.access {
            DnsAccess::Rfc2136 { zone, .. } => Some(zone.clone()),
            DnsAccess::Cloudflare { .. } | DnsAccess::Route53(_) => None,
        };
        let question = Question {
            name: self.settings.record.clone(),
            kind: self.settings.kind.clone(),
            wanted: wanted.to_vec(),
            zone,
        };
        outside::look(check, &question).await
    }

    /// Until when old answers may live, as the watch over this very move knows: only it saw when
    /// the last server had it. `None`: it does not know yet, or this agent did not move it.
    fn watched_until(&self, picture: &Snapshot, wanted: &Wanted) -> Option<Timestamp> {
        let watched = picture.dns.iter().find(|status| {
            status.name == self.settings.name
                && status.epoch == wanted.epoch
                && status.wanted == wanted.contents
        });
        watched?.old_until
    }

    async fn verified(
        &self,
        check: &DnsCheck,
        wanted: &Wanted,
        watched: Option<Timestamp>,
    ) -> DnsVerified {
        let planned = self.planned(wanted).await;
        let proxied = match &planned.provider {
            Ok(kept) => kept.proxied,
            Err(_) => self.settings.proxy().is_some_and(Proxy::seems_on),
        };
        let view = match proxied {
            true => None,
            false => Some(self.look(check, &planned.wanted).await),
        };
        let edge = self.through_edge(&wanted.site).await;
        let keeps = view.as_ref().and_then(OutsideView::resolvers_keep_old_s);
        let now = wall();
        let keeps = keeps.map(|s| Timestamp(now.0 + i64::from(s) * 1000));
        DnsVerified {
            old_until: keeps.max(watched.filter(|until| *until > now)),
            planned,
            view,
            edge,
        }
    }

    async fn planned(&self, wanted: &Wanted) -> DnsPlanned {
        let kept = tokio::time::timeout(PROVIDER_WAIT_MAX, self.kept(wanted)).await;
        let kept = kept.unwrap_or_else(|_| {
            Err(EffectError::retryable(format!(
                "dns {}: no answer within {} s",
                self.settings.name,
                PROVIDER_WAIT_MAX.as_secs()
            )))
        });
        DnsPlanned {
            name: self.settings.name.clone(),
            record: self.settings.record.clone(),
            kind: self.settings.kind.clone(),
            wanted: wanted.contents.clone(),
            epoch: wanted.epoch,
            provider: kept.map_err(in_words),
        }
    }
}

/// An error with its causes and what to do.
pub(super) fn in_words(error: EffectError) -> String {
    let failure = Failure::from(error);
    match failure.hint {
        Some(hint) => format!("{}: {hint}", failure.what),
        None => failure.what,
    }
}
