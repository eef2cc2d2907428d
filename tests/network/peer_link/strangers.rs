//! Whoever is not a member, or changes, repeats or invents what members say, gets nowhere.

use std::io::Write;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};

use failover_agent::config::secret::Secret;
use failover_agent::effects::peer::auth::{PeerKey, RequestParts, body_hash, to_hex};
use failover_agent::effects::peer::wire;
use failover_agent::model::lease::LeaseRequest;
use failover_agent::model::outcome::FailureKind;
use failover_agent::model::{ClusterName, Epoch, Member, SiteName};
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};

use super::world::{
    Receiver, SECRET, SOON, Sender, Wire, ask_lease, raw, read_lease, report, send_report, site,
    until,
};

#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        Write::write(&mut *self.0.lock().unwrap(), bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl Log {
    fn start() -> (Self, tracing::subscriber::DefaultGuard) {
        let log = Self::default();
        let writer = log.clone();
        let subscriber = tracing_subscriber::fmt()
            .with_ansi(false)
            .with_writer(move || writer.clone())
            .finish();
        (log, tracing::subscriber::set_default(subscriber))
    }

    fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }
}

#[tokio::test]
async fn wrong_secret_is_refused_counted_and_logged_once() {
    let (log, _guard) = Log::start();
    let receiver = Receiver::start().await;
    let stranger = Sender {
        secret: "wrong horse",
        ..Sender::default()
    };
    let client = stranger.client(receiver.address);
    for _ in 0..5 {
        let error = read_lease(&client).await.unwrap_err();
        assert_eq!(error.kind, FailureKind::Permanent);
        assert!(
            error.what.contains("site b at 127.0.0.1:"),
            "{}",
            error.what
        );
        assert!(error.what.contains("secrets differ"), "{}", error.what);
    }
    assert_eq!(receiver.refusals().wrong_secret, 5);
    assert_eq!(receiver.answers.leases.load(Ordering::SeqCst), 0);
    let text = log.text();
    assert_eq!(text.matches("peer request refused").count(), 1, "{text}");
    assert!(!text.contains("horse"), "a secret was logged: {text}");
    // The member with the right secret is not hurt by it.
    read_lease(&Sender::default().client(receiver.address))
        .await
        .unwrap();
}

#[tokio::test]
async fn replayed_request_is_refused() {
    let receiver = Receiver::start().await;
    let wire = Wire::to(receiver.address).await;
    let client = Sender::default().client(wire.address);
    read_lease(&client).await.unwrap();
    wire.state.lock().unwrap().sent.clear();
    read_lease(&client).await.unwrap();
    let captured = wire.state.lock().unwrap().sent.clone();
    let done = receiver.answers.leases.load(Ordering::SeqCst);
    for count in 1..=3 {
        let answer = raw(receiver.address, &captured).await;
        assert!(answer.starts_with("HTTP/1.1 401"), "{answer}");
        assert_eq!(receiver.refusals().replayed, count);
    }
    assert_eq!(receiver.answers.leases.load(Ordering::SeqCst), done);
    // After a restart the receiver does not know the challenge any more.
    let receiver = receiver.restart().await;
    let answer = raw(receiver.address, &captured).await;
    assert!(answer.starts_with("HTTP/1.1 401"), "{answer}");
    assert_eq!(receiver.refusals().unknown_challenge, 1);
    assert_eq!(receiver.answers.leases.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn tampered_body_is_refused() {
    let receiver = Receiver::start().await;
    let wire = Wire::to(receiver.address).await;
    let client = Sender::default().client(wire.address);
    read_lease(&client).await.unwrap();
    wire.state.lock().unwrap().up = Some((b"\"same\"", b"\"fame\""));
    let error = read_lease(&client).await.unwrap_err();
    assert_eq!(error.kind, FailureKind::Permanent);
    assert_eq!(receiver.refusals().tampered, 1);
    assert_eq!(receiver.answers.leases.load(Ordering::SeqCst), 1);
    // Changed in the head as well, it does not fit the seal.
    wire.state.lock().unwrap().up = Some((b"/v1/lease", b"/v1/leaze"));
    assert!(read_lease(&client).await.is_err());
    wire.state.lock().unwrap().up = Some((b"x-agent-from: site:a", b"x-agent-from: site:b"));
    assert!(read_lease(&client).await.is_err());
    assert_eq!(receiver.refusals().wrong_secret, 1);
    wire.state.lock().unwrap().up = None;
    read_lease(&client).await.unwrap();
}

#[tokio::test]
async fn changed_answer_is_not_believed() {
    let receiver = Receiver::start().await;
    let wire = Wire::to(receiver.address).await;
    let client = Sender::default().client(wire.address);
    for change in [
        (&b"\"verdict\":\"ok\""[..], &b"\"verdict\":\"no\""[..]),
        (b"HTTP/1.1 200", b"HTTP/1.1 201"),
    ] {
        read_lease(&client).await.unwrap();
        wire.state.lock().unwrap().down = Some(change);
        let error = read_lease(&client).await.unwrap_err();
        assert!(
            error.what.contains("does not carry the cluster's seal"),
            "{}",
            error.what
        );
        wire.state.lock().unwrap().down = None;
    }
}

#[tokio::test]
async fn old_answer_does_not_fit_a_new_request() {
    let receiver = Receiver::start().await;
    let wire = Wire::to(receiver.address).await;
    let client = Sender::default().client(wire.address);
    let recorded = || std::mem::take(&mut wire.state.lock().unwrap().received);
    // The first exchange: without a challenge, so that the same request of another process
    // differs from it in nothing but the sender's nonce.
    read_lease(&client).await.unwrap();
    let first = recorded();
    assert!(first.starts_with(b"HTTP/1.1 401"));
    read_lease(&client).await.unwrap();
    let granted = recorded();
    assert!(granted.starts_with(b"HTTP/1.1 200"));
    for (answer, complaint) in [(first, "secrets differ"), (granted, "the cluster's seal")] {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let impostor = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = vec![0; 4096];
            let _ = tokio::io::AsyncReadExt::read(&mut stream, &mut request).await;
            let _ = stream.write_all(&answer).await;
        });
        let error = read_lease(&Sender::default().client(address))
            .await
            .unwrap_err();
        assert!(error.what.contains(complaint), "{}", error.what);
        impostor.await.unwrap();
    }
}

#[tokio::test]
async fn nobody_speaks_for_another_member() {
    let receiver = Receiver::start().await;
    let client = Sender::default().client(receiver.address);
    let release = |holder: &str| LeaseRequest::Release {
        holder: SiteName::new(holder),
        epoch: Epoch(3),
        to: None,
        record: None,
    };
    let error = ask_lease(&client, "same", release("b")).await.unwrap_err();
    assert_eq!(error.kind, FailureKind::Permanent);
    assert!(send_report(&client, report("b"), SOON).await.is_err());
    assert_eq!(receiver.refusals().misdirected, 2);
    assert_eq!(receiver.answers.leases.load(Ordering::SeqCst), 0);
    ask_lease(&client, "same", release("a")).await.unwrap();
}

#[tokio::test]
async fn huge_bodies_are_refused_on_both_sides() {
    let receiver = Receiver::start().await;
    let client = Sender::default().client(receiver.address);
    let mut huge = report("a");
    huge.version = "x".repeat(wire::BODY_BYTES_MAX);
    let error = send_report(&client, huge, SOON).await.unwrap_err();
    assert_eq!(error.kind, FailureKind::Permanent);
    // A stranger's body is not read at all.
    let head = "POST /v1/report HTTP/1.1\r\nhost: b\r\ncontent-length: 1000000000\r\n\r\n";
    let answer = raw(receiver.address, head.as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 401"), "{answer}");
    // A member's is read up to the bound.
    let body = vec![b' '; wire::BODY_BYTES_MAX + 1];
    let first = raw(receiver.address, &sealed("", &body)).await;
    let marker = "x-agent-next-challenge: ";
    let challenge = first
        .split(marker)
        .nth(1)
        .unwrap()
        .split("\r\n")
        .next()
        .unwrap();
    let answer = raw(receiver.address, &sealed(challenge, &body)).await;
    assert!(answer.starts_with("HTTP/1.1 413"), "{answer}");
    read_lease(&client).await.unwrap();
}

/// A report of the member `a`, sealed by hand.
fn sealed(challenge: &str, body: &[u8]) -> Vec<u8> {
    let key = PeerKey::new(&Secret::new(SECRET));
    let seal = key.seal_request(&RequestParts {
        cluster: &ClusterName::new("shop"),
        from: &site("a"),
        to: &site("b"),
        method: "POST",
        path: "/v1/report",
        challenge,
        nonce: "1",
        body_hash: body_hash(body),
    });
    let head = format!(
        "POST /v1/report HTTP/1.1\r\nhost: b\r\ncontent-length: {}\r\nx-agent-cluster: shop\r\n\
         x-agent-from: site:a\r\nx-agent-to: site:b\r\nx-agent-challenge: {challenge}\r\n\
         x-agent-nonce: 1\r\nx-agent-body-sha256: {}\r\nx-agent-seal: {}\r\n\r\n",
        body.len(),
        to_hex(&body_hash(body)),
        seal.to_hex(),
    );
    [head.as_bytes(), body].concat()
}

#[tokio::test]
async fn garbage_and_slow_strangers_do_not_keep_members_out() {
    let receiver = Receiver::start().await;
    let client = Sender::default().client(receiver.address);
    read_lease(&client).await.unwrap();
    for garbage in [
        &[0xff; 2000][..],
        b"GET / HTTP/9.9\r\n\r\n",
        b"\r\n\r\n\r\n",
        b"{}",
    ] {
        raw(receiver.address, garbage).await;
    }
    // More strangers than connections are allowed, each with half a head.
    let mut strangers = Vec::new();
    for _ in 0..100 {
        let mut stream = TcpStream::connect(receiver.address).await.unwrap();
        stream
            .write_all(b"POST /v1/lease HTTP/1.1\r\nhost: ")
            .await
            .unwrap();
        strangers.push(stream);
    }
    read_lease(&client).await.unwrap();
    // The kept connection had proven itself; a new member comes through as well.
    let witness = Sender {
        own: Member::Witness,
        ..Sender::default()
    };
    let witness = witness.client(receiver.address);
    read_lease(&witness).await.unwrap();
    // And the oldest strangers are gone.
    let oldest = strangers.remove(0);
    until("the oldest stranger is cut", || {
        let mut byte = [0];
        matches!(oldest.try_read(&mut byte), Ok(0))
            || matches!(&oldest.try_read(&mut byte), Err(error)
                if error.kind() == std::io::ErrorKind::ConnectionReset)
    })
    .await;
}
