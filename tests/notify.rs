//! Notifiers and the outbox against a real receiver. S16: a receiver can never delay anything.
#![expect(clippy::unwrap_used, reason = "helpers of tests may fail loudly")]
#![expect(
    clippy::disallowed_methods,
    reason = "the receiver is a task of the test's own"
)]

use std::collections::VecDeque;
use std::future::pending;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use failover_agent::config::secret::Secret;
use failover_agent::config::settings::NotifierSettings;
use failover_agent::effects::clock::wall;
use failover_agent::effects::error::EffectError;
use failover_agent::effects::notify::{NOTIFIERS, Notifier, idempotency_key, notifier_of};
use failover_agent::model::alert::{Alert, AlertLevel};
use failover_agent::model::outcome::{Failure, FailureKind};
use failover_agent::model::{ClusterName, Epoch, PlanId, SiteName, Timestamp};
use failover_agent::runtime::outbox::{Courier, Outbox, OutboxCounts, QUEUE_MAX};
use serde_json::{Value, json};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// The part of the URL that is a password.
const SECRET_PATH: &str = "/hooks/T00000000/XsecretX";

/// How the receiver answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reply {
    Status(u16),
    Busy { retry_after: u64 },
    Redirect,
    Never,
}

#[derive(Debug, Default)]
struct Received {
    replies: VecDeque<Reply>,
    /// Idempotency key and body of every request.
    alerts: Vec<(String, Value)>,
}

/// A receiver of webhooks; it stops when dropped.
struct Receiver {
    url: String,
    received: Arc<Mutex<Received>>,
    task: JoinHandle<()>,
}

impl Receiver {
    async fn start() -> Self {
        let received = Arc::new(Mutex::new(Received::default()));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}{SECRET_PATH}", listener.local_addr().unwrap());
        let router = axum::Router::new()
            .fallback(receive)
            .with_state(Arc::clone(&received));
        let task = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self {
            url,
            received,
            task,
        }
    }

    /// The next answers; after them 200.
    fn reply(&self, replies: &[Reply]) {
        self.received.lock().unwrap().replies.extend(replies);
    }

    fn alerts(&self) -> Vec<(String, Value)> {
        self.received.lock().unwrap().alerts.clone()
    }

    fn events(&self) -> Vec<String> {
        let text = |(_, body): (String, Value)| body["event"].as_str().unwrap().to_owned();
        self.alerts().into_iter().map(text).collect()
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn receive(
    State(received): State<Arc<Mutex<Received>>>,
    uri: Uri,
    headers: HeaderMap,
    body: String,
) -> Response {
    assert_eq!(uri.path(), SECRET_PATH);
    let key = headers["idempotency-key"].to_str().unwrap().to_owned();
    let reply = {
        let mut received = received.lock().unwrap();
        let alert = serde_json::from_str(&body).unwrap();
        received.alerts.push((key, alert));
        received.replies.pop_front()
    };
    match reply.unwrap_or(Reply::Status(200)) {
        Reply::Status(status) => {
            // What is echoed must not come back to the operator's eyes either.
            (StatusCode::from_u16(status).unwrap(), uri.to_string()).into_response()
        }
        Reply::Busy { retry_after } => {
            let header = [("retry-after", retry_after.to_string())];
            (StatusCode::TOO_MANY_REQUESTS, header).into_response()
        }
        Reply::Redirect => (StatusCode::FOUND, [("location", "http://192.0.2.1/")]).into_response(),
        Reply::Never => pending().await,
    }
}

fn settings(kind: &str, url: &str) -> NotifierSettings {
    NotifierSettings {
        name: "chat".to_owned(),
        kind: kind.to_owned(),
        url: Secret::new(url),
        timeout: Duration::from_secs(20),
    }
}

fn alert(event: &str, level: AlertLevel) -> Alert {
    Alert {
        cluster: ClusterName::new("shop"),
        site: Some(SiteName::new("b")),
        event: event.to_owned(),
        level,
        summary: "site b is active".to_owned(),
        details: vec!["promoted".to_owned()],
        epoch: Some(Epoch(7)),
        plan: Some(PlanId::new("b-1")),
        at: wall(),
    }
}

fn webhook(receiver: &Receiver) -> Box<dyn Notifier> {
    notifier_of(&settings("webhook", &receiver.url)).unwrap()
}

/// A running outbox that retries quickly.
struct Running {
    outbox: Outbox,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

impl Running {
    fn start(state_dir: &Path, notifiers: Vec<(&str, Box<dyn Notifier>)>) -> Self {
        let (outbox, courier) = open(state_dir, notifiers);
        let stop = CancellationToken::new();
        let task = tokio::spawn(courier.run(stop.clone()));
        Self { outbox, stop, task }
    }

    async fn stop(self) {
        self.stop.cancel();
        self.task.await.unwrap();
    }

    async fn until(&self, what: &str, reached: impl Fn(OutboxCounts) -> bool) {
        until(what, || reached(self.outbox.counts())).await;
    }
}

fn open(state_dir: &Path, notifiers: Vec<(&str, Box<dyn Notifier>)>) -> (Outbox, Courier) {
    let notifiers = notifiers
        .into_iter()
        .map(|(name, notifier)| (name.to_owned(), notifier))
        .collect();
    let (outbox, courier) = Outbox::open(state_dir, notifiers);
    let quick = Duration::from_millis(5);
    (outbox, courier.retry_between(quick, 4 * quick))
}

async fn until(what: &str, reached: impl Fn() -> bool) {
    for _ in 0..4000 {
        if reached() {
            return;
        }
        // bounded: 4,000 attempts, some 20 seconds.
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("never: {what}");
}

fn whole_text(error: EffectError) -> String {
    let text = format!("{error} {error:?} {:?}", error.hint);
    format!("{text} {}", Failure::from(error))
}

#[tokio::test]
async fn every_notifier_sends_the_whole_alert_with_a_key() {
    for kind in NOTIFIERS {
        let receiver = Receiver::start().await;
        let notifier = notifier_of(&settings(kind.name, &receiver.url)).unwrap();
        let mut sent = alert("failover_done", AlertLevel::Page);
        sent.at = Timestamp(1_700_000_000_123);
        notifier.send(&sent).await.unwrap();
        notifier.send(&sent).await.unwrap();
        let body = json!({
            "cluster": "shop", "site": "b", "event": "failover_done", "severity": "page",
            "summary": "site b is active", "details": ["promoted"], "epoch": 7, "plan": "b-1",
            "at": "2023-11-14T22:13:20.123Z",
        });
        let expected = (idempotency_key(&sent), body);
        assert_eq!(receiver.alerts(), [expected.clone(), expected]);
    }
}

#[tokio::test]
async fn every_notifier_tells_passing_from_final_refusals() {
    for kind in NOTIFIERS {
        let receiver = Receiver::start().await;
        let notifier = notifier_of(&settings(kind.name, &receiver.url)).unwrap();
        let sent = alert("e", AlertLevel::Info);
        for status in [408, 429, 500, 503] {
            receiver.reply(&[Reply::Status(status)]);
            let error = notifier.send(&sent).await.unwrap_err();
            assert_eq!(error.kind, FailureKind::Retryable, "{status}");
        }
        for reply in [400, 401, 404, 410].map(Reply::Status) {
            receiver.reply(&[reply]);
            let error = notifier.send(&sent).await.unwrap_err();
            assert_eq!(error.kind, FailureKind::Permanent, "{reply:?}");
        }
        receiver.reply(&[Reply::Redirect]);
        let error = notifier.send(&sent).await.unwrap_err();
        assert_eq!(error.kind, FailureKind::Permanent);
        receiver.reply(&[Reply::Busy { retry_after: 33 }]);
        let error = notifier.send(&sent).await.unwrap_err();
        assert_eq!(error.retry_after, Some(Duration::from_secs(33)));
        for status in [200, 202, 204] {
            receiver.reply(&[Reply::Status(status)]);
            notifier.send(&sent).await.unwrap();
        }
    }
}

#[tokio::test]
async fn the_address_is_in_no_error_of_any_notifier() {
    for kind in NOTIFIERS {
        let receiver = Receiver::start().await;
        let sent = alert("e", AlertLevel::Info);
        let mut settings = settings(kind.name, &receiver.url);
        settings.timeout = Duration::from_millis(300);
        let notifier = notifier_of(&settings).unwrap();
        let mut errors = Vec::new();
        for reply in [
            Reply::Status(500),
            Reply::Status(404),
            Reply::Redirect,
            Reply::Never,
        ] {
            receiver.reply(&[reply]);
            errors.push(notifier.send(&sent).await.unwrap_err());
        }
        assert_eq!(errors.last().unwrap().kind, FailureKind::OutcomeUnknown);
        let port = receiver.url.rsplit(':').next().unwrap();
        let port = port.split('/').next().unwrap().to_owned();
        drop(receiver);
        until("the port is closed", || {
            std::net::TcpStream::connect(format!("127.0.0.1:{port}")).is_err()
        })
        .await;
        errors.push(notifier.send(&sent).await.unwrap_err());
        assert_eq!(errors.last().unwrap().kind, FailureKind::Retryable);
        for wrong in [
            "ftp://h/XsecretX",
            "XsecretX",
            "https://[XsecretX",
            "http:///XsecretX ",
        ] {
            settings.url = Secret::new(wrong);
            match notifier_of(&settings) {
                Err(error) => errors.push(error),
                Ok(odd) => errors.push(odd.send(&sent).await.unwrap_err()),
            }
        }
        let debug = format!("{notifier:?} {settings:?}");
        for text in errors.into_iter().map(whole_text).chain([debug]) {
            assert!(
                !text.contains("XsecretX") && !text.contains("/hooks"),
                "{text}"
            );
        }
    }
}

#[tokio::test]
async fn failed_delivery_is_repeated_with_the_same_key() {
    let dir = tempfile::tempdir().unwrap();
    let receiver = Receiver::start().await;
    receiver.reply(&[Reply::Status(503), Reply::Status(500)]);
    let running = Running::start(dir.path(), vec![("chat", webhook(&receiver))]);
    let sent = alert("failover_done", AlertLevel::Page);
    running.outbox.push(sent.clone());
    running
        .until("delivered", |counts| counts.delivered == 1)
        .await;
    let keys: Vec<String> = receiver.alerts().into_iter().map(|(key, _)| key).collect();
    assert_eq!(keys, vec![idempotency_key(&sent); 3]);
    assert_eq!(running.outbox.counts().queued, 0);
    running.stop().await;
}

#[tokio::test]
async fn final_refusal_is_counted_and_not_repeated() {
    let dir = tempfile::tempdir().unwrap();
    let receiver = Receiver::start().await;
    receiver.reply(&[Reply::Status(404)]);
    let running = Running::start(dir.path(), vec![("chat", webhook(&receiver))]);
    running.outbox.push(alert("first", AlertLevel::Page));
    running.until("refused", |counts| counts.refused == 1).await;
    running.outbox.push(alert("second", AlertLevel::Page));
    running
        .until("delivered", |counts| counts.delivered == 1)
        .await;
    assert_eq!(receiver.events(), ["first", "second"]);
    running.stop().await;
}

#[tokio::test]
async fn hanging_receiver_blocks_no_sender_and_costs_no_page() {
    let dir = tempfile::tempdir().unwrap();
    let receiver = Receiver::start().await;
    receiver.reply(&[Reply::Never]);
    let running = Running::start(dir.path(), vec![("chat", webhook(&receiver))]);
    running.outbox.push(alert("hangs", AlertLevel::Page));
    until("the receiver hangs", || receiver.alerts().len() == 1).await;
    // No await in here: if a push could wait for the receiver, this would never end.
    for n in 0..QUEUE_MAX * 2 {
        running
            .outbox
            .push(alert(&format!("info-{n}"), AlertLevel::Info));
    }
    running.outbox.push(alert("page", AlertLevel::Page));
    let counts = running.outbox.counts();
    assert_eq!(counts.queued, QUEUE_MAX);
    assert_eq!(counts.dropped, (QUEUE_MAX + 2) as u64);
    running.stop().await;

    let running = Running::start(dir.path(), vec![("chat", webhook(&receiver))]);
    running
        .until("all delivered", |counts| counts.queued == 0)
        .await;
    let events = receiver.events();
    let pages = ["hangs", "page"].map(|page| events.iter().filter(|e| *e == page).count());
    assert_eq!(
        pages,
        [2, 1],
        "the first was tried before, the second only now"
    );
    running.stop().await;
}

#[tokio::test]
async fn one_dead_notifier_does_not_hold_up_another() {
    let dir = tempfile::tempdir().unwrap();
    let (dead, alive) = (Receiver::start().await, Receiver::start().await);
    dead.reply(&[Reply::Never; 8]);
    let notifiers = vec![("dead", webhook(&dead)), ("alive", webhook(&alive))];
    let running = Running::start(dir.path(), notifiers);
    for n in 0..5 {
        running
            .outbox
            .push(alert(&format!("e{n}"), AlertLevel::Warn));
    }
    running
        .until("delivered", |counts| counts.delivered == 5)
        .await;
    assert_eq!(
        running.outbox.counts().queued,
        5,
        "still waiting for the dead one"
    );
    running.stop().await;
}

#[tokio::test]
async fn restart_delivers_what_was_left_and_nothing_twice() {
    let dir = tempfile::tempdir().unwrap();
    let receiver = Receiver::start().await;
    let first = Running::start(dir.path(), vec![("chat", webhook(&receiver))]);
    first.outbox.push(alert("delivered", AlertLevel::Warn));
    first
        .until("delivered", |counts| counts.delivered == 1)
        .await;
    receiver.reply(&[Reply::Status(503); 1000]);
    first.outbox.push(alert("left", AlertLevel::Page));
    until("tried", || receiver.events().len() > 1).await;
    first.stop().await;

    receiver.received.lock().unwrap().replies.clear();
    let before = receiver.alerts();
    let second = Running::start(dir.path(), vec![("chat", webhook(&receiver))]);
    second
        .until("delivered", |counts| counts.delivered == 1)
        .await;
    let after = receiver.alerts();
    assert_eq!(after.len(), before.len() + 1);
    assert_eq!(
        after.last(),
        before.last(),
        "the same key and the same text"
    );
    second.stop().await;

    let third = Running::start(dir.path(), vec![("chat", webhook(&receiver))]);
    assert_eq!(third.outbox.counts().queued, 0);
    third.stop().await;
}

#[tokio::test]
async fn kill_after_a_push_loses_nothing_that_was_spooled() {
    let dir = tempfile::tempdir().unwrap();
    let receiver = Receiver::start().await;
    receiver.reply(&[Reply::Never]);
    let running = Running::start(dir.path(), vec![("chat", webhook(&receiver))]);
    running.outbox.push(alert("left", AlertLevel::Page));
    let spool = dir.path().join("outbox/spool.jsonl");
    until("spooled", || {
        std::fs::read_to_string(&spool).is_ok_and(|text| text.contains("\"left\""))
    })
    .await;
    // Without a stop: as if killed.
    running.task.abort();
    let garbage = std::fs::read_to_string(&spool).unwrap() + "{\"key\":\"torn\n\u{0}\n";
    std::fs::write(&spool, garbage).unwrap();

    let running = Running::start(dir.path(), vec![("chat", webhook(&receiver))]);
    running
        .until("delivered", |counts| counts.delivered == 1)
        .await;
    running.stop().await;
}

#[tokio::test]
async fn day_old_alerts_expire_instead_of_misleading() {
    let dir = tempfile::tempdir().unwrap();
    let receiver = Receiver::start().await;
    let running = Running::start(dir.path(), vec![("chat", webhook(&receiver))]);
    let mut old = alert("old", AlertLevel::Page);
    old.at = Timestamp(wall().0 - 25 * 3600 * 1000);
    running.outbox.push(old);
    running.until("expired", |counts| counts.expired == 1).await;
    running.outbox.push(alert("new", AlertLevel::Info));
    running
        .until("delivered", |counts| counts.delivered == 1)
        .await;
    assert_eq!(receiver.events(), ["new"]);
    running.stop().await;
}

#[tokio::test]
async fn unusable_spool_stops_no_delivery() {
    let dir = tempfile::tempdir().unwrap();
    let state_dir = dir.path().join("state");
    std::fs::write(&state_dir, b"a file where a directory should be").unwrap();
    let receiver = Receiver::start().await;
    let running = Running::start(&state_dir, vec![("chat", webhook(&receiver))]);
    running.outbox.push(alert("e", AlertLevel::Page));
    running
        .until("delivered", |counts| counts.delivered == 1)
        .await;
    running.stop().await;
}

#[tokio::test]
async fn spool_is_private_and_holds_no_address() {
    use std::os::unix::fs::MetadataExt;
    let dir = tempfile::tempdir().unwrap();
    let receiver = Receiver::start().await;
    receiver.reply(&[Reply::Status(503); 1000]);
    let running = Running::start(dir.path(), vec![("chat", webhook(&receiver))]);
    running.outbox.push(alert("e", AlertLevel::Page));
    until("tried", || receiver.events().len() > 1).await;
    running.stop().await;
    let spool = dir.path().join("outbox/spool.jsonl");
    let text = std::fs::read_to_string(&spool).unwrap();
    assert!(
        text.contains("\"chat\"") && !text.contains("XsecretX"),
        "{text}"
    );
    assert_eq!(std::fs::metadata(&spool).unwrap().mode() & 0o777, 0o600);
}
