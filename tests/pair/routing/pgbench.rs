//! `pgbench` as an app: it ends when its connection breaks, and is then started again.

use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::support::programs::bin_dir;

/// What a client may be told while there is no primary; none of it is a transaction that failed on
/// a living connection, which `pgbench` reports as `ERROR:`.
const OF_CONNECTIONS: [&str; 8] = [
    "connection to server",
    "server closed the connection",
    "This probably means the server terminated",
    "before or while processing the request",
    "could not connect",
    "FATAL:",
    "aborted in command",
    "Run was aborted",
];
/// What it says anyway.
const NOTES: [&str; 4] = [
    "pgbench (",
    "starting vacuum",
    "WARNING:",
    "could not create connection",
];

/// The load, until it is ended.
pub(super) struct Pgbench {
    stop: Arc<AtomicBool>,
    done: Arc<AtomicU64>,
    thread: JoinHandle<Vec<String>>,
}

/// What came of it.
pub(super) struct Outcome {
    pub(super) transactions: u64,
    /// Lines that speak of anything but connections.
    pub(super) odd: Vec<String>,
}

fn program() -> PathBuf {
    bin_dir().join("pgbench")
}

/// One short run; how many transactions it finished, and what it complained of.
fn run(port: u16) -> (u64, Vec<String>) {
    let output = Command::new(program())
        .args([
            "-n",
            "-N",
            "-c",
            "2",
            "-T",
            "1",
            "-h",
            "127.0.0.1",
            "-U",
            "postgres",
        ])
        .args(["-p", &port.to_string(), "postgres"])
        .env("PGCONNECT_TIMEOUT", "5")
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let count = String::from_utf8_lossy(&output.stdout)
        .lines()
        .find_map(|line| {
            let count = line.strip_prefix("number of transactions actually processed: ")?;
            count.split('/').next()?.trim().parse().ok()
        });
    let said = String::from_utf8_lossy(&output.stderr)
        .lines()
        .map(str::to_owned)
        .filter(|line| !line.trim().is_empty())
        .collect();
    (count.unwrap_or(0), said)
}

impl Pgbench {
    /// Fills its tables at the primary itself, then works through `port`.
    pub(super) fn start(primary: u16, port: u16) -> Self {
        let filled = Command::new(program())
            .args(["-i", "-q", "-s", "1", "-h", "127.0.0.1", "-U", "postgres"])
            .args(["-p", &primary.to_string(), "postgres"])
            .output()
            .unwrap();
        assert!(filled.status.success(), "{filled:?}");
        let stop = Arc::new(AtomicBool::new(false));
        let done = Arc::new(AtomicU64::new(0));
        let (ended, counted) = (stop.clone(), done.clone());
        let thread = std::thread::spawn(move || {
            let mut said = Vec::new();
            while !ended.load(Ordering::Acquire) {
                let (count, lines) = run(port);
                counted.fetch_add(count, Ordering::AcqRel);
                said.extend(lines);
                if count == 0 {
                    // bounded: by whoever ends the load
                    std::thread::sleep(Duration::from_millis(50));
                }
            }
            said
        });
        Self { stop, done, thread }
    }

    /// Transactions of the runs that are over.
    pub(super) fn transactions(&self) -> u64 {
        self.done.load(Ordering::Acquire)
    }

    pub(super) fn end(self) -> Outcome {
        self.stop.store(true, Ordering::Release);
        let said = self.thread.join().unwrap();
        let known = |line: &String| {
            let starts = OF_CONNECTIONS.iter().chain(&NOTES);
            !line.contains("ERROR:") && starts.into_iter().any(|part| line.contains(part))
        };
        Outcome {
            transactions: self.done.load(Ordering::Acquire),
            odd: said.into_iter().filter(|line| !known(line)).collect(),
        }
    }
}
