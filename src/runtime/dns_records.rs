//! The providers of the DNS records: opened at the start, and tended while nothing moves.
//!
//! Tending is nobody's step: no plan waits for it, and its failure is only told.

use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::tasks::spawn_named;
use crate::config::Config;
use crate::effects::dns::moved::MovedSender;
use crate::effects::dns::{self, DnsProvider};
use crate::effects::error::EffectError;
use crate::effects::steps::DnsRecordTool;

/// After a failure: long enough to trouble nobody, short enough to be ready again in time.
const AFTER_FAILURE: Duration = Duration::from_secs(60);

/// Opens the providers of all records, with `moved` in the order of the settings.
///
/// # Errors
/// When the settings of one cannot work.
pub(super) fn open(
    config: &Config,
    moved: Vec<MovedSender>,
) -> Result<Vec<DnsRecordTool>, EffectError> {
    config
        .dns
        .iter()
        .zip(moved)
        .map(|(record, moved)| {
            Ok(DnsRecordTool {
                name: record.name.clone(),
                record: record.record.clone(),
                kind: record.kind.clone(),
                provider: dns::provider_of(record)?.into(),
                moved,
            })
        })
        .collect()
}

/// Tends every provider until `stop`.
pub(super) fn tend(records: &[DnsRecordTool], stop: &CancellationToken) {
    for record in records {
        let tending = tend_one(record.name.clone(), Arc::clone(&record.provider));
        let stop = stop.clone();
        spawn_named(format!("dns {}", record.name), async move {
            stop.run_until_cancelled(tending).await;
        });
    }
}

async fn tend_one(name: String, provider: Arc<dyn DnsProvider>) {
    let mut told = false;
    loop {
        let pause = match provider.tend().await {
            Ok(None) => return,
            Ok(Some(pause)) => {
                if told {
                    tracing::info!(%name, "the DNS provider can be used again");
                }
                told = false;
                pause
            }
            Err(error) => {
                if !told {
                    let hint = error.hint.as_deref().unwrap_or_default();
                    tracing::warn!(%name, %error, hint, "the record could not be moved now");
                }
                told = true;
                error.retry_after.unwrap_or(AFTER_FAILURE)
            }
        };
        // bounded: by what the provider asks for
        tokio::time::sleep(pause).await;
    }
}
