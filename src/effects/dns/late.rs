//! A provider that is opened when it is first used, and at each use until that works: a host
//! without certificate authorities, say, can still fail its database over, and its DNS follows once
//! it has some.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use async_trait::async_trait;

use super::apart::apart;
use super::common::Common;
use super::diff::Edit;
use super::{DnsProvider, Record, Tended, provider_with};
use crate::config::settings::DnsRecord;
use crate::effects::clock::boottime;
use crate::effects::error::EffectError;

/// The provider of a record, opened or not.
#[derive(Debug)]
pub struct LateProvider(Arc<Late>);

#[derive(Debug)]
struct Late {
    settings: DnsRecord,
    common: Arc<Common>,
    opened: OnceLock<Box<dyn DnsProvider>>,
}

impl LateProvider {
    /// Asks nobody, and cannot fail.
    #[must_use]
    pub fn new(settings: DnsRecord, common: Arc<Common>) -> Self {
        Self(Arc::new(Late {
            settings,
            common,
            opened: OnceLock::new(),
        }))
    }

    async fn opened(&self) -> Result<&dyn DnsProvider, EffectError> {
        if self.0.opened.get().is_none() {
            let (late, within) = (Arc::clone(&self.0), self.0.settings.timeout);
            let opening = apart(within, move || late.open()).await;
            opening.unwrap_or_else(|| Err(self.unopened("it is not opened in time")))?;
        }
        let opened = self.0.opened.get();
        let opened = opened.ok_or_else(|| self.unopened("it was not opened"))?;
        Ok(opened.as_ref())
    }

    fn unopened(&self, why: &str) -> EffectError {
        let name = &self.0.settings.name;
        EffectError::retryable(format!("dns {name}: cannot use its provider: {why}"))
            .hint("the disk with the system's certificate authorities may hang")
    }
}

impl Late {
    /// Reads files. Another use may have opened it meanwhile.
    fn open(&self) -> Result<(), EffectError> {
        if self.opened.get().is_none() {
            let provider = provider_with(&self.settings, &self.common)?;
            self.opened.set(provider).ok();
        }
        Ok(())
    }
}

#[async_trait]
impl DnsProvider for LateProvider {
    async fn records(&self, name: &str) -> Result<Vec<Record>, EffectError> {
        self.opened().await?.records(name).await
    }

    async fn change(&self, edit: &Edit, within: Duration) -> Result<(), EffectError> {
        let asked = boottime();
        let provider = self.opened().await?;
        // The time that is left counts from when it was said (S8).
        let within = within.saturating_sub(boottime().since(asked));
        if within.is_zero() {
            return Err(self.unopened("no time was left once it was opened"));
        }
        provider.change(edit, within).await
    }

    async fn tend(&self) -> Result<Tended, EffectError> {
        self.opened().await?.tend().await
    }
}
