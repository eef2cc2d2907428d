//! Sends sealed requests to one member over a few kept-alive connections.
//!
//! A request is carried out at most once, whatever happens to its connection: if a kept
//! connection turns out to be dead, the very same sealed bytes are sent again on a new one, and
//! the receiver's challenge is good only once. Start reading at [`PeerClient::call`].

use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::body::Bytes;
use http_body_util::Full;
use hyper::{HeaderMap, Request, StatusCode, header};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::Semaphore;
use tokio::time::timeout;

use super::auth::{AnswerParts, PeerKey, RequestParts, Seal, body_hash, to_hex};
use super::connection::{Dialer, ExchangeError, Link, RawAnswer, lock};
use super::wire::{self, Refusal, member_text};
use crate::config::secret::Secret;
use crate::effects::clock::boottime;
use crate::effects::error::EffectError;
use crate::model::{ClusterName, Member, Moment};

/// Requests under way at once: a lease request must pass by a report that hangs.
const IN_FLIGHT_MAX: usize = 8;
/// Idle connections kept.
const IDLE_MAX: usize = 4;
/// Challenges kept for the next requests.
const CHALLENGES_MAX: usize = IN_FLIGHT_MAX * 2;
/// A longer challenge is not one of ours.
const CHALLENGE_CHARS_MAX: usize = 128;
/// How much of a refusal's text goes into an error.
const TEXT_CHARS_MAX: usize = 200;

/// What a [`PeerClient`] needs to know.
#[derive(Debug)]
pub struct PeerClientSettings<'a> {
    /// The cluster's name.
    pub cluster: ClusterName,
    /// Who sends.
    pub own: Member,
    /// Who is asked.
    pub peer: Member,
    /// Where it listens, as `host:port`.
    pub address: String,
    /// The cluster's secret.
    pub secret: &'a Secret,
    /// From [`super::tls::client_config`]; `None`: plain text.
    pub tls: Option<Arc<rustls::ClientConfig>>,
}

/// The sending side of the link to one member.
pub struct PeerClient {
    cluster: ClusterName,
    own: Member,
    peer: Member,
    address: String,
    key: PeerKey,
    dialer: Dialer,
    slots: Semaphore,
    idle: Mutex<Vec<Link>>,
    challenges: Mutex<Vec<String>>,
}

impl std::fmt::Debug for PeerClient {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PeerClient")
            .field("peer", &self.peer)
            .field("address", &self.address)
            .finish_non_exhaustive()
    }
}

/// A request as it goes over the wire, so that it can go twice.
struct Sealed {
    request: Request<Full<Bytes>>,
    seal: Seal,
    /// It uses up a challenge of the peer's.
    challenged: bool,
}

/// An answer that carries the peer's seal.
struct Trusted {
    status: StatusCode,
    body: Bytes,
    next_challenge: String,
    /// The request used up a challenge.
    challenged: bool,
    /// The request went out twice, because its first connection turned out to be dead.
    sent_again: bool,
}

impl PeerClient {
    /// Prepares the link; connects nothing yet.
    ///
    /// # Errors
    ///
    /// `Permanent` when the address is not `host:port`.
    pub fn new(settings: PeerClientSettings<'_>) -> Result<Self, EffectError> {
        Ok(Self {
            dialer: Dialer::new(&settings.address, settings.tls)?,
            key: PeerKey::new(settings.secret),
            cluster: settings.cluster,
            own: settings.own,
            peer: settings.peer,
            address: settings.address,
            slots: Semaphore::new(IN_FLIGHT_MAX),
            idle: Mutex::new(Vec::new()),
            challenges: Mutex::new(Vec::new()),
        })
    }

    /// The member that this client asks.
    #[must_use]
    pub fn peer(&self) -> &Member {
        &self.peer
    }

    /// Fewer than half of the requests that may be under way are.
    pub(super) fn has_room(&self) -> bool {
        self.slots.available_permits() > IN_FLIGHT_MAX / 2
    }

    /// Posts `request` to `path` and reads the answer, all within `deadline`. Cancel-safe: dropped
    /// half-way it leaves no connection behind, though the peer may have done what was asked.
    ///
    /// # Errors
    ///
    /// `Retryable` when the peer did nothing (not reached, overloaded), `OutcomeUnknown` when it
    /// may have (no answer in time, connection broke), `Permanent` when asking again will not
    /// help (wrong secret, wrong cluster, TLS refused).
    pub async fn call<Req, Res>(
        &self,
        path: &'static str,
        request: &Req,
        deadline: Duration,
    ) -> Result<Res, EffectError>
    where
        Req: Serialize + Sync,
        Res: DeserializeOwned,
    {
        let until = boottime() + deadline;
        let body = self.encode(path, request)?;
        let Ok(Ok(_slot)) = timeout(deadline, self.slots.acquire()).await else {
            let why = format!("{IN_FLIGHT_MAX} earlier requests still wait for an answer");
            return Err(EffectError::retryable(self.what(path, &why)));
        };
        let mut answer = self.attempt(path, &body, None, until).await?;
        if refusal(&answer) == Some(Refusal::UnknownChallenge) {
            // None was left, or the peer was restarted, or nobody spoke for a while: what else is
            // kept is of the same age.
            if answer.challenged {
                lock(&self.challenges).clear();
            }
            let fresh = answer.next_challenge;
            answer = self.attempt(path, &body, Some(fresh), until).await?;
        }
        let keep = std::mem::take(&mut answer.next_challenge);
        let mut challenges = lock(&self.challenges);
        if challenges.len() < CHALLENGES_MAX && !keep.is_empty() {
            challenges.push(keep);
        }
        drop(challenges);
        self.read(path, &answer)
    }

    /// One sealed request and its answer. Without a challenge it takes one that is kept, once there
    /// is a connection to use it up on.
    async fn attempt(
        &self,
        path: &'static str,
        body: &Bytes,
        mut challenge: Option<String>,
        until: Moment,
    ) -> Result<Trusted, EffectError> {
        let mut sealed = None;
        let mut sent_again = false;
        let mut link = self.take_idle().await;
        loop {
            let mut current = match link.take() {
                Some(link) => link,
                None => self.dialer.dial(until).await.map_err(|error| {
                    let what = self.what(path, &error.why);
                    let failed = if error.permanent {
                        EffectError::permanent(what)
                    } else if sent_again {
                        EffectError::unknown(what)
                    } else {
                        EffectError::retryable(what)
                    };
                    match error.hint {
                        Some(hint) => failed.hint(hint),
                        None => failed,
                    }
                })?,
            };
            let was_kept = current.used;
            let sealed = match sealed {
                Some(ref sealed) => sealed,
                None => {
                    let kept = || lock(&self.challenges).pop();
                    let challenge = challenge.take().or_else(kept).unwrap_or_default();
                    sealed.insert(self.seal(path, body, &challenge)?)
                }
            };
            let exchange = current.exchange(sealed.request.clone());
            match timeout(boottime().until(until), exchange).await {
                Ok(Ok(answer)) => {
                    self.put_idle(current);
                    return self.trust(path, sealed, answer, sent_again);
                }
                Err(_) => {
                    // The other connections may hang for the same reason: the next call gets a
                    // new one.
                    lock(&self.idle).clear();
                    return Err(EffectError::unknown(self.what(path, "no answer in time")));
                }
                Ok(Err(error)) if was_kept => {
                    // All kept connections are as old as this one.
                    lock(&self.idle).clear();
                    sent_again |= matches!(error, ExchangeError::Broken { .. });
                }
                Ok(Err(error)) => return Err(self.exchange_failed(path, error)),
            }
        }
    }

    fn encode<Req: Serialize>(&self, path: &str, request: &Req) -> Result<Bytes, EffectError> {
        let body = serde_json::to_vec(request).map_err(|error| {
            EffectError::permanent(self.what(path, "the request has no JSON form")).caused_by(error)
        })?;
        if body.len() > wire::BODY_BYTES_MAX {
            let why = format!(
                "the request has {} bytes, more than {}",
                body.len(),
                wire::BODY_BYTES_MAX
            );
            return Err(EffectError::permanent(self.what(path, &why)));
        }
        Ok(body.into())
    }

    fn seal(&self, path: &str, body: &Bytes, challenge: &str) -> Result<Sealed, EffectError> {
        let nonce = to_hex(&rand::random::<[u8; 16]>());
        let hash = body_hash(body);
        let seal = self.key.seal_request(&RequestParts {
            cluster: &self.cluster,
            from: &self.own,
            to: &self.peer,
            method: "POST",
            path,
            challenge,
            nonce: &nonce,
            body_hash: hash,
        });
        let request = Request::post(path)
            .header(header::HOST, &self.address)
            .header(header::CONTENT_TYPE, "application/json")
            .header(wire::HEADER_CLUSTER, self.cluster.as_str())
            .header(wire::HEADER_FROM, member_text(&self.own))
            .header(wire::HEADER_TO, member_text(&self.peer))
            .header(wire::HEADER_CHALLENGE, challenge)
            .header(wire::HEADER_NONCE, nonce)
            .header(wire::HEADER_BODY_HASH, to_hex(&hash))
            .header(wire::HEADER_SEAL, seal.to_hex())
            .body(Full::new(body.clone()))
            .map_err(|error| {
                EffectError::permanent(self.what(path, "a name does not fit into an HTTP header"))
                    .caused_by(error)
            })?;
        Ok(Sealed {
            request,
            seal,
            challenged: !challenge.is_empty(),
        })
    }

    /// Checks that the answer comes from a member and belongs to this request.
    fn trust(
        &self,
        path: &str,
        request: &Sealed,
        answer: RawAnswer,
        sent_again: bool,
    ) -> Result<Trusted, EffectError> {
        let (status, headers) = (answer.head.status(), answer.head.headers());
        let next_challenge = text(headers, wire::HEADER_NEXT_CHALLENGE);
        let expected = self.key.seal_answer(&AnswerParts {
            request: &request.seal,
            status: status.as_u16(),
            next_challenge,
            body_hash: body_hash(&answer.body),
        });
        let seal = Seal::from_hex(text(headers, wire::HEADER_SEAL));
        if !seal.is_some_and(|seal| seal.matches(&expected)) {
            return Err(self.untrusted(path, status));
        }
        let fits = next_challenge.len() <= CHALLENGE_CHARS_MAX;
        Ok(Trusted {
            status,
            next_challenge: if fits { next_challenge } else { "" }.to_owned(),
            body: answer.body,
            challenged: request.challenged,
            sent_again,
        })
    }

    fn untrusted(&self, path: &str, status: StatusCode) -> EffectError {
        match status {
            StatusCode::UNAUTHORIZED => {
                let why = "it refused the request's seal (401): the secrets differ";
                EffectError::permanent(self.what(path, why))
                    .hint("peer.secret must be the same on every member")
            }
            StatusCode::SERVICE_UNAVAILABLE => {
                EffectError::retryable(self.what(path, "it is overloaded (503)"))
            }
            _ => {
                let why = format!("the answer ({status}) does not carry the cluster's seal");
                EffectError::permanent(self.what(path, &why))
                    .hint("something else answers at this address, or peer.secret differs")
            }
        }
    }

    fn read<Res: DeserializeOwned>(
        &self,
        path: &str,
        answer: &Trusted,
    ) -> Result<Res, EffectError> {
        match answer.status {
            StatusCode::OK => serde_json::from_slice(&answer.body).map_err(|error| {
                let why = "the answer is not understood";
                EffectError::unknown(self.what(path, why))
                    .caused_by(error)
                    .hint("run the same version on every member")
            }),
            StatusCode::SERVICE_UNAVAILABLE => Err(EffectError::retryable(
                self.what(path, "it is overloaded (503)"),
            )),
            StatusCode::GATEWAY_TIMEOUT => Err(EffectError::unknown(
                self.what(path, "it did not finish in time (504)"),
            )),
            status => Err(self.refused(path, status, answer)),
        }
    }

    fn refused(&self, path: &str, status: StatusCode, answer: &Trusted) -> EffectError {
        match refusal(answer) {
            Some(Refusal::Replayed) if answer.sent_again => EffectError::unknown(self.what(
                path,
                "the connection broke after the request had arrived, its answer is lost",
            )),
            Some(Refusal::Replayed) => {
                EffectError::unknown(self.what(path, "a copy of the request came before it (401)"))
            }
            Some(Refusal::UnknownChallenge) => {
                EffectError::retryable(self.what(path, "it refused its own fresh challenge (401)"))
            }
            Some(other) => {
                EffectError::permanent(self.what(path, &format!("it refused: {other} ({status})")))
            }
            None => {
                let body = String::from_utf8_lossy(&answer.body);
                let body: String = body
                    .chars()
                    .filter(|letter| !letter.is_control())
                    .take(TEXT_CHARS_MAX)
                    .collect();
                EffectError::permanent(self.what(path, &format!("it answered {status}: {body}")))
            }
        }
    }

    fn exchange_failed(&self, path: &str, error: ExchangeError) -> EffectError {
        match error {
            ExchangeError::NotSent(why) => EffectError::retryable(self.what(path, &why)),
            ExchangeError::Broken { tls: Some(tls), .. } => {
                let failed = EffectError::permanent(self.what(path, &tls.why));
                match tls.hint {
                    Some(hint) => failed.hint(hint),
                    None => failed,
                }
            }
            ExchangeError::Broken { why, tls: None } => {
                let why = format!("the connection broke before the answer: {why}");
                EffectError::unknown(self.what(path, &why))
            }
        }
    }

    async fn take_idle(&self) -> Option<Link> {
        loop {
            let mut link = lock(&self.idle).pop()?;
            if link.usable().await {
                return Some(link);
            }
        }
    }

    fn put_idle(&self, link: Link) {
        let mut idle = lock(&self.idle);
        if idle.len() < IDLE_MAX {
            idle.push(link);
        }
    }

    fn what(&self, path: &str, why: &str) -> String {
        let kind = match self.peer {
            Member::Site(_) => "site ",
            Member::Witness => "",
        };
        format!(
            "cannot ask {kind}{} at {} ({path}): {why}",
            self.peer, self.address
        )
    }
}

fn refusal(answer: &Trusted) -> Option<Refusal> {
    let refused = matches!(
        answer.status,
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN
    );
    refused
        .then(|| serde_json::from_slice(&answer.body).ok())
        .flatten()
}

fn text<'a>(headers: &'a HeaderMap, name: &str) -> &'a str {
    headers
        .get(name)
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default()
}
