//! A fenced node cannot commit, whatever state it was in (S3), and nothing starts it as a primary
//! again by itself (S10).
#![expect(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "writers run beside the fence, and helpers fail the test by panicking and show times"
)]

mod vanished;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant};

use failover_agent::effects::postgres::fence::{FenceReport, fence, fence_off_thread, is_fenced};
use failover_agent::effects::postgres::process::{Instance, PidFile, attached};
use failover_agent::effects::postgres::watch::PostmasterWatch;
use failover_agent::model::observation::ProcessSeen;
use failover_agent::model::outcome::FailureKind;
use tokio::task::JoinHandle;
use tokio_postgres::Client;

use crate::support::postgres::{NodeOptions, Pair, SUPERUSER, TestNode};
use crate::support::processes::state_of;
use crate::support::wait_until;

const AMPLE: Duration = Duration::from_secs(30);
const BUDGET: Duration = Duration::from_secs(10);
const NO_GRACE: Duration = Duration::ZERO;

/// A session that commits one row after the other until its connection breaks.
struct Writer {
    task: JoinHandle<()>,
    sent: Arc<AtomicI64>,
    acknowledged: Arc<AtomicI64>,
}

impl Writer {
    async fn start(node: &TestNode) -> Self {
        let client = node.connect(SUPERUSER).await;
        client
            .batch_execute("CREATE TABLE written (n bigint)")
            .await
            .unwrap();
        let sent = Arc::new(AtomicI64::new(0));
        let acknowledged = Arc::new(AtomicI64::new(0));
        let (sent_too, acknowledged_too) = (sent.clone(), acknowledged.clone());
        let task = tokio::spawn(async move {
            let insert = client
                .prepare("INSERT INTO written VALUES ($1)")
                .await
                .unwrap();
            for n in 1.. {
                sent_too.store(n, Ordering::SeqCst);
                if client.execute(&insert, &[&n]).await.is_err() {
                    break;
                }
                acknowledged_too.store(n, Ordering::SeqCst);
            }
        });
        let writer = Self {
            task,
            sent,
            acknowledged,
        };
        wait_until("the writer commits", AMPLE, || async {
            writer.acknowledged() > 50
        })
        .await;
        writer
    }

    fn acknowledged(&self) -> i64 {
        self.acknowledged.load(Ordering::SeqCst)
    }

    /// To be called right after a fence. Waits for the connection to break; returns the last
    /// acknowledged and the last sent commit.
    async fn check_stopped(self) -> (i64, i64) {
        // One answer may still be on its way to the client, which then sends one commit more.
        let sent_max = self.sent.load(Ordering::SeqCst) + 1;
        tokio::time::timeout(AMPLE, self.task)
            .await
            .unwrap()
            .unwrap();
        let sent = self.sent.load(Ordering::SeqCst);
        assert!(
            sent <= sent_max,
            "commits went on after the fence: {sent} > {sent_max}"
        );
        (self.acknowledged.load(Ordering::SeqCst), sent)
    }
}

async fn session_in_transaction(node: &TestNode) -> Client {
    let client = node.connect(SUPERUSER).await;
    client
        .batch_execute("BEGIN; CREATE TABLE uncommitted (n int)")
        .await
        .unwrap();
    client
}

async fn fence_node(node: &TestNode, grace: Duration) -> FenceReport {
    let instance = Instance::new(&node.data_dir);
    let report = fence_off_thread(instance, grace, BUDGET).await.unwrap();
    check_nothing_left(node);
    println!("fenced: {report:?}");
    report
}

fn check_nothing_left(node: &TestNode) {
    assert_eq!(node.processes(), Vec::<u32>::new());
    let instance = Instance::new(&node.data_dir);
    assert!(is_fenced(&instance).unwrap());
    assert_eq!(instance.look(), ProcessSeen::Gone);
    assert!(node.data_dir.join("standby.signal").exists());
}

/// The rows on the node's disk, read by starting it: the fence made sure that it comes up as a
/// standby.
async fn rows_after_restart(node: &TestNode) -> (i64, i64) {
    node.start();
    let client = node.connect(SUPERUSER).await;
    let query = "SELECT pg_is_in_recovery(), coalesce(max(n), 0), count(*) FROM written";
    let row = client.query_one(query, &[]).await.unwrap();
    assert!(row.get::<_, bool>(0), "the node came back as a primary");
    (row.get(1), row.get(2))
}

async fn wait_stopped(pids: &[u32]) {
    wait_until("the processes are stopped", AMPLE, || async {
        pids.iter().all(|pid| state_of(*pid) == Some('T'))
    })
    .await;
}

/// `standby.signal` is there, and nothing went wrong with it. How soon it is synced is the disk's
/// affair: the fence does not wait for that (S3).
fn assert_signal_written(report: &FenceReport) {
    let not_yet = "standby.signal is written but not synced yet";
    let problem = report.problem.as_deref();
    assert!(problem.is_none_or(|it| it == not_yet), "{report:?}");
}

/// The next fence finds it safe from a power cut, too.
async fn wait_signal_synced(node: &TestNode) {
    wait_until("standby.signal is synced", AMPLE, async || {
        fence_node(node, NO_GRACE).await.problem.is_none()
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn busy_primary_commits_nothing_after_the_fence() {
    let node = TestNode::primary(NodeOptions::default());
    let mut sessions = Vec::new();
    for _ in 0..5 {
        let client = node.connect(SUPERUSER).await;
        client
            .batch_execute("BEGIN; SELECT txid_current()")
            .await
            .unwrap();
        sessions.push(client);
    }
    let open = session_in_transaction(&node).await;
    let writer = Writer::start(&node).await;

    let report = fence_node(&node, NO_GRACE).await;
    assert!(report.was_running && report.forced);
    assert_signal_written(&report);
    wait_signal_synced(&node).await;
    let (acknowledged, sent) = writer.check_stopped().await;
    assert!(open.batch_execute("COMMIT").await.is_err());

    let (newest, rows) = rows_after_restart(&node).await;
    assert_eq!(newest, rows);
    assert!(
        acknowledged <= newest && newest <= sent,
        "{acknowledged} {newest} {sent}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stopped_postmaster_is_not_waited_for() {
    let node = TestNode::primary(NodeOptions::default());
    let writer = Writer::start(&node).await;
    let postmaster = node.postmaster_pid();
    node.signal("STOP", &[postmaster]);
    wait_stopped(&[postmaster]).await;
    let instance = Instance::new(&node.data_dir);
    assert_eq!(instance.look(), ProcessSeen::Stopped { pid: postmaster });

    // Its backends go on committing, which is what makes it dangerous.
    let before = writer.acknowledged();
    wait_until("the writer goes on", AMPLE, || async {
        writer.acknowledged() > before + 10
    })
    .await;

    // A grace is no use here and must not be used up.
    let began = Instant::now();
    let report = fence_node(&node, AMPLE * 4).await;
    assert!(began.elapsed() < AMPLE);
    assert!(report.forced && report.killed >= 2, "{report:?}");
    writer.check_stopped().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn wholly_stopped_instance_is_killed() {
    let node = TestNode::primary(NodeOptions::default());
    let writer = Writer::start(&node).await;
    let postmaster = node.postmaster_pid();
    // The postmaster first, or it would take note of its stopped children.
    node.signal("STOP", &[postmaster]);
    let all = node.processes();
    node.signal("STOP", &all);
    wait_stopped(&all).await;

    let report = fence_node(&node, NO_GRACE).await;
    assert_eq!(report.killed, all.len());
    let (acknowledged, sent) = writer.check_stopped().await;
    let (newest, _) = rows_after_restart(&node).await;
    assert!(
        acknowledged <= newest && newest <= sent,
        "{acknowledged} {newest} {sent}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn orphaned_backend_is_found_and_killed() {
    let node = TestNode::primary(NodeOptions::default());
    let client = session_in_transaction(&node).await;
    let row = client
        .query_one("SELECT pg_backend_pid()", &[])
        .await
        .unwrap();
    let backend: u32 = row.get::<_, i32>(0).cast_unsigned();
    node.signal("STOP", &[backend]);
    wait_stopped(&[backend]).await;
    node.signal("KILL", &[node.postmaster_pid()]);
    wait_until("only the stopped backend is left", AMPLE, || async {
        node.processes() == [backend]
    })
    .await;

    let instance = Instance::new(&node.data_dir);
    assert_eq!(instance.look(), ProcessSeen::Gone);
    assert!(!is_fenced(&instance).unwrap());
    let report = fence_node(&node, AMPLE).await;
    assert_eq!(
        (report.was_running, report.forced, report.killed),
        (true, true, 1)
    );
    assert!(client.batch_execute("COMMIT").await.is_err());
}

#[tokio::test]
async fn second_fence_finds_nothing_to_do() {
    let node = TestNode::primary(NodeOptions::default());
    let first = fence_node(&node, NO_GRACE).await;
    assert!(first.was_running);
    let second = fence_node(&node, AMPLE).await;
    assert!(!second.was_running && !second.forced);
    assert_eq!(second.killed, 0);
    assert_signal_written(&second);
    wait_signal_synced(&node).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn grace_delivers_every_commit_to_the_standby() {
    let pair = Pair::start();
    let writer = Writer::start(&pair.primary).await;
    pair.wait_caught_up().await;

    let report = fence_node(&pair.primary, AMPLE).await;
    assert!(report.was_running && !report.forced, "{report:?}");
    assert_eq!(report.killed, 0);
    let (acknowledged, sent) = writer.check_stopped().await;
    let client = pair.standby.connect(SUPERUSER).await;
    let newest = || async {
        let row = client
            .query_one("SELECT max(n), count(*) FROM written", &[])
            .await
            .unwrap();
        assert_eq!(row.get::<_, i64>(0), row.get::<_, i64>(1));
        row.get::<_, i64>(0)
    };
    wait_until("the standby has replayed it all", AMPLE, || async {
        newest().await >= acknowledged
    })
    .await;
    assert!(newest().await <= sent);
}

#[tokio::test]
async fn other_instance_on_the_host_is_untouched() {
    let doomed = TestNode::primary(NodeOptions::default());
    let other = TestNode::primary(NodeOptions::default());
    let client = other.connect(SUPERUSER).await;
    let postmaster = other.postmaster_pid();
    fence_node(&doomed, NO_GRACE).await;
    client
        .batch_execute("CREATE TABLE still_here (n int)")
        .await
        .unwrap();
    assert_eq!(other.postmaster_pid(), postmaster);
    assert!(!other.data_dir.join("standby.signal").exists());
}

#[tokio::test]
async fn bystander_in_the_data_directory_is_not_killed() {
    let node = TestNode::primary(NodeOptions::default());
    let mut shell = Command::new("sleep")
        .arg("600")
        .current_dir(&node.data_dir)
        .stdin(Stdio::null())
        .spawn()
        .unwrap();
    let report = fence(&Instance::new(&node.data_dir), NO_GRACE, BUDGET).unwrap();
    assert!(report.was_running);
    assert!(is_fenced(&Instance::new(&node.data_dir)).unwrap());
    assert_eq!(node.processes(), [shell.id()]);
    shell.kill().unwrap();
    shell.wait().unwrap();
}

#[test]
fn missing_data_directory_proves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let instance = Instance::new(dir.path().join("none"));
    let error = fence(&instance, NO_GRACE, BUDGET).unwrap_err();
    assert_eq!(error.kind, FailureKind::Permanent);
    assert_eq!(
        is_fenced(&instance).unwrap_err().kind,
        FailureKind::Permanent
    );
    assert!(matches!(instance.look(), ProcessSeen::Unknown { .. }));
}

/// Every file below a directory, by its path in it.
fn files_below(dir: &Path, inside: &Path, found: &mut BTreeSet<PathBuf>) {
    for entry in fs::read_dir(dir).unwrap().map(Result::unwrap) {
        let path = inside.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            files_below(&entry.path(), &path, found);
        } else {
            found.insert(path);
        }
    }
}

#[test]
fn s12_fence_takes_nothing_away_from_the_data_directory() {
    let node = TestNode::primary(NodeOptions::default());
    let held = |dir: &str| {
        let mut files = BTreeSet::new();
        files_below(&node.data_dir.join(dir), Path::new(dir), &mut files);
        files
    };
    // What holds data; PostgreSQL itself clears up its own temporary files elsewhere.
    let holding = ["base", "global", "pg_wal", "pg_xact"];
    let before = holding.map(held);
    let instance = Instance::new(&node.data_dir);
    assert!(fence(&instance, NO_GRACE, BUDGET).unwrap().forced);
    for (before, dir) in before.iter().zip(holding) {
        let lost: Vec<_> = before.difference(&held(dir)).cloned().collect();
        assert_eq!(lost, Vec::<PathBuf>::new());
        assert!(!before.is_empty(), "{dir} holds nothing");
    }
}

#[test]
fn deleted_pid_file_hides_nothing() {
    let node = TestNode::primary(NodeOptions::default());
    let postmaster = node.postmaster_pid();
    fs::remove_file(node.data_dir.join("postmaster.pid")).unwrap();
    let instance = Instance::new(&node.data_dir);
    assert_eq!(instance.look(), ProcessSeen::Running { pid: postmaster });
    let report = fence(&instance, NO_GRACE, BUDGET).unwrap();
    assert!(report.was_running);
    check_nothing_left(&node);
}

#[test]
fn unwritable_signal_file_is_reported_and_stops_nothing() {
    let node = TestNode::primary(NodeOptions::default());
    fs::create_dir(node.data_dir.join("standby.signal")).unwrap();
    let report = fence(&Instance::new(&node.data_dir), NO_GRACE, BUDGET).unwrap();
    assert!(report.was_running);
    let problem = report.problem.unwrap();
    assert!(
        problem.starts_with("cannot write standby.signal"),
        "{problem}"
    );
    check_nothing_left(&node);
}

#[test]
fn shared_memory_betrays_the_processes_that_use_it() {
    let node = TestNode::primary(NodeOptions::default());
    let instance = Instance::new(&node.data_dir);
    let memory = PidFile::read(&node.data_dir)
        .unwrap()
        .unwrap()
        .memory
        .unwrap();
    let found: Vec<_> = attached(memory).iter().map(|process| process.pid).collect();
    assert!(found.contains(&node.postmaster_pid()));
    assert!(found.iter().all(|pid| node.processes().contains(pid)));
    fence(&instance, NO_GRACE, BUDGET).unwrap();
    assert_eq!(attached(memory), []);
}

#[tokio::test]
async fn death_of_the_postmaster_is_seen_through_its_pidfd() {
    let node = TestNode::primary(NodeOptions::default());
    let instance = Instance::new(&node.data_dir);
    let watch = PostmasterWatch::open(&instance).unwrap().unwrap();
    assert_eq!(watch.pid(), node.postmaster_pid());
    let lives = tokio::time::timeout(Duration::from_millis(50), watch.died()).await;
    assert!(lives.is_err(), "a living postmaster was taken for dead");

    let killed = Instant::now();
    node.signal("KILL", &[watch.pid()]);
    tokio::time::timeout(AMPLE, watch.died())
        .await
        .unwrap()
        .unwrap();
    println!("death seen {:?} after `kill` was started", killed.elapsed());
    wait_until("the others follow", AMPLE, || async {
        node.processes().is_empty()
    })
    .await;
    assert!(PostmasterWatch::open(&instance).unwrap().is_none());
}
