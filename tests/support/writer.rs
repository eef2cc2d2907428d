//! Clients that count their acknowledged commits, independently of any agent.

use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tokio::task::JoinHandle;
use tokio_postgres::{Client, NoTls};

use super::postgres::{SUPERUSER, TestNode};

/// Between two commits of one client.
const PAUSE: Duration = Duration::from_millis(2);
/// How long an app waits for a commit or a connection before it tries the other node.
const APP_TIMEOUT: Duration = Duration::from_millis(500);

/// The next row's number, unique in this process.
static NEXT: AtomicI64 = AtomicI64::new(1_000_000);

/// A commit that a node acknowledged.
#[derive(Debug, Clone, Copy)]
pub struct Commit {
    /// The row's number in table `kept`.
    pub row: i64,
    /// When it was begun.
    pub begun: Instant,
    /// When the acknowledgement came.
    pub at: Instant,
}

#[derive(Debug, Default)]
struct Log {
    commits: Vec<Commit>,
    failures: u64,
    ended: Option<Instant>,
}

/// A client on one connection, opened before anything breaks. It commits as often as it can until
/// its connection is gone; a node that does not take writes is asked again and again.
#[derive(Debug)]
pub struct Session {
    log: Arc<Mutex<Log>>,
    task: JoinHandle<()>,
}

impl Session {
    /// Connects and begins.
    pub async fn open(node: &TestNode) -> Self {
        let client = node.connect(SUPERUSER).await;
        let log = Arc::new(Mutex::new(Log::default()));
        let kept = Arc::clone(&log);
        let task = tokio::spawn(async move {
            while !client.is_closed() {
                let done = commit(&client).await;
                note(&kept, done);
                // bounded: by the test, which drops the client
                tokio::time::sleep(PAUSE).await;
            }
            kept.lock().expect("no panic in a client").ended = Some(Instant::now());
        });
        Self { log, task }
    }

    /// As [`Session::open`], but whenever its connection is gone it opens another one to the same
    /// node: whatever that node acknowledges, and whenever it does, is seen.
    pub fn persistent(node: &TestNode) -> Self {
        let address = node.conninfo(SUPERUSER);
        let log = Arc::new(Mutex::new(Log::default()));
        let kept = Arc::clone(&log);
        let task = tokio::spawn(async move {
            loop {
                if let Ok((client, connection)) = tokio_postgres::connect(&address, NoTls).await {
                    let driver = tokio::spawn(async move { drop(connection.await) });
                    while !client.is_closed() {
                        let done = commit(&client).await;
                        note(&kept, done);
                        // bounded: by the test, which drops the session
                        tokio::time::sleep(PAUSE).await;
                    }
                    driver.abort();
                }
                // bounded: by the test, which drops the session
                tokio::time::sleep(PAUSE * 5).await;
            }
        });
        Self { log, task }
    }

    /// Everything acknowledged so far.
    pub fn commits(&self) -> Vec<Commit> {
        commits(&self.log)
    }

    /// When its connection was found gone.
    pub fn ended(&self) -> Option<Instant> {
        self.log.lock().expect("no panic in a client").ended
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// An app that goes to whichever node takes its commits.
#[derive(Debug)]
pub struct App {
    log: Arc<Mutex<Log>>,
    task: JoinHandle<()>,
}

impl App {
    /// Begins at the first of the nodes.
    pub fn start(nodes: [&TestNode; 2]) -> Self {
        let addresses = nodes.map(|node| node.conninfo(SUPERUSER));
        let log = Arc::new(Mutex::new(Log::default()));
        let kept = Arc::clone(&log);
        let task = tokio::spawn(async move {
            for address in addresses.iter().cycle() {
                let connecting = tokio_postgres::connect(address, NoTls);
                if let Ok(Ok((client, connection))) =
                    tokio::time::timeout(APP_TIMEOUT, connecting).await
                {
                    let driver = tokio::spawn(async move { drop(connection.await) });
                    work(&client, &kept).await;
                    driver.abort();
                }
                // bounded: by the test, which drops the client
                tokio::time::sleep(PAUSE).await;
            }
        });
        Self { log, task }
    }

    /// Everything acknowledged so far.
    pub fn commits(&self) -> Vec<Commit> {
        commits(&self.log)
    }

    /// How many commits failed or were given up.
    pub fn failures(&self) -> u64 {
        self.log.lock().expect("no panic in a client").failures
    }

    /// The longest time between the acknowledgements of two commits.
    pub fn longest_pause(&self) -> Duration {
        let commits = self.commits();
        let pauses = commits.windows(2).map(|pair| pair[1].at - pair[0].at);
        pauses.max().unwrap_or_default()
    }
}

impl Drop for App {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Commits on one connection until one fails.
async fn work(client: &Client, log: &Mutex<Log>) {
    loop {
        let done = tokio::time::timeout(APP_TIMEOUT, commit(client)).await;
        let done = done.ok().flatten();
        let failed = done.is_none();
        note(log, done);
        if failed {
            return;
        }
        // bounded: by the test, which drops the client
        tokio::time::sleep(PAUSE).await;
    }
}

async fn commit(client: &Client) -> Option<Commit> {
    let row = NEXT.fetch_add(1, Ordering::Relaxed);
    let begun = Instant::now();
    let done = client
        .batch_execute(&format!("INSERT INTO kept VALUES ({row})"))
        .await;
    done.ok().map(|()| Commit {
        row,
        begun,
        at: Instant::now(),
    })
}

fn note(log: &Mutex<Log>, done: Option<Commit>) {
    let mut log = log.lock().expect("no panic in a client");
    match done {
        Some(commit) => log.commits.push(commit),
        None => log.failures += 1,
    }
}

fn commits(log: &Mutex<Log>) -> Vec<Commit> {
    log.lock().expect("no panic in a client").commits.clone()
}

/// How long both of two nodes acknowledged commits: from the first one of either to the last.
pub fn overlap(old: &[Commit], new: &[Commit]) -> Duration {
    let last_of_old = old.iter().map(|commit| commit.at).max();
    let first_of_new = new.iter().map(|commit| commit.at).min();
    match (last_of_old, first_of_new) {
        (Some(old), Some(new)) => old.saturating_duration_since(new),
        _ => Duration::ZERO,
    }
}

/// Which of these rows a node does not have.
pub async fn missing(node: &TestNode, commits: &[Commit]) -> Vec<i64> {
    let client = node.connect(SUPERUSER).await;
    let rows: Vec<i64> = commits.iter().map(|commit| commit.row).collect();
    let query = "SELECT n FROM unnest($1::bigint[]) AS asked(n) \
                 WHERE NOT EXISTS (SELECT FROM kept WHERE kept.n = asked.n)";
    let found = client.query(query, &[&rows]).await;
    let found = found.expect("the node can be read");
    found.iter().map(|row| row.get(0)).collect()
}
