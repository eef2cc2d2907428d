//! The app of the demo: a client that knows both nodes and writes numbered rows without a break.
//!
//! It behaves as a client with `target_session_attrs=read-write`: when its session is lost it
//! tries both nodes at once and goes on at the one that commits. It notes every commit that was
//! acknowledged to it; what was acknowledged must never be missing afterwards.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};
use tokio_postgres::{Client, Statement};

use super::session::{Attempt, Login, commit};
use crate::effects::clock::boottime;
use crate::model::Moment;
use crate::runtime::tasks::spawn_named;

/// Between an acknowledged commit and the next.
const PAUSE: Duration = Duration::from_millis(5);
/// Between two attempts at a node that does not commit.
const RETRY_PAUSE: Duration = Duration::from_millis(10);
/// An app that waits longer for a commit looks for another node.
const COMMIT_WAIT: Duration = Duration::from_millis(250);
/// Connecting includes proving the password.
const CONNECT_WAIT: Duration = Duration::from_millis(1000);
/// The newest acknowledgements that are kept: eight minutes.
const ACKS_MAX: usize = 100_000;

/// The table of the demo's app.
pub(super) const TABLE: &str =
    "CREATE TABLE orders (number bigint PRIMARY KEY, placed timestamptz NOT NULL DEFAULT now())";
pub(super) const INSERT: &str = "INSERT INTO orders (number) VALUES ($1)";

/// A commit that was acknowledged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Ack {
    pub(super) number: i64,
    /// The node, by its place in the list of logins.
    pub(super) node: usize,
    pub(super) at: Moment,
}

/// What is shared with the task.
#[derive(Debug)]
struct Shared {
    acks: Mutex<VecDeque<Ack>>,
    next: AtomicI64,
}

/// The running writer; it stops when dropped.
#[derive(Debug)]
pub(super) struct Writer {
    shared: Arc<Shared>,
    gate: watch::Sender<bool>,
    at_gate: watch::Receiver<bool>,
    task: JoinHandle<()>,
}

impl Writer {
    /// Begins to write.
    pub(super) fn start(nodes: [Login; 2]) -> Self {
        let shared = Arc::new(Shared {
            acks: Mutex::default(),
            next: AtomicI64::new(1),
        });
        let (gate, open) = watch::channel(true);
        let (arrived, at_gate) = watch::channel(false);
        let client = WritingClient {
            shared: Arc::clone(&shared),
            nodes,
            open,
            arrived,
        };
        let task = spawn_named("demo writer", client.run());
        Self {
            shared,
            gate,
            at_gate,
            task,
        }
    }

    /// Holds the writer before its next row; returns once nothing of it is under way.
    pub(super) async fn hold(&mut self) {
        self.gate.send_replace(false);
        // An error means that the task is gone: then nothing is under way, either.
        self.at_gate.wait_for(|arrived| *arrived).await.ok();
    }

    /// Lets it go on.
    pub(super) fn release(&self) {
        self.gate.send_replace(true);
    }

    /// Everything that was acknowledged so far, in order.
    pub(super) fn acks(&self) -> Vec<Ack> {
        self.shared.acks().iter().copied().collect()
    }

    /// The first acknowledgement of this node that is kept.
    pub(super) fn first_at(&self, node: usize) -> Option<Ack> {
        self.shared
            .acks()
            .iter()
            .copied()
            .find(|ack| ack.node == node)
    }

    /// The newest acknowledgement.
    pub(super) fn last(&self) -> Option<Ack> {
        self.shared.acks().back().copied()
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Shared {
    fn acks(&self) -> MutexGuard<'_, VecDeque<Ack>> {
        self.acks.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Every attempt has its own number: an attempt whose end is not known is never counted.
    fn number(&self) -> i64 {
        self.next.fetch_add(1, Ordering::Relaxed)
    }

    fn note(&self, number: i64, node: usize) {
        let at = boottime();
        let mut acks = self.acks();
        if acks.len() == ACKS_MAX {
            acks.pop_front();
        }
        acks.push_back(Ack { number, node, at });
    }
}

struct WritingClient {
    shared: Arc<Shared>,
    nodes: [Login; 2],
    open: watch::Receiver<bool>,
    arrived: watch::Sender<bool>,
}

/// A session that can write.
struct Session {
    node: usize,
    client: Client,
    insert: Statement,
}

impl WritingClient {
    async fn run(mut self) {
        let mut session = None;
        loop {
            if !*self.open.borrow() {
                self.arrived.send_replace(true);
                // The gate's owner is gone: there is nothing left to write for.
                if self.open.wait_for(|open| *open).await.is_err() {
                    return;
                }
                self.arrived.send_replace(false);
            }
            session = match session {
                Some(session) => self.write(session).await,
                None => Some(self.search().await),
            };
            sleep(PAUSE).await;
        }
    }

    /// One row on a session that worked; keeps it if it still does.
    async fn write(&self, session: Session) -> Option<Session> {
        let number = self.shared.number();
        let attempt = commit(&session.client, &session.insert, number, COMMIT_WAIT).await;
        (attempt == Attempt::Committed).then(|| {
            self.shared.note(number, session.node);
            session
        })
    }

    /// Tries both nodes at once until one commits.
    async fn search(&self) -> Session {
        let [first, second] = &self.nodes;
        tokio::select! {
            session = self.knock(0, first) => session,
            session = self.knock(1, second) => session,
        }
    }

    async fn knock(&self, node: usize, login: &Login) -> Session {
        loop {
            if let Ok(Ok(client)) = timeout(CONNECT_WAIT, login.connect()).await
                && let Ok(Ok(insert)) = timeout(COMMIT_WAIT, client.prepare(INSERT)).await
            {
                let session = Session {
                    node,
                    client,
                    insert,
                };
                if self.insist(&session).await {
                    return session;
                }
            }
            sleep(RETRY_PAUSE).await;
        }
    }

    /// Tries to commit until it works (true) or the session is lost.
    async fn insist(&self, session: &Session) -> bool {
        loop {
            let number = self.shared.number();
            match commit(&session.client, &session.insert, number, COMMIT_WAIT).await {
                Attempt::Committed => {
                    self.shared.note(number, session.node);
                    return true;
                }
                Attempt::ReadOnly => sleep(RETRY_PAUSE).await,
                Attempt::Lost => return false,
            }
        }
    }
}
