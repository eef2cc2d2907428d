//! Who may speak on the members' link. Everything is checked before a byte of the body is read,
//! the body before it is parsed, and every refusal is counted; each kind is logged once per
//! address, because whoever knocks with a wrong secret knocks several times a second.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::body::{Body, Bytes, to_bytes};
use axum::extract::{Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use tokio::time::timeout;

use super::{Sender, refused};
use crate::config::secret::Secret;
use crate::effects::clock::boottime;
use crate::effects::peer::auth::{
    AnswerParts, ChallengeFault, Challenges, PeerKey, RequestParts, Seal, body_hash, from_hex,
};
use crate::effects::peer::wire::{self, BODY_BYTES_MAX, Refusal};
use crate::model::{ClusterName, Member};
use crate::runtime::http_server::{Caller, Visitor};

/// A body follows its head at once; members send it in one piece.
const BODY_TIMEOUT: Duration = Duration::from_secs(5);
/// Bound on answering. Callers give up much sooner; this ends what they no longer wait for.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);
/// Addresses whose refusals were logged. More are only counted.
const LOGGED_MAX: usize = 256;

/// Longest header that has a meaning here: names are short, seals are 64 characters.
const HEADER_CHARS_MAX: usize = 256;

/// What the receiving side knows of its cluster.
#[derive(Debug)]
pub struct AdmissionSettings<'a> {
    /// The cluster's name.
    pub cluster: ClusterName,
    /// This member.
    pub own: Member,
    /// All members, this one may be among them.
    pub members: Vec<Member>,
    /// The cluster's secret.
    pub secret: &'a Secret,
}

/// How many requests were refused since the start, by reason.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct RefusalCounts {
    /// Without a seal: no member, or something that only looks whether the port is open.
    pub unsealed: u64,
    /// The seal does not fit: another secret, or the head was changed on the way.
    pub wrong_secret: u64,
    /// The body is not the sealed one.
    pub tampered: u64,
    /// The very same request was here before.
    pub replayed: u64,
    /// A challenge of an earlier process or too old: expected after a restart of either side.
    pub unknown_challenge: u64,
    /// Another cluster, another voter set, or no member of this one.
    pub wrong_cluster: u64,
    /// Meant for another member, or in another member's name.
    pub misdirected: u64,
    /// Refused in the TLS handshake.
    pub tls: u64,
}

/// Decides who may speak.
#[derive(Debug)]
pub struct Admission {
    cluster: ClusterName,
    own: Member,
    senders: BTreeSet<Member>,
    key: PeerKey,
    challenges: Mutex<Challenges>,
    book: Mutex<Book>,
}

#[derive(Debug, Default)]
struct Book {
    counts: RefusalCounts,
    logged: BTreeSet<(Option<IpAddr>, Kind)>,
}

/// One kind of refusal for counting and logging.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    Unsealed,
    WrongSecret,
    Tls,
    Sealed(Refusal),
}

/// A request's head, taken apart.
struct Head<'a> {
    cluster: ClusterName,
    from: Member,
    to: Member,
    challenge: &'a str,
    nonce: &'a str,
    body_hash: [u8; 32],
    seal: Seal,
}

impl Admission {
    /// Begins with fresh challenges.
    #[must_use]
    pub fn new(settings: AdmissionSettings<'_>) -> Arc<Self> {
        let senders = settings.members.into_iter();
        Arc::new(Self {
            senders: senders.filter(|member| *member != settings.own).collect(),
            cluster: settings.cluster,
            own: settings.own,
            key: PeerKey::new(settings.secret),
            challenges: Mutex::new(Challenges::new(rand::random())),
            book: Mutex::default(),
        })
    }

    /// How many requests were refused since the start.
    #[must_use]
    pub fn refusals(&self) -> RefusalCounts {
        lock(&self.book).counts
    }

    pub(super) fn count_wrong_cluster(&self) {
        lock(&self.book).counts.wrong_cluster += 1;
    }

    pub(super) fn refuse_tls(&self, caller: Caller, error: &std::io::Error) {
        self.note(Kind::Tls, ip(caller), None, &error.to_string());
    }

    pub(super) fn refuse_name(&self, from: &Member) -> Response {
        self.note_sealed(Refusal::NotYours, None, from);
        refused(StatusCode::FORBIDDEN, Refusal::NotYours)
    }

    /// Whether this sealed request may go on to its body.
    fn check(&self, head: &Head<'_>) -> Result<(), Refusal> {
        if head.cluster != self.cluster {
            return Err(Refusal::WrongCluster);
        }
        if head.to != self.own {
            return Err(Refusal::Misdirected);
        }
        if !self.senders.contains(&head.from) {
            return Err(Refusal::UnknownMember);
        }
        let redeemed = lock(&self.challenges).redeem(&head.from, head.challenge, boottime());
        redeemed.map_err(|fault| match fault {
            ChallengeFault::Unknown => Refusal::UnknownChallenge,
            ChallengeFault::Used => Refusal::Replayed,
        })
    }

    /// Adds the next challenge and the seal.
    async fn seal(&self, head: &Head<'_>, answer: Response) -> Response {
        let (mut parts, body) = answer.into_parts();
        let Ok(body) = to_bytes(body, BODY_BYTES_MAX).await else {
            // Our own handlers bound their answers; without a seal nobody believes this one.
            return StatusCode::INTERNAL_SERVER_ERROR.into_response();
        };
        let next = lock(&self.challenges).issue(&head.from, boottime(), rand::random());
        let seal = self.key.seal_answer(&AnswerParts {
            request: &head.seal,
            status: parts.status.as_u16(),
            next_challenge: &next,
            body_hash: body_hash(&body),
        });
        put(&mut parts.headers, wire::HEADER_NEXT_CHALLENGE, &next);
        put(&mut parts.headers, wire::HEADER_SEAL, &seal.to_hex());
        Response::from_parts(parts, Body::from(body))
    }

    fn note_sealed(&self, refusal: Refusal, address: Option<IpAddr>, from: &Member) {
        self.note(
            Kind::Sealed(refusal),
            address,
            Some(from),
            &refusal.to_string(),
        );
    }

    fn note(&self, kind: Kind, address: Option<IpAddr>, from: Option<&Member>, reason: &str) {
        let mut book = lock(&self.book);
        *book.counts.of(kind) += 1;
        // Restarts make unknown challenges, and port checks make requests without a seal: neither
        // is worth a line in the log.
        let expected = matches!(
            kind,
            Kind::Unsealed | Kind::Sealed(Refusal::UnknownChallenge)
        );
        if expected || book.logged.len() >= LOGGED_MAX || !book.logged.insert((address, kind)) {
            return;
        }
        drop(book);
        let address = address.map_or_else(|| "unknown".to_owned(), |ip| ip.to_string());
        let from = from.map(ToString::to_string);
        tracing::warn!(
            %address,
            from,
            reason,
            "peer request refused; more from this address are only counted"
        );
    }
}

impl RefusalCounts {
    fn of(&mut self, kind: Kind) -> &mut u64 {
        match kind {
            Kind::Unsealed => &mut self.unsealed,
            Kind::WrongSecret => &mut self.wrong_secret,
            Kind::Tls => &mut self.tls,
            Kind::Sealed(Refusal::UnknownChallenge) => &mut self.unknown_challenge,
            Kind::Sealed(Refusal::Replayed) => &mut self.replayed,
            Kind::Sealed(Refusal::WrongCluster | Refusal::UnknownMember) => &mut self.wrong_cluster,
            Kind::Sealed(Refusal::Misdirected | Refusal::NotYours) => &mut self.misdirected,
            Kind::Sealed(Refusal::Tampered) => &mut self.tampered,
        }
    }
}

/// Lets a request through to its handler, or answers it.
pub(super) async fn admit(
    State(admission): State<Arc<Admission>>,
    request: Request,
    next: Next,
) -> Response {
    let (parts, body) = request.into_parts();
    let visitor = parts.extensions.get::<Visitor>();
    let address = visitor.and_then(|visitor| ip(visitor.caller));
    let Some(head) = take_apart(&parts.headers) else {
        admission.note(Kind::Unsealed, address, None, "there is no seal");
        return StatusCode::UNAUTHORIZED.into_response();
    };
    let expected = admission.key.seal_request(&RequestParts {
        cluster: &head.cluster,
        from: &head.from,
        to: &head.to,
        method: parts.method.as_str(),
        path: parts.uri.path(),
        challenge: head.challenge,
        nonce: head.nonce,
        body_hash: head.body_hash,
    });
    if !head.seal.matches(&expected) {
        // The answer carries no seal: who guesses secrets gets nothing to test the guess on.
        let reason = "the seal does not fit: peer.secret differs";
        admission.note(Kind::WrongSecret, address, Some(&head.from), reason);
        return StatusCode::UNAUTHORIZED.into_response();
    }
    let checked = match admission.check(&head) {
        Ok(()) => read_body(&head, body).await,
        Err(refusal) => Err(Rejection::Refused(refusal)),
    };
    let answer = match checked {
        Ok(body) => {
            if let Some(visitor) = visitor {
                visitor.set_proven();
            }
            handle(&head, &parts, body, next).await
        }
        Err(Rejection::Refused(refusal)) => {
            admission.note_sealed(refusal, address, &head.from);
            let status = match refusal {
                Refusal::UnknownChallenge | Refusal::Replayed | Refusal::Tampered => {
                    StatusCode::UNAUTHORIZED
                }
                Refusal::WrongCluster
                | Refusal::UnknownMember
                | Refusal::Misdirected
                | Refusal::NotYours => StatusCode::FORBIDDEN,
            };
            refused(status, refusal)
        }
        Err(Rejection::Unreadable(status)) => status.into_response(),
    };
    admission.seal(&head, answer).await
}

enum Rejection {
    Refused(Refusal),
    Unreadable(StatusCode),
}

async fn read_body(head: &Head<'_>, body: Body) -> Result<Bytes, Rejection> {
    let read = timeout(BODY_TIMEOUT, to_bytes(body, BODY_BYTES_MAX)).await;
    let body = match read {
        Ok(Ok(body)) => body,
        Ok(Err(_)) => return Err(Rejection::Unreadable(StatusCode::PAYLOAD_TOO_LARGE)),
        Err(_) => return Err(Rejection::Unreadable(StatusCode::REQUEST_TIMEOUT)),
    };
    if body_hash(&body) == head.body_hash {
        Ok(body)
    } else {
        Err(Rejection::Refused(Refusal::Tampered))
    }
}

async fn handle(head: &Head<'_>, parts: &Parts, body: Bytes, next: Next) -> Response {
    let mut request = Request::new(Body::from(body));
    *request.method_mut() = parts.method.clone();
    *request.uri_mut() = parts.uri.clone();
    *request.extensions_mut() = parts.extensions.clone();
    request.extensions_mut().insert(Sender(head.from.clone()));
    match timeout(ANSWER_TIMEOUT, next.run(request)).await {
        Ok(answer) => answer,
        Err(_) => StatusCode::GATEWAY_TIMEOUT.into_response(),
    }
}

fn take_apart(headers: &HeaderMap) -> Option<Head<'_>> {
    let text = |name| {
        let text = headers.get(name)?.to_str().ok()?;
        (text.len() <= HEADER_CHARS_MAX).then_some(text)
    };
    Some(Head {
        cluster: ClusterName::new(text(wire::HEADER_CLUSTER)?),
        from: wire::member_from_text(text(wire::HEADER_FROM)?)?,
        to: wire::member_from_text(text(wire::HEADER_TO)?)?,
        challenge: text(wire::HEADER_CHALLENGE)?,
        nonce: text(wire::HEADER_NONCE)?,
        body_hash: from_hex(text(wire::HEADER_BODY_HASH)?)?,
        seal: Seal::from_hex(text(wire::HEADER_SEAL)?)?,
    })
}

fn put(headers: &mut HeaderMap, name: &'static str, value: &str) {
    // Hex is always a header value.
    if let Ok(value) = HeaderValue::from_str(value) {
        headers.insert(name, value);
    }
}

fn ip(caller: Caller) -> Option<IpAddr> {
    match caller {
        Caller::Address(address) => Some(address.ip().to_canonical()),
        Caller::Process { .. } => None,
    }
}

/// The value behind a lock; each change is one step, so a panic cannot leave it half-done.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
