//! The witness for the prosecution: sessions on both nodes, open since before the fault, that try
//! to commit all the time, whatever anybody says about who is primary.
//!
//! Two nodes that commit at the same time are what must never happen (S1); this is who would see.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

use super::session::{Attempt, Login, commit};
use crate::effects::clock::boottime;
use crate::model::Moment;
use crate::runtime::tasks::spawn_named;

/// Between two attempts.
const PAUSE: Duration = Duration::from_millis(5);
/// A frozen node must not hold the session for ever: it would miss the thaw.
const COMMIT_WAIT: Duration = Duration::from_millis(1000);
const CONNECT_WAIT: Duration = Duration::from_millis(1000);

/// One table for each node, so that no lock joins them.
pub(super) const TABLES: &str = "CREATE TABLE oracle_0 (number bigint);\
                                 CREATE TABLE oracle_1 (number bigint);";

/// When a node committed, as far as it matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Span {
    pub(super) first: Moment,
    pub(super) last: Moment,
}

/// The commits of each node since the oracle was asked to begin anew.
#[derive(Debug, Clone, Default)]
struct Seen(Arc<Mutex<BTreeMap<usize, Span>>>);

impl Seen {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<usize, Span>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn note(&self, node: usize) {
        let now = boottime();
        let mut seen = self.lock();
        let span = seen.entry(node).or_insert(Span {
            first: now,
            last: now,
        });
        span.last = now;
    }
}

/// The running oracle; it stops when dropped.
#[derive(Debug)]
pub(super) struct Oracle {
    seen: Seen,
    tasks: Vec<JoinHandle<()>>,
}

impl Oracle {
    /// Opens a session on each node and begins.
    pub(super) fn start(nodes: &[Login; 2]) -> Self {
        let seen = Seen::default();
        let tasks = nodes.iter().enumerate().map(|(node, login)| {
            let (login, seen) = (login.clone(), seen.clone());
            spawn_named(
                format!("demo oracle {node}"),
                try_for_ever(node, login, seen),
            )
        });
        Self {
            tasks: tasks.collect(),
            seen,
        }
    }

    /// First and last commit of each node.
    pub(super) fn spans(&self) -> BTreeMap<usize, Span> {
        self.seen.lock().clone()
    }
}

impl Drop for Oracle {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
    }
}

async fn try_for_ever(node: usize, login: Login, seen: Seen) {
    let sql = format!("INSERT INTO oracle_{node} (number) VALUES ($1)");
    let mut number = 0;
    loop {
        if let Ok(Ok(client)) = timeout(CONNECT_WAIT, login.connect()).await
            && let Ok(Ok(insert)) = timeout(COMMIT_WAIT, client.prepare(&sql)).await
        {
            loop {
                number += 1;
                match commit(&client, &insert, number, COMMIT_WAIT).await {
                    Attempt::Committed => seen.note(node),
                    Attempt::ReadOnly => {}
                    Attempt::Lost => break,
                }
                sleep(PAUSE).await;
            }
        }
        sleep(PAUSE).await;
    }
}

/// How long two nodes committed at the same time.
///
/// The node that began later is the new primary; until the old one's last commit there were two.
pub(super) fn two_writers(spans: &BTreeMap<usize, Span>) -> Duration {
    let mut spans: Vec<_> = spans.values().collect();
    spans.sort_by_key(|span| span.first);
    match spans.as_slice() {
        [old, new, ..] => old.last.since(new.first).min(new.last.since(new.first)),
        _ => Duration::ZERO,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn span(first: u64, last: u64) -> Span {
        let at = |ms| Moment::from_boot(Duration::from_millis(ms));
        Span {
            first: at(first),
            last: at(last),
        }
    }

    #[test]
    fn two_writers_is_the_time_in_which_both_commit() {
        let of = |first, second| two_writers(&BTreeMap::from([(0, first), (1, second)]));
        assert_eq!(of(span(0, 100), span(130, 200)), Duration::ZERO);
        assert_eq!(of(span(0, 150), span(130, 200)), Duration::from_millis(20));
        assert_eq!(of(span(130, 200), span(0, 150)), Duration::from_millis(20));
        assert_eq!(of(span(0, 300), span(130, 200)), Duration::from_millis(70));
        assert_eq!(
            two_writers(&BTreeMap::from([(0, span(0, 9))])),
            Duration::ZERO
        );
    }
}
