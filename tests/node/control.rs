//! A node is started, stopped and fenced in each of the ways that a site can configure.
#![expect(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    reason = "these tests prepare files by programs, and fail by panicking also in their helpers"
)]

mod commands;

use std::fs;
use std::os::unix::fs::chown;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use failover_agent::config::settings::{Control, Node};
use failover_agent::effects::error::EffectError;
use failover_agent::effects::permit::Unconditional;
use failover_agent::effects::postgres::control::{NodeControl, NodeProcess};
use failover_agent::model::outcome::FailureKind;
use failover_agent::model::{Epoch, SiteName};

use crate::support::permit::Expiring;
use crate::support::postgres::{NodeOptions, Pair, SUPERUSER, TestNode};
use crate::support::processes::state_of;
use crate::support::wait_until;

const AMPLE: Duration = Duration::from_secs(30);
const EPOCH: Epoch = Epoch(7);

fn settings(node: &TestNode, control: Control) -> Node {
    Node {
        host: "127.0.0.1".to_owned(),
        port: node.port,
        data_dir: node.data_dir.clone(),
        bin_dir: Some(node.bin_dir()),
        os_user: None,
        control,
    }
}

fn control_of(settings: Node) -> NodeControl {
    NodeControl::new(SiteName::new("west"), settings)
}

fn local(node: &TestNode) -> NodeControl {
    control_of(settings(node, Control::Local))
}

async fn start(control: &NodeControl) -> Result<(), EffectError> {
    control.start_as_primary(EPOCH, &Unconditional, AMPLE).await
}

async fn check_writable(node: &TestNode) {
    let client = node.connect(SUPERUSER).await;
    client
        .batch_execute("CREATE TABLE IF NOT EXISTS t (n int); INSERT INTO t VALUES (1)")
        .await
        .unwrap();
}

fn signal_file(node: &TestNode) -> PathBuf {
    node.data_dir.join("standby.signal")
}

#[tokio::test]
async fn local_node_is_stopped_fenced_and_started_as_primary() {
    let node = TestNode::primary(NodeOptions::default());
    let control = local(&node);
    assert_eq!(control.status().await, NodeProcess::Running);
    assert!(!control.is_fenced(EPOCH).await.unwrap());
    // It runs as a primary already: nothing to do.
    let postmaster = node.postmaster_pid();
    start(&control).await.unwrap();
    assert_eq!(node.postmaster_pid(), postmaster);

    control.stop(EPOCH, AMPLE).await.unwrap();
    assert_eq!(control.status().await, NodeProcess::Stopped);
    assert!(!signal_file(&node).exists(), "a stop is no fence");
    control.stop(EPOCH, AMPLE).await.unwrap();

    let report = control.fence(EPOCH, Duration::ZERO, AMPLE).await.unwrap();
    assert!(!report.was_running);
    assert!(signal_file(&node).exists());
    assert!(control.is_fenced(EPOCH).await.unwrap());

    start(&control).await.unwrap();
    assert!(!signal_file(&node).exists());
    assert_eq!(control.status().await, NodeProcess::Running);
    check_writable(&node).await;
}

#[tokio::test]
async fn killed_node_starts_although_init_has_not_reaped_it() {
    let node = TestNode::primary(NodeOptions::default());
    check_writable(&node).await;
    let control = local(&node);
    let old = node.postmaster_pid();
    node.signal("KILL", &node.processes());
    wait_until("all processes are gone", AMPLE, || async {
        node.processes().is_empty()
    })
    .await;
    let was_zombie = state_of(old) == Some('Z');
    start(&control).await.unwrap();
    check_writable(&node).await;
    assert_ne!(node.postmaster_pid(), old);
    eprintln!("the old postmaster was a zombie: {was_zombie}");
}

#[tokio::test]
async fn lock_file_of_a_number_taken_by_somebody_else_does_not_stop_a_start() {
    let node = TestNode::primary(NodeOptions::default());
    node.stop("fast");
    // As after a crash and a reboot: the number now belongs to another process, here this one.
    let lock = node.data_dir.join("postmaster.pid");
    fs::write(
        &lock,
        format!("{}\n{}\n", std::process::id(), node.data_dir.display()),
    )
    .unwrap();
    let control = local(&node);
    assert_eq!(control.status().await, NodeProcess::Stopped);
    start(&control).await.unwrap();
    check_writable(&node).await;
}

/// However late the lease ends: the node does not start, and nothing else can start it as primary.
#[tokio::test]
async fn s2_start_whose_lease_ends_on_the_way_starts_nothing() {
    let node = TestNode::primary(NodeOptions::default());
    node.stop("fast");
    fs::write(signal_file(&node), "").unwrap();
    for questions in [0, 1] {
        let permit = Expiring::after(questions);
        let refused = local(&node).start_as_primary(EPOCH, &permit, AMPLE).await;
        let refused = refused.unwrap_err();
        assert_eq!(refused.kind, FailureKind::Retryable, "{refused}");
        assert_eq!(refused.what, "the lease is over");
        assert!(node.processes().is_empty(), "after {questions} questions");
        assert!(signal_file(&node).exists(), "after {questions} questions");
    }
    let permit = Expiring::after(2);
    let started = local(&node).start_as_primary(EPOCH, &permit, AMPLE).await;
    started.unwrap();
    check_writable(&node).await;
}

#[tokio::test]
async fn running_standby_is_not_started_as_primary() {
    let pair = Pair::start();
    let error = start(&local(&pair.standby)).await.unwrap_err();
    assert_eq!(error.kind, FailureKind::Permanent);
    assert!(signal_file(&pair.standby).exists());
    pair.wait_caught_up().await;
}

#[tokio::test]
async fn leftover_backend_must_be_fenced_before_a_start() {
    let node = TestNode::primary(NodeOptions::default());
    let client = node.connect(SUPERUSER).await;
    let row = client
        .query_one("SELECT pg_backend_pid()", &[])
        .await
        .unwrap();
    let backend = row.get::<_, i32>(0).cast_unsigned();
    node.signal("STOP", &[backend]);
    wait_until("the backend is stopped", AMPLE, || async {
        state_of(backend) == Some('T')
    })
    .await;
    node.signal("KILL", &[node.postmaster_pid()]);
    wait_until("only the backend is left", AMPLE, || async {
        node.processes() == [backend]
    })
    .await;

    let control = local(&node);
    assert!(matches!(
        control.status().await,
        NodeProcess::Unknown { .. }
    ));
    assert_eq!(
        start(&control).await.unwrap_err().kind,
        FailureKind::Permanent
    );
    control.fence(EPOCH, Duration::ZERO, AMPLE).await.unwrap();
    start(&control).await.unwrap();
    check_writable(&node).await;
}

#[tokio::test]
async fn failed_start_tells_why_and_leaves_a_standby() {
    let node = TestNode::primary(NodeOptions::default());
    let control = local(&node);
    control.fence(EPOCH, Duration::ZERO, AMPLE).await.unwrap();
    node.append_setting("no_such_setting", "1");
    let error = start(&control).await.unwrap_err();
    assert_eq!(error.kind, FailureKind::Retryable);
    assert!(error.what.contains("FATAL"), "{error}");
    assert!(
        signal_file(&node).exists(),
        "another starter would make it a second primary"
    );
    assert_eq!(control.status().await, NodeProcess::Stopped);
}

#[tokio::test]
async fn configuration_outside_the_data_directory_is_found() {
    let node = TestNode::primary(NodeOptions::default());
    node.stop("fast");
    let conf_dir = node.data_dir.with_file_name("etc");
    fs::create_dir(&conf_dir).unwrap();
    for name in ["postgresql.conf", "test.conf"] {
        fs::rename(node.data_dir.join(name), conf_dir.join(name)).unwrap();
    }
    let conf = conf_dir.join("postgresql.conf");
    let control = local(&node);
    let opts = node.data_dir.join("postmaster.opts");
    let bin = node.bin_dir();
    fs::write(&opts, "").unwrap();
    assert_eq!(
        start(&control).await.unwrap_err().kind,
        FailureKind::Permanent
    );

    // What the server writes when it is started by the distribution's own means.
    let line = format!(
        "{}/postgres \"-D\" \"{}\" \"-c\" \"config_file={}\"\n",
        bin.display(),
        node.data_dir.display(),
        conf.display()
    );
    fs::write(&opts, line).unwrap();
    start(&control).await.unwrap();
    check_writable(&node).await;
    let client = node.connect(SUPERUSER).await;
    let row = client.query_one("SHOW config_file", &[]).await.unwrap();
    assert_eq!(Path::new(row.get::<_, &str>(0)), conf);
}

/// The failure of starting with these settings, which must be permanent and carry a hint.
async fn refused_start(settings: Node) -> String {
    let error = start(&control_of(settings)).await.unwrap_err();
    assert_eq!(error.kind, FailureKind::Permanent, "{error}");
    assert!(error.hint.is_some(), "{error}");
    error.what
}

#[tokio::test]
async fn wrong_directories_and_owners_are_named() {
    let node = TestNode::primary(NodeOptions::default());
    node.stop("fast");
    let good = || settings(&node, Control::Local);

    let missing = Node {
        data_dir: "/no/such/dir".into(),
        ..good()
    };
    assert!(
        refused_start(missing.clone())
            .await
            .contains("/no/such/dir")
    );
    assert!(matches!(
        control_of(missing).status().await,
        NodeProcess::Unknown { .. }
    ));
    let other = tempfile::tempdir().unwrap();
    let empty = Node {
        data_dir: other.path().into(),
        ..good()
    };
    assert!(
        refused_start(empty)
            .await
            .contains("not a PostgreSQL data directory")
    );
    let no_programs = Node {
        bin_dir: Some(other.path().into()),
        ..good()
    };
    assert!(refused_start(no_programs).await.contains("no pg_ctl"));
    let wrong_owner = Node {
        os_user: Some("daemon".to_owned()),
        ..good()
    };
    assert!(refused_start(wrong_owner).await.contains("not by daemon"));
    let nobody = Node {
        os_user: Some("no-such-user".to_owned()),
        ..good()
    };
    assert!(refused_start(nobody).await.contains("no-such-user"));
    fs::write(node.data_dir.join("PG_VERSION"), "garbage\n").unwrap();
    assert!(refused_start(good()).await.contains("garbage"));
}

#[tokio::test]
async fn programs_are_found_by_version_and_owner_is_the_default_user() {
    let node = TestNode::primary(NodeOptions::default());
    node.stop("fast");
    let version = fs::read_to_string(node.data_dir.join("PG_VERSION")).unwrap();
    let installed = PathBuf::from(format!("/usr/lib/postgresql/{}/bin", version.trim())).exists();
    let found = start(&control_of(Node {
        bin_dir: None,
        ..settings(&node, Control::Local)
    }))
    .await;
    // Where the tests' server lies elsewhere, it must be said that there is none.
    match found {
        Ok(()) => check_writable(&node).await,
        Err(error) => assert!(!installed && error.what.contains("no pg_ctl"), "{error}"),
    }
}

#[tokio::test]
async fn fence_under_systemd_does_not_depend_on_systemd() {
    let node = TestNode::primary(NodeOptions::default());
    let unit = "agent-test-no-such-unit.service".to_owned();
    let control = control_of(settings(&node, Control::Systemd { unit }));
    assert_eq!(control.status().await, NodeProcess::Running);
    let report = control.fence(EPOCH, Duration::ZERO, AMPLE).await.unwrap();
    assert!(report.was_running);
    assert_eq!(node.processes(), Vec::<u32>::new());
    assert!(
        report
            .problem
            .unwrap()
            .contains("systemd may start it again")
    );

    start(&control).await.unwrap_err();
    assert!(signal_file(&node).exists());
}

#[tokio::test]
async fn data_directory_of_root_is_refused() {
    let node = TestNode::primary(NodeOptions::default());
    node.stop("fast");
    if chown(&node.data_dir, Some(0), Some(0)).is_err() {
        // Only root can set this scene; everybody else cannot even look at such a server.
        let root = Command::new("stat")
            .args(["-c", "%u", "/proc/1"])
            .output()
            .unwrap();
        assert_eq!(root.stdout, b"0\n");
        return;
    }
    let error = refused_start(settings(&node, Control::Local)).await;
    assert!(error.contains("owned by root"), "{error}");
}
