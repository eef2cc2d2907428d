//! `agent demo` as people run it, with its own measurements held against what it promises.
//!
//! The demo waits for its standby to be caught up, so that nothing acknowledged may be lost; its
//! oracle commits on both nodes whenever they let it, so that two writers would be seen.

#![expect(
    clippy::disallowed_methods,
    clippy::expect_used,
    clippy::print_stderr,
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "runs the built program, as a shell would, and fails the test when it cannot"
)]

use std::collections::BTreeSet;
use std::fs::File;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

/// The demo bounds itself by less.
const RUN_MAX: Duration = Duration::from_secs(75);

/// The demo's ttl.
const TTL_MS: u64 = 3000;

/// A running demo with a directory of its own for everything it makes.
struct Demo {
    child: Option<Child>,
    directory: tempfile::TempDir,
    _program: tempfile::TempDir,
    /// One at a time, also across processes: they measure.
    _turn: File,
}

impl Demo {
    fn start(arguments: &[&str]) -> Self {
        Self::start_as(None, arguments)
    }

    /// Runs it as another user, which needs root.
    fn start_as(user: Option<&str>, arguments: &[&str]) -> Self {
        let turn = Path::new(env!("CARGO_TARGET_TMPDIR")).join("demo.lock");
        let turn = File::create(turn).unwrap();
        turn.lock().unwrap();
        let directory = tempfile::Builder::new()
            .prefix("demo-test-")
            .tempdir_in("/tmp")
            .unwrap();
        let mode = if user.is_some() { 0o777 } else { 0o755 };
        let mode = std::os::unix::fs::PermissionsExt::from_mode(mode);
        std::fs::set_permissions(directory.path(), mode).unwrap();
        // Where the build lies, another user may not be allowed to look.
        let elsewhere = tempfile::tempdir_in("/tmp").unwrap();
        let mut command = match user {
            None => Command::new(env!("CARGO_BIN_EXE_agent")),
            Some(user) => {
                let open = std::os::unix::fs::PermissionsExt::from_mode(0o755);
                std::fs::set_permissions(elsewhere.path(), open).unwrap();
                let program = elsewhere.path().join("agent");
                std::fs::copy(env!("CARGO_BIN_EXE_agent"), &program).unwrap();
                let mut command = Command::new("setpriv");
                command
                    .args(["--reuid", user, "--regid", user, "--init-groups"])
                    .arg(program);
                command
            }
        };
        let child = command
            .arg("demo")
            .args(arguments)
            .env("TMPDIR", directory.path())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the built program runs");
        Self {
            child: Some(child),
            directory,
            _program: elsewhere,
            _turn: turn,
        }
    }

    fn signal(&self, signal: Signal) {
        let id = self.child.as_ref().map_or(0, Child::id);
        let pid = Pid::from_raw(i32::try_from(id).unwrap()).unwrap();
        kill_process(pid, signal).unwrap();
    }

    /// Waits for the end; returns exit code, standard output and standard error.
    fn finish(&mut self) -> (Option<i32>, String, String) {
        let watchdog = Watchdog::start(self.child.as_ref().unwrap().id());
        let output = self.child.take().unwrap().wait_with_output().unwrap();
        drop(watchdog);
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        (
            output.status.code(),
            text(output.stdout),
            text(output.stderr),
        )
    }

    /// Nothing of the demo may be left: no file, and no process that works in its directory.
    fn assert_nothing_is_left(&self) {
        let left: Vec<_> = std::fs::read_dir(self.directory.path())
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .collect();
        assert!(left.is_empty(), "left behind: {left:?}");
        let processes = processes_in(self.directory.path());
        assert!(processes.is_empty(), "still running: {processes:?}");
    }
}

impl Drop for Demo {
    /// The demo cleans up when it is told to stop; only a failed test gets here with a child.
    fn drop(&mut self) {
        if self.child.is_some() {
            self.signal(Signal::TERM);
            self.finish();
        }
    }
}

/// Ends a demo that does not end by itself, so that no test hangs.
struct Watchdog(Option<std::sync::mpsc::Sender<()>>);

impl Watchdog {
    fn start(id: u32) -> Self {
        let (done, waiting) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            if waiting.recv_timeout(RUN_MAX) == Err(std::sync::mpsc::RecvTimeoutError::Timeout) {
                let pid = Pid::from_raw(i32::try_from(id).unwrap()).unwrap();
                kill_process(pid, Signal::TERM).ok();
            }
        });
        Self(Some(done))
    }
}

impl Drop for Watchdog {
    fn drop(&mut self) {
        drop(self.0.take());
    }
}

/// Every process whose command line or working directory is below `directory`.
fn processes_in(directory: &Path) -> BTreeSet<u32> {
    let place = directory.to_str().unwrap();
    let mut found = BTreeSet::new();
    for entry in std::fs::read_dir("/proc").unwrap().flatten() {
        let Some(pid) = entry
            .file_name()
            .to_str()
            .and_then(|name| name.parse().ok())
        else {
            continue;
        };
        let command = std::fs::read_to_string(entry.path().join("cmdline")).unwrap_or_default();
        let cwd = std::fs::read_link(entry.path().join("cwd")).unwrap_or_default();
        if command.contains(place) || cwd.starts_with(directory) {
            found.insert(pid);
        }
    }
    found
}

/// Runs a scenario and checks everything but its times.
fn report(scenario: &str) -> Value {
    report_with(scenario, &[])
}

fn report_with(scenario: &str, more: &[&str]) -> Value {
    let arguments = [&["--json", "--scenario", scenario], more].concat();
    let mut demo = Demo::start(&arguments);
    let (code, stdout, stderr) = demo.finish();
    assert_eq!(code, Some(0), "{scenario}:\n{stderr}");
    let report: Value = serde_json::from_str(&stdout).expect("exactly one JSON object");
    eprintln!("{scenario}: {report:#}");
    assert_eq!(report["scenario"], scenario);
    assert_eq!(report["lost"], 0, "{stderr}");
    assert_eq!(report["two_writers_ms"], 0, "{stderr}");
    assert_eq!(report["old_primary"], "fra");
    assert_eq!(report["new_primary"], "ams");
    assert!(report["acknowledged"].as_u64().unwrap() > 50, "{stderr}");
    for key in ["detected_ms", "promoted_ms", "config_ms", "dns_ms"] {
        assert!(
            report[key].is_i64() || report[key].is_u64(),
            "{key}: {stderr}"
        );
    }
    for (step, site) in [
        ("check_candidate", "ams"),
        ("promote", "ams"),
        ("verify_writes", "ams"),
        ("rewrite_app_config", "ams"),
        ("rewrite_app_config", "fra"),
        ("update_dns", "ams"),
    ] {
        let steps = report["steps"].as_array().unwrap();
        let done = steps
            .iter()
            .any(|shown| shown["step"] == step && shown["site"] == site && shown["done"] == true);
        assert!(done, "{step} at {site}: {stderr}");
    }
    demo.assert_nothing_is_left();
    report
}

fn unavailable_within(report: &Value, bound_ms: u64) {
    let unavailable = report["unavailable_ms"].as_u64().unwrap();
    assert!(unavailable <= bound_ms, "{unavailable} ms > {bound_ms} ms");
}

#[test]
fn killed_postmaster_is_handed_over_within_a_second() {
    let report = report("postmaster-kill");
    unavailable_within(&report, 1000);
    assert!(report["fenced_ms"].as_u64().unwrap() < report["promoted_ms"].as_u64().unwrap());
}

/// The bound is what the name's TTL of one second adds, and one second more.
#[test]
fn client_that_resolves_the_name_follows_within_its_ttl_and_a_second() {
    let report = report_with("postmaster-kill", &["--dns", "bind"]);
    let by_name = report["by_name_ms"].as_u64().unwrap();
    assert!(by_name <= 2000, "{by_name} ms");
}

#[test]
fn hung_database_is_fenced_and_handed_over() {
    let report = report("hang");
    unavailable_within(&report, 3500);
    assert!(report["fenced_ms"].as_u64().unwrap() < report["promoted_ms"].as_u64().unwrap());
}

#[test]
fn lost_site_is_taken_over_after_its_lease() {
    let report = report("site-loss");
    unavailable_within(&report, TTL_MS + 1500);
    // S5: not before the old term has run out at a majority, and nobody there to fence.
    assert_eq!(report["fenced_ms"], Value::Null);
}

/// As root, PostgreSQL runs as another user; this is the other way to run it.
#[test]
fn demo_runs_as_a_normal_user() {
    if !rustix::process::geteuid().is_root() {
        // Then all the others have shown it already.
        return;
    }
    let mut demo = Demo::start_as(Some("postgres"), &["--json"]);
    let (code, stdout, stderr) = demo.finish();
    assert_eq!(code, Some(0), "{stderr}");
    let report: Value = serde_json::from_str(&stdout).expect("exactly one JSON object");
    assert_eq!(
        (&report["lost"], &report["two_writers_ms"]),
        (&0.into(), &0.into())
    );
    demo.assert_nothing_is_left();
}

#[test]
fn interrupted_demo_leaves_nothing_behind() {
    let mut demo = Demo::start(&["--scenario", "postmaster-kill"]);
    // In the middle: a database runs, the agents may just be starting.
    let deadline = Instant::now() + Duration::from_secs(20);
    while processes_in(demo.directory.path()).len() < 6 {
        assert!(Instant::now() < deadline, "the demo starts its databases");
        // bounded: by the deadline above
        std::thread::sleep(Duration::from_millis(20));
    }
    demo.signal(Signal::INT);
    let (code, _, stderr) = demo.finish();
    assert_eq!(code, Some(1), "{stderr}");
    assert!(stderr.contains("interrupted"), "{stderr}");
    demo.assert_nothing_is_left();
}

#[test]
fn missing_postgres_is_said_with_what_to_do() {
    let mut demo = Demo::start(&["--pg-bin", "/does/not/exist"]);
    let (code, _, stderr) = demo.finish();
    assert_eq!(code, Some(2), "{stderr}");
    assert!(stderr.contains("make setup"), "{stderr}");
    demo.assert_nothing_is_left();
}
