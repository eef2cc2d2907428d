//! A stand-in for Cloudflare's DNS API, on loopback: stateful, strict, and able to fail on demand.
//!
//! It is a stand-in and says so (`server` header). What it cannot show: propagation to the edge,
//! and real rate limits. Start reading at [`CloudflareStandIn`].
//!
//! Source: Cloudflare API v4 reference; "Rate limits"; "Create API token".

use std::collections::VecDeque;
use std::future::pending;
use std::io;
use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderValue, Method, StatusCode, header};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::cloudflare_routes;
use super::cloudflare_zone::{ApiError, Zone};

pub use super::cloudflare_zone::Record;

/// The only zone's id.
pub const ZONE_ID: &str = "023e105f4ecef8ad9ca31a8372d0c353";
/// Where the API begins, as at the original.
const BASE: &str = "/client/v4";
/// Requests that are remembered.
const REQUESTS_MAX: usize = 10_000;
/// A request body that is longer is refused.
const BODY_BYTES_MAX: usize = 1 << 20;

/// How a request is to fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Answers with this status and does nothing.
    Status(u16),
    /// Does nothing and never answers.
    Timeout,
    /// Does what was asked and never answers. Waits for a request that writes.
    AppliedButTimedOut,
    /// Answers 200 with something that is no JSON.
    Garbage,
    /// Answers 200 with a body of 64 MiB.
    Huge,
    /// Answers 200 with `success: false`.
    RefusedWith200,
    /// Answers 429 with `Retry-After` in seconds.
    RateLimited(u64),
    /// Does what was asked, and says that no request is left for so many seconds.
    UsedUp(u64),
    /// Lists all records, whatever the query says.
    FilterIgnored,
}

/// A request as it came in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SeenRequest {
    /// `GET`, `PATCH`…
    pub method: String,
    /// Behind `/client/v4`.
    pub path: String,
    /// As sent, still encoded.
    pub query: String,
    /// Its JSON body, if it had one.
    pub body: Option<Value>,
}

/// The running stand-in; it stops when dropped.
#[derive(Debug)]
pub struct CloudflareStandIn {
    url: String,
    shared: Arc<Shared>,
    stop: CancellationToken,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug)]
pub(super) struct Shared {
    token: String,
    state: Mutex<Served>,
}

#[derive(Debug)]
pub(super) struct Served {
    pub(super) zone: Zone,
    /// Zones beside it, by which a record's zone can be mistaken.
    pub(super) others: Vec<Zone>,
    pub(super) token_status: &'static str,
    pub(super) token_end: Option<&'static str>,
    requests: VecDeque<SeenRequest>,
    faults: VecDeque<Fault>,
    write_faults: VecDeque<Fault>,
    may_write: bool,
    may_create: bool,
}

impl CloudflareStandIn {
    /// Serves one zone with these records to whoever has `token`.
    ///
    /// It runs on a thread of its own, so that a test's or demo's busy runtime cannot slow it.
    ///
    /// # Errors
    /// When no loopback port or no thread is to be had.
    pub async fn start(token: &str, records: Vec<Record>) -> io::Result<Self> {
        let listener = tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let listener = listener.into_std()?;
        let url = format!("http://{}{BASE}", listener.local_addr()?);
        let shared = Arc::new(Shared {
            token: token.to_owned(),
            state: Mutex::new(Served {
                zone: Zone::new(ZONE_ID, records),
                others: Vec::new(),
                token_status: "active",
                token_end: None,
                requests: VecDeque::new(),
                faults: VecDeque::new(),
                write_faults: VecDeque::new(),
                may_write: true,
                may_create: false,
            }),
        });
        let stop = CancellationToken::new();
        let (served, stopped) = (Arc::clone(&shared), stop.clone());
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let thread = std::thread::Builder::new()
            .name("cloudflare-stand-in".to_owned())
            .spawn(move || runtime.block_on(serve(listener, served, stopped)))?;
        Ok(Self {
            url,
            shared,
            stop,
            thread: Some(thread),
        })
    }

    /// What stands for `https://api.cloudflare.com/client/v4`.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The records as they are now.
    #[must_use]
    pub fn records(&self) -> Vec<Record> {
        self.shared.lock().zone.records.clone()
    }

    /// Everything that was asked so far, in order.
    #[must_use]
    pub fn requests(&self) -> Vec<SeenRequest> {
        self.shared.lock().requests.iter().cloned().collect()
    }

    /// Lets the next request fail; several calls queue up.
    pub fn fail_next(&self, fault: Fault) {
        let mut served = self.shared.lock();
        if fault == Fault::AppliedButTimedOut {
            served.write_faults.push_back(fault);
        } else {
            served.faults.push_back(fault);
        }
    }

    /// Lets the next request that writes fail.
    pub fn fail_next_write(&self, fault: Fault) {
        self.shared.lock().write_faults.push_back(fault);
    }

    /// Adds a zone without records. `status` is e.g. `active`, `pending`.
    pub fn add_zone(&self, name: &str, status: &'static str) {
        let mut served = self.shared.lock();
        let id = format!("{:032x}", served.others.len() + 1);
        served.others.push(Zone::empty(&id, name, status));
    }

    /// Lets the token be `expired` or `disabled` from now on.
    pub fn end_token(&self, status: &'static str) {
        self.shared.lock().token_status = status;
    }

    /// Lets the token have an end, as the API writes it; it goes on working.
    pub fn token_ends(&self, at: &'static str) {
        self.shared.lock().token_end = Some(at);
    }

    /// Makes the zone anew, as a person would: the same name and records under another id.
    pub fn make_zone_anew(&self, id: &str) {
        id.clone_into(&mut self.shared.lock().zone.id);
    }

    /// Takes the token's right to write away, as if its scope were DNS:Read.
    pub fn deny_writes(&self) {
        self.shared.lock().may_write = false;
    }

    /// Allows to create and delete single records too; batches may do so anyway.
    pub fn allow_create_and_delete(&self) {
        self.shared.lock().may_create = true;
    }

    /// Changes a record as somebody else would, by the dashboard.
    ///
    /// # Panics
    /// When the stand-in would refuse that change.
    pub fn change_by_hand(&self, id: &str, body: &Value) {
        let changed = self.shared.lock().zone.patch(id, body);
        assert!(changed.is_ok(), "no such change is possible: {changed:?}");
    }
}

impl CloudflareStandIn {
    /// Creates a record as somebody else would.
    ///
    /// # Panics
    /// When the stand-in would refuse it.
    pub fn create_by_hand(&self, record: Record) {
        let created = self.shared.lock().zone.add(record);
        assert!(created.is_ok(), "no such record is possible: {created:?}");
    }

    /// Deletes a record as somebody else would.
    ///
    /// # Panics
    /// When there is none.
    pub fn delete_by_hand(&self, id: &str) {
        let deleted = self.shared.lock().zone.delete(id);
        assert!(deleted.is_ok(), "no such record: {deleted:?}");
    }
}

impl Drop for CloudflareStandIn {
    fn drop(&mut self) {
        self.stop.cancel();
        if let Some(thread) = self.thread.take() {
            // A panic in there has been printed already.
            drop(thread.join());
        }
    }
}

impl Shared {
    pub(super) fn lock(&self) -> MutexGuard<'_, Served> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn serve(listener: std::net::TcpListener, shared: Arc<Shared>, stop: CancellationToken) {
    let Ok(listener) = tokio::net::TcpListener::from_std(listener) else {
        return;
    };
    let router = router(shared);
    tokio::select! {
        _ended = async { axum::serve(listener, router).await } => {}
        () = stop.cancelled() => {}
    }
}

fn router(shared: Arc<Shared>) -> Router {
    Router::new()
        .nest(BASE, cloudflare_routes::api(Arc::clone(&shared)))
        .fallback(|| async { ApiError::new(400, 7000, "No route for that URI").into_response() })
        .layer(from_fn_with_state(shared, front))
}

/// What every request passes: it is noted, may be made to fail, and must be authorized.
async fn front(State(shared): State<Arc<Shared>>, request: Request, next: Next) -> Response {
    let (parts, body) = request.into_parts();
    let Ok(body) = axum::body::to_bytes(body, BODY_BYTES_MAX).await else {
        return ApiError::new(413, 9000, "Request body too large").into_response();
    };
    let writes = parts.method != Method::GET;
    let path = parts.uri.path();
    let fault = shared.lock().note(
        SeenRequest {
            method: parts.method.to_string(),
            path: path.strip_prefix(BASE).unwrap_or(path).to_owned(),
            query: parts.uri.query().unwrap_or("").to_owned(),
            body: serde_json::from_slice(&body).ok(),
        },
        writes,
    );
    if let Err(refused) = shared.authorize(&parts) {
        return finish(refused.into_response());
    }
    let json_sent = parts.headers.get(header::CONTENT_TYPE).is_some_and(is_json);
    if !body.is_empty() && !json_sent {
        let refused = ApiError::new(400, 6003, "Invalid request headers").chained(
            6105,
            "Invalid Content-Type header, valid values are application/json,multipart/form-data",
        );
        return finish(refused.into_response());
    }
    let mut request = Request::from_parts(parts, body.into());
    if fault == Some(Fault::FilterIgnored) {
        let path = request.uri().path().to_owned();
        if let Ok(uri) = path.parse() {
            *request.uri_mut() = uri;
        }
    }
    let answer = match fault {
        None | Some(Fault::FilterIgnored | Fault::UsedUp(_)) => next.run(request).await,
        Some(Fault::AppliedButTimedOut) => {
            next.run(request).await;
            pending().await
        }
        Some(Fault::Timeout) => pending().await,
        Some(Fault::Status(status)) => status_fault(status),
        Some(Fault::Garbage) => "<html>not what you asked for".into_response(),
        Some(Fault::Huge) => vec![b' '; 64 << 20].into_response(),
        Some(Fault::RefusedWith200) => {
            ApiError::new(200, 1004, "DNS Validation Error").into_response()
        }
        Some(Fault::RateLimited(seconds)) => {
            let mut answer = status_fault(429);
            answer
                .headers_mut()
                .insert(header::RETRY_AFTER, HeaderValue::from(seconds));
            answer
        }
    };
    let mut answer = finish(answer);
    if let Some(Fault::UsedUp(seconds)) = fault
        && let Ok(used_up) = HeaderValue::try_from(format!("\"default\";r=0;t={seconds}"))
    {
        answer.headers_mut().insert("ratelimit", used_up);
    }
    answer
}

fn is_json(content_type: &HeaderValue) -> bool {
    content_type.as_bytes().starts_with(b"application/json")
}

/// Adds what every answer carries.
fn finish(mut answer: Response) -> Response {
    let headers = answer.headers_mut();
    for (name, value) in [
        ("server", "agent-demo-stand-in"),
        ("ratelimit", "\"default\";r=1199;t=300"),
        ("ratelimit-policy", "\"default\";q=1200;w=300"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    answer
}

fn status_fault(status: u16) -> Response {
    match status {
        401 | 403 => ApiError::new(status, 10_000, "Authentication error").into_response(),
        429 => ApiError::new(429, 10_300, "Rate limited. Please wait.").into_response(),
        // What stands before the API answers without its envelope.
        502.. => {
            let text = format!("error code: {status}");
            let status = StatusCode::from_u16(status).unwrap_or(StatusCode::BAD_GATEWAY);
            (status, text).into_response()
        }
        _ => ApiError::new(status, 10_001, "Unable to process the request").into_response(),
    }
}

impl Served {
    fn note(&mut self, request: SeenRequest, writes: bool) -> Option<Fault> {
        if self.requests.len() == REQUESTS_MAX {
            self.requests.pop_front();
        }
        self.requests.push_back(request);
        let on_write = writes.then(|| self.write_faults.pop_front()).flatten();
        on_write.or_else(|| self.faults.pop_front())
    }
}

impl Shared {
    fn authorize(&self, parts: &Parts) -> Result<(), ApiError> {
        let Some(value) = parts.headers.get(header::AUTHORIZATION) else {
            let what = "Missing X-Auth-Key, X-Auth-Email or Authorization headers";
            return Err(ApiError::new(400, 9106, what));
        };
        let token = value.to_str().ok().and_then(|v| v.strip_prefix("Bearer "));
        let Some(token) = token.filter(|token| !token.is_empty() && !token.contains(' ')) else {
            return Err(ApiError::new(400, 6003, "Invalid request headers")
                .chained(6111, "Invalid format for Authorization header"));
        };
        if token != self.token {
            return Err(ApiError::new(403, 9109, "Invalid access token"));
        }
        let served = self.lock();
        if served.token_status != "active" && !parts.uri.path().ends_with("/tokens/verify") {
            return Err(ApiError::new(401, 1000, "Invalid API Token"));
        }
        let allowed = match parts.method {
            Method::GET => true,
            Method::PATCH => served.may_write,
            Method::POST if parts.uri.path().ends_with("/batch") => served.may_write,
            _ => served.may_write && served.may_create,
        };
        if allowed {
            Ok(())
        } else {
            Err(ApiError::new(403, 10_000, "Authentication error"))
        }
    }

    /// The zone of a path, if it is ours.
    pub(super) fn zone(&self, id: &str) -> Result<MutexGuard<'_, Served>, ApiError> {
        let served = self.lock();
        if served.zone.id == id {
            return Ok(served);
        }
        // The others have no records, and nobody is to look for any there.
        let what = format!(
            "Could not route to {BASE}/zones/{id}/dns_records, \
             perhaps your object identifier is invalid?"
        );
        Err(ApiError::new(404, 7003, what))
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let mut error = json!({ "code": self.code, "message": self.message });
        if let (Some((code, message)), Some(error)) = (self.chain, error.as_object_mut()) {
            let chain = json!([{ "code": code, "message": message }]);
            error.insert("error_chain".to_owned(), chain);
        }
        let envelope =
            json!({ "success": false, "errors": [error], "messages": [], "result": null });
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::BAD_REQUEST);
        (status, axum::Json(envelope)).into_response()
    }
}
