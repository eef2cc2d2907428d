//! The oracle: sessions on both nodes from before the fault, and new ones all the time, which try
//! to commit whatever anybody says about who is primary, and note every acknowledgement.
//!
//! It goes through the nodes' sockets: it is an app beside each node, which no broken wire stops.

use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use failover_agent::effects::clock::boottime;
use failover_agent::model::Moment;
use tokio::task::JoinHandle;
use tokio_postgres::{Client, NoTls, SimpleQueryMessage};

use super::lab::Lab;
use super::wires::{Host, SITES};

/// A new session that hangs is let go; an old one waits for ever, to see a thaw.
const NEW_SESSION_WAIT: Duration = Duration::from_millis(1000);
/// Between two new sessions at a node.
const NEW_SESSION_EVERY: Duration = Duration::from_millis(40);
/// A long transaction writes so often, and commits after so many rows.
const LONG_EVERY: Duration = Duration::from_millis(60);
const LONG_ROWS: u32 = 8;

static NEXT: AtomicI64 = AtomicI64::new(1);

/// A commit that a node acknowledged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Commit {
    pub node: Host,
    /// Of the node when it wrote.
    pub timeline: u32,
    /// The newest row of the transaction.
    pub row: i64,
    /// Right before the commit was sent.
    pub begun: Moment,
    /// When the acknowledgement came.
    pub at: Moment,
}

/// What was seen so far.
#[derive(Debug, Default)]
pub struct Seen {
    pub commits: Vec<Commit>,
    /// Commits that failed, with their moment.
    pub failures: Vec<(Host, Moment, String)>,
}

type Shared = Arc<Mutex<Seen>>;

/// The running oracle; it stops when dropped.
#[derive(Debug)]
pub struct Oracle {
    seen: Shared,
    tasks: Vec<JoinHandle<()>>,
}

impl Oracle {
    /// Begins on both nodes; old sessions commit every `pace`.
    pub async fn start(lab: &Lab, pace: Duration) -> Self {
        let seen = Shared::default();
        let mut tasks = Vec::new();
        for node in SITES {
            let conninfo = lab.conninfo(node);
            // Connected before anything is broken.
            let old = lab.connect(node).await.expect("an old session");
            let long = lab.connect(node).await.expect("a long session");
            let probe = Probe {
                node,
                conninfo,
                seen: Arc::clone(&seen),
            };
            tasks.push(tokio::spawn(probe.clone().keep_session(old, pace)));
            tasks.push(tokio::spawn(probe.clone().keep_transactions(long)));
            tasks.push(tokio::spawn(probe.open_sessions()));
        }
        Self { seen, tasks }
    }

    /// Every acknowledged commit so far.
    pub fn commits(&self) -> Vec<Commit> {
        self.seen.lock().unwrap().commits.clone()
    }

    /// The failures at a node that took writes shortly before; reads say nothing.
    pub fn failures(&self) -> Vec<(Host, Moment, String)> {
        self.seen.lock().unwrap().failures.clone()
    }

    /// Which nodes acknowledged a commit since then.
    pub fn writable_since(&self, since: Moment) -> Vec<Host> {
        let seen = self.seen.lock().unwrap();
        let recent = seen
            .commits
            .iter()
            .rev()
            .filter(|commit| commit.begun > since);
        let mut nodes: Vec<_> = recent.map(|commit| commit.node).collect();
        nodes.sort();
        nodes.dedup();
        nodes
    }
}

impl Drop for Oracle {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
    }
}

/// One node, as seen by one session after the other.
#[derive(Debug, Clone)]
struct Probe {
    node: Host,
    conninfo: String,
    seen: Shared,
}

/// What a statement came to.
enum Outcome {
    Timeline(u32),
    ReadOnly,
    Failed(String),
}

impl Probe {
    async fn keep_session(self, mut client: Client, pace: Duration) {
        loop {
            while !client.is_closed() {
                self.commit(&client).await;
                // bounded: by the round, which aborts the task
                tokio::time::sleep(pace).await;
            }
            client = self.reconnect().await;
        }
    }

    async fn open_sessions(self) {
        loop {
            let one = async {
                let client = self.reconnect().await;
                self.commit(&client).await;
            };
            drop(tokio::time::timeout(NEW_SESSION_WAIT, one).await);
            // bounded: by the round, which aborts the task
            tokio::time::sleep(NEW_SESSION_EVERY).await;
        }
    }

    async fn keep_transactions(self, mut client: Client) {
        loop {
            while !client.is_closed() {
                self.transaction(&client).await;
                // bounded: by the round, which aborts the task
                tokio::time::sleep(LONG_EVERY).await;
            }
            client = self.reconnect().await;
        }
    }

    async fn reconnect(&self) -> Client {
        loop {
            let connecting = tokio_postgres::connect(&self.conninfo, NoTls);
            if let Ok(Ok((client, connection))) =
                tokio::time::timeout(NEW_SESSION_WAIT, connecting).await
            {
                tokio::spawn(async move { drop(connection.await) });
                return client;
            }
            // bounded: by the round, which aborts the task
            tokio::time::sleep(NEW_SESSION_EVERY / 4).await;
        }
    }

    async fn commit(&self, client: &Client) {
        let (row, begun) = (number(), boottime());
        match insert(client, row).await {
            Outcome::Timeline(timeline) => self.note(timeline, row, begun),
            Outcome::ReadOnly => {}
            Outcome::Failed(why) => self.fail(why),
        }
    }

    async fn transaction(&self, client: &Client) {
        if client.batch_execute("BEGIN").await.is_err() {
            return;
        }
        let mut last = None;
        for _ in 0..LONG_ROWS {
            let row = number();
            match insert(client, row).await {
                Outcome::Timeline(timeline) => last = Some((timeline, row)),
                Outcome::ReadOnly | Outcome::Failed(_) => {
                    drop(client.batch_execute("ROLLBACK").await);
                    return;
                }
            }
            // bounded: by the number of rows
            tokio::time::sleep(LONG_EVERY).await;
        }
        let begun = boottime();
        match client.batch_execute("COMMIT").await {
            Ok(()) => {
                if let Some((timeline, row)) = last {
                    self.note(timeline, row, begun);
                }
            }
            Err(error) => self.fail(error.to_string()),
        }
    }

    fn note(&self, timeline: u32, row: i64, begun: Moment) {
        let commit = Commit {
            node: self.node,
            timeline,
            row,
            begun,
            at: boottime(),
        };
        self.seen.lock().unwrap().commits.push(commit);
    }

    fn fail(&self, why: String) {
        let failure = (self.node, boottime(), why);
        self.seen.lock().unwrap().failures.push(failure);
    }
}

fn number() -> i64 {
    NEXT.fetch_add(1, Ordering::Relaxed)
}

/// Inserts a row and tells on which timeline.
async fn insert(client: &Client, row: i64) -> Outcome {
    let sql = format!(
        "INSERT INTO kept VALUES ({row}) \
         RETURNING substr(pg_walfile_name(pg_current_wal_insert_lsn()), 1, 8)"
    );
    match client.simple_query(&sql).await {
        Ok(answer) => {
            let timeline = answer.iter().find_map(|message| match message {
                SimpleQueryMessage::Row(row) => u32::from_str_radix(row.get(0)?, 16).ok(),
                _ => None,
            });
            timeline.map_or_else(
                || Outcome::Failed("no timeline".to_owned()),
                Outcome::Timeline,
            )
        }
        Err(error) => match error.code().map(tokio_postgres::error::SqlState::code) {
            Some("25006") => Outcome::ReadOnly,
            _ => Outcome::Failed(error.to_string()),
        },
    }
}
