//! A provider that is opened when it is first used, and at each use until that works: a host
//! without certificate authorities, say, can still fail its database over, and its DNS follows once
//! it has some.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use async_trait::async_trait;

use super::common::Common;
use super::diff::Edit;
use super::{DnsProvider, Record, Tended, provider_with};
use crate::config::settings::DnsRecord;
use crate::effects::error::EffectError;

/// The provider of a record, opened or not.
#[derive(Debug)]
pub struct LateProvider {
    settings: DnsRecord,
    common: Arc<Common>,
    opened: OnceLock<Box<dyn DnsProvider>>,
}

impl LateProvider {
    /// Asks nobody, and cannot fail.
    #[must_use]
    pub fn new(settings: DnsRecord, common: Arc<Common>) -> Self {
        Self {
            settings,
            common,
            opened: OnceLock::new(),
        }
    }

    fn opened(&self) -> Result<&dyn DnsProvider, EffectError> {
        if let Some(provider) = self.opened.get() {
            return Ok(provider.as_ref());
        }
        let provider = provider_with(&self.settings, &self.common)?;
        Ok(self.opened.get_or_init(|| provider).as_ref())
    }
}

#[async_trait]
impl DnsProvider for LateProvider {
    async fn records(&self, name: &str) -> Result<Vec<Record>, EffectError> {
        self.opened()?.records(name).await
    }

    async fn change(&self, edit: &Edit, within: Duration) -> Result<(), EffectError> {
        self.opened()?.change(edit, within).await
    }

    async fn tend(&self) -> Result<Tended, EffectError> {
        self.opened()?.tend().await
    }
}
