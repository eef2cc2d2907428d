//! The endpoint probes against real servers on loopback: what they see, and in which phase.

#![expect(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    reason = "the test's own servers run beside the code under test, and its tools fail the test"
)]

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::http::{HeaderMap, StatusCode};
use axum::response::Redirect;
use axum::routing::{get, post};
use failover_agent::config::settings::{HttpProbe, ProbeKindSettings};
use failover_agent::effects::clock::boottime;
use failover_agent::effects::probes::build;
use failover_agent::effects::probes::resolve::Resolver;
use failover_agent::model::observation::EndpointResult;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::support::endpoint::{
    PATIENT, SHORT, endpoint, http, look, look_http, probe, read_head, serve_raw, tcp, timed_out,
};

/// Serves `router` on a free port of loopback until the test ends.
async fn serve(router: Router) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, router).await });
    address
}

/// An address on which nothing listens: bound, so that nobody else gets it, but not listening.
fn closed_port() -> (SocketAddr, std::net::TcpListener) {
    let other = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = other.local_addr().unwrap().port();
    // 127.0.0.2 with this port: `other` listens on 127.0.0.1 only.
    (SocketAddr::from(([127, 0, 0, 2], port)), other)
}

#[tokio::test]
async fn open_port_passes_and_its_phases_are_measured() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let seen = look(tcp(&listener.local_addr().unwrap()), PATIENT).await;
    assert_eq!(seen.result, EndpointResult::Passed);
    assert!(seen.phases.resolve.is_some() && seen.phases.connect.is_some());
    assert_eq!((seen.phases.tls, seen.phases.first_byte), (None, None));
    // The close was a reset, so no TIME_WAIT is left on either side.
    let (mut accepted, _) = listener.accept().await.unwrap();
    let error = accepted.read_u8().await.unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
}

#[tokio::test]
async fn port_without_listener_is_refused() {
    let (address, _held) = closed_port();
    assert_eq!(
        look(tcp(&address), PATIENT).await.result,
        EndpointResult::Refused
    );
    let seen = look_http(http(format!("http://{address}/"))).await;
    assert_eq!(seen.result, EndpointResult::Refused);
}

#[tokio::test]
async fn ipv6_literal_is_probed() {
    let Ok(listener) = TcpListener::bind("[::1]:0").await else {
        println!("SKIPPED ipv6_literal_is_probed: this host has no IPv6 loopback");
        return;
    };
    let address = listener.local_addr().unwrap();
    let router = Router::new().route("/", get(async || "six"));
    tokio::spawn(async move { axum::serve(listener, router).await });
    assert_eq!(
        look(tcp(&address), PATIENT).await.result,
        EndpointResult::Passed
    );
    let seen = look_http(http(format!("http://{address}/"))).await;
    assert_eq!(seen.result, EndpointResult::Passed);
}

#[tokio::test]
async fn silent_address_times_out_in_connect() {
    // A listener whose queue is full drops every further SYN, as a dead host does.
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let listener = socket.listen(1).unwrap();
    let address = listener.local_addr().unwrap();
    let mut held = Vec::new();
    while let Ok(Ok(stream)) =
        tokio::time::timeout(Duration::from_millis(200), TcpStream::connect(address)).await
    {
        held.push(stream);
        assert!(held.len() < 1000, "the queue never fills up");
    }
    assert_eq!(
        look(tcp(&address), SHORT).await.result,
        timed_out("connect")
    );
}

#[tokio::test]
async fn name_that_does_not_resolve_accuses_nobody() {
    for kind in [
        tcp("no-such-host.invalid:80"),
        ProbeKindSettings::Http(Box::new(http("http://no-such-host.invalid/"))),
    ] {
        let seen = look(kind, Duration::from_secs(2)).await;
        assert!(
            matches!(seen.result, EndpointResult::LocalFault { .. }),
            "{seen:?}"
        );
    }
}

#[tokio::test]
async fn network_that_this_host_cannot_reach_accuses_nobody() {
    // Multicast and broadcast have no TCP: the kernel says ENETUNREACH without sending anything.
    let seen = look(tcp("255.255.255.255:80"), PATIENT).await;
    assert!(
        matches!(seen.result, EndpointResult::LocalFault { .. }),
        "{seen:?}"
    );
}

#[tokio::test]
async fn healthy_endpoint_passes_with_every_phase_measured() {
    let address = serve(Router::new().route("/health", get(async || "all is ok"))).await;
    let seen = look_http(HttpProbe {
        body_contains: Some("is ok".to_owned()),
        latency_max: Some(PATIENT),
        ..http(format!("http://{address}/health"))
    })
    .await;
    assert_eq!(seen.result, EndpointResult::Passed);
    let phases = seen.phases;
    assert!(phases.resolve.is_some() && phases.connect.is_some());
    assert!(phases.first_byte.is_some() && phases.body.is_some());
    assert_eq!(phases.tls, None);
}

#[tokio::test]
async fn wrong_status_breaks_the_condition_and_accepted_ranges_do_not() {
    let router = Router::new().route("/", get(async || StatusCode::SERVICE_UNAVAILABLE));
    let url = format!("http://{}/", serve(router).await);
    let seen = look_http(http(&url)).await;
    assert_eq!(
        seen.result,
        EndpointResult::WrongAnswer {
            why: "status 503".to_owned()
        }
    );
    let seen = look_http(HttpProbe {
        status: vec![(200, 204), (500, 503)],
        ..http(&url)
    })
    .await;
    assert_eq!(seen.result, EndpointResult::Passed);
}

#[tokio::test]
async fn redirect_is_an_answer_and_is_not_followed() {
    let followed = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&followed);
    let router = Router::new()
        .route("/", get(async || Redirect::temporary("/elsewhere")))
        .route(
            "/elsewhere",
            get(async move || {
                counter.fetch_add(1, Ordering::SeqCst);
            }),
        );
    let url = format!("http://{}/", serve(router).await);
    let seen = look_http(http(&url)).await;
    assert!(matches!(seen.result, EndpointResult::WrongAnswer { .. }));
    let seen = look_http(HttpProbe {
        status: vec![(307, 307)],
        ..http(&url)
    })
    .await;
    assert_eq!(seen.result, EndpointResult::Passed);
    assert_eq!(followed.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn missing_text_breaks_the_condition() {
    let url = format!(
        "http://{}/",
        serve(Router::new().route("/", get(async || "degraded"))).await
    );
    let seen = look_http(HttpProbe {
        body_contains: Some("healthy".to_owned()),
        ..http(&url)
    })
    .await;
    assert!(
        matches!(seen.result, EndpointResult::WrongAnswer { .. }),
        "{seen:?}"
    );
}

#[tokio::test]
async fn huge_body_is_read_to_the_bound_only() {
    let sent = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&sent);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let server = tokio::spawn(async move {
        for _ in 0..2 {
            let (mut stream, _) = listener.accept().await.unwrap();
            read_head(&mut stream).await;
            stream
                .write_all(b"HTTP/1.1 200 OK\r\n\r\nneedle")
                .await
                .unwrap();
            // Endless: only the probe can end it.
            while stream.write_all(&[b'x'; 8192]).await.is_ok() {
                counter.fetch_add(8192, Ordering::SeqCst);
            }
        }
    });
    let url = format!("http://{address}/");
    for (needle, found) in [("needle", true), ("not there", false)] {
        let seen = look_http(HttpProbe {
            body_contains: Some(needle.to_owned()),
            ..http(&url)
        })
        .await;
        let passed = seen.result == EndpointResult::Passed;
        assert_eq!(passed, found, "{seen:?}");
    }
    server.await.unwrap();
    println!("server pushed {} bytes", sent.load(Ordering::SeqCst));
}

#[tokio::test]
async fn endpoint_that_accepts_and_says_nothing_times_out_in_first_byte() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    let seen = look(ProbeKindSettings::Http(Box::new(http(url))), SHORT).await;
    assert_eq!(seen.result, timed_out("first_byte"));
    assert!(seen.phases.connect.is_some());
    assert_eq!(seen.phases.first_byte, None);
}

#[tokio::test]
async fn body_that_drips_times_out_in_body() {
    let address = serve_raw(
        b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nstart".to_vec(),
        true,
    )
    .await;
    let seen = look(
        ProbeKindSettings::Http(Box::new(http(format!("http://{address}/")))),
        SHORT,
    )
    .await;
    assert_eq!(seen.result, timed_out("body"));
    assert!(seen.phases.first_byte.is_some());
}

#[tokio::test]
async fn body_cut_short_is_a_broken_connection() {
    let address = serve_raw(
        b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nstart".to_vec(),
        false,
    )
    .await;
    let seen = look_http(http(format!("http://{address}/"))).await;
    assert!(
        matches!(seen.result, EndpointResult::Broken { .. }),
        "{seen:?}"
    );
}

#[tokio::test]
async fn answer_that_is_not_http_is_a_wrong_answer() {
    let address = serve_raw(b"SSH-2.0-OpenSSH_9.2\r\n\r\n".to_vec(), false).await;
    let seen = look_http(http(format!("http://{address}/"))).await;
    assert!(
        matches!(seen.result, EndpointResult::WrongAnswer { .. }),
        "{seen:?}"
    );
}

#[tokio::test]
async fn endless_head_is_refused_within_its_bound() {
    let mut answer = b"HTTP/1.1 200 OK\r\nX-Long: ".to_vec();
    answer.resize(1024 * 1024, b'a');
    let address = serve_raw(answer, true).await;
    let seen = look_http(http(format!("http://{address}/"))).await;
    assert!(
        matches!(seen.result, EndpointResult::WrongAnswer { .. }),
        "{seen:?}"
    );
}

#[tokio::test]
async fn slow_answer_breaks_the_latency_condition() {
    let router = Router::new().route(
        "/",
        get(async || {
            // bounded: once, in the server: three times what the probe below allows
            tokio::time::sleep(Duration::from_millis(60)).await;
            "late"
        }),
    );
    let seen = look_http(HttpProbe {
        latency_max: Some(Duration::from_millis(20)),
        ..http(format!("http://{}/", serve(router).await))
    })
    .await;
    assert!(
        matches!(seen.result, EndpointResult::WrongAnswer { .. }),
        "{seen:?}"
    );
    assert!(seen.phases.first_byte.unwrap() >= Duration::from_millis(50));
}

#[tokio::test]
async fn request_carries_method_headers_and_body() {
    let router = Router::new().route(
        "/check",
        post(async |headers: HeaderMap, body: Bytes| {
            let header = |name: &str| headers.get(name).map(|value| value.as_bytes().to_vec());
            let right = header("authorization") == Some(b"Bearer letmein".to_vec())
                && header("host") == Some(b"shop.example.com".to_vec())
                && header("user-agent").is_some_and(|value| value.starts_with(b"agent/"))
                && header("connection") == Some(b"close".to_vec())
                && body == "ping";
            if right {
                StatusCode::OK
            } else {
                StatusCode::BAD_REQUEST
            }
        }),
    );
    let mut settings = http(format!("http://{}/check?deep=1", serve(router).await));
    settings.method = "POST".to_owned();
    settings.body = Some("ping".to_owned());
    settings.headers = vec![
        ("Authorization".to_owned(), "Bearer letmein".to_owned()),
        ("Host".to_owned(), "shop.example.com".to_owned()),
    ];
    assert_eq!(look_http(settings).await.result, EndpointResult::Passed);
}

#[tokio::test]
async fn every_look_opens_a_connection_of_its_own() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let accepted = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&accepted);
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            counter.fetch_add(1, Ordering::SeqCst);
            tokio::spawn(async move {
                read_head(&mut stream).await;
                let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
                stream.write_all(answer).await.ok();
                stream.read_u8().await.ok();
            });
        }
    });
    let url = format!("http://{address}/");
    let settings = probe(ProbeKindSettings::Http(Box::new(http(url))));
    let mut probe = build(&settings, &Resolver::from_system()).unwrap();
    for _ in 0..3 {
        let seen = endpoint(probe.look(boottime() + PATIENT).await);
        assert_eq!(seen.result, EndpointResult::Passed);
    }
    assert_eq!(accepted.load(Ordering::SeqCst), 3);
}
