//! The `http` probe over TLS against real servers: good certificates, and every bad one.

#![expect(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    reason = "the test's own servers run beside the code under test"
)]

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use failover_agent::config::settings::{HttpProbe, ProbeKindSettings};
use failover_agent::model::observation::EndpointResult;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};

use crate::support::endpoint::{SHORT, http, look, look_http, read_head, serve_raw, timed_out};

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
