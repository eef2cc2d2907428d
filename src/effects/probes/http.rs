//! The `http` probe: one HTTP/1.1 request on a connection of its own, and conditions on the answer.
//!
//! A kept-alive connection would hide a dead listener, and a followed redirect would probe somebody
//! else: neither is done. One deadline covers resolve, connect, TLS, first byte and body.

use std::time::Duration;

use async_trait::async_trait;
use http_body_util::{BodyExt, Full};
use hyper::body::{Body, Bytes, Incoming};
use hyper::client::conn::http1;
use hyper::header::{ACCEPT, CONNECTION, HOST, HeaderMap, HeaderName, HeaderValue, USER_AGENT};
use hyper::{Method, Request, Response, Uri};
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsConnector;

use super::dial::{Phase, Progress, dial, reset_on_close};
use super::resolve::Resolver;
use super::tcp::timed_out;
use super::{Probe, ProbeKind, cut};
use crate::config::settings::{self, ProbeKindSettings};
use crate::effects::clock::boottime;
use crate::effects::deadline::before;
use crate::effects::error::EffectError;
use crate::effects::tls;
use crate::model::observation::{EndpointResult, EndpointSeen, Seen, Target};
use crate::model::{Moment, ProbeName};

/// See the module.
pub const KIND: ProbeKind = ProbeKind {
    name: "http",
    summary: "sends an HTTP request; checks status, body and latency",
    example: r#"[[probe]]
name = "shop"
kind = "http"
url = "https://shop.fra.example.com/health"
status = ["200-299"]
body_contains = "ok"
latency_max = "800ms"
interval = "2s"
timeout = "1s"
"#,
    build,
};

/// Most of a body that is read; what lies beyond is not looked at.
const BODY_MAX: usize = 64 * 1024;

/// Bound on the answer's head.
const HEAD_MAX: usize = 64 * 1024;

/// One request and its conditions.
#[derive(Debug)]
pub struct HttpProbe {
    name: ProbeName,
    resolver: Resolver,
    host: String,
    port: u16,
    tls: Option<Tls>,
    request: RequestParts,
    conditions: Conditions,
}

struct Tls {
    connector: TlsConnector,
    name: ServerName<'static>,
}

impl std::fmt::Debug for Tls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Tls({:?})", self.name)
    }
}

struct RequestParts {
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
}

impl std::fmt::Debug for RequestParts {
    /// Without headers and body: they may carry credentials.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "RequestParts({} {})", self.method, self.uri.path())
    }
}

#[derive(Debug)]
struct Conditions {
    status: Vec<(u16, u16)>,
    body_contains: Option<String>,
    latency_max: Option<Duration>,
}

fn build(
    probe: &settings::Probe,
    resolver: &Resolver,
) -> Option<Result<Box<dyn Probe>, EffectError>> {
    let http = match &probe.kind {
        ProbeKindSettings::Http(http) => http,
        ProbeKindSettings::Tcp { .. } => return None,
    };
    Some(match HttpProbe::new(&probe.name, http, resolver) {
        Ok(probe) => Ok(Box::new(probe)),
        Err(BuildError::Tls(error)) => Err(error),
        Err(BuildError::Text(why)) => Err(EffectError::permanent(format!(
            "cannot build probe {}: {why}",
            probe.name
        ))),
    })
}

enum BuildError {
    Text(String),
    Tls(EffectError),
}

impl HttpProbe {
    fn new(
        name: &ProbeName,
        http: &settings::HttpProbe,
        resolver: &Resolver,
    ) -> Result<Self, BuildError> {
        // The URL is not repeated: its query may carry a key.
        let text = |why: &str| BuildError::Text(why.to_owned());
        let uri: Uri = http.url.parse().map_err(|_| text("url is not a URL"))?;
        let authority = uri.authority().ok_or_else(|| text("url has no host"))?;
        if authority.as_str().contains('@') {
            return Err(text(
                "url carries a user: put credentials into `headers` instead",
            ));
        }
        let host = authority.host();
        let host = host
            .trim_start_matches('[')
            .trim_end_matches(']')
            .to_owned();
        let (tls, port_default) = match uri.scheme_str() {
            Some("http") => (None, 80),
            Some("https") => (Some(Tls::new(&host, http)?), 443),
            _ => return Err(text("url begins neither with http:// nor https://")),
        };
        Ok(Self {
            name: name.clone(),
            resolver: resolver.clone(),
            port: authority.port_u16().unwrap_or(port_default),
            host,
            tls,
            request: RequestParts::new(http, &uri).map_err(BuildError::Text)?,
            conditions: Conditions {
                status: http.status.clone(),
                body_contains: http.body_contains.clone(),
                latency_max: http.latency_max,
            },
        })
    }

    async fn exchange(
        &self,
        deadline: Moment,
        progress: &mut Progress,
    ) -> Result<(), EndpointResult> {
        let stream = dial(&self.resolver, &self.host, self.port, deadline, progress).await?;
        reset_on_close(&stream);
        let Some(tls) = &self.tls else {
            return self.ask(stream, progress).await;
        };
        let handshake = tls.connector.connect(tls.name.clone(), stream);
        let stream = progress
            .measure(Phase::Tls, handshake)
            .await
            .map_err(|error| tls_failed(&error))?;
        self.ask(stream, progress).await
    }

    /// Sends the request on `stream` and holds the answer against the conditions.
    async fn ask<S>(&self, stream: S, progress: &mut Progress) -> Result<(), EndpointResult>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let (mut sender, connection) = http1::Builder::new()
            .max_buf_size(HEAD_MAX)
            .handshake::<_, Full<Bytes>>(TokioIo::new(stream))
            .await
            .map_err(|error| http_failed(&error))?;
        let exchange = async {
            let response = progress
                .measure(
                    Phase::FirstByte,
                    sender.send_request(self.request.to_request()),
                )
                .await
                .map_err(|error| http_failed(&error))?;
            self.conditions.check_status(response.status().as_u16())?;
            let body = progress.measure(Phase::Body, read_body(response)).await?;
            self.conditions.check_body(&body)
        };
        // The connection is driven here and not in a task of its own: it ends with the probe, and
        // thousands of probes a second stay cheap.
        let mut exchange = std::pin::pin!(exchange);
        let mut connection = std::pin::pin!(connection);
        tokio::select! {
            biased;
            result = &mut exchange => result,
            // Its error reaches the exchange too, which knows where it stood.
            _ended = &mut connection => exchange.await,
        }
    }
}

impl Tls {
    fn new(host: &str, http: &settings::HttpProbe) -> Result<Self, BuildError> {
        let config = tls::client_config(http.ca.as_deref()).map_err(BuildError::Tls)?;
        let name = ServerName::try_from(host.to_owned())
            .map_err(|_| BuildError::Text(format!("{host:?} is no name for a certificate")))?;
        Ok(Self {
            connector: TlsConnector::from(config),
            name,
        })
    }
}

impl RequestParts {
    fn new(http: &settings::HttpProbe, uri: &Uri) -> Result<Self, String> {
        let method = Method::from_bytes(http.method.as_bytes())
            .map_err(|_| format!("{:?} is not an HTTP method", http.method))?;
        let path = uri.path_and_query().map_or("/", |path| path.as_str());
        let target: Uri = path
            .parse()
            .map_err(|_| "url has a malformed path".to_owned())?;
        let host = uri.authority().map_or("", |authority| authority.as_str());
        let host = HeaderValue::from_str(host).map_err(|_| "url has a malformed host")?;
        let mut headers = HeaderMap::new();
        headers.insert(HOST, host);
        headers.insert(CONNECTION, HeaderValue::from_static("close"));
        headers.insert(ACCEPT, HeaderValue::from_static("*/*"));
        let agent = HeaderValue::from_static(concat!("agent/", env!("CARGO_PKG_VERSION")));
        headers.insert(USER_AGENT, agent);
        let mut given = HeaderMap::new();
        for (name, value) in &http.headers {
            let key = HeaderName::from_bytes(name.as_bytes())
                .map_err(|_| format!("{name:?} is not a header name"))?;
            let mut value = HeaderValue::from_str(value)
                .map_err(|_| format!("the value of header {name:?} has forbidden characters"))?;
            value.set_sensitive(true);
            given.append(key, value);
        }
        // Replaces the defaults of the same name, keeps several of the same name among the given.
        headers.extend(given);
        Ok(Self {
            method,
            uri: target,
            headers,
            body: Bytes::from(http.body.clone().unwrap_or_default()),
        })
    }

    fn to_request(&self) -> Request<Full<Bytes>> {
        let mut request = Request::new(Full::new(self.body.clone()));
        *request.method_mut() = self.method.clone();
        *request.uri_mut() = self.uri.clone();
        *request.headers_mut() = self.headers.clone();
        request
    }
}

impl Conditions {
    fn check_status(&self, status: u16) -> Result<(), EndpointResult> {
        let accepted = |&(from, to): &(u16, u16)| (from..=to).contains(&status);
        if self.status.iter().any(accepted) {
            return Ok(());
        }
        Err(EndpointResult::WrongAnswer {
            why: format!("status {status}"),
        })
    }

    fn check_body(&self, body: &[u8]) -> Result<(), EndpointResult> {
        let Some(wanted) = self.body_contains.as_deref() else {
            return Ok(());
        };
        let found = wanted.is_empty()
            || body
                .windows(wanted.len())
                .any(|part| part == wanted.as_bytes());
        if found {
            return Ok(());
        }
        Err(EndpointResult::WrongAnswer {
            why: format!(
                "{:?} is not in the first {} bytes of the body",
                cut(wanted),
                body.len()
            ),
        })
    }

    fn check_latency(&self, took: Duration) -> Result<(), EndpointResult> {
        match self.latency_max {
            Some(latency_max) if took > latency_max => Err(EndpointResult::WrongAnswer {
                why: format!(
                    "took {} ms, more than {} ms",
                    took.as_millis(),
                    latency_max.as_millis()
                ),
            }),
            _ => Ok(()),
        }
    }
}

/// Reads the body up to [`BODY_MAX`] bytes.
async fn read_body(response: Response<Incoming>) -> Result<Vec<u8>, EndpointResult> {
    let mut incoming = response.into_body();
    let mut body = Vec::new();
    while body.len() < BODY_MAX && !incoming.is_end_stream() {
        let Some(frame) = incoming.frame().await else {
            break;
        };
        let frame = frame.map_err(|error| http_failed(&error))?;
        if let Ok(bytes) = frame.into_data() {
            let room = BODY_MAX - body.len();
            body.extend_from_slice(bytes.get(..room).unwrap_or(&bytes));
        }
    }
    Ok(body)
}

fn tls_failed(error: &std::io::Error) -> EndpointResult {
    let by_tls = error
        .get_ref()
        .is_some_and(|inner| inner.is::<rustls::Error>());
    let why = cut(&error.to_string());
    if by_tls {
        EndpointResult::Tls { why }
    } else {
        EndpointResult::Broken {
            why: format!("connection broke in the tls handshake: {why}"),
        }
    }
}

fn http_failed(error: &hyper::Error) -> EndpointResult {
    let mut why = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(source) = cause {
        why = format!("{why}: {source}");
        cause = source.source();
    }
    let why = cut(&why);
    if error.is_parse() || error.is_parse_too_large() {
        EndpointResult::WrongAnswer {
            why: format!("the answer is not HTTP: {why}"),
        }
    } else {
        EndpointResult::Broken { why }
    }
}

#[async_trait]
impl Probe for HttpProbe {
    fn target(&self) -> Target {
        Target::Endpoint(self.name.clone())
    }

    async fn look(&mut self, deadline: Moment) -> Seen {
        let began = boottime();
        let mut progress = Progress::default();
        let asked = before(deadline, self.exchange(deadline, &mut progress)).await;
        let result = match asked {
            Some(Ok(())) => match self.conditions.check_latency(boottime().since(began)) {
                Ok(()) => EndpointResult::Passed,
                Err(too_slow) => too_slow,
            },
            Some(Err(result)) => result,
            None => timed_out(progress.phase),
        };
        Seen::Endpoint(EndpointSeen {
            result,
            phases: progress.phases,
        })
    }

    fn overdue(&self) -> Seen {
        super::endpoint_overdue()
    }
}
