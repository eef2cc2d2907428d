//! Nodes that must not be promoted, and what is said of them.

use std::fs;

use failover_agent::effects::error::EffectError;
use failover_agent::model::Role;
use failover_agent::model::outcome::{Failure, FailureKind};
use failover_agent::model::plan::Step;

use super::support::agent_role::{Access, install};
use super::support::postgres::{NodeOptions, Pair, SCRAM_ROLE, SUPERUSER, TestNode};
use super::support::wait_until;
use super::{AMPLE, World, demand, fence, pair, role, rows};

/// The whole text that an operator sees.
fn words(error: EffectError) -> String {
    Failure::from(error).to_string()
}

async fn refused(node: &TestNode, step: &Step, kind: FailureKind) -> String {
    let world = World::of(node).await;
    let error = world.apply(step).await.unwrap_err();
    assert_eq!(error.kind, kind, "{error:?}");
    words(error)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn s9_node_of_another_cluster_or_no_standby_is_no_candidate() {
    let pair = pair().await;
    let step = demand(&pair.primary, 1 << 20).await;
    let why = refused(&pair.primary, &step, FailureKind::Permanent).await;
    assert!(why.contains("is not a standby"), "{why}");

    let other = TestNode::primary(NodeOptions::default());
    install(&other).await;
    let standby = other.standby(NodeOptions::default());
    wait_until("the role arrives", AMPLE, || async {
        let client = standby.connect(SUPERUSER).await;
        let sql = "SELECT FROM pg_roles WHERE rolname = 'agent'";
        client.query_opt(sql, &[]).await.unwrap().is_some()
    })
    .await;
    let why = refused(&standby, &step, FailureKind::Permanent).await;
    assert!(why.contains("copy of another database"), "{why}");
    assert_eq!(role(&standby).await, Role::Standby);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn s9_standby_that_received_too_little_is_no_candidate() {
    let pair = pair().await;
    let client = pair.standby.connect(SUPERUSER).await;
    let sql = "SELECT pid FROM pg_stat_wal_receiver";
    let pid: i32 = client.query_one(sql, &[]).await.unwrap().get(0);
    let receiver = u32::try_from(pid).unwrap();
    pair.standby.signal("STOP", &[receiver]);
    let client = pair.primary.connect(SUPERUSER).await;
    let sql = "INSERT INTO kept SELECT generate_series(101, 10000)";
    client.batch_execute(sql).await.unwrap();
    let step = demand(&pair.primary, 64 << 10).await;
    let why = refused(&pair.standby, &step, FailureKind::Permanent).await;
    assert!(why.contains("failover.lag_max (64 KiB)"), "{why}");
    pair.standby.signal("CONT", &[receiver]);
    pair.wait_caught_up().await;
    let world = World::of(&pair.standby).await;
    world.apply(&step).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn standby_that_applies_late_is_promoted_with_all_it_received() {
    let primary = TestNode::primary(NodeOptions::default());
    let late = NodeOptions::default().set("recovery_min_apply_delay", "1h");
    let standby = primary.standby(late);
    let pair = Pair { standby, primary };
    // The standby does not apply the role for an hour: the superuser stands in for it.
    let access = Access::to(&pair.standby).user(SUPERUSER, None);
    let world = World::with(&pair.standby, &access).await;
    let client = pair.primary.connect(SUPERUSER).await;
    let sql = "CREATE TABLE kept (n bigint); INSERT INTO kept SELECT generate_series(1, 100)";
    client.batch_execute(sql).await.unwrap();
    let step = demand(&pair.primary, 0).await;
    wait_until("all is received", AMPLE, || async {
        world.apply(&step).await.is_ok()
    })
    .await;
    let fra = World::of(&pair.primary).await;
    fra.apply(&fence(std::time::Duration::ZERO)).await.unwrap();
    world
        .apply(&Step::Promote { timeout: AMPLE })
        .await
        .unwrap();
    assert_eq!(rows(&pair.standby).await, 100);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn wrong_password_is_a_fault_of_configuration_and_stays_secret() {
    let node = TestNode::primary(NodeOptions::default().scram("the right one"));
    let access = Access::to(&node).user(SCRAM_ROLE, Some("the wrong one"));
    let world = World::with(&node, &access).await;
    let promote = Step::Promote { timeout: AMPLE };
    let verify = Step::VerifyWrites { timeout: AMPLE };
    for step in [demand(&node, 0).await, promote, verify] {
        let error = world.apply(&step).await.unwrap_err();
        assert_eq!(error.kind, FailureKind::Permanent, "{error:?}");
        let why = format!("{error:?}") + &words(error);
        assert!(why.contains("password"), "{why}");
        assert!(!why.contains("the wrong one"), "{why}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn missing_data_directory_is_said_and_nothing_is_made_in_its_place() {
    let pair = pair().await;
    let step = demand(&pair.primary, 0).await;
    pair.standby.stop("immediate");
    let aside = pair.standby.data_dir.with_extension("aside");
    fs::rename(&pair.standby.data_dir, &aside).unwrap();
    let world = World::of(&pair.standby).await;
    let start = Step::StartOwn { timeout: AMPLE };
    for step in [start, fence(std::time::Duration::ZERO)] {
        let error = world.apply(&step).await.unwrap_err();
        assert_eq!(error.kind, FailureKind::Permanent, "{error:?}");
        let why = words(error);
        assert!(why.contains("data"), "{why}");
    }
    let error = world.apply(&step).await.unwrap_err();
    assert_eq!(error.kind, FailureKind::Retryable, "{error:?}");
    assert!(!pair.standby.data_dir.exists());
    fs::rename(&aside, &pair.standby.data_dir).unwrap();
}
