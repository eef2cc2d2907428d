//! Cloudflare's API v4, as far as moving records needs it: list by name, patch one, batch several.
//!
//! PATCH changes the given fields only; PUT would reset the others (proxied, tags) to defaults.
//! Source: Cloudflare API v4 reference, "DNS Records for a Zone".

use std::fmt;
use std::time::Duration;

use async_trait::async_trait;
use reqwest::header::{AUTHORIZATION, HeaderValue};
use reqwest::{Client, Method, RequestBuilder, StatusCode, Url};
use serde::Deserialize;
use serde::de::{DeserializeOwned, IgnoredAny};
use serde_json::{Value, json};

use super::diff::{Edit, Patch};
use super::{DnsProvider, Opened, ProviderKind, Record, text};
use crate::config::secret::Secret;
use crate::config::settings::{DnsAccess, DnsRecord};
use crate::effects::error::EffectError;
use crate::effects::http_client::{self, Answer, NoAnswer};

/// Where the API is. Source: Cloudflare API v4 reference.
const API_URL: &str = "https://api.cloudflare.com/client/v4";
/// Records of one name are few; more than a page of them means that the filter was ignored.
const PER_PAGE: &str = "100";
/// How much of what the API says goes into an error text.
const MESSAGE_CHARS_MAX: usize = 200;
const MESSAGES_MAX: usize = 5;
/// A TTL of 1 means that Cloudflare decides. Source: the same, field `ttl`.
const TTL_AUTOMATIC: u32 = 1;
/// Codes of throttled requests, whatever their status. Source: reports of real answers.
const THROTTLED: &[u32] = &[971, 10_300];

/// The records are not as they were seen a moment before: one is gone (81044), or is there already
/// (81057, 81058). Source: reports of real answers.
const RACED: &[u32] = &[81_044, 81_057, 81_058];

/// This provider.
pub const PROVIDER: ProviderKind = ProviderKind {
    name: "cloudflare",
    summary: "Cloudflare, by an API token with the permission Zone / DNS / Edit",
    build,
};

fn build(settings: &DnsRecord) -> Option<Opened> {
    let DnsAccess::Cloudflare {
        zone_id,
        token,
        api_url,
    } = &settings.access
    else {
        return None;
    };
    Some(open(settings, zone_id, token, api_url.as_deref()))
}

fn open(settings: &DnsRecord, zone_id: &str, token: &Secret, api_url: Option<&str>) -> Opened {
    let refuse = |why: &str, hint: &str| {
        EffectError::permanent(format!("dns {}: {why}", settings.name)).hint(hint)
    };
    let not_a_url = || {
        refuse(
            "its API address is not a URL with a path",
            "leave api_url out to use Cloudflare's own",
        )
    };
    let mut url = Url::parse(api_url.unwrap_or(API_URL)).map_err(|_| not_a_url())?;
    let local = matches!(url.host_str(), Some("127.0.0.1" | "[::1]" | "localhost"));
    if url.scheme() != "https" && !(url.scheme() == "http" && local) {
        return Err(refuse(
            "its API address is not https, so the token would be readable on the way",
            "use an https URL",
        ));
    }
    url.path_segments_mut()
        .map_err(|()| not_a_url())?
        .pop_if_empty()
        .extend(["zones", zone_id, "dns_records"]);
    let mut bearer =
        HeaderValue::try_from(format!("Bearer {}", token.reveal().trim())).map_err(|_| {
            refuse(
                "its token contains characters that no token has",
                "copy the token again",
            )
        })?;
    bearer.set_sensitive(true);
    Ok(Box::new(Cloudflare {
        target: settings.name.clone(),
        client: http_client::client(&url, settings.timeout)?,
        url,
        bearer,
        token: token.clone(),
        timeout: settings.timeout,
    }))
}

#[derive(Debug)]
struct Cloudflare {
    target: String,
    client: Client,
    /// `…/zones/<id>/dns_records`.
    url: Url,
    /// Marked sensitive: its `Debug` shows nothing.
    bearer: HeaderValue,
    /// To take out of whatever the API says.
    token: Secret,
    timeout: Duration,
}

#[async_trait]
impl DnsProvider for Cloudflare {
    async fn records(&self, name: &str) -> Result<Vec<Record>, EffectError> {
        let what = format!("look {name} up");
        // Without `type`, so that a CNAME in the way is seen. `name` without `.exact` is legacy.
        let request = self
            .request(Method::GET, None)
            .query(&[("name.exact", name), ("per_page", PER_PAGE)]);
        let answer = http_client::send(request)
            .await
            .map_err(|error| self.unanswered(&what, error, false))?;
        let page: Envelope<Vec<ApiRecord>> = self.read(&what, &answer)?;
        if page.result_info.is_some_and(|info| info.total_pages > 1) {
            return Err(EffectError::permanent(format!(
                "dns {}: cannot {what} at cloudflare: it lists other names too",
                self.target
            ))
            .hint("the API ignores the filter by name; nothing was changed"));
        }
        let records = page.result.unwrap_or_default();
        Ok(records.into_iter().map(Record::from).collect())
    }

    async fn change(&self, edit: &Edit, within: Duration) -> Result<(), EffectError> {
        let what = format!("change the records to {}", edit.contents.join(", "));
        let (method, path, body) = match edit.patches.as_slice() {
            [one] if edit.posts.is_empty() && edit.deletes.is_empty() => {
                (Method::PATCH, one.seen.id.as_str(), patched(one))
            }
            _ => (Method::POST, "batch", batch(edit)),
        };
        let request = self
            .request(method, Some(path))
            .timeout(within.min(self.timeout))
            .json(&body);
        let answer = http_client::send(request)
            .await
            .map_err(|error| self.unanswered(&what, error, true))?;
        // Whether it took effect is read back by the caller, not believed here.
        self.read::<IgnoredAny>(&what, &answer).map(drop)
    }
}

/// The fields that change. Others stay, also those that are not known here.
fn patched(patch: &Patch) -> Value {
    let content = written(&patch.seen.kind, &patch.content);
    json!({ "content": content, "comment": patch.comment })
}

/// All of an edit, in one transaction of the provider. Source: Cloudflare API v4 reference, batch
/// DNS records: deletes, patches, puts, posts, in this order; the first error undoes all.
fn batch(edit: &Edit) -> Value {
    let deletes: Vec<Value> = edit
        .deletes
        .iter()
        .map(|it| json!({ "id": it.id }))
        .collect();
    let patches: Vec<Value> = edit
        .patches
        .iter()
        .map(|patch| {
            let mut patched = patched(patch);
            if let Some(fields) = patched.as_object_mut() {
                fields.insert("id".to_owned(), json!(patch.seen.id));
            }
            patched
        })
        .collect();
    let posts: Vec<Value> = edit
        .posts
        .iter()
        .zip(edit.seen.iter().cycle())
        .map(|(content, like)| {
            json!({
                "name": like.name, "type": like.kind, "content": written(&like.kind, content),
                "ttl": like.ttl.unwrap_or(TTL_AUTOMATIC), "proxied": like.proxied,
                "comment": edit.comment,
            })
        })
        .collect();
    let mut batch = serde_json::Map::new();
    for (name, list) in [("deletes", deletes), ("patches", patches), ("posts", posts)] {
        if !list.is_empty() {
            batch.insert(name.to_owned(), Value::Array(list));
        }
    }
    Value::Object(batch)
}

/// As the API has it: texts in quotes. Source: Cloudflare docs, DNS record types, TXT.
fn written(kind: &str, content: &str) -> String {
    if kind == "TXT" {
        text::quoted(content)
    } else {
        content.to_owned()
    }
}

impl Cloudflare {
    fn request(&self, method: Method, id: Option<&str>) -> RequestBuilder {
        let mut url = self.url.clone();
        if let (Some(id), Ok(mut path)) = (id, url.path_segments_mut()) {
            path.push(id);
        }
        self.client
            .request(method, url)
            .header(AUTHORIZATION, self.bearer.clone())
    }

    fn unanswered(&self, what: &str, error: NoAnswer, writes: bool) -> EffectError {
        let text = format!("dns {}: cannot {what} at cloudflare", self.target);
        match error {
            NoAnswer::Sent(_) | NoAnswer::TooLong if writes => EffectError::unknown(text),
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

    fn unreadable(&self, what: &str) -> EffectError {
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
struct ApiRecord {
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
