//! The active site's database is alive, but one thing about it does not work: told, and left alone.

use std::time::{Duration, Instant};

use failover_agent::model::diagnosis::Diagnosis;
use failover_agent::model::plan::PlanKind;
use tokio_postgres::Client;

use super::disk::plans;
use super::{SOON, shows, stays_active};
use crate::support::cluster::{ClusterOptions, TestCluster};
use crate::support::wait_until;
use crate::support::writer::App;

/// Longer than the patience of the canary (1 s) and of `fall` looks together.
const LONG: Duration = Duration::from_secs(3);

async fn wait_shown(cluster: &TestCluster, name: Diagnosis) {
    let shown = |status: &_| shows(status, name);
    cluster.wait_status(0, name.name(), SOON, shown).await;
}

/// The site stays active while the app goes on committing, and nothing fails.
async fn goes_on(cluster: &TestCluster, app: &App, name: Diagnosis) {
    let so_far = app.commits().len();
    stays_active(cluster, 0, LONG).await;
    assert!(shows(&cluster.status(0), name), "it is still shown");
    assert!(app.commits().len() > so_far + 20, "the app goes on");
    for kind in [PlanKind::GiveUp, PlanKind::Restart, PlanKind::Fence] {
        assert_eq!(plans(cluster, kind), 0, "{kind:?}");
    }
    assert!(!cluster.status(1).active);
}

async fn execute(client: &Client, sql: &str) {
    client.batch_execute(sql).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn lock_storm_is_no_reason_to_fail_over() {
    let cluster = TestCluster::start(ClusterOptions::default()).await;
    let (holder, app) = (
        cluster.node(0).connect("postgres").await,
        App::start([cluster.node(0), cluster.node(1)]),
    );
    let tables: Vec<String> = (0..50).map(|n| format!("storm{n}")).collect();
    for table in &tables {
        execute(&holder, &format!("CREATE TABLE {table} ()")).await;
    }
    let all = tables.join(", ");
    let storm = format!("BEGIN; LOCK TABLE agent.heartbeat, {all} IN ACCESS EXCLUSIVE MODE");
    execute(&holder, &storm).await;
    let mut waiting = Vec::new();
    for table in tables.iter().take(10) {
        let client = cluster.node(0).connect("postgres").await;
        let sql = format!("SELECT FROM {table}");
        waiting.push(tokio::spawn(
            async move { client.batch_execute(&sql).await },
        ));
    }
    wait_shown(&cluster, Diagnosis::DatabaseBusy).await;
    goes_on(&cluster, &app, Diagnosis::DatabaseBusy).await;
    assert!(
        waiting.iter().all(|client| !client.is_finished()),
        "all wait"
    );
    execute(&holder, "ROLLBACK").await;
    for client in waiting {
        client.await.unwrap().unwrap();
    }
    cluster.wait_settled(0).await;
    assert_eq!(app.failures(), 0, "not one commit failed");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn too_many_connections_are_no_reason_to_fail_over() {
    let cluster = TestCluster::start(ClusterOptions::default()).await;
    let app = App::start([cluster.node(0), cluster.node(1)]);
    wait_until("the app commits", SOON, || async {
        app.commits().len() > 20
    })
    .await;
    let admin = cluster.node(0).connect("postgres").await;
    let mut crowd = Vec::new();
    while let Ok(client) = cluster.node(0).try_connect("postgres").await {
        crowd.push(client);
    }
    // The agent's own connection is cut as well, until its place is taken, too.
    let cut = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
               WHERE application_name = 'agent'";
    let deadline = Instant::now() + SOON;
    while !shows(&cluster.status(0), Diagnosis::DatabaseBusy) {
        assert!(Instant::now() < deadline, "not shown as busy");
        execute(&admin, cut).await;
        while let Ok(client) = cluster.node(0).try_connect("postgres").await {
            crowd.push(client);
        }
        // bounded: by the assertion above
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    goes_on(&cluster, &app, Diagnosis::DatabaseBusy).await;
    drop(crowd);
    cluster.wait_settled(0).await;
    assert_eq!(app.failures(), 0, "not one commit failed");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn checkpoint_that_hangs_is_no_reason_to_fail_over() {
    let cluster = TestCluster::start(ClusterOptions::default()).await;
    let client = cluster.node(0).connect("postgres").await;
    let sql = "SELECT pid FROM pg_stat_activity WHERE backend_type = 'checkpointer'";
    let row = client.query_one(sql, &[]).await.unwrap();
    let checkpointer = u32::try_from(row.get::<_, i32>(0)).unwrap();
    cluster.node(0).signal("STOP", &[checkpointer]);
    let app = App::start([cluster.node(0), cluster.node(1)]);
    let checkpoint = tokio::spawn(async move { client.batch_execute("CHECKPOINT").await });
    // And the canary's commit, as one that waits behind the checkpoint's writes would: a lock on
    // its row looks to it like a disk that hangs. That WAL still arrives at the standby shows that
    // it is not.
    let holder = cluster.node(0).connect("postgres").await;
    execute(&holder, "BEGIN; SELECT FROM agent.heartbeat FOR UPDATE").await;
    wait_shown(&cluster, Diagnosis::DatabaseBusy).await;
    goes_on(&cluster, &app, Diagnosis::DatabaseBusy).await;
    assert!(!checkpoint.is_finished(), "the checkpoint hangs");
    cluster.node(0).signal("CONT", &[checkpointer]);
    checkpoint.await.unwrap().unwrap();
    execute(&holder, "ROLLBACK").await;
    cluster.wait_settled(0).await;
    assert_eq!(app.failures(), 0, "not one commit failed");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn database_that_only_its_own_agent_does_not_reach_is_not_failed_over() {
    let cluster = TestCluster::start(ClusterOptions {
        relayed: true,
        ..ClusterOptions::default()
    })
    .await;
    let app = App::start([cluster.node(0), cluster.node(1)]);
    cluster.network.cut_within("fra");
    wait_shown(&cluster, Diagnosis::ProbeDisagrees).await;
    goes_on(&cluster, &app, Diagnosis::ProbeDisagrees).await;
    cluster.network.heal();
    cluster.wait_settled(0).await;
    assert_eq!(app.failures(), 0, "not one commit failed");
}
