//! POSTs alerts as JSON to a URL of the operator's choice.
//!
//! The URL is a secret (chat services put the key into it), so it is in no error and no log.

use async_trait::async_trait;
use reqwest::{Client, Url};
use serde_json::{Value, json};

use super::{Notifier, NotifierKind, idempotency_key};
use crate::config::secret::Secret;
use crate::config::settings::NotifierSettings;
use crate::effects::error::EffectError;
use crate::effects::http_client::{self, NoAnswer};
use crate::model::alert::Alert;

/// By this header a receiver knows an alert that it already has.
/// Source: draft-ietf-httpapi-idempotency-key-header.
const IDEMPOTENCY_KEY: &str = "Idempotency-Key";

/// This kind.
pub const NOTIFIER: NotifierKind = NotifierKind {
    name: "webhook",
    summary: "a POST of JSON with an Idempotency-Key header; any 2xx means accepted",
    build,
};

fn build(settings: &NotifierSettings) -> Result<Box<dyn Notifier>, EffectError> {
    let url = Url::parse(settings.url.reveal().trim())
        .ok()
        .filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host());
    let Some(url) = url else {
        return Err(EffectError::permanent(format!(
            "notifier {}: its url is not an http or https URL",
            settings.name
        ))
        .hint("it is not shown here because such URLs are secrets; copy it again"));
    };
    Ok(Box::new(Webhook {
        name: settings.name.clone(),
        url: settings.url.clone(),
        client: http_client::client(&url, settings.timeout)?,
    }))
}

#[derive(Debug)]
struct Webhook {
    name: String,
    url: Secret,
    client: Client,
}

#[async_trait]
impl Notifier for Webhook {
    async fn send(&self, alert: &Alert) -> Result<(), EffectError> {
        let request = self
            .client
            .post(self.url.reveal().trim())
            .header(IDEMPOTENCY_KEY, idempotency_key(alert))
            .json(&payload(alert));
        let what = format!("notifier {}: cannot deliver an alert", self.name);
        let answer = http_client::send_for_status(request)
            .await
            .map_err(|error| {
                match error {
                    NoAnswer::NotSent(_) => EffectError::retryable(what.clone()),
                    NoAnswer::Sent(_) | NoAnswer::TooLong => EffectError::unknown(what.clone()),
                }
                .caused_by(error)
            })?;
        let status = answer.status;
        if status.is_success() {
            return Ok(());
        }
        let what = format!("{what}: the receiver answered {status}");
        if http_client::may_pass(status) {
            let mut error = EffectError::retryable(what);
            error.retry_after = answer.retry_after;
            return Err(error);
        }
        Err(EffectError::permanent(what).hint("check the webhook's URL and what it expects"))
    }
}

fn payload(alert: &Alert) -> Value {
    json!({
        "cluster": alert.cluster,
        "site": alert.site,
        "event": alert.event,
        "severity": alert.level,
        "summary": alert.summary,
        "details": alert.details,
        "epoch": alert.epoch,
        "plan": alert.plan,
        "at": alert.at.to_string(),
    })
}
