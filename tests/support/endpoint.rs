//! Endpoint probes for tests: settings, one bounded look, and raw servers to look at.

use std::net::SocketAddr;
use std::time::Duration;

use failover_agent::config::settings::{HttpProbe, Probe, ProbeKindSettings, ProbeTiming};
use failover_agent::effects::clock::boottime;
use failover_agent::effects::probes::build;
use failover_agent::effects::probes::resolve::Resolver;
use failover_agent::model::ProbeName;
use failover_agent::model::observation::{EndpointResult, EndpointSeen, Seen};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

/// Far longer than anything here takes: only what is meant to hang meets it.
pub const PATIENT: Duration = Duration::from_secs(20);
/// For what is meant to hang.
pub const SHORT: Duration = Duration::from_millis(300);

pub fn timing(timeout: Duration) -> ProbeTiming {
    ProbeTiming {
        interval: Duration::from_secs(1),
        fast_interval: Duration::from_secs(1),
        timeout,
        fall: 3,
        rise: 2,
    }
}

pub fn probe(kind: ProbeKindSettings) -> Probe {
    Probe {
        name: ProbeName::new("probe"),
        sites: Vec::new(),
        kind,
        timing: timing(PATIENT),
    }
}

pub fn tcp(address: &(impl std::fmt::Display + ?Sized)) -> ProbeKindSettings {
    ProbeKindSettings::Tcp {
        address: address.to_string(),
    }
}

pub fn http(url: impl Into<String>) -> HttpProbe {
    HttpProbe {
        url: url.into(),
        method: "GET".to_owned(),
        headers: Vec::new(),
        body: None,
        status: vec![(200, 299)],
        body_contains: None,
        latency_max: None,
        ca: None,
    }
}

/// Builds the probe, looks once, and checks that the look kept its deadline.
pub async fn look(kind: ProbeKindSettings, timeout: Duration) -> EndpointSeen {
    let mut probe =
        build(&probe(kind), &Resolver::from_system()).expect("loopback and settings work");
    let looked = tokio::time::timeout(timeout + PATIENT, probe.look(boottime() + timeout)).await;
    endpoint(looked.expect("a look ends by its deadline"))
}

pub fn endpoint(seen: Seen) -> EndpointSeen {
    let Seen::Endpoint(seen) = seen else {
        panic!("{seen:?}");
    };
    seen
}

pub async fn look_http(probe: HttpProbe) -> EndpointSeen {
    look(ProbeKindSettings::Http(Box::new(probe)), PATIENT).await
}

pub fn timed_out(phase: &str) -> EndpointResult {
    EndpointResult::TimedOut {
        phase: phase.to_owned(),
    }
}

/// Answers every connection with `answer` as soon as a request's head is there, then keeps the
/// connection open or closes it.
pub async fn serve_raw(answer: Vec<u8>, keep_open: bool) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0")
        .await
        .expect("loopback and settings work");
    let address = listener.local_addr().expect("loopback and settings work");
    tokio::spawn(async move {
        let mut kept = Vec::new();
        while let Ok((mut stream, _)) = listener.accept().await {
            read_head(&mut stream).await;
            stream.write_all(&answer).await.ok();
            if keep_open {
                kept.push(stream);
            }
        }
    });
    address
}

pub async fn read_head(stream: &mut (impl tokio::io::AsyncRead + Unpin)) {
    let mut head = Vec::new();
    while !head.windows(4).any(|part| part == b"\r\n\r\n") {
        match stream.read_u8().await {
            Ok(byte) => head.push(byte),
            Err(_) => return,
        }
    }
}
