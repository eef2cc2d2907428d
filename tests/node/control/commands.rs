//! Nodes that are controlled by a site's own commands, which are never believed without proof.

use std::fs;
use std::time::{Duration, Instant};

use failover_agent::config::settings::{Control, ControlCommands};
use failover_agent::effects::permit::Unconditional;
use failover_agent::effects::postgres::control::{NodeControl, NodeProcess};
use failover_agent::model::outcome::FailureKind;

use super::{AMPLE, EPOCH, check_writable, control_of, local, settings, start};
use crate::support::postgres::{NodeOptions, TestNode};

/// Words that run the rest as the owner of the data directory.
fn as_owner(node: &TestNode) -> String {
    use std::os::unix::fs::MetadataExt;
    let owner = fs::metadata(&node.data_dir).unwrap();
    let own = fs::metadata("/proc/self").unwrap().uid();
    if own == owner.uid() {
        return String::new();
    }
    format!(
        "setpriv --reuid={} --regid={} --clear-groups",
        owner.uid(),
        owner.gid()
    )
}

fn commands(node: &TestNode) -> ControlCommands {
    let pg_ctl = format!(
        "{} {}/pg_ctl -D {{data_dir}}",
        as_owner(node),
        node.bin_dir().display()
    );
    let shell = |script: &str| ["sh", "-c", script].map(str::to_owned).to_vec();
    let fence =
        format!("echo {{site}} {{epoch}} >> {{data_dir}}/fence.log; {pg_ctl} -m immediate stop");
    ControlCommands {
        start: shell(&format!("exec {pg_ctl} -W -l /dev/null start")),
        stop: shell(&format!("exec {pg_ctl} -m fast stop")),
        promote: Some(
            ["promote", "{host}:{port}", "{site}", "{epoch}"]
                .map(str::to_owned)
                .to_vec(),
        ),
        status: shell(&format!("exec {pg_ctl} status")),
        fence: Some(shell(&fence)),
        fenced: Some(shell(&format!("{pg_ctl} status; test $? -eq 3"))),
        timeout: AMPLE,
    }
}

fn by(node: &TestNode, commands: ControlCommands) -> NodeControl {
    control_of(settings(node, Control::Commands(Box::new(commands))))
}

#[tokio::test]
async fn node_behind_commands_is_controlled_by_them() {
    let node = TestNode::primary(NodeOptions::default());
    let control = by(&node, commands(&node));
    assert!(control.instance().is_none());
    assert_eq!(control.status().await, NodeProcess::Running);
    assert!(!control.is_fenced(EPOCH).await.unwrap());

    let report = control.fence(EPOCH, Duration::ZERO, AMPLE).await.unwrap();
    assert!(report.forced);
    assert_eq!(report.problem, None);
    assert!(control.is_fenced(EPOCH).await.unwrap());
    assert_eq!(control.status().await, NodeProcess::Stopped);
    let log = fs::read_to_string(node.data_dir.join("fence.log")).unwrap();
    assert_eq!(log, "west 7\n");

    // The start command does not wait; the control does.
    start(&control).await.unwrap();
    check_writable(&node).await;
    control.stop(EPOCH, AMPLE).await.unwrap();
    assert_eq!(control.status().await, NodeProcess::Stopped);

    let promote = control.promote_command(EPOCH).unwrap().unwrap();
    assert_eq!(
        promote.to_string(),
        format!("`promote 127.0.0.1:{} west 7`", node.port)
    );
    assert!(local(&node).promote_command(EPOCH).unwrap().is_none());
}

#[tokio::test]
async fn start_that_never_accepts_connections_is_an_unknown_outcome() {
    let node = TestNode::primary(NodeOptions::default());
    node.stop("fast");
    let idle = ControlCommands {
        start: vec!["true".to_owned()],
        ..commands(&node)
    };
    let error = by(&node, idle)
        .start_as_primary(EPOCH, &Unconditional, Duration::from_millis(500))
        .await;
    assert_eq!(error.unwrap_err().kind, FailureKind::OutcomeUnknown);
}

#[tokio::test]
async fn node_without_fence_commands_cannot_be_fenced() {
    let node = TestNode::primary(NodeOptions::default());
    for (fence, fenced) in [
        (None, Some(vec!["true".to_owned()])),
        (Some(vec!["true".to_owned()]), None),
    ] {
        let control = by(
            &node,
            ControlCommands {
                fence,
                fenced,
                ..commands(&node)
            },
        );
        let error = control
            .fence(EPOCH, Duration::ZERO, AMPLE)
            .await
            .unwrap_err();
        assert_eq!(error.kind, FailureKind::Permanent);
    }
    assert_eq!(local(&node).status().await, NodeProcess::Running);
}

#[tokio::test]
async fn fence_command_is_not_believed_without_proof() {
    let node = TestNode::primary(NodeOptions::default());
    let lying = ControlCommands {
        fence: Some(vec!["true".to_owned()]),
        ..commands(&node)
    };
    let began = Instant::now();
    let budget = Duration::from_secs(1);
    let error = by(&node, lying)
        .fence(EPOCH, Duration::ZERO, budget)
        .await
        .unwrap_err();
    assert_eq!(error.kind, FailureKind::OutcomeUnknown);
    assert!(began.elapsed() < AMPLE);
}

#[tokio::test]
async fn hanging_fence_command_does_not_hide_a_proved_fence() {
    let node = TestNode::primary(NodeOptions::default());
    node.stop("immediate");
    let hanging = ["sleep", "600"].map(str::to_owned).to_vec();
    let hanging = ControlCommands {
        fence: Some(hanging),
        timeout: Duration::from_millis(500),
        ..commands(&node)
    };
    let report = by(&node, hanging)
        .fence(EPOCH, Duration::ZERO, AMPLE)
        .await
        .unwrap();
    assert!(report.problem.unwrap().contains("sleep"));
}
