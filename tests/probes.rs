//! The endpoint probes against real servers on loopback: what they see, and in which phase.

#![expect(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "the test's own servers run beside the code under test, and its tools fail the test"
)]

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::http::{HeaderMap, StatusCode};
use axum::response::Redirect;
use axum::routing::{get, post};
use failover_agent::config::settings::{HttpProbe, Probe, ProbeKindSettings, ProbeTiming};
use failover_agent::effects::clock::boottime;
use failover_agent::effects::probes::resolve::Resolver;
use failover_agent::effects::probes::{PROBE_KINDS, build};
use failover_agent::model::ProbeName;
use failover_agent::model::observation::{EndpointResult, EndpointSeen, Seen};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// Far longer than anything here takes: only what is meant to hang meets it.
const PATIENT: Duration = Duration::from_secs(20);
/// For what is meant to hang.
const SHORT: Duration = Duration::from_millis(300);

fn timing(timeout: Duration) -> ProbeTiming {
    ProbeTiming {
        interval: Duration::from_secs(1),
        fast_interval: Duration::from_secs(1),
        timeout,
        fall: 3,
        rise: 2,
    }
}

fn probe(kind: ProbeKindSettings) -> Probe {
    Probe {
        name: ProbeName::new("probe"),
        sites: Vec::new(),
        kind,
        timing: timing(PATIENT),
    }
}

fn tcp(address: &(impl std::fmt::Display + ?Sized)) -> ProbeKindSettings {
    ProbeKindSettings::Tcp {
        address: address.to_string(),
    }
}

fn http(url: impl Into<String>) -> HttpProbe {
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
async fn look(kind: ProbeKindSettings, timeout: Duration) -> EndpointSeen {
    let mut probe = build(&probe(kind), &Resolver::from_system()).unwrap();
    let looked = tokio::time::timeout(timeout + PATIENT, probe.look(boottime() + timeout)).await;
    endpoint(looked.expect("a look ends by its deadline"))
}

fn endpoint(seen: Seen) -> EndpointSeen {
    let Seen::Endpoint(seen) = seen else {
        panic!("{seen:?}");
    };
    seen
}

async fn look_http(probe: HttpProbe) -> EndpointSeen {
    look(ProbeKindSettings::Http(Box::new(probe)), PATIENT).await
}

fn timed_out(phase: &str) -> EndpointResult {
    EndpointResult::TimedOut {
        phase: phase.to_owned(),
    }
}

/// Serves `router` on a free port of loopback until the test ends.
async fn serve(router: Router) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, router).await });
    address
}

/// Answers every connection with `answer` as soon as a request's head is there, then keeps the
/// connection open or closes it.
async fn serve_raw(answer: Vec<u8>, keep_open: bool) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
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

async fn read_head(stream: &mut (impl tokio::io::AsyncRead + Unpin)) {
    let mut head = Vec::new();
    while !head.windows(4).any(|part| part == b"\r\n\r\n") {
        match stream.read_u8().await {
            Ok(byte) => head.push(byte),
            Err(_) => return,
        }
    }
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
    let settings = probe(ProbeKindSettings::Http(Box::new(http(format!(
        "http://{address}/"
    )))));
    let mut probe = build(&settings, &Resolver::from_system()).unwrap();
    for _ in 0..3 {
        let seen = endpoint(probe.look(boottime() + PATIENT).await);
        assert_eq!(seen.result, EndpointResult::Passed);
    }
    assert_eq!(accepted.load(Ordering::SeqCst), 3);
}

struct TlsServer {
    address: SocketAddr,
    ca: PathBuf,
    _dir: tempfile::TempDir,
}

/// Serves `200 OK` over TLS with a certificate for `localhost` and 127.0.0.1 from a CA of its own.
async fn serve_tls(expired: bool) -> TlsServer {
    let authority_key = rcgen::KeyPair::generate().unwrap();
    let mut authority = rcgen::CertificateParams::new(Vec::new()).unwrap();
    authority.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let authority_certificate = authority.self_signed(&authority_key).unwrap();
    let issuer = rcgen::Issuer::new(authority, authority_key);

    let key = rcgen::KeyPair::generate().unwrap();
    let names = vec!["localhost".to_owned(), "127.0.0.1".to_owned()];
    let mut leaf = rcgen::CertificateParams::new(names).unwrap();
    if expired {
        leaf.not_before = rcgen::date_time_ymd(2020, 1, 1);
        leaf.not_after = rcgen::date_time_ymd(2021, 1, 1);
    }
    let certificate = leaf.signed_by(&key, &issuer).unwrap();

    let dir = tempfile::tempdir().unwrap();
    let ca = dir.path().join("ca.pem");
    std::fs::write(&ca, authority_certificate.pem()).unwrap();

    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(
            vec![CertificateDer::from_pem_slice(certificate.pem().as_bytes()).unwrap()],
            PrivateKeyDer::from_pem_slice(key.serialize_pem().as_bytes()).unwrap(),
        )
        .unwrap();
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                let Ok(mut stream) = acceptor.accept(stream).await else {
                    return;
                };
                read_head(&mut stream).await;
                let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
                stream.write_all(answer).await.ok();
                stream.shutdown().await.ok();
            });
        }
    });
    TlsServer {
        address,
        ca,
        _dir: dir,
    }
}

#[tokio::test]
async fn tls_endpoint_with_a_good_certificate_passes_every_time() {
    let server = serve_tls(false).await;
    for host in ["127.0.0.1", "localhost"] {
        let url = format!("https://{host}:{}/", server.address.port());
        let seen = look_http(HttpProbe {
            ca: Some(server.ca.clone()),
            ..http(url)
        })
        .await;
        assert_eq!(seen.result, EndpointResult::Passed, "{host}");
        assert!(seen.phases.tls.is_some());
    }
}

#[tokio::test]
async fn bad_certificates_are_tls_failures() {
    let good = serve_tls(false).await;
    let other = serve_tls(false).await;
    let expired = serve_tls(true).await;
    let cases = [
        ("expired", &expired, &expired.ca, "127.0.0.1"),
        ("unknown authority", &good, &other.ca, "127.0.0.1"),
        ("wrong name", &good, &good.ca, "127.0.0.2"),
    ];
    for (case, server, ca, host) in cases {
        let port = server.address.port();
        let address = if host == "127.0.0.2" {
            // Same server, reached under an address that its certificate does not name.
            forward_from(host, server.address).await
        } else {
            SocketAddr::new(host.parse().unwrap(), port)
        };
        let seen = look_http(HttpProbe {
            ca: Some(ca.clone()),
            ..http(format!("https://{address}/"))
        })
        .await;
        assert!(
            matches!(seen.result, EndpointResult::Tls { .. }),
            "{case}: {seen:?}"
        );
    }
}

/// Listens on `host` and passes every connection on to `to`.
async fn forward_from(host: &str, to: SocketAddr) -> SocketAddr {
    let listener = TcpListener::bind((host, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut onward = TcpStream::connect(to).await.unwrap();
                tokio::io::copy_bidirectional(&mut stream, &mut onward)
                    .await
                    .ok();
            });
        }
    });
    address
}

#[tokio::test]
async fn plain_server_is_no_tls_server() {
    let address = serve_raw(b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec(), false).await;
    let plain = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let silent = plain.local_addr().unwrap();
    let server = serve_tls(false).await;
    let with_ca = |url: String| HttpProbe {
        ca: Some(server.ca.clone()),
        ..http(url)
    };
    let seen = look(
        ProbeKindSettings::Http(Box::new(with_ca(format!("https://{silent}/")))),
        SHORT,
    )
    .await;
    assert_eq!(seen.result, timed_out("tls"));
    // This one waits for the end of a head that a TLS greeting does not contain.
    let seen = look(
        ProbeKindSettings::Http(Box::new(with_ca(format!("https://{address}/")))),
        SHORT,
    )
    .await;
    assert_eq!(seen.result, timed_out("tls"));
}

#[test]
fn settings_that_cannot_work_are_refused_without_repeating_credentials() {
    let resolver = Resolver::from_system();
    let mut secret_header = http("http://127.0.0.1/");
    secret_header.headers = vec![("X-Key".to_owned(), "s3cret\n".to_owned())];
    let mut no_authorities = http("https://127.0.0.1/");
    no_authorities.ca = Some("/nonexistent/ca.pem".into());
    let settings = [
        tcp("no-port"),
        ProbeKindSettings::Http(Box::new(http("ftp://127.0.0.1/"))),
        ProbeKindSettings::Http(Box::new(http("/only/a/path"))),
        ProbeKindSettings::Http(Box::new(http("http://user:s3cret@127.0.0.1/"))),
        ProbeKindSettings::Http(Box::new(secret_header)),
        ProbeKindSettings::Http(Box::new(no_authorities)),
    ];
    for kind in settings {
        let Err(error) = build(&probe(kind), &resolver) else {
            panic!("these settings cannot work");
        };
        let text = format!("{error} {error:?}");
        assert!(!text.contains("s3cret"), "{text}");
    }
}

#[test]
fn every_probe_kind_keeps_its_contract() {
    let resolver = Resolver::from_system();
    let settings = [
        (
            "http",
            ProbeKindSettings::Http(Box::new(http("http://127.0.0.1/"))),
        ),
        ("tcp", tcp("127.0.0.1:1")),
    ];
    assert_eq!(settings.len(), PROBE_KINDS.len(), "settings for every kind");
    for kind in PROBE_KINDS {
        assert!(!kind.summary.is_empty() && !kind.summary.ends_with('.'));
        let example: toml::Table = kind.example.parse().unwrap();
        let sections = example["probe"].as_array().unwrap();
        assert_eq!(sections.len(), 1, "{}", kind.name);
        let section = sections[0].as_table().unwrap();
        assert_eq!(section["kind"].as_str(), Some(kind.name));
        assert!(
            section["name"]
                .as_str()
                .is_some_and(|name| !name.is_empty())
        );

        // Builds from its own settings and from nobody else's.
        for (name, settings) in &settings {
            let built = (kind.build)(&probe(settings.clone()), &resolver);
            assert_eq!(built.is_some(), *name == kind.name, "{name}");
            assert!(built.is_none_or(|built| built.is_ok()));
        }
    }
    let mut names: Vec<_> = PROBE_KINDS.iter().map(|kind| kind.name).collect();
    names.dedup();
    assert_eq!(names.len(), PROBE_KINDS.len());
}
