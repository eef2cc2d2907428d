//! Standbys that cannot take over: nothing is promoted, and the old primary runs again in place.

use super::{Diagnosis, SOON, keep_rows, kill_postmaster, refused, rows_up_to, shows};
use crate::support::cluster::{ClusterOptions, TestCluster};
use crate::support::{timeline, wait_until};

/// Kills fra's postmaster and waits until it runs again where it was.
async fn is_restarted_in_place(cluster: &TestCluster) {
    let before = cluster.node(0).postmaster_pid();
    let fault = timeline::now();
    kill_postmaster(cluster, 0);
    wait_until("the node runs again in place", SOON, || async {
        let status = cluster.status(0);
        let runs = status.active && status.run.is_none() && status.phase == "active";
        let anew =
            cluster.node(0).processes().len() > 3 && cluster.node(0).postmaster_pid() != before;
        runs && anew
    })
    .await;
    let client = cluster.node(0).connect("postgres").await;
    client
        .batch_execute("INSERT INTO kept VALUES (0)")
        .await
        .unwrap();
    assert!(!cluster.status(1).active);
    cluster.print_timeline("restart in place", fault);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn s9_lagging_standby_is_not_promoted_and_the_old_primary_is_restarted() {
    let cluster = TestCluster::start(ClusterOptions {
        failover: "lag_max = \"64KiB\"".to_owned(),
        ..ClusterOptions::default()
    })
    .await;
    keep_rows(&cluster, 100).await;
    let standby = cluster.node(1).connect("postgres").await;
    let row = standby
        .query_one("SELECT pid FROM pg_stat_wal_receiver", &[])
        .await
        .unwrap();
    let receiver = u32::try_from(row.get::<_, i32>(0)).unwrap();
    cluster.node(1).signal("STOP", &[receiver]);
    let client = cluster.node(0).connect("postgres").await;
    let sql = "INSERT INTO kept SELECT generate_series(200, 20000)";
    client.batch_execute(sql).await.unwrap();
    drop(client);
    cluster
        .wait_status(0, "the lag", SOON, |status| {
            shows(status, Diagnosis::StandbyLagging)
        })
        .await;
    let reason = refused(cluster.failover(0, "ams", false).await);
    assert!(reason.contains("lacks"), "{reason}");
    let dry = refused(cluster.failover(0, "ams", true).await);
    assert_eq!(dry, reason, "a dry run says the same");
    is_restarted_in_place(&cluster).await;
    assert_eq!(rows_up_to(&cluster, 0, 20_000).await, 100 + 19_801 + 1);
    cluster.node(1).signal("CONT", &[receiver]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn unreachable_standby_is_not_promoted_and_the_old_primary_is_restarted() {
    let mut cluster = TestCluster::start(ClusterOptions::default()).await;
    cluster.node(1).stop("fast");
    cluster
        .wait_status(0, "the standby is missed", SOON, |status| {
            shows(status, Diagnosis::StandbyUnusable)
        })
        .await;
    let reason = refused(cluster.failover(0, "ams", false).await);
    assert!(reason.contains("its node is down"), "{reason}");
    is_restarted_in_place(&cluster).await;
    // The same without its agent.
    cluster.stop_agent(1).await;
    cluster
        .wait_status(0, "the agent is missed", SOON, |status| {
            status
                .members
                .iter()
                .any(|member| member.reach == failover_agent::model::situation::Reach::Silent)
        })
        .await;
    let reason = refused(cluster.failover(0, "ams", false).await);
    assert!(
        reason.contains("agent of site ams does not answer"),
        "{reason}"
    );
}
