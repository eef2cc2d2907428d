//! The operator's socket over a real file system: who gets in, what is replaced, what is said.

#![expect(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    reason = "test code: a failure is the answer"
)]

use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use axum::http::StatusCode;
use axum::response::Response;
use axum::routing::{get, post};
use axum::{Extension, Json, Router};
use failover_agent::runtime::http_server::{Caller, Visitor};
use failover_agent::surfaces::api::json_lines::json_lines;
use failover_agent::surfaces::api::local::{LocalSocket, LocalSocketError};
use failover_agent::surfaces::cli::socket::{OperatorSocket, SocketError};
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

const SOON: Duration = Duration::from_secs(5);

/// Streams what was asked and two lines more; then ends, or for "stay" never does.
async fn stream(Json(asked): Json<Value>) -> Response {
    let (sender, receiver) = mpsc::channel(1);
    tokio::spawn(async move {
        for line in [json!({"asked": asked}), json!({"step": 1}), json!("a\nb")] {
            if sender.send(line).await.is_err() {
                return;
            }
        }
        if asked == json!("stay") {
            sender.closed().await;
        }
    });
    json_lines(receiver)
}

fn router() -> Router {
    let whoami = |Extension(visitor): Extension<Visitor>| async move {
        match visitor.caller {
            Caller::Process { uid, pid } => Json(json!({"uid": uid, "pid": pid})),
            Caller::Address(address) => Json(json!(address)),
        }
    };
    let refused = || async { (StatusCode::CONFLICT, "a plan runs already\n") };
    Router::new()
        .route("/whoami", get(whoami))
        .route("/refused", get(refused))
        .route("/text", get(|| async { "not json" }))
        .route("/hangs", get(std::future::pending::<()>))
        .route("/stream", post(stream))
}

struct Agent {
    stop: CancellationToken,
    served: tokio::task::JoinHandle<()>,
}

impl Agent {
    fn start(path: &Path) -> Self {
        let socket = LocalSocket::bind(path).unwrap();
        let stop = CancellationToken::new();
        Self {
            served: tokio::spawn(socket.serve(router(), stop.clone())),
            stop,
        }
    }

    async fn stop(self) {
        self.stop.cancel();
        tokio::time::timeout(SOON, self.served)
            .await
            .unwrap()
            .unwrap();
    }
}

#[tokio::test]
async fn operator_asks_and_the_agent_knows_who() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("made/for/it/agent.sock");
    let agent = Agent::start(&path);
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o7777;
    assert_eq!(mode(&path), 0o660);
    assert_eq!(mode(path.parent().unwrap()), 0o755);
    let socket = OperatorSocket::new(&path, SOON);
    let who: Value = socket.get_json("/whoami").await.unwrap();
    let uid = rustix::process::getuid().as_raw();
    assert_eq!(who, json!({"uid": uid, "pid": std::process::id()}));
    agent.stop().await;
    assert!(!path.exists(), "the socket goes with its agent");
}

#[tokio::test]
async fn stream_brings_its_lines_one_by_one_until_its_end() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("agent.sock");
    let agent = Agent::start(&path);
    let socket = OperatorSocket::new(&path, SOON);
    let mut lines = socket.post_stream("/stream", &json!("x")).await.unwrap();
    let mut seen: Vec<Value> = Vec::new();
    while let Some(line) = lines.next().await.unwrap() {
        seen.push(line);
    }
    assert_eq!(
        seen,
        [json!({"asked": "x"}), json!({"step": 1}), json!("a\nb")]
    );
    // Lines come while the answer still grows, and an agent that stops is no proper end.
    let mut lines = socket
        .post_stream::<_, Value>("/stream", &json!("stay"))
        .await
        .unwrap();
    for _ in 0..3 {
        let line = tokio::time::timeout(SOON, lines.next()).await.unwrap();
        assert!(line.unwrap().is_some());
    }
    agent.stop().await;
    let broken = tokio::time::timeout(SOON, lines.next()).await.unwrap();
    assert!(
        matches!(broken, Err(SocketError::Broken { .. })),
        "{broken:?}"
    );
}

#[tokio::test]
async fn every_failure_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("agent.sock");
    let socket = OperatorSocket::new(&path, SOON);
    let missing = socket.get_json::<Value>("/whoami").await.unwrap_err();
    assert!(
        matches!(missing, SocketError::Missing { .. }),
        "{missing:?}"
    );
    drop(UnixListener::bind(&path).unwrap());
    let dead = socket.get_json::<Value>("/whoami").await.unwrap_err();
    assert!(
        matches!(dead, SocketError::NobodyListens { .. }),
        "{dead:?}"
    );
    // A dead agent's socket is replaced.
    let agent = Agent::start(&path);
    let refused = socket.get_json::<Value>("/refused").await.unwrap_err();
    let (status, text) = match &refused {
        SocketError::Refused { status, text } => (*status, text.as_str()),
        SocketError::Missing { .. }
        | SocketError::NobodyListens { .. }
        | SocketError::Denied { .. }
        | SocketError::TimedOut { .. }
        | SocketError::NotUnderstood { .. }
        | SocketError::Broken { .. } => panic!("{refused:?}"),
    };
    assert_eq!(
        (status, text),
        (StatusCode::CONFLICT, "a plan runs already")
    );
    let missing = socket
        .post_stream::<_, Value>("/nowhere", &json!(1))
        .await
        .unwrap_err();
    assert!(matches!(
        missing,
        SocketError::Refused {
            status: StatusCode::NOT_FOUND,
            ..
        }
    ));
    let text = socket.get_json::<Value>("/text").await.unwrap_err();
    assert!(
        matches!(text, SocketError::NotUnderstood { .. }),
        "{text:?}"
    );
    let impatient = OperatorSocket::new(&path, Duration::from_millis(100));
    let hangs = impatient.get_json::<Value>("/hangs").await.unwrap_err();
    assert!(matches!(hangs, SocketError::TimedOut { .. }), "{hangs:?}");
    agent.stop().await;
}

#[tokio::test]
async fn living_agent_and_foreign_files_are_not_replaced() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("agent.sock");
    let agent = Agent::start(&path);
    let second = LocalSocket::bind(&path).unwrap_err();
    assert!(
        matches!(second, LocalSocketError::InUse { .. }),
        "{second:?}"
    );
    let socket = OperatorSocket::new(&path, SOON);
    socket.get_json::<Value>("/whoami").await.unwrap();
    agent.stop().await;
    std::fs::write(&path, "precious").unwrap();
    let foreign = LocalSocket::bind(&path).unwrap_err();
    assert!(
        matches!(foreign, LocalSocketError::NotASocket { .. }),
        "{foreign:?}"
    );
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "precious");
}

#[tokio::test]
async fn stopping_agent_leaves_the_socket_of_its_successor() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("agent.sock");
    let agent = Agent::start(&path);
    std::fs::remove_file(&path).unwrap();
    let successor = Agent::start(&path);
    agent.stop().await;
    let socket = OperatorSocket::new(&path, SOON);
    socket.get_json::<Value>("/whoami").await.unwrap();
    successor.stop().await;
}

/// What the next test runs as another user; by itself it asks where nobody is.
#[test]
fn socket_that_cannot_be_opened_is_named() {
    let path = std::env::var("TEST_OPERATOR_SOCKET");
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let ask = |path: &str| {
        let socket = OperatorSocket::new(Path::new(path), SOON);
        runtime
            .block_on(socket.get_json::<Value>("/whoami"))
            .unwrap_err()
    };
    match path {
        Ok(path) => assert!(matches!(ask(&path), SocketError::Denied { .. })),
        Err(_) => assert!(matches!(
            ask("/nowhere/agent.sock"),
            SocketError::Missing { .. }
        )),
    }
}

#[tokio::test]
async fn stranger_on_the_host_is_denied() {
    if !rustix::process::getuid().is_root() {
        eprintln!("SKIPPED: to become another user needs root");
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    let path = dir.path().join("agent.sock");
    let agent = Agent::start(&path);
    // The test program may lie where the other user cannot go.
    let program = dir.path().join("test");
    std::fs::copy(std::env::current_exe().unwrap(), &program).unwrap();
    let run = tokio::task::spawn_blocking(move || {
        Command::new(program)
            .args([
                "--exact",
                "local_socket::socket_that_cannot_be_opened_is_named",
            ])
            .env("TEST_OPERATOR_SOCKET", path)
            .current_dir("/")
            .uid(65534)
            .gid(65534)
            .output()
    });
    let output = tokio::time::timeout(SOON, run)
        .await
        .unwrap()
        .unwrap()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success() && text.contains("1 passed"),
        "{text}"
    );
    agent.stop().await;
}

#[tokio::test]
async fn garbage_on_the_socket_hurts_nobody() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("agent.sock");
    let agent = Agent::start(&path);
    let garbage = path.clone();
    let sent = tokio::task::spawn_blocking(move || {
        let mut stream = UnixStream::connect(garbage).unwrap();
        stream.set_read_timeout(Some(SOON)).unwrap();
        stream.write_all(&[0xff; 4000]).unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).map(|_| answer)
    });
    let answer = sent.await.unwrap().unwrap();
    assert!(answer.starts_with(b"HTTP/1.1 400"), "{answer:?}");
    let socket = OperatorSocket::new(&path, SOON);
    socket.get_json::<Value>("/whoami").await.unwrap();
    agent.stop().await;
}
