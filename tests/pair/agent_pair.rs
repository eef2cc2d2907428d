//! Whole agents over real PostgreSQL: the main job, end to end.

use std::time::Duration;

use failover_agent::model::event::Answer;

use crate::support::cluster::{ClusterOptions, TestCluster};

const SOON: Duration = Duration::from_secs(20);

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn s6_killed_postmaster_is_handed_over_and_every_file_follows() {
    let cluster = TestCluster::start(ClusterOptions::default()).await;
    let client = cluster.node(0).connect("postgres").await;
    client
        .batch_execute("INSERT INTO kept SELECT generate_series(1, 1000)")
        .await
        .unwrap();
    cluster.pair.wait_caught_up().await;

    let postmaster = cluster.node(0).postmaster_pid();
    cluster.node(0).signal("KILL", &[postmaster]);

    cluster
        .wait_status(1, "ams is active", SOON, |status| status.active)
        .await;
    let client = cluster.node(1).connect("postgres").await;
    let row = client
        .query_one("SELECT count(*) FROM kept", &[])
        .await
        .unwrap();
    assert_eq!(row.get::<_, i64>(0), 1000);
    client
        .batch_execute("INSERT INTO kept VALUES (1001)")
        .await
        .unwrap();
    assert!(
        cluster.node(0).processes().is_empty(),
        "the old node is fenced"
    );
    cluster.wait_env_names("ams", 1, SOON).await;
    cluster.wait_env_names("fra", 1, SOON).await;
    let record = cluster.status(1).record.clone().expect("a record");
    assert_eq!(record.primary.as_str(), "ams");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn s15_operator_moves_the_primary_and_a_dry_run_changes_nothing() {
    let cluster = TestCluster::start(ClusterOptions::default()).await;
    let before = cluster.status(0).lease.epoch;
    let Answer::WouldDo { plans } = cluster.failover(0, "ams", true).await else {
        panic!("a dry run shows plans");
    };
    assert_eq!(plans.len(), 2);
    assert_eq!(cluster.status(0).lease.epoch, before);
    assert!(cluster.status(0).active);

    // Asked for at the standby site, the command goes to the active one.
    let answer = cluster.failover(1, "ams", false).await;
    assert!(matches!(answer, Answer::PassedOn { .. }), "{answer:?}");
    cluster
        .wait_status(1, "ams is active", SOON, |status| status.active)
        .await;
    let refused = cluster.failover(1, "ams", false).await;
    assert!(matches!(refused, Answer::Refused { .. }), "{refused:?}");
}
