//! One TCP connection to a named host: resolve, then try its addresses in order, all within one
//! deadline.

use std::fmt;
use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr};

use tokio::net::TcpStream;

use super::resolve::{ResolveError, Resolver};
use crate::effects::clock::boottime;
use crate::effects::deadline::before;
use crate::model::Moment;
use crate::model::observation::{EndpointResult, Phases};

/// What a probe is waiting for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Phase {
    /// Name resolution.
    #[default]
    Resolve,
    /// TCP connect.
    Connect,
    /// TLS handshake.
    Tls,
    /// The head of the answer.
    FirstByte,
    /// The body of the answer.
    Body,
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Resolve => "resolve",
            Self::Connect => "connect",
            Self::Tls => "tls",
            Self::FirstByte => "first_byte",
            Self::Body => "body",
        })
    }
}

/// How far a probe came, and how long each phase took. It lives outside the future that makes the
/// progress, so that it survives when the deadline drops that future.
#[derive(Debug, Clone, Copy, Default)]
pub struct Progress {
    /// What is being waited for.
    pub phase: Phase,
    /// What has been measured.
    pub phases: Phases,
}

impl Progress {
    /// Enters `phase`, runs `future`, and notes how long it took.
    pub(crate) async fn measure<F: Future>(&mut self, phase: Phase, future: F) -> F::Output {
        self.phase = phase;
        let began = boottime();
        let output = future.await;
        let took = Some(boottime().since(began));
        match phase {
            Phase::Resolve => self.phases.resolve = took,
            Phase::Connect => self.phases.connect = took,
            Phase::Tls => self.phases.tls = took,
            Phase::FirstByte => self.phases.first_byte = took,
            Phase::Body => self.phases.body = took,
        }
        output
    }
}

/// Why there is no connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DialError {
    /// This host is at fault: the name, no free port or descriptor (S13).
    LocalFault(String),
    /// No way there, as far as this host knows.
    NoRoute(String),
    /// Nothing listens.
    Refused,
    /// No answer in time.
    TimedOut(Phase),
    /// The network said no.
    Broken(String),
}

impl From<DialError> for EndpointResult {
    fn from(error: DialError) -> Self {
        match error {
            DialError::LocalFault(why) | DialError::NoRoute(why) => Self::LocalFault { why },
            DialError::Refused => Self::Refused,
            DialError::TimedOut(phase) => Self::TimedOut {
                phase: phase.to_string(),
            },
            DialError::Broken(why) => Self::Broken { why },
        }
    }
}

impl From<ResolveError> for DialError {
    fn from(error: ResolveError) -> Self {
        // A name server that does not answer is this host's trouble just as one that says no.
        Self::LocalFault(error.to_string())
    }
}

/// Resolves `host` and connects to the first of its addresses that answers.
///
/// # Errors
///
/// The last address's [`DialError`]; a fault of this host (say, no IPv6 here) never hides what
/// another address said.
pub(crate) async fn dial(
    resolver: &Resolver,
    host: &str,
    port: u16,
    deadline: Moment,
    progress: &mut Progress,
) -> Result<TcpStream, DialError> {
    let addresses = progress
        .measure(Phase::Resolve, resolver.resolve(host, deadline))
        .await?;
    progress
        .measure(Phase::Connect, connect_any(&addresses, port, deadline))
        .await
}

/// Connects to the first of `addresses` that answers. A silent one gets its share of the time
/// that is left, never all of it.
pub(crate) async fn connect_any(
    addresses: &[IpAddr],
    port: u16,
    deadline: Moment,
) -> Result<TcpStream, DialError> {
    let mut verdict = DialError::LocalFault("the name has no address".to_owned());
    for (tried, address) in addresses.iter().enumerate() {
        let now = boottime();
        let addresses_left = u32::try_from(addresses.len() - tried).unwrap_or(1);
        let until = now + now.until(deadline) / addresses_left;
        let error = match connect(SocketAddr::new(*address, port), until).await {
            Ok(stream) => return Ok(stream),
            Err(error) => error,
        };
        let from_here =
            |error: &DialError| matches!(error, DialError::LocalFault(_) | DialError::NoRoute(_));
        if from_here(&verdict) || !from_here(&error) {
            verdict = error;
        }
    }
    Err(verdict)
}

async fn connect(address: SocketAddr, deadline: Moment) -> Result<TcpStream, DialError> {
    let stream = before(deadline, TcpStream::connect(address))
        .await
        .ok_or(DialError::TimedOut(Phase::Connect))?
        .map_err(|error| classify(&error, address))?;
    // Only a hint: without it the probe is at worst slower.
    stream.set_nodelay(true).ok();
    Ok(stream)
}

fn classify(error: &io::Error, address: SocketAddr) -> DialError {
    use io::ErrorKind::{
        AddrInUse, AddrNotAvailable, ConnectionRefused, NetworkDown, NetworkUnreachable,
        OutOfMemory, PermissionDenied, TimedOut,
    };
    let why = format!("cannot connect to {address}: {error}");
    let kind = error.kind();
    let ours = [AddrNotAvailable, AddrInUse, PermissionDenied, OutOfMemory];
    if kind == ConnectionRefused {
        DialError::Refused
    } else if kind == TimedOut {
        // The kernel gave up on its own, before our deadline.
        DialError::TimedOut(Phase::Connect)
    } else if [NetworkUnreachable, NetworkDown].contains(&kind) {
        DialError::NoRoute(why)
    } else if ours.contains(&kind) || out_of_descriptors(error) {
        DialError::LocalFault(why)
    } else {
        DialError::Broken(why)
    }
}

/// EMFILE, ENFILE and ENOBUFS have no stable `ErrorKind`.
fn out_of_descriptors(error: &io::Error) -> bool {
    use rustix::io::Errno;
    error
        .raw_os_error()
        .map(Errno::from_raw_os_error)
        .is_some_and(|errno| matches!(errno, Errno::MFILE | Errno::NFILE | Errno::NOBUFS))
}

/// Makes the coming close a reset, which leaves no `TIME_WAIT` behind on either host.
///
/// A fresh connection for every probe would otherwise pile them up for 60 s each; Kubernetes'
/// probes ran hosts out of ports that way. Source: tcp(7) and socket(7), `SO_LINGER`; kubernetes
/// pull 115143.
pub(crate) fn reset_on_close(stream: &TcpStream) {
    // Failing to set it only means a `TIME_WAIT` more.
    stream.set_zero_linger().ok();
}

/// `host:port` or `[v6]:port`, taken apart.
///
/// # Errors
///
/// What is wrong with it.
pub(crate) fn split_address(address: &str) -> Result<(String, u16), String> {
    let (host, port) = address
        .rsplit_once(':')
        .ok_or_else(|| format!("{address:?} is not host:port"))?;
    let port: u16 = port
        .parse()
        .map_err(|_| format!("{port:?} is not a port in {address:?}"))?;
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    let bracketed = host.starts_with('[') && host.ends_with(']');
    if bare.is_empty() || (bare.contains(':') && !bracketed) {
        return Err(format!("{address:?} is not host:port or [v6]:port"));
    }
    Ok((bare.to_owned(), port))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_taken_apart() {
        assert_eq!(split_address("db:5432"), Ok(("db".to_owned(), 5432)));
        assert_eq!(split_address("[::1]:80"), Ok(("::1".to_owned(), 80)));
        for wrong in ["db", "db:", ":80", "::1:80", "db:99999", "[]:1"] {
            assert!(split_address(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn faults_of_this_host_are_told_from_those_of_the_target() {
        use rustix::io::Errno;
        let address: SocketAddr = "192.0.2.1:80".parse().unwrap();
        let kind_of =
            |errno: Errno| classify(&io::Error::from_raw_os_error(errno.raw_os_error()), address);
        for errno in [Errno::MFILE, Errno::NOBUFS, Errno::ADDRNOTAVAIL] {
            assert!(
                matches!(kind_of(errno), DialError::LocalFault(_)),
                "{errno}"
            );
        }
        let no_route = kind_of(Errno::NETUNREACH);
        assert!(matches!(no_route, DialError::NoRoute(_)), "{no_route:?}");
        for errno in [Errno::HOSTUNREACH, Errno::CONNRESET] {
            assert!(matches!(kind_of(errno), DialError::Broken(_)), "{errno}");
        }
        assert_eq!(kind_of(Errno::CONNREFUSED), DialError::Refused);
    }
}
