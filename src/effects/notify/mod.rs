//! Notifiers: one delivery of one alert to one receiver. Queue, retries and order are the outbox's
//! (`runtime::outbox`); nothing that must happen ever waits for a delivery (S16).
//!
//! To add a kind: a file, and a line in [`NOTIFIERS`].

pub mod webhook;

use std::fmt;

use async_trait::async_trait;
use sha2::{Digest, Sha256};

use super::error::EffectError;
use crate::config::settings::NotifierSettings;
use crate::model::alert::Alert;

/// A way to tell people.
#[async_trait]
pub trait Notifier: fmt::Debug + Send + Sync {
    /// Delivers the alert once, in bounded time. Delivering it again after an unknown outcome must
    /// be harmless: it carries [`idempotency_key`].
    ///
    /// # Errors
    /// When it was not accepted. The text never contains the receiver's address: it may be secret.
    async fn send(&self, alert: &Alert) -> Result<(), EffectError>;
}

/// A kind of notifier.
#[derive(Debug, Clone, Copy)]
pub struct NotifierKind {
    /// Its name in `agent.toml`.
    pub name: &'static str,
    /// What it is, for people.
    pub summary: &'static str,
    /// Builds one from its settings.
    pub build: fn(&NotifierSettings) -> Result<Box<dyn Notifier>, EffectError>,
}

/// Every kind of notifier.
pub const NOTIFIERS: &[NotifierKind] = &[webhook::NOTIFIER];

/// The notifier that was configured.
///
/// # Errors
/// When its kind is unknown or its settings cannot work.
pub fn notifier_of(settings: &NotifierSettings) -> Result<Box<dyn Notifier>, EffectError> {
    let kind = NOTIFIERS
        .iter()
        .find(|kind| kind.name == settings.kind)
        .ok_or_else(|| {
            EffectError::permanent(format!(
                "notifier {}: no kind is called {:?}",
                settings.name, settings.kind
            ))
            .hint("correct kind in the configuration")
        })?;
    (kind.build)(settings)
}

/// The same text for the same alert, also after a restart, and another one for any other alert.
#[must_use]
pub fn idempotency_key(alert: &Alert) -> String {
    let mut digest = Sha256::new();
    // Every field, because two alerts of the same moment may differ in any of them.
    digest.update(format!("{alert:?}"));
    let hash = digest.finalize();
    hash.iter()
        .take(16)
        .map(|byte| format!("{byte:02x}"))
        .collect()
}
