//! The one way to talk to other people's HTTP APIs: no proxy from the environment, no redirect, a
//! deadline, a bounded body, and errors without the URL (a webhook's URL is its password).

use std::sync::Arc;
use std::time::Duration;

use reqwest::header::{HeaderMap, RETRY_AFTER};
use reqwest::redirect::Policy;
use reqwest::{Client, RequestBuilder, Response, StatusCode, Url};
use rustls::{ClientConfig, RootCertStore};

use super::error::EffectError;
use super::tls;

/// Larger answers are cut off: nothing that is read here is larger.
const BODY_BYTES_MAX: usize = 1 << 20;
/// What a server may ask us to wait at most; beyond it, its clock or its mind is wrong.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(3600);

/// Connections that a kept client leaves open: one request at a time, and one beside it.
const KEPT_PER_HOST: usize = 2;

/// Connections that a step's client leaves open: as many as records that may be moved at once, so
/// that none takes another's.
const IDLE_PER_HOST: usize = 8;

/// How long the kernel tries to deliver what the other end does not acknowledge.
const UNTAKEN_MAX: Duration = Duration::from_secs(3);

/// How long a connection waits for the next request of the same step. Longer, and it may have died
/// with the network that just failed.
const STEP_PAUSE_MAX: Duration = Duration::from_secs(2);

/// An answer, read whole.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) retry_after: Option<Duration>,
    /// How much may still be asked, as the server puts it.
    pub(super) rate_limit: Option<String>,
    pub(super) body: Vec<u8>,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum NoAnswer {
    /// The request never left: nothing can have happened.
    #[error("no connection")]
    NotSent(#[source] reqwest::Error),
    /// It was sent: it may have been carried out.
    #[error("no answer in time, or the connection broke")]
    Sent(#[source] reqwest::Error),
    /// It was carried out or refused, but nobody knows which.
    #[error("the answer is longer than {BODY_BYTES_MAX} bytes")]
    TooLong,
}

/// A client for `url`, whose every request ends within `timeout`. As a rule a change goes out on
/// the connection of the look before it, so that no time for connecting passes between the question
/// whether it may be made and its bytes.
pub(super) fn client(url: &Url, timeout: Duration) -> Result<Client, EffectError> {
    // Plain HTTP must work on a host without certificate authorities.
    let tls = if url.scheme() == "https" {
        tls::client_config(None)?.as_ref().clone()
    } else {
        trusting_nobody()?
    };
    Client::builder()
        .tls_backend_preconfigured(tls)
        .no_proxy()
        .redirect(Policy::none())
        .timeout(timeout)
        .connect_timeout(timeout)
        // Without it the kernel delivers a change long after it was given up.
        .tcp_user_timeout(timeout.min(UNTAKEN_MAX))
        .pool_max_idle_per_host(IDLE_PER_HOST)
        .pool_idle_timeout(STEP_PAUSE_MAX)
        .build()
        .map_err(|error| cannot_set_up().caused_by(error.without_url()))
}

/// A client for a service that is asked several times a second: connections are kept. A kept one
/// may have died with the network; the caller's deadlines and next requests see to that.
pub(super) fn kept_client(
    tls: Option<Arc<ClientConfig>>,
    timeout: Duration,
) -> Result<Client, EffectError> {
    let tls = match tls {
        Some(tls) => tls.as_ref().clone(),
        None => trusting_nobody()?,
    };
    Client::builder()
        .tls_backend_preconfigured(tls)
        .no_proxy()
        .redirect(Policy::none())
        .timeout(timeout)
        .connect_timeout(timeout)
        .pool_max_idle_per_host(KEPT_PER_HOST)
        .build()
        .map_err(|error| cannot_set_up().caused_by(error.without_url()))
}

/// The library builds a TLS client in any case.
fn trusting_nobody() -> Result<ClientConfig, EffectError> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    Ok(ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| cannot_set_up().caused_by(error))?
        .with_root_certificates(RootCertStore::empty())
        .with_no_client_auth())
}

fn cannot_set_up() -> EffectError {
    EffectError::permanent("cannot set up an HTTP client")
}

/// Sends a request and reads its answer.
pub(super) async fn send(request: RequestBuilder) -> Result<Answer, NoAnswer> {
    let response = respond(request).await?;
    Ok(Answer {
        status: response.status(),
        retry_after: retry_after(response.headers()),
        rate_limit: rate_limit(response.headers()),
        body: read_body(response).await?,
    })
}

/// Sends a request whose answer is its status; whatever else comes is not read.
pub(super) async fn send_for_status(request: RequestBuilder) -> Result<Answer, NoAnswer> {
    let response = respond(request).await?;
    Ok(Answer {
        status: response.status(),
        retry_after: retry_after(response.headers()),
        rate_limit: rate_limit(response.headers()),
        body: Vec::new(),
    })
}

/// How an answer begins.
#[derive(Debug)]
pub(super) struct Beginning {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    /// So much of the body as was wanted, or all of it.
    pub(super) body: Vec<u8>,
}

/// Sends a request and reads so much of the body at most; what comes after it is left.
pub(super) async fn send_for_beginning(
    request: RequestBuilder,
    bytes_max: usize,
) -> Result<Beginning, NoAnswer> {
    let mut response = respond(request).await?;
    let (status, headers) = (response.status(), response.headers().clone());
    let mut body = Vec::new();
    while body.len() < bytes_max {
        let chunk = response.chunk().await;
        let chunk = chunk.map_err(|error| NoAnswer::Sent(error.without_url()))?;
        let Some(chunk) = chunk else { break };
        body.extend_from_slice(&chunk);
    }
    body.truncate(bytes_max);
    Ok(Beginning {
        status,
        headers,
        body,
    })
}

/// True where an answer says "not now" rather than "no". Source: RFC 9110, 15.5.9 and 15.6;
/// RFC 6585, 4.
pub(super) fn may_pass(status: StatusCode) -> bool {
    status == StatusCode::REQUEST_TIMEOUT
        || status == StatusCode::TOO_MANY_REQUESTS
        || status.is_server_error()
}

async fn respond(request: RequestBuilder) -> Result<Response, NoAnswer> {
    request.send().await.map_err(|error| {
        let error = error.without_url();
        if error.is_connect() || error.is_builder() {
            NoAnswer::NotSent(error)
        } else {
            NoAnswer::Sent(error)
        }
    })
}

async fn read_body(mut response: Response) -> Result<Vec<u8>, NoAnswer> {
    let mut body = Vec::new();
    while let Some(chunk) = response
        .chunk()
        .await
        .map_err(|error| NoAnswer::Sent(error.without_url()))?
    {
        if body.len() + chunk.len() > BODY_BYTES_MAX {
            return Err(NoAnswer::TooLong);
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

/// Source: IETF draft ratelimit-headers, 5.
fn rate_limit(headers: &HeaderMap) -> Option<String> {
    let value = headers.get("ratelimit")?.to_str().ok()?;
    Some(value.to_owned())
}

/// `Retry-After` in seconds; its other form, a date, would need the server's clock.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let seconds = headers
        .get(RETRY_AFTER)?
        .to_str()
        .ok()?
        .trim()
        .parse()
        .ok()?;
    Some(Duration::from_secs(seconds).min(RETRY_AFTER_MAX))
}
