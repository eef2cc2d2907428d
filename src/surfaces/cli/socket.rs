//! The CLI's side of the operator socket: one request, its answer as JSON or as a stream of lines.

use std::io;
use std::marker::PhantomData;
use std::path::{Path, PathBuf};
use std::time::Duration;

use axum::body::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper::{Request, Response, StatusCode, header};
use hyper_util::rt::TokioIo;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::net::UnixStream;
use tokio::task::JoinSet;
use tokio::time::timeout;

/// Longest answer that is read as a whole.
const ANSWER_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Longest line of a stream.
const LINE_BYTES_MAX: usize = 1024 * 1024;
/// How much of a refusal is shown.
const REFUSAL_BYTES_MAX: usize = 64 * 1024;

/// Why the agent could not be asked.
#[derive(Debug, thiserror::Error)]
pub enum SocketError {
    /// There is no socket.
    #[error(
        "there is no agent socket at {}: is the agent running? (systemctl status agent; \
         or name the right agent.toml with --config)",
        path.display()
    )]
    Missing {
        /// Where it should be.
        path: PathBuf,
    },
    /// There is a socket, but nobody behind it.
    #[error(
        "nobody listens on {}: the agent has stopped or died (journalctl -u agent)",
        path.display()
    )]
    NobodyListens {
        /// The socket.
        path: PathBuf,
    },
    /// The file mode forbids it.
    #[error(
        "permission denied for {}: run this as root, as the agent's user, or as a member of the \
         socket's group",
        path.display()
    )]
    Denied {
        /// The socket.
        path: PathBuf,
    },
    /// The agent hangs or is overloaded.
    #[error("the agent at {} did not answer within {after:?}", path.display())]
    TimedOut {
        /// The socket.
        path: PathBuf,
        /// How long it was waited for.
        after: Duration,
    },
    /// The agent answered with a refusal.
    #[error("the agent refused ({status}): {text}")]
    Refused {
        /// The HTTP status.
        status: StatusCode,
        /// What it said.
        text: String,
    },
    /// The answer is too long or not understood.
    #[error("the answer of the agent to {request} is not understood: {why}")]
    NotUnderstood {
        /// What was asked.
        request: String,
        /// What is wrong with the answer.
        why: String,
    },
    /// The connection broke.
    #[error("the connection to the agent broke during {request}")]
    Broken {
        /// What was asked.
        request: String,
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

/// The operator socket of a local agent.
#[derive(Debug, Clone)]
pub struct OperatorSocket {
    path: PathBuf,
    timeout: Duration,
}

/// The task that moves the bytes. It ends when this is dropped.
type Driver = JoinSet<hyper::Result<()>>;

impl OperatorSocket {
    /// The socket at `path`; each answer must begin within `timeout`.
    #[must_use]
    pub fn new(path: &Path, timeout: Duration) -> Self {
        Self {
            path: path.to_path_buf(),
            timeout,
        }
    }

    /// The same socket, with another wait for an answer to begin.
    #[must_use]
    pub fn waiting(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Gets `path` and reads the answer.
    ///
    /// # Errors
    ///
    /// Why the agent could not be asked.
    pub async fn get_json<T: DeserializeOwned>(&self, path: &str) -> Result<T, SocketError> {
        let what = format!("GET {path}");
        let request = Request::get(path).body(Full::default());
        let whole = async {
            let (response, _driver) = self.send(&what, request).await?;
            read_whole(&what, response.into_body(), ANSWER_BYTES_MAX).await
        };
        let body = timeout(self.timeout, whole)
            .await
            .map_err(|_| self.timed_out())??;
        serde_json::from_slice(&body).map_err(|error| SocketError::NotUnderstood {
            request: what,
            why: error.to_string(),
        })
    }

    /// Posts `body` as JSON; the answer is a stream of JSON lines.
    ///
    /// # Errors
    ///
    /// Why the agent could not be asked.
    pub async fn post_stream<B: Serialize + Sync, T: DeserializeOwned>(
        &self,
        path: &str,
        body: &B,
    ) -> Result<JsonLines<T>, SocketError> {
        let what = format!("POST {path}");
        let json = serde_json::to_vec(body).map_err(|error| broken(&what, error))?;
        let request = Request::post(path)
            .header(header::CONTENT_TYPE, "application/json")
            .body(Full::new(Bytes::from(json)));
        let (response, driver) = timeout(self.timeout, self.send(&what, request))
            .await
            .map_err(|_| self.timed_out())??;
        Ok(JsonLines {
            what,
            body: response.into_body(),
            _driver: driver,
            unread: Vec::new(),
            lines: PhantomData,
        })
    }

    /// Sends the request and waits for the head of a good answer.
    async fn send(
        &self,
        what: &str,
        request: Result<Request<Full<Bytes>>, hyper::http::Error>,
    ) -> Result<(Response<Incoming>, Driver), SocketError> {
        let mut request = request.map_err(|error| broken(what, error))?;
        let host = header::HeaderValue::from_static("agent");
        request.headers_mut().insert(header::HOST, host);
        let stream = UnixStream::connect(&self.path)
            .await
            .map_err(|error| self.not_connected(what, error))?;
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream))
            .await
            .map_err(|error| broken(what, error))?;
        let mut driver = Driver::new();
        driver.spawn(connection);
        let response = sender
            .send_request(request)
            .await
            .map_err(|error| broken(what, error))?;
        let status = response.status();
        if status == StatusCode::OK {
            return Ok((response, driver));
        }
        let body = read_whole(what, response.into_body(), REFUSAL_BYTES_MAX).await?;
        let text = String::from_utf8_lossy(&body).trim().to_owned();
        Err(SocketError::Refused { status, text })
    }

    fn not_connected(&self, what: &str, error: io::Error) -> SocketError {
        let path = self.path.clone();
        if error.kind() == io::ErrorKind::NotFound {
            SocketError::Missing { path }
        } else if error.kind() == io::ErrorKind::ConnectionRefused {
            SocketError::NobodyListens { path }
        } else if error.kind() == io::ErrorKind::PermissionDenied {
            SocketError::Denied { path }
        } else {
            broken(what, error)
        }
    }

    fn timed_out(&self) -> SocketError {
        SocketError::TimedOut {
            path: self.path.clone(),
            after: self.timeout,
        }
    }
}

/// The lines of a streamed answer. Dropping it ends the connection.
pub struct JsonLines<T> {
    what: String,
    body: Incoming,
    _driver: Driver,
    unread: Vec<u8>,
    lines: PhantomData<fn() -> T>,
}

impl<T> std::fmt::Debug for JsonLines<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("JsonLines")
            .field("what", &self.what)
            .finish_non_exhaustive()
    }
}

impl<T: DeserializeOwned> JsonLines<T> {
    /// Waits for the next line; `None` at the proper end. Cancel-safe: a line that was read in
    /// part is kept.
    ///
    /// # Errors
    ///
    /// The connection broke (the agent died) or a line is not understood.
    pub async fn next(&mut self) -> Result<Option<T>, SocketError> {
        loop {
            if let Some(end) = self.unread.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.unread.drain(..=end).collect();
                if line.trim_ascii().is_empty() {
                    continue;
                }
                let parsed = serde_json::from_slice(&line);
                return parsed
                    .map(Some)
                    .map_err(|error| self.strange(error.to_string()));
            }
            if self.unread.len() > LINE_BYTES_MAX {
                return Err(self.strange("a line is too long".to_owned()));
            }
            match self.body.frame().await {
                Some(Ok(frame)) => {
                    if let Ok(bytes) = frame.into_data() {
                        self.unread.extend_from_slice(&bytes);
                    }
                }
                Some(Err(error)) => return Err(broken(&self.what, error)),
                None if self.unread.is_empty() => return Ok(None),
                None => return Err(self.strange("it ends within a line".to_owned())),
            }
        }
    }

    fn strange(&self, why: String) -> SocketError {
        SocketError::NotUnderstood {
            request: self.what.clone(),
            why,
        }
    }
}

async fn read_whole(what: &str, body: Incoming, bytes_max: usize) -> Result<Bytes, SocketError> {
    match Limited::new(body, bytes_max).collect().await {
        Ok(body) => Ok(body.to_bytes()),
        Err(source) => Err(SocketError::Broken {
            request: what.to_owned(),
            source,
        }),
    }
}

fn broken(what: &str, error: impl std::error::Error + Send + Sync + 'static) -> SocketError {
    SocketError::Broken {
        request: what.to_owned(),
        source: Box::new(error),
    }
}
