//! Serves one router on one listener: the members' link and the operator's socket.
//!
//! Owns the bounds that keep strangers from doing harm: how many connections, how long a request
//! may take to arrive, how long the end may take. Knows nothing of what is served.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use axum::Router;
use axum::body::Body;
use hyper::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;

/// After a failed `accept` (out of file descriptors) the next is tried this much later.
const ACCEPT_RETRY: Duration = Duration::from_millis(100);

/// Longest head of a request, in bytes.
const HEAD_BYTES_MAX: usize = 64 * 1024;

/// What a server puts up with.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Open connections. When there are more, the oldest that has not proven who it is goes.
    pub connections: usize,
    /// From the end of one request (or the connection's begin) to the whole head of the next.
    pub head_timeout: Duration,
    /// How long running requests may take once the server was told to stop.
    pub stop_grace: Duration,
}

/// Who is at the other end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Caller {
    /// Somebody on the network.
    Address(SocketAddr),
    /// A process on this host.
    Process {
        /// Its user.
        uid: u32,
        /// Its number, if the kernel told.
        pid: Option<i32>,
    },
}

/// The connection that a request came by: in every request's extensions.
#[derive(Debug, Clone)]
pub struct Visitor {
    /// Who is at the other end.
    pub caller: Caller,
    proven: Arc<AtomicBool>,
}

impl Visitor {
    /// Notes that the caller has proven who it is: its connection is kept when others must go.
    pub fn set_proven(&self) {
        self.proven.store(true, Ordering::Relaxed);
    }
}

/// A stream of bytes in both directions.
pub trait ByteStream: AsyncRead + AsyncWrite + Unpin + Send {}

impl<T: AsyncRead + AsyncWrite + Unpin + Send> ByteStream for T {}

/// Where connections come from.
#[async_trait]
pub trait Door: Send + Sync + 'static {
    /// A connection as the kernel hands it over.
    type Raw: Send + 'static;

    /// Waits for the next connection. Cancel-safe.
    async fn accept(&self) -> io::Result<(Self::Raw, Caller)>;

    /// Makes it ready for HTTP (TLS) in bounded time; `None`: it is not welcome, and that is said.
    async fn prepare(&self, raw: Self::Raw, caller: Caller) -> Option<Box<dyn ByteStream>>;
}

struct Open {
    task: AbortHandle,
    visitor: Visitor,
}

/// Serves until `stop`, then lets running requests finish within the grace.
pub async fn serve<D: Door>(door: D, router: Router, limits: Limits, stop: CancellationToken) {
    let door = Arc::new(door);
    let mut tasks = JoinSet::new();
    let mut open: Vec<Open> = Vec::new();
    let mut accept_works = true;
    loop {
        let accepted = tokio::select! {
            biased;
            () = stop.cancelled() => break,
            Some(_) = tasks.join_next(), if !tasks.is_empty() => {
                open.retain(|connection| !connection.task.is_finished());
                continue;
            }
            accepted = door.accept() => accepted,
        };
        let (raw, caller) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                if std::mem::take(&mut accept_works) {
                    tracing::warn!(%error, "cannot accept connections");
                }
                sleep(ACCEPT_RETRY).await;
                continue;
            }
        };
        accept_works = true;
        if !make_room(&mut open, limits.connections) {
            continue;
        }
        let visitor = Visitor {
            caller,
            proven: Arc::new(AtomicBool::new(false)),
        };
        let connection = connection(
            Arc::clone(&door),
            raw,
            router.clone(),
            visitor.clone(),
            limits,
            stop.clone(),
        );
        let task = tasks.spawn(connection);
        open.push(Open { task, visitor });
    }
    let all_done = async { while tasks.join_next().await.is_some() {} };
    if timeout(limits.stop_grace, all_done).await.is_err() {
        tracing::debug!("connections were cut at shutdown");
    }
}

/// Ends the oldest stranger's connection if there are too many; false if all are known callers.
fn make_room(open: &mut Vec<Open>, connections_max: usize) -> bool {
    if open.len() < connections_max {
        return true;
    }
    let stranger = open
        .iter()
        .position(|connection| !connection.visitor.proven.load(Ordering::Relaxed));
    match stranger {
        Some(oldest) => {
            open.remove(oldest).task.abort();
            true
        }
        None => false,
    }
}

async fn connection<D: Door>(
    door: Arc<D>,
    raw: D::Raw,
    router: Router,
    visitor: Visitor,
    limits: Limits,
    stop: CancellationToken,
) {
    let Some(stream) = door.prepare(raw, visitor.caller).await else {
        return;
    };
    let service = service_fn(move |mut request: Request<Incoming>| {
        request.extensions_mut().insert(visitor.clone());
        let router = router.clone();
        async move {
            let answer = router.oneshot(request.map(Body::new)).await;
            answer.map_err(|never: Infallible| match never {})
        }
    });
    let serving = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.head_timeout)
        .max_buf_size(HEAD_BYTES_MAX)
        .serve_connection(TokioIo::new(stream), service);
    let mut serving = pin!(serving);
    let ended = tokio::select! {
        ended = serving.as_mut() => ended,
        () = stop.cancelled() => {
            serving.as_mut().graceful_shutdown();
            match timeout(limits.stop_grace, serving).await {
                Ok(ended) => ended,
                Err(_) => Ok(()),
            }
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection ended early");
    }
}
