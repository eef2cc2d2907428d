//! The support code for real PostgreSQL nodes does what the other tests take for granted.

use std::time::Duration;

use crate::support::postgres::{NodeOptions, Pair, SCRAM_ROLE, SUPERUSER, TestNode};
use crate::support::processes::processes_in;
use crate::support::wait_until;

#[tokio::test]
async fn pair_streams_and_leaves_nothing_behind() {
    let pair = Pair::start_with(
        NodeOptions::default(),
        NodeOptions::default().slot("standby"),
    );
    let client = pair.primary.connect(SUPERUSER).await;
    client
        .batch_execute("CREATE TABLE t AS SELECT 7 AS seven")
        .await
        .unwrap();
    pair.wait_caught_up().await;

    let standby = pair.standby.connect(SUPERUSER).await;
    let row = standby
        .query_one("SELECT seven, pg_is_in_recovery() FROM t", &[])
        .await
        .unwrap();
    assert_eq!(row.get::<_, i32>(0), 7);
    assert!(row.get::<_, bool>(1));
    let query = "SELECT active FROM pg_replication_slots WHERE slot_name = 'standby'";
    assert!(
        client
            .query_one(query, &[])
            .await
            .unwrap()
            .get::<_, bool>(0)
    );

    let dirs = [pair.primary.data_dir.clone(), pair.standby.data_dir.clone()];
    drop(pair);
    for dir in dirs {
        assert!(!dir.exists());
        assert_eq!(processes_in(&dir), Vec::<u32>::new());
    }
}

#[tokio::test]
async fn killed_primary_starts_again_with_the_same_port() {
    let node = TestNode::primary(NodeOptions::default());
    let pid = node.postmaster_pid();
    node.signal("KILL", &node.processes());
    wait_until(
        "all processes are gone",
        Duration::from_secs(10),
        || async { node.processes().is_empty() },
    )
    .await;
    node.start();
    assert_ne!(node.postmaster_pid(), pid);
    node.connect(SUPERUSER)
        .await
        .simple_query("SELECT 1")
        .await
        .unwrap();
    node.stop("fast");
    assert!(node.try_connect(SUPERUSER).await.is_err());
}

#[tokio::test]
async fn scram_role_needs_its_password() {
    let node = TestNode::primary(NodeOptions::default().scram("right"));
    assert!(node.try_connect(SCRAM_ROLE).await.is_err());
    let with = |password: &str| format!("{} password={password}", node.conninfo(SCRAM_ROLE));
    let connect = |text: String| async move {
        tokio_postgres::connect(&text, tokio_postgres::NoTls)
            .await
            .map(drop)
    };
    connect(with("right")).await.unwrap();
    connect(with("wrong")).await.unwrap_err();
}
