//! The outbox: alerts wait here for their receivers, and nothing ever waits for the outbox (S16).
//!
//! Owns: the bounded queue (`queue`: pure), the spool file that lets undelivered alerts survive
//! a restart, and the retries. [`Outbox::push`] only takes a lock that is never held over I/O. One
//! task, [`Courier::run`], does everything that can be slow; if it dies, alerts pile up to a bound
//! and failovers go on.
//!
//! An alert is delivered at least once to every notifier; after a crash perhaps twice, with the
//! same idempotency key.

mod queue;
mod spool;

use std::collections::BTreeMap;
use std::future::{Future, poll_fn};
use std::path::Path;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Poll;
use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBackoff, ExponentialBuilder};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use self::queue::{Entry, Queue};
use self::spool::Spool;
use crate::config::settings::NotifierSettings;
use crate::effects::clock::wall;
use crate::effects::error::EffectError;
use crate::effects::notify::{Notifier, idempotency_key, notifier_of};
use crate::model::alert::Alert;
use crate::model::outcome::{Failure, FailureKind};
use crate::runtime::tasks::spawn_named;

pub use self::queue::{EXPIRY, OutboxCounts, QUEUE_MAX};

/// After a first failure.
const RETRY_MIN: Duration = Duration::from_secs(1);
/// A receiver that is back must not wait longer for a page.
const RETRY_MAX: Duration = Duration::from_secs(60);
/// However long a receiver asks us to wait.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(600);
/// Bound on one delivery, should a notifier not keep its own.
const DELIVERY_MAX: Duration = Duration::from_secs(60);

/// Where alerts are put. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Outbox {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    queue: Mutex<Queue>,
    notifiers: Vec<String>,
    /// Counts changes of the queue, so that nobody sleeps through one.
    changes: watch::Sender<u64>,
}

impl Outbox {
    /// Opens the outbox for these notifiers and starts its task.
    ///
    /// # Errors
    /// When a notifier's settings cannot work.
    pub fn start(
        notifiers: &[NotifierSettings],
        state_dir: &Path,
        stop: &CancellationToken,
    ) -> Result<Self, EffectError> {
        let built = notifiers
            .iter()
            .map(|settings| Ok((settings.name.clone(), notifier_of(settings)?)))
            .collect::<Result<_, EffectError>>()?;
        let (outbox, courier) = Self::open(state_dir, built);
        // Not awaited by anybody (S16); what it leaves undone is in the spool.
        drop(spawn_named("outbox", courier.run(stop.clone())));
        Ok(outbox)
    }

    /// An outbox for these notifiers (by name), with what an earlier run left undelivered. Without
    /// a readable spool it begins empty: telling people must not keep the agent from starting.
    #[must_use]
    pub fn open(state_dir: &Path, notifiers: Vec<(String, Box<dyn Notifier>)>) -> (Self, Courier) {
        let names: Vec<String> = notifiers.iter().map(|(name, _)| name.clone()).collect();
        let spool = Spool::new(state_dir);
        let mut queue = Queue::default();
        for mut entry in spool.load() {
            // A notifier that is no longer configured is not waited for.
            entry.waiting.retain(|name, _| names.contains(name));
            queue.push(entry);
        }
        let shared = Arc::new(Shared {
            queue: Mutex::new(queue),
            notifiers: names,
            changes: watch::Sender::new(0),
        });
        let courier = Courier {
            shared: Arc::clone(&shared),
            notifiers,
            spool,
            retry: (RETRY_MIN, RETRY_MAX),
        };
        (Self { shared }, courier)
    }

    /// Puts an alert in. Returns at once, whatever the receivers do; a full queue drops the oldest
    /// of the least urgent alerts and counts it.
    pub fn push(&self, alert: Alert) {
        let alert = alert.shortened();
        let waiting: BTreeMap<String, u32> = self
            .shared
            .notifiers
            .iter()
            .map(|name| (name.clone(), 0))
            .collect();
        self.shared.change(|queue| {
            queue.push(Entry {
                key: idempotency_key(&alert),
                alert,
                waiting,
            });
        });
    }

    /// Alerts given up because the queue was full.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.counts().dropped
    }

    /// What became of alerts since the start.
    #[must_use]
    pub fn counts(&self) -> OutboxCounts {
        self.shared.queue().counts()
    }
}

impl Shared {
    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self, change: impl FnOnce(&mut Queue)) {
        change(&mut self.queue());
        self.changes.send_modify(|changes| *changes += 1);
    }
}

/// The outbox's one task.
#[derive(Debug)]
pub struct Courier {
    shared: Arc<Shared>,
    notifiers: Vec<(String, Box<dyn Notifier>)>,
    spool: Spool,
    retry: (Duration, Duration),
}

impl Courier {
    /// With other delays between attempts.
    #[must_use]
    pub fn retry_between(mut self, min: Duration, max: Duration) -> Self {
        self.retry = (min, max);
        self
    }

    /// Delivers until `stop`; then what is left is in the spool.
    pub async fn run(self, stop: CancellationToken) {
        let mut loops: Vec<Pin<Box<dyn Future<Output = ()> + Send + '_>>> =
            vec![Box::pin(self.keep_spooled())];
        for (name, notifier) in &self.notifiers {
            loops.push(Box::pin(self.deliver_to(name, notifier.as_ref())));
        }
        // Each loop runs for ever; together they are one task, so that stopping it stops all.
        let all = poll_fn(|context| {
            for work in &mut loops {
                // A loop that has ended would panic if polled again; none does.
                let _running: Poll<()> = work.as_mut().poll(context);
            }
            Poll::<()>::Pending
        });
        tokio::select! {
            () = all => {}
            () = stop.cancelled() => {}
        }
        drop(loops);
        self.spool_now().await;
    }

    /// Writes the queue down after every change, several changes at once if they come fast.
    async fn keep_spooled(&self) {
        let mut changes = self.shared.changes.subscribe();
        let mut dropped = 0;
        loop {
            changes.borrow_and_update();
            self.spool_now().await;
            let counts = self.shared.queue().counts();
            if counts.dropped > dropped {
                dropped = counts.dropped;
                tracing::warn!(
                    dropped,
                    "too many alerts at once; the least urgent were dropped"
                );
            }
            if changes.changed().await.is_err() {
                return std::future::pending().await;
            }
        }
    }

    async fn spool_now(&self) {
        let entries: Vec<Entry> = self.shared.queue().entries().cloned().collect();
        self.spool.write(entries).await;
    }

    async fn deliver_to(&self, name: &str, notifier: &dyn Notifier) {
        let mut changes = self.shared.changes.subscribe();
        let mut backoff = self.backoff();
        loop {
            changes.borrow_and_update();
            let next = self.shared.queue().next_for(name, wall());
            let Some((key, alert)) = next else {
                if changes.changed().await.is_err() {
                    return std::future::pending().await;
                }
                continue;
            };
            match send(name, notifier, &alert).await {
                Ok(()) => {
                    self.shared.change(|queue| queue.delivered(&key, name));
                    backoff = self.backoff();
                }
                Err(error) if error.kind == FailureKind::Permanent => {
                    self.shared.change(|queue| queue.refused(&key, name));
                    let failure = Failure::from(error);
                    tracing::warn!(target = name, event = alert.event, error = %failure,
                        "alert refused");
                }
                Err(error) => {
                    self.shared.change(|queue| queue.failed(&key, name));
                    let asked = error.retry_after.unwrap_or_default().min(RETRY_AFTER_MAX);
                    let delay = backoff.next().unwrap_or(self.retry.1).max(asked);
                    let failure = Failure::from(error);
                    tracing::debug!(target = name, event = alert.event, error = %failure,
                        "alert not delivered yet");
                    tokio::time::sleep(delay).await;
                }
            }
        }
    }

    fn backoff(&self) -> ExponentialBackoff {
        let (min, max) = self.retry;
        ExponentialBuilder::default()
            .with_min_delay(min)
            .with_max_delay(max)
            .with_jitter()
            .without_max_times()
            .build()
    }
}

async fn send(name: &str, notifier: &dyn Notifier, alert: &Alert) -> Result<(), EffectError> {
    match tokio::time::timeout(DELIVERY_MAX, notifier.send(alert)).await {
        Ok(result) => result,
        Err(_) => Err(EffectError::unknown(format!(
            "notifier {name}: no end of a delivery within {DELIVERY_MAX:?}"
        ))),
    }
}
