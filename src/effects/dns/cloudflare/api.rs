//! Requests to the API and its answers: the envelope, refusals, and what they are called here.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use reqwest::header::{AUTHORIZATION, HeaderValue};
use reqwest::{Client, Method, RequestBuilder, StatusCode, Url};
use serde::Deserialize;
use serde::de::{DeserializeOwned, IgnoredAny};

use super::accounts::{Account, Accounts};
use super::{TTL_AUTOMATIC, text};
use crate::config::secret::Secret;
use crate::config::settings::DnsRecord;
use crate::effects::dns::Record;
use crate::effects::error::EffectError;
use crate::effects::http_client::{self, Answer, NoAnswer};

/// Where the API is. Source: Cloudflare API v4 reference.
const API_URL: &str = "https://api.cloudflare.com/client/v4";
/// How much of what the API says goes into an error text.
const MESSAGE_CHARS_MAX: usize = 200;
const MESSAGES_MAX: usize = 5;
/// Codes of throttled requests, whatever their status. Source: reports of real answers.
const THROTTLED: &[u32] = &[971, 10_300];
/// The records are not as they were seen a moment before: one is gone (81044), or is there already
/// (81057, 81058). Source: reports of real answers.
const RACED: &[u32] = &[81_044, 81_057, 81_058];

/// What a request is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ask {
    /// Changes nothing, and waits while the rate limit is used up.
    Look,
    /// Changes records. It follows a look at once, under a held lease, and never waits.
    Change,
}

/// A good answer.
pub(super) struct Good<T> {
    pub(super) result: Option<T>,
    /// How many pages there are; 0 for an answer without pages.
    pub(super) pages: u32,
}

#[derive(Debug)]
pub(super) struct Api {
    pub(super) target: String,
    client: Client,
    /// Up to and with `/client/v4`.
    url: Url,
    /// Marked sensitive: its `Debug` shows nothing.
    bearer: HeaderValue,
    /// To take out of whatever the API says.
    token: Secret,
    pub(super) timeout: Duration,
    /// What the token's other records know, too.
    pub(super) account: Arc<Account>,
}

impl Api {
    pub(super) fn open(
        settings: &DnsRecord,
        token: &Secret,
        api_url: Option<&str>,
        accounts: &Accounts,
    ) -> Result<Self, EffectError> {
        let refuse = |why: &str, hint: &str| {
            EffectError::permanent(format!("dns {}: {why}", settings.name)).hint(hint)
        };
        let url = Url::parse(api_url.unwrap_or(API_URL)).ok();
        let url = url.filter(|url| !url.cannot_be_a_base()).ok_or_else(|| {
            refuse(
                "its API address is not a URL with a path",
                "leave api_url out to use Cloudflare's own",
            )
        })?;
        let local = matches!(url.host_str(), Some("127.0.0.1" | "[::1]" | "localhost"));
        if url.scheme() != "https" && !(url.scheme() == "http" && local) {
            return Err(refuse(
                "its API address is not https, so the token would be readable on the way",
                "use an https URL",
            ));
        }
        let mut bearer = HeaderValue::try_from(format!("Bearer {}", token.reveal().trim()))
            .map_err(|_| {
                refuse(
                    "its token contains characters that no token has",
                    "copy the token again",
                )
            })?;
        bearer.set_sensitive(true);
        Ok(Self {
            target: settings.name.clone(),
            client: accounts.client(&url, settings.timeout)?,
            account: accounts.of(&url, token),
            url,
            bearer,
            token: token.clone(),
            timeout: settings.timeout,
        })
    }

    /// A request for what these segments of the path name.
    pub(super) fn request(&self, method: Method, path: &[&str]) -> RequestBuilder {
        let mut url = self.url.clone();
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.pop_if_empty().extend(path);
        }
        self.client
            .request(method, url)
            .header(AUTHORIZATION, self.bearer.clone())
    }

    /// Sends a request, and reads a good answer.
    pub(super) async fn ask<T: DeserializeOwned>(
        &self,
        what: &str,
        request: RequestBuilder,
        ask: Ask,
    ) -> Result<Good<T>, EffectError> {
        if ask == Ask::Look
            && let Some(left) = self.account.rate_limit.left()
        {
            let mut error = EffectError::retryable(format!(
                "dns {}: cannot {what} at cloudflare: its rate limit is used up for {} s",
                self.target,
                left.as_secs().saturating_add(1)
            ))
            .hint("every program that uses this token or this account's dashboard counts");
            error.retry_after = Some(left);
            return Err(error);
        }
        let answer = http_client::send(request)
            .await
            .map_err(|error| self.unanswered(what, error, ask))?;
        self.account.rate_limit.note(&answer);
        let envelope: Envelope<T> = self.read(what, &answer)?;
        Ok(Good {
            result: envelope.result,
            pages: envelope.result_info.map_or(0, |info| info.total_pages),
        })
    }

    fn unanswered(&self, what: &str, error: NoAnswer, ask: Ask) -> EffectError {
        let text = format!("dns {}: cannot {what} at cloudflare", self.target);
        match error {
            NoAnswer::Sent(_) | NoAnswer::TooLong if ask == Ask::Change => {
                EffectError::unknown(text)
            }
            NoAnswer::NotSent(_) | NoAnswer::Sent(_) | NoAnswer::TooLong => {
                EffectError::retryable(text)
            }
        }
        .caused_by(error)
    }

    /// The envelope of a good answer. Status and `success` must both say so: a refusal can come
    /// with 200.
    fn read<T: DeserializeOwned>(
        &self,
        what: &str,
        answer: &Answer,
    ) -> Result<Envelope<T>, EffectError> {
        // First without the result, whose form may differ in a refusal.
        let verdict: Option<Envelope<IgnoredAny>> = serde_json::from_slice(&answer.body).ok();
        match verdict {
            Some(verdict) if verdict.success && answer.status.is_success() => {
                serde_json::from_slice(&answer.body).map_err(|_| self.unreadable(what))
            }
            Some(verdict) => Err(self.refused(what, answer, &verdict.errors)),
            None if answer.status.is_success() => Err(self.unreadable(what)),
            None => Err(self.refused(what, answer, &[])),
        }
    }

    fn refused(&self, what: &str, answer: &Answer, errors: &[ApiError]) -> EffectError {
        let status = answer.status;
        let text = format!(
            "dns {}: cannot {what} at cloudflare: {status}{}",
            self.target,
            self.said(errors)
        );
        let throttled = errors.iter().any(|error| THROTTLED.contains(&error.code));
        if throttled || http_client::may_pass(status) {
            let mut error = EffectError::retryable(text);
            error.retry_after = answer.retry_after;
            return error;
        }
        let raced = |error: &ApiError| {
            let chain = error.error_chain.iter().map(|it| it.code);
            chain.chain([error.code]).any(|code| RACED.contains(&code))
        };
        if errors.iter().any(raced) {
            return EffectError::retryable(text)
                .hint("somebody else changes the records too; they are looked at again");
        }
        let hint = match status {
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
                "the token needs the permission Zone / DNS / Edit (DNS:Edit) for this zone, \
                 and its address filter must let this host in"
            }
            StatusCode::NOT_FOUND => "check zone_id",
            _ => "compare the record in the configuration with what the API says",
        };
        EffectError::permanent(text).hint(hint)
    }

    /// Every code and message, with the chain that holds the useful ones, without the token.
    fn said(&self, errors: &[ApiError]) -> String {
        let mut said = String::new();
        for error in errors.iter().take(MESSAGES_MAX) {
            said.push_str(&format!("; {error}"));
            for cause in error.error_chain.iter().take(MESSAGES_MAX) {
                said.push_str(&format!(": {cause}"));
            }
        }
        let token = self.token.reveal().trim();
        if token.is_empty() {
            return said;
        }
        said.replace(token, "***")
    }

    pub(super) fn unreadable(&self, what: &str) -> EffectError {
        EffectError::retryable(format!(
            "dns {}: cannot {what} at cloudflare: its answer is not what its API documents",
            self.target
        ))
        .hint("check that api_url leads to the API and not to a login page")
    }
}

/// Source: Cloudflare API v4, response envelope.
#[derive(Debug, Deserialize)]
struct Envelope<T> {
    success: bool,
    #[serde(default)]
    errors: Vec<ApiError>,
    result: Option<T>,
    result_info: Option<ResultInfo>,
}

#[derive(Debug, Deserialize)]
struct ApiError {
    #[serde(default)]
    code: u32,
    #[serde(default)]
    message: String,
    #[serde(default)]
    error_chain: Vec<Self>,
}

impl fmt::Display for ApiError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let message: String = self
            .message
            .chars()
            .filter(|c| !c.is_control())
            .take(MESSAGE_CHARS_MAX)
            .collect();
        write!(f, "{} {}", self.code, message.trim_end_matches('.'))
    }
}

#[derive(Debug, Deserialize)]
struct ResultInfo {
    #[serde(default)]
    total_pages: u32,
}

#[derive(Debug, Deserialize)]
pub(super) struct ApiRecord {
    id: String,
    name: String,
    #[serde(rename = "type")]
    kind: String,
    #[serde(default)]
    content: String,
    comment: Option<String>,
    ttl: Option<u32>,
    #[serde(default)]
    proxied: bool,
}

impl From<ApiRecord> for Record {
    fn from(record: ApiRecord) -> Self {
        Self {
            id: record.id,
            name: record.name,
            content: match record.kind.as_str() {
                "TXT" => text::unquoted(&record.content),
                _ => record.content,
            },
            kind: record.kind,
            comment: record.comment.unwrap_or_default(),
            ttl: record.ttl.filter(|ttl| *ttl != TTL_AUTOMATIC),
            proxied: record.proxied,
        }
    }
}
