//! The link under TLS: who is refused, by whom, and with which words.

use std::net::SocketAddr;

use failover_agent::effects::peer::tls;
use failover_agent::model::lease::Verdict;
use failover_agent::model::outcome::FailureKind;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::world::{Authority, Receiver, Sender, read_lease};

fn sender(files: failover_agent::config::settings::PeerTls) -> Sender {
    Sender {
        tls: Some(files),
        ..Sender::default()
    }
}

async fn receiver(authority: &Authority) -> Receiver {
    Receiver::start_at("127.0.0.1:0", Some(&authority.member("127.0.0.1"))).await
}

async fn refused(sender: &Sender, address: SocketAddr) -> String {
    let error = read_lease(&sender.client(address)).await.unwrap_err();
    assert_eq!(error.kind, FailureKind::Permanent, "{}", error.what);
    error.what
}

#[tokio::test]
async fn members_of_one_authority_understand_each_other() {
    let authority = Authority::new();
    let receiver = receiver(&authority).await;
    let client = sender(authority.member("127.0.0.1")).client(receiver.address);
    for _ in 0..3 {
        assert_eq!(read_lease(&client).await.unwrap().verdict, Verdict::Ok);
    }
}

#[tokio::test]
async fn foreign_authority_is_refused_by_either_side() {
    let (ours, foreign) = (Authority::new(), Authority::new());
    let receiver = receiver(&ours).await;
    // The sender does not trust the receiver.
    let what = refused(&sender(foreign.member("127.0.0.1")), receiver.address).await;
    assert!(what.contains("tls failed"), "{what}");
    // The receiver does not trust the sender, although the sender would trust it.
    let mut files = foreign.member("127.0.0.1");
    files.ca = ours.ca();
    for _ in 0..10 {
        let what = refused(&sender(files.clone()), receiver.address).await;
        assert!(what.contains("tls failed"), "{what}");
    }
    assert_eq!(receiver.refusals().tls, 11);
    assert_eq!(receiver.refusals().unsealed, 0);
}

#[tokio::test]
async fn certificate_for_another_host_is_refused() {
    let authority = Authority::new();
    let elsewhere = authority.member("10.9.9.9");
    let receiver = Receiver::start_at("127.0.0.1:0", Some(&elsewhere)).await;
    let what = refused(&sender(authority.member("127.0.0.1")), receiver.address).await;
    assert!(what.contains("tls failed"), "{what}");
}

#[tokio::test]
async fn caller_without_a_certificate_is_refused() {
    let authority = Authority::new();
    let receiver = receiver(&authority).await;
    let files = authority.member("127.0.0.1");
    let mut config = (*tls::client_config(&files).unwrap()).clone();
    config.client_auth_cert_resolver = std::sync::Arc::new(NoCertificate);
    let stream = TcpStream::connect(receiver.address).await.unwrap();
    let connector = tokio_rustls::TlsConnector::from(std::sync::Arc::new(config));
    let name = tls::server_name("127.0.0.1").unwrap();
    // In TLS 1.3 the caller learns of it with its first read.
    let answer = async {
        let mut stream = connector.connect(name, stream).await?;
        stream.write_all(b"GET /v1/health HTTP/1.0\r\n\r\n").await?;
        let mut text = String::new();
        stream.read_to_string(&mut text).await?;
        Ok::<_, std::io::Error>(text)
    };
    let error = answer.await.unwrap_err();
    assert!(error.to_string().contains("CertificateRequired"), "{error}");
    assert_eq!(receiver.refusals().tls, 1);
}

#[derive(Debug)]
struct NoCertificate;

impl rustls::client::ResolvesClientCert for NoCertificate {
    fn resolve(
        &self,
        _hints: &[&[u8]],
        _schemes: &[rustls::SignatureScheme],
    ) -> Option<std::sync::Arc<rustls::sign::CertifiedKey>> {
        None
    }

    fn has_certs(&self) -> bool {
        false
    }
}

#[tokio::test]
async fn plain_and_encrypted_sides_say_what_is_wrong() {
    let authority = Authority::new();
    let encrypted = receiver(&authority).await;
    let error = read_lease(&Sender::default().client(encrypted.address))
        .await
        .unwrap_err();
    assert!(
        error.what.contains("the connection broke"),
        "{}",
        error.what
    );
    let plain = Receiver::start().await;
    let what = refused(&sender(authority.member("127.0.0.1")), plain.address).await;
    assert!(what.contains("tls failed"), "{what}");
}

#[test]
fn unreadable_files_are_named() {
    let authority = Authority::new();
    let good = authority.member("127.0.0.1");
    for (field, path) in [("cert", &good.cert), ("key", &good.key), ("ca", &good.ca)] {
        let kept = std::fs::read(path).unwrap();
        std::fs::write(path, "nothing").unwrap();
        for error in [
            tls::server_config(&good).map(drop).unwrap_err(),
            tls::client_config(&good).map(drop).unwrap_err(),
        ] {
            assert!(
                error.what.contains(&path.display().to_string()),
                "{field}: {}",
                error.what
            );
        }
        std::fs::write(path, kept).unwrap();
    }
    let other = authority.member("10.9.9.9");
    let mixed = failover_agent::config::settings::PeerTls {
        key: other.key,
        ..good
    };
    assert!(
        tls::server_config(&mixed).is_err(),
        "a key of another certificate"
    );
}
