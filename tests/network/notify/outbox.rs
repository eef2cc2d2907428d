//! The outbox: order, retries, restarts, and that it holds up nobody.

use std::path::Path;
use std::time::Duration;

use failover_agent::effects::clock::wall;
use failover_agent::effects::notify::{Notifier, idempotency_key, notifier_of};
use failover_agent::model::Timestamp;
use failover_agent::model::alert::AlertLevel;
use failover_agent::runtime::outbox::{Courier, Outbox, OutboxCounts, QUEUE_MAX};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::receiver::{Receiver, Reply, until};
use super::{alert, settings};

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
