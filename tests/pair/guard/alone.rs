//! The guard by itself: fed by the test, over a real node.

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use failover_agent::effects::clock::boottime;
use failover_agent::model::Epoch;
use failover_agent::runtime::guard::protocol::{
    Answer, GuardState, Request, Term, Verdict, WatchdogSeen, line, socket_path,
};

use super::SOON;
use crate::support::postgres::{NodeOptions, TestNode};
use crate::support::wait_until_blocking;

/// A guard as the agent starts it.
struct Guard {
    child: Child,
    stream: BufReader<UnixStream>,
    number: u64,
}

impl Guard {
    fn start(node: &TestNode, state_dir: &Path, more: &[&str]) -> Self {
        let (ours, theirs) = UnixStream::pair().unwrap();
        ours.set_read_timeout(Some(SOON)).unwrap();
        let child = Command::new(env!("CARGO_BIN_EXE_agent"))
            .args(["guard", "--fence-budget-ms", "2000", "--data-dir"])
            .arg(&node.data_dir)
            .arg("--state-dir")
            .arg(state_dir)
            .args(more)
            .stdin(Stdio::from(std::os::fd::OwnedFd::from(theirs)))
            .spawn()
            .unwrap();
        let mut guard = Self {
            child,
            stream: BufReader::new(ours),
            number: 0,
        };
        guard.read();
        guard
    }

    fn read(&mut self) -> String {
        let mut text = String::new();
        self.stream.read_line(&mut text).unwrap();
        assert!(!text.is_empty(), "the guard is gone");
        text
    }

    fn ask(&mut self, request: impl FnOnce(u64) -> Request) -> Answer {
        self.number += 1;
        let bytes = line(&request(self.number)).unwrap();
        self.stream.get_mut().write_all(&bytes).unwrap();
        let answer: Answer = serde_json::from_str(&self.read()).unwrap();
        assert_eq!(answer.number, self.number);
        answer
    }

    fn push(&mut self, epoch: u64, left: Duration) -> Verdict {
        let fence_at = boottime() + left;
        let epoch = Epoch(epoch);
        let term = Term { epoch, fence_at };
        let push = |number| Request::Push {
            number,
            term,
            armed: true,
        };
        self.ask(push).verdict
    }

    fn state(&mut self) -> GuardState {
        self.ask(|number| Request::Look { number }).state
    }

    /// Its agent is gone.
    fn desert(&mut self) {
        let (gone, _) = UnixStream::pair().unwrap();
        self.stream = BufReader::new(gone);
    }

    fn wait_fences(&mut self, count: u64) {
        wait_until_blocking("the fence", SOON, || self.state().fences >= count);
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

#[test]
fn s2_start_under_way_at_the_deadline_never_leaves_a_writable_node() {
    let node = TestNode::primary(NodeOptions::default());
    let state = tempfile::tempdir().unwrap();
    let mut guard = Guard::start(&node, state.path(), &[]);
    node.stop("fast");
    for round in 1..=8_u64 {
        drop(fs::remove_file(node.data_dir.join("standby.signal")));
        // Ends at some moment of the start, another one in each round.
        let left = Duration::from_millis(round * 25);
        assert_eq!(guard.push(round, left), Verdict::Taken);
        drop(node.try_start());
        guard.wait_fences(round);
        // Whatever has come up since then is a standby, and stays one.
        assert!(node.data_dir.join("standby.signal").exists(), "{round}");
        node.kill_all();
    }
}

#[test]
fn s10_node_started_as_primary_after_the_fence_is_fenced_again() {
    let node = TestNode::primary(NodeOptions::default());
    let state = tempfile::tempdir().unwrap();
    let mut guard = Guard::start(&node, state.path(), &[]);
    guard.push(3, Duration::from_millis(50));
    guard.wait_fences(1);
    assert!(node.processes().is_empty());
    guard.ask(|number| Request::Disarm { number });
    fs::remove_file(node.data_dir.join("standby.signal")).unwrap();
    drop(node.try_start());
    guard.wait_fences(2);
    assert!(node.data_dir.join("standby.signal").exists());
    // A newer lease ends it.
    assert_eq!(guard.push(2, SOON), Verdict::Stale);
    assert_eq!(guard.push(4, SOON), Verdict::Taken);
    fs::remove_file(node.data_dir.join("standby.signal")).unwrap();
    node.start();
    assert_eq!(guard.state().fences, 2);
}

#[test]
fn s4_guard_without_agent_goes_on_to_its_deadline() {
    let node = TestNode::primary(NodeOptions::default());
    let state = tempfile::tempdir().unwrap();
    let mut guard = Guard::start(&node, state.path(), &[]);
    assert_eq!(guard.push(1, Duration::from_millis(700)), Verdict::Taken);
    guard.desert();
    assert!(!node.processes().is_empty());
    wait_until_blocking("the node is fenced", SOON, || node.processes().is_empty());
    // Nobody needs it any more once its state directory is gone.
    drop(state);
    wait_until_blocking("the guard ends", SOON, || {
        guard.child.try_wait().unwrap().is_some()
    });
}

#[test]
fn s4_guard_without_agent_and_without_listener_goes_on_to_its_deadline() {
    let node = TestNode::primary(NodeOptions::default());
    let state = tempfile::tempdir().unwrap();
    // No socket can be put there: the agent at its standard input is the only one that it hears.
    fs::create_dir(socket_path(state.path())).unwrap();
    let mut guard = Guard::start(&node, state.path(), &[]);
    // Longer than a guard beside another one would stay.
    assert_eq!(guard.push(1, Duration::from_secs(3)), Verdict::Taken);
    guard.desert();
    assert!(!node.processes().is_empty());
    wait_until_blocking("the node is fenced", SOON, || {
        assert!(guard.child.try_wait().unwrap().is_none(), "it has ended");
        node.processes().is_empty()
    });
    assert!(node.data_dir.join("standby.signal").exists());
}

#[test]
fn guard_that_could_not_listen_is_found_once_it_can() {
    let node = TestNode::primary(NodeOptions::default());
    let state = tempfile::tempdir().unwrap();
    fs::create_dir(socket_path(state.path())).unwrap();
    let mut guard = Guard::start(&node, state.path(), &[]);
    assert_eq!(guard.push(1, SOON), Verdict::Taken);
    let log = || fs::read_to_string(state.path().join("guard.log")).unwrap_or_default();
    let said = || log().matches("cannot listen").count();
    wait_until_blocking("it says so", SOON, || said() > 0);
    fs::remove_dir(socket_path(state.path())).unwrap();
    wait_until_blocking("it listens", SOON, || {
        UnixStream::connect(socket_path(state.path())).is_ok()
    });
    assert_eq!(said(), 1, "once: {}", log());
}

#[test]
fn s4_guard_without_agent_beside_another_one_leaves_the_fence_to_that() {
    let node = TestNode::primary(NodeOptions::default());
    let state = tempfile::tempdir().unwrap();
    let mut first = Guard::start(&node, state.path(), &[]);
    assert_eq!(first.push(1, SOON), Verdict::Taken);
    wait_until_blocking("the first one listens", SOON, || {
        socket_path(state.path()).exists()
    });
    let mut second = Guard::start(&node, state.path(), &[]);
    assert_eq!(second.push(1, SOON), Verdict::Taken);
    second.desert();
    wait_until_blocking("the second one ends", SOON, || {
        second.child.try_wait().unwrap().is_some()
    });
    assert_eq!(first.state().fences, 0);
    assert!(!node.processes().is_empty());
}

/// The device is a stand-in: a plain file whose writes the test reads, described by a directory
/// like the kernel's.
#[test]
fn watchdog_is_fed_while_the_lease_runs_and_let_go_after_the_last_backend() {
    let node = TestNode::primary(NodeOptions::default());
    let state = tempfile::tempdir().unwrap();
    let device = state.path().join("watchdog7");
    let sysfs = state.path().join("sys");
    fs::write(&device, "").unwrap();
    fs::create_dir_all(sysfs.join("watchdog7")).unwrap();
    fs::write(sysfs.join("watchdog7/timeout"), "2\n").unwrap();
    let sysfs_arg = sysfs.to_string_lossy().into_owned();
    let device_arg = device.to_string_lossy().into_owned();
    let mut more = vec!["--watchdog", &device_arg, "--watchdog-sysfs", &sysfs_arg];
    more.extend(["--watchdog-timeout-max-ms", "2000"]);
    let mut guard = Guard::start(&node, state.path(), &more);
    let written = || String::from_utf8(fs::read(&device).unwrap()).unwrap();
    wait_until_blocking("the device is found", SOON, || {
        guard.state().watchdog == WatchdogSeen::Ready
    });
    assert_eq!(written(), "", "not started while nothing is guarded");
    guard.push(1, Duration::from_secs(3));
    wait_until_blocking("it is fed", SOON, || written().len() >= 2);
    assert_eq!(guard.state().watchdog, WatchdogSeen::Running);
    wait_until_blocking("it is let go", SOON, || written().ends_with('V'));
    assert!(
        node.processes().is_empty(),
        "not before the last backend is gone"
    );
    guard.wait_fences(1);
    assert_eq!(guard.state().watchdog, WatchdogSeen::Ready);
}

#[test]
fn watchdog_that_outlasts_the_lease_is_not_used() {
    let node = TestNode::primary(NodeOptions::default());
    let state = tempfile::tempdir().unwrap();
    let device = state.path().join("watchdog");
    fs::write(&device, "").unwrap();
    fs::create_dir_all(state.path().join("watchdog0")).unwrap();
    fs::write(state.path().join("watchdog0/timeout"), "60\n").unwrap();
    let sysfs = state.path().to_string_lossy().into_owned();
    let device = device.to_string_lossy().into_owned();
    let mut more = vec!["--watchdog", &device, "--watchdog-sysfs", &sysfs];
    more.extend(["--watchdog-timeout-max-ms", "6550"]);
    let mut guard = Guard::start(&node, state.path(), &more);
    wait_until_blocking(
        "it says why",
        SOON,
        || matches!(guard.state().watchdog, WatchdogSeen::Unusable { why } if why.contains("60 s")),
    );
}
