//! One connection to one member: find it, connect, encrypt, exchange a request for an answer.
//!
//! A connection has no task of its own: it moves only while somebody awaits it, so dropping it
//! ends it at once, and a call that runs out of time leaves nothing behind.

use std::future::poll_fn;
use std::net::{IpAddr, SocketAddr};
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::task::Poll;
use std::time::Duration;

use axum::body::Bytes;
use hickory_resolver::TokioResolver;
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http1::{self, SendRequest};
use hyper::rt::{Read, Write};
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use rustix::net::sockopt;
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use super::tls;
use super::wire::BODY_BYTES_MAX;
use crate::effects::clock::boottime;
use crate::effects::error::EffectError;
use crate::model::Moment;

/// A dead path is noticed after idle + count × interval, also when nothing is being sent.
const KEEPALIVE_IDLE: Duration = Duration::from_secs(5);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(2);
const KEEPALIVE_COUNT: u32 = 3;
/// The same bound for bytes that were sent and are not acknowledged.
const UNACKNOWLEDGED_MS_MAX: u32 = 10_000;
/// When an address is known from before, DNS gets only this part of the time that is left: a dead
/// resolver must not cut the members' link.
const RESOLVE_SHARE: u32 = 4;

type Driver = Pin<Box<dyn Future<Output = hyper::Result<()>> + Send>>;

/// Where a member is, and how to get there.
pub(super) struct Dialer {
    host: String,
    port: u16,
    tls: Option<(TlsConnector, ServerName<'static>)>,
    resolver: OnceLock<TokioResolver>,
    /// What the name resolved to when it last did.
    known: Mutex<Vec<IpAddr>>,
}

/// Why no connection came about. Nothing was sent.
pub(super) struct DialError {
    pub(super) why: String,
    pub(super) permanent: bool,
    pub(super) hint: Option<&'static str>,
}

impl Dialer {
    pub(super) fn new(
        address: &str,
        tls: Option<Arc<rustls::ClientConfig>>,
    ) -> Result<Self, EffectError> {
        let (host, port) = split_address(address).ok_or_else(|| {
            EffectError::permanent(format!("\"{address}\" is not an address"))
                .hint("write host:port, or [ipv6]:port")
        })?;
        let tls = match tls {
            Some(config) => Some((TlsConnector::from(config), tls::server_name(&host)?)),
            None => None,
        };
        Ok(Self {
            host,
            port,
            tls,
            resolver: OnceLock::new(),
            known: Mutex::new(Vec::new()),
        })
    }

    /// Connects before `until`.
    pub(super) async fn dial(&self, until: Moment) -> Result<Link, DialError> {
        let stream = self.connect(until).await?;
        set_options(&stream);
        let Some((connector, name)) = &self.tls else {
            return Link::open(TokioIo::new(stream))
                .await
                .map_err(|error| io_dial(&error));
        };
        let handshake = connector.connect(name.clone(), stream);
        match timeout(boottime().until(until), handshake).await {
            Ok(Ok(stream)) => Link::open(TokioIo::new(stream))
                .await
                .map_err(|error| io_dial(&error)),
            Ok(Err(error)) => Err(tls_failure(&error)),
            Err(_) => Err(DialError::passing("timed out in the tls handshake")),
        }
    }

    async fn connect(&self, until: Moment) -> Result<TcpStream, DialError> {
        let addresses = self.resolve(until).await?;
        let mut failure = None;
        for (tried, ip) in addresses.iter().enumerate() {
            // Each address gets its share: one that swallows packets does not hide the next.
            let left = u32::try_from(addresses.len() - tried).unwrap_or(u32::MAX);
            let share = boottime().until(until) / left.max(1);
            match timeout(share, TcpStream::connect(SocketAddr::new(*ip, self.port))).await {
                Ok(Ok(stream)) => return Ok(stream),
                Ok(Err(error)) => failure = Some(connect_failure(*ip, &error)),
                Err(_) => {
                    let why = format!("connecting to {ip} timed out");
                    failure = Some(DialError::passing(why));
                }
            }
        }
        Err(failure.unwrap_or_else(|| DialError::passing("the name has no address")))
    }

    async fn resolve(&self, until: Moment) -> Result<Vec<IpAddr>, DialError> {
        if let Ok(ip) = self.host.parse() {
            return Ok(vec![ip]);
        }
        let known = lock(&self.known).clone();
        let mut share = boottime().until(until);
        if !known.is_empty() {
            share /= RESOLVE_SHARE;
        }
        let why = match timeout(share, self.look_up()).await {
            Ok(Ok(found)) if !found.is_empty() => {
                lock(&self.known).clone_from(&found);
                return Ok(found);
            }
            Ok(Ok(_)) => "it has no address".to_owned(),
            Ok(Err(why)) => why,
            Err(_) => "timed out".to_owned(),
        };
        if known.is_empty() {
            let why = format!("resolving \"{}\" failed: {why}", self.host);
            return Err(DialError {
                hint: Some("use an IP address, so that members find each other without DNS"),
                ..DialError::passing(why)
            });
        }
        Ok(known)
    }

    async fn look_up(&self) -> Result<Vec<IpAddr>, String> {
        let resolver = match self.resolver.get() {
            Some(resolver) => resolver,
            None => {
                let built = TokioResolver::builder_tokio()
                    .and_then(hickory_resolver::ResolverBuilder::build)
                    .map_err(|error| error.to_string())?;
                self.resolver.get_or_init(|| built)
            }
        };
        let found = resolver
            .lookup_ip(self.host.as_str())
            .await
            .map_err(|error| error.to_string())?;
        Ok(found.iter().collect())
    }
}

impl DialError {
    fn passing(why: impl Into<String>) -> Self {
        Self {
            why: why.into(),
            permanent: false,
            hint: None,
        }
    }
}

/// An open connection.
pub(super) struct Link {
    sender: SendRequest<Full<Bytes>>,
    /// Gone once the connection has ended.
    driver: Option<Driver>,
    /// True once it has carried a request: it may then be dead without our knowing.
    pub(super) used: bool,
}

/// An answer whose body was read whole.
pub(super) struct RawAnswer {
    pub(super) head: Response<()>,
    pub(super) body: Bytes,
}

/// Why an exchange failed.
pub(super) enum ExchangeError {
    /// The connection was dead before the request was taken.
    NotSent(String),
    /// The request may have arrived.
    Broken {
        why: String,
        /// TLS ended it: the request was not looked at.
        tls: Option<DialError>,
    },
}

impl Link {
    async fn open(io: impl Read + Write + Unpin + Send + 'static) -> hyper::Result<Self> {
        let (sender, connection) = http1::Builder::new()
            .max_buf_size(BODY_BYTES_MAX)
            .handshake(io)
            .await?;
        Ok(Self {
            sender,
            driver: Some(Box::pin(connection)),
            used: false,
        })
    }

    /// Whether the connection is still there and free, as far as this host can know.
    pub(super) async fn usable(&mut self) -> bool {
        let Self { sender, driver, .. } = self;
        let ready = poll_fn(|context| {
            if let Some(running) = driver
                && running.as_mut().poll(context).is_ready()
            {
                *driver = None;
            }
            Poll::Ready(sender.poll_ready(context).map(|ready| ready.is_ok()))
        })
        .await;
        matches!(ready, Poll::Ready(true)) && self.driver.is_some()
    }

    /// Sends the request and reads the whole answer. Dropped half-way, the link is of no more use.
    pub(super) async fn exchange(
        &mut self,
        request: Request<Full<Bytes>>,
    ) -> Result<RawAnswer, ExchangeError> {
        let Self {
            sender,
            driver,
            used,
        } = self;
        *used = true;
        let work = async {
            let response = match sender.try_send_request(request).await {
                Ok(response) => response,
                Err(mut error) => {
                    let taken = error.take_message().is_none();
                    return Err(exchange_failure(&error.into_error(), taken));
                }
            };
            let (parts, body) = response.into_parts();
            let body = Limited::new(body, BODY_BYTES_MAX).collect().await;
            Ok(RawAnswer {
                head: Response::from_parts(parts, ()),
                body: body
                    .map_err(|error| ExchangeError::Broken {
                        why: format!("the answer cannot be read: {error}"),
                        tls: None,
                    })?
                    .to_bytes(),
            })
        };
        drive(driver, work).await
    }
}

/// Lets the connection move while `work` waits for it.
async fn drive<T>(driver: &mut Option<Driver>, work: impl Future<Output = T>) -> T {
    let mut work = pin!(work);
    poll_fn(|context| {
        if let Poll::Ready(done) = work.as_mut().poll(context) {
            return Poll::Ready(done);
        }
        if let Some(running) = driver
            && running.as_mut().poll(context).is_ready()
        {
            *driver = None;
        }
        // The connection may just have brought what `work` waits for, or have ended.
        work.as_mut().poll(context)
    })
    .await
}

/// These make a dead path known sooner; deadlines hold without them, so a kernel that refuses one
/// is no error.
fn set_options(stream: &TcpStream) {
    let set = stream
        .set_nodelay(true)
        .and_then(|()| Ok(sockopt::set_socket_keepalive(stream, true)?))
        .and_then(|()| Ok(sockopt::set_tcp_keepidle(stream, KEEPALIVE_IDLE)?))
        .and_then(|()| Ok(sockopt::set_tcp_keepintvl(stream, KEEPALIVE_INTERVAL)?))
        .and_then(|()| Ok(sockopt::set_tcp_keepcnt(stream, KEEPALIVE_COUNT)?))
        .and_then(|()| {
            Ok(sockopt::set_tcp_user_timeout(
                stream,
                UNACKNOWLEDGED_MS_MAX,
            )?)
        });
    if let Err(error) = set {
        tracing::debug!(%error, "cannot set all options of a peer connection");
    }
}

/// `host:port` or `[ipv6]:port`.
fn split_address(address: &str) -> Option<(String, u16)> {
    let (host, port) = address.rsplit_once(':')?;
    let port = port.parse().ok().filter(|port| *port != 0)?;
    let host = match host
        .strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'))
    {
        Some(ipv6) => ipv6,
        None if host.contains(':') => return None,
        None => host,
    };
    (!host.is_empty()).then(|| (host.to_owned(), port))
}

fn connect_failure(ip: IpAddr, error: &std::io::Error) -> DialError {
    if error.kind() == std::io::ErrorKind::ConnectionRefused {
        return DialError {
            hint: Some("is the agent running there, and is the port right?"),
            ..DialError::passing("connection refused")
        };
    }
    DialError::passing(format!("connecting to {ip} failed: {error}"))
}

fn io_dial(error: &hyper::Error) -> DialError {
    DialError::passing(format!("the connection failed: {error}"))
}

fn tls_failure(error: &std::io::Error) -> DialError {
    match rustls_error(error) {
        Some(cause) => DialError {
            why: format!("tls failed: {cause}"),
            permanent: true,
            hint: Some("compare peer.tls (cert, key, ca) of both members"),
        },
        None => DialError::passing(format!(
            "the connection broke in the tls handshake: {error}"
        )),
    }
}

fn rustls_error(error: &std::io::Error) -> Option<&rustls::Error> {
    error.get_ref()?.downcast_ref()
}

fn exchange_failure(error: &hyper::Error, taken: bool) -> ExchangeError {
    // In TLS 1.3 a server that refuses our certificate says so only after our handshake is done.
    let mut source = std::error::Error::source(error);
    let mut text = error.to_string();
    while let Some(cause) = source {
        if let Some(io) = cause.downcast_ref::<std::io::Error>()
            && rustls_error(io).is_some()
        {
            let tls = Some(tls_failure(io));
            return ExchangeError::Broken { why: text, tls };
        }
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    if taken {
        ExchangeError::Broken {
            why: text,
            tls: None,
        }
    } else {
        ExchangeError::NotSent(text)
    }
}

/// The value behind a lock that no panic can leave half-changed.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_split_at_the_port() {
        let split = |text| split_address(text);
        assert_eq!(
            split("db.example:7432"),
            Some(("db.example".to_owned(), 7432))
        );
        assert_eq!(split("[::1]:7432"), Some(("::1".to_owned(), 7432)));
        for wrong in [
            "",
            "host",
            ":1",
            "host:",
            "host:0",
            "host:70000",
            "::1:80",
            "[]:1",
        ] {
            assert_eq!(split(wrong), None, "{wrong}");
        }
    }
}
