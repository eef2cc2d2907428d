//! The lease's cell in etcd (v3), by its JSON gateway.
//!
//! Owns: how one request is carried to whichever member answers, within one deadline, and how
//! etcd's tokens are renewed. Must not: retry beyond that, or judge what the cell means.
//!
//! Only ranges and transactions are used, which a majority of the members stands for. etcd's own
//! leases are not: see `ARCHITECTURE.md`, decisions.

use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use reqwest::header::{AUTHORIZATION, HeaderValue};
use reqwest::{Client, StatusCode, Url};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::gateway::{
    LoggedIn, Login, PATH_AUTHENTICATE, PATH_RANGE, PATH_TXN, Range, RangeAnswer, Refusal, Txn,
    TxnAnswer,
};
use crate::config::secret::Secret;
use crate::config::settings::Etcd;
use crate::effects::clock::boottime;
use crate::effects::deadline;
use crate::effects::error::EffectError;
use crate::effects::http_client::{self, Answer, NoAnswer};
use crate::effects::tls;
use crate::model::ClusterName;
use crate::model::cell::{CellReply, CellRequest};

/// Below this no member is waited for: a healthy one has written to its disk by then.
const ENDPOINT_PATIENCE_MIN: Duration = Duration::from_millis(100);

/// The cell of one cluster. Cheap to clone.
#[derive(Debug, Clone)]
pub struct EtcdCell {
    inner: Arc<Inner>,
}

struct Inner {
    client: Client,
    endpoints: Vec<Url>,
    key: String,
    login: Option<(String, Secret)>,
    /// The token of the last login, marked as a secret.
    token: Mutex<Option<HeaderValue>>,
    /// The endpoint that answered last.
    good: AtomicUsize,
}

impl fmt::Debug for Inner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Inner")
            .field("endpoints", &self.endpoints)
            .field("key", &self.key)
            .finish_non_exhaustive()
    }
}

/// What became of one request to one member.
enum Tried {
    Answered(Vec<u8>),
    /// Logging in anew may help.
    NoToken(EffectError),
    Failed(EffectError),
}

impl EtcdCell {
    /// Prepares it; connects nothing yet. `timeout` bounds each request, all endpoints together.
    ///
    /// # Errors
    /// Unreadable certificates, malformed endpoints.
    pub fn new(
        settings: &Etcd,
        cluster: &ClusterName,
        timeout: Duration,
    ) -> Result<Self, EffectError> {
        let endpoints = settings.endpoints.iter().map(|endpoint| {
            Url::parse(endpoint).map_err(|error| {
                EffectError::permanent(format!("etcd: {endpoint} is not a URL")).caused_by(error)
            })
        });
        let endpoints = endpoints.collect::<Result<Vec<_>, _>>()?;
        let encrypted = endpoints.iter().any(|url| url.scheme() == "https");
        let identity = settings
            .identity
            .as_ref()
            .map(|(cert, key)| (cert.as_path(), key.as_path()));
        let tls = match encrypted {
            true => Some(tls::client_config_as(settings.ca.as_deref(), identity)?),
            false => None,
        };
        let inner = Inner {
            client: http_client::kept_client(tls, timeout)?,
            endpoints,
            key: format!("{}/{cluster}", settings.prefix),
            login: settings.login.clone(),
            token: Mutex::default(),
            good: AtomicUsize::new(0),
        };
        Ok(Self {
            inner: Arc::new(inner),
        })
    }

    /// Carries out one request within `timeout`, at the first member that answers.
    ///
    /// # Errors
    /// When no member answered in time, or the answer is of no use. A write may have been carried
    /// out all the same.
    pub async fn call(
        &self,
        request: &CellRequest,
        timeout: Duration,
    ) -> Result<CellReply, EffectError> {
        let inner = &self.inner;
        match request {
            CellRequest::Look => {
                let body = Range::of(&inner.key);
                let answer: RangeAnswer = inner.ask(PATH_RANGE, &body, timeout).await?;
                let seen = answer.seen().map_err(|error| inner.unusable(error))?;
                Ok(CellReply {
                    written: false,
                    seen,
                })
            }
            CellRequest::Write { if_revision, cell } => {
                let body = Txn::write(&inner.key, *if_revision, cell).map_err(|error| {
                    EffectError::permanent("etcd: the lease has no JSON form").caused_by(error)
                })?;
                let answer: TxnAnswer = inner.ask(PATH_TXN, &body, timeout).await?;
                answer.reply(cell).map_err(|error| inner.unusable(error))
            }
        }
    }
}

impl Inner {
    fn unusable(&self, error: super::gateway::Unusable) -> EffectError {
        EffectError::permanent(format!("etcd: cannot use the key {}", self.key))
            .hint("run the same version at both sites, and let nobody else write this key")
            .caused_by(error)
    }

    /// Tries the members one after the other, beginning with the one that answered last. Each gets
    /// its share of what is left: a member without a majority answers only after seven seconds.
    async fn ask<B, A>(&self, path: &str, body: &B, timeout: Duration) -> Result<A, EffectError>
    where
        B: Serialize + Sync,
        A: DeserializeOwned,
    {
        let ends = boottime() + timeout;
        let first = self.good.load(Ordering::Relaxed);
        let count = self.endpoints.len();
        let mut failed = EffectError::retryable("etcd: no endpoint is configured");
        for turn in 0..count {
            let index = (first + turn) % count;
            let Some(endpoint) = self.endpoints.get(index) else {
                continue;
            };
            let rest = u32::try_from(count - turn).unwrap_or(u32::MAX);
            let share = (boottime().until(ends) / rest).max(ENDPOINT_PATIENCE_MIN);
            let until = ends.min(boottime() + share);
            let asked = deadline::before(until, self.ask_member(endpoint, path, body)).await;
            match asked {
                Some(Ok(bytes)) => match serde_json::from_slice(&bytes) {
                    Ok(answer) => {
                        self.good.store(index, Ordering::Relaxed);
                        return Ok(answer);
                    }
                    // Something else listens there, or another version: the others may do.
                    Err(error) => {
                        let what = format!("etcd at {endpoint}: not understood");
                        failed = EffectError::unknown(what).caused_by(error);
                    }
                },
                Some(Err(error)) => failed = error,
                None => {
                    failed = EffectError::unknown(format!("etcd at {endpoint}: no answer in time"));
                }
            }
        }
        // The next request begins elsewhere.
        self.good
            .store((first + 1) % count.max(1), Ordering::Relaxed);
        Err(failed)
    }

    /// Asks one member; logs in first where that is needed, and once more where the token was
    /// refused.
    async fn ask_member<B: Serialize + Sync>(
        &self,
        endpoint: &Url,
        path: &str,
        body: &B,
    ) -> Result<Vec<u8>, EffectError> {
        let mut token = self.token();
        if self.login.is_some() && token.is_none() {
            token = self.log_in(endpoint).await?;
        }
        match self.post(endpoint, path, body, token.as_ref()).await {
            Tried::Answered(bytes) => return Ok(bytes),
            Tried::Failed(error) => return Err(error),
            Tried::NoToken(error) if self.login.is_none() => return Err(error),
            // It expired, or the members were restarted: they keep tokens in memory.
            Tried::NoToken(_) => {}
        }
        let token = self.log_in(endpoint).await?;
        match self.post(endpoint, path, body, token.as_ref()).await {
            Tried::Answered(bytes) => Ok(bytes),
            Tried::Failed(error) | Tried::NoToken(error) => Err(error),
        }
    }

    fn token(&self) -> Option<HeaderValue> {
        let token = self.token.lock().unwrap_or_else(PoisonError::into_inner);
        token.clone()
    }

    /// Two requests may log in at the same time: both tokens are valid.
    async fn log_in(&self, endpoint: &Url) -> Result<Option<HeaderValue>, EffectError> {
        let Some((user, password)) = &self.login else {
            return Ok(None);
        };
        let body = Login {
            name: user,
            password: password.reveal(),
        };
        let bytes = match self.post(endpoint, PATH_AUTHENTICATE, &body, None).await {
            Tried::Answered(bytes) => bytes,
            Tried::Failed(error) | Tried::NoToken(error) => {
                return Err(error.hint("check lease.etcd.user and its password"));
            }
        };
        let refuse =
            || EffectError::retryable(format!("etcd at {endpoint}: no token in its answer"));
        let answer: LoggedIn = serde_json::from_slice(&bytes).map_err(|_| refuse())?;
        // As it is: with "Bearer" before it, etcd does not know it.
        let mut token = HeaderValue::from_str(&answer.token).map_err(|_| refuse())?;
        token.set_sensitive(true);
        let mut kept = self.token.lock().unwrap_or_else(PoisonError::into_inner);
        *kept = Some(token.clone());
        Ok(Some(token))
    }

    async fn post<B: Serialize + Sync>(
        &self,
        endpoint: &Url,
        path: &str,
        body: &B,
        token: Option<&HeaderValue>,
    ) -> Tried {
        let mut url = endpoint.clone();
        url.set_path(path);
        let mut request = self.client.post(url).json(body);
        if let Some(token) = token {
            request = request.header(AUTHORIZATION, token.clone());
        }
        match http_client::send(request).await {
            Ok(answer) if answer.status == StatusCode::OK => Tried::Answered(answer.body),
            Ok(answer) => refused(endpoint, &answer),
            Err(error) => Tried::Failed(no_answer(endpoint, error)),
        }
    }
}

fn no_answer(endpoint: &Url, error: NoAnswer) -> EffectError {
    let what = format!("etcd at {endpoint}: {error}");
    match error {
        NoAnswer::NotSent(_) => EffectError::retryable(what),
        NoAnswer::Sent(_) | NoAnswer::TooLong => EffectError::unknown(what),
    }
    .caused_by(error)
}

fn refused(endpoint: &Url, answer: &Answer) -> Tried {
    let refusal = Refusal::of(&answer.body);
    let status = answer.status;
    let text = refusal.text();
    let what = format!("etcd at {endpoint} refuses ({status}): {text}");
    if refusal.asks_for_login() {
        return Tried::NoToken(EffectError::retryable(what));
    }
    let hint = match status {
        StatusCode::NOT_FOUND => Some("etcd needs enable-grpc-gateway: true"),
        StatusCode::FORBIDDEN => Some("etcd's role for this user must allow read and write"),
        _ if text.contains("CommonName") => {
            Some("with a user, etcd's gateway takes no client certificate that has a common name")
        }
        _ => None,
    };
    // It may have been carried out before the answer was lost on its way to this member.
    let error = match http_client::may_pass(status) {
        true => EffectError::unknown(what),
        false => EffectError::permanent(what),
    };
    Tried::Failed(match hint {
        Some(hint) => error.hint(hint),
        None => error,
    })
}
