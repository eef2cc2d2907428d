//! The database probes against real PostgreSQL nodes in every state that leads somewhere else.

use std::time::Duration;

use failover_agent::model::observation::DatabaseSeen;
use failover_agent::model::{Role, Timeline};

use crate::support::agent_role::{AGENT_ROLE, Access, install, table};
use crate::support::database::{
    PATIENT, SHORT, answered, execute, fetch, fresh, look, look_for, own, primary, refusal,
    timed_out,
};
use crate::support::postgres::{NodeOptions, Pair, SCRAM_ROLE, SUPERUSER, TestNode};
use crate::support::wait_until;

#[tokio::test]
async fn primary_and_standby_tell_what_they_are() {
    let pair = Pair::start();
    install(&pair.primary).await;
    pair.wait_caught_up().await;

    let mut probe = own(&Access::to(&pair.primary));
    let first = answered(look(&mut probe).await);
    assert_eq!((first.role, first.timeline), (Role::Primary, Timeline(1)));
    assert!(first.streaming && first.canary.is_some());
    assert_eq!(first.lsn, first.replayed);
    let second = answered(look(&mut probe).await);
    assert!(second.lsn > first.lsn, "the first canary is in the log");

    pair.wait_caught_up().await;
    // Its own node, too: a standby is never written to.
    let standby = answered(look(&mut own(&Access::to(&pair.standby))).await);
    assert_eq!((standby.role, standby.canary), (Role::Standby, None));
    assert_eq!(standby.timeline, Timeline(1));
    assert_eq!(standby.system_id, first.system_id);
    assert!(standby.streaming);
    assert!(standby.lsn >= second.lsn && standby.replayed <= standby.lsn);

    let peer = answered(look(&mut fresh(&Access::to(&pair.primary))).await);
    assert_eq!((peer.role, peer.canary), (Role::Primary, None));

    let row = "SELECT concat_ws(' ', id, site, epoch, counter) FROM agent.heartbeat";
    assert_eq!(fetch(&pair.primary, row).await, "1 fra 1 2");
}

#[tokio::test]
async fn standby_without_its_primary_keeps_its_timeline_and_does_not_stream() {
    let pair = Pair::start();
    install(&pair.primary).await;
    pair.wait_caught_up().await;
    let mut probe = fresh(&Access::to(&pair.standby));
    let before = answered(look(&mut probe).await);
    let primary = &pair.primary;
    primary.signal("KILL", &primary.processes());
    wait_until("the receiver has gone", PATIENT, async || {
        !answered(look(&mut fresh(&Access::to(&pair.standby))).await).streaming
    })
    .await;
    let after = answered(look(&mut probe).await);
    assert_eq!(
        (after.role, after.timeline),
        (Role::Standby, before.timeline)
    );
    assert!(after.lsn >= before.lsn);
}

#[tokio::test]
async fn role_without_pg_monitor_still_sees_role_and_position() {
    let node = primary(NodeOptions::default()).await;
    execute(&node, "CREATE ROLE nobody LOGIN").await;
    let seen = look(&mut fresh(&Access::to(&node).user("nobody", None))).await;
    let report = answered(seen);
    assert_eq!((report.role, report.timeline), (Role::Primary, Timeline(1)));
}

#[tokio::test]
async fn full_node_is_busy_and_its_kept_connection_still_works() {
    let options = NodeOptions::default()
        .set("max_connections", "8")
        .set("superuser_reserved_connections", "1");
    let node = primary(options).await;
    let access = Access::to(&node);
    let mut kept = own(&access);
    answered(look(&mut kept).await);
    let mut clients = Vec::new();
    while let Ok(client) = node.try_connect(AGENT_ROLE).await {
        clients.push(client);
        assert!(clients.len() < 100, "the node is never full");
    }
    assert_eq!(
        look(&mut fresh(&access)).await,
        DatabaseSeen::TooManyClients
    );
    assert!(answered(look(&mut kept).await).canary.is_some());
}

#[tokio::test]
async fn passwords_open_or_are_refused_without_being_shown() {
    let node = TestNode::primary(NodeOptions::default().scram("right horse"));
    let with = |password| Access::to(&node).user(SCRAM_ROLE, password);
    answered(look(&mut fresh(&with(Some("right horse")))).await);
    let wrong = refusal(look(&mut fresh(&with(Some("s3cret")))).await);
    assert!(
        wrong.contains("28P01") && !wrong.contains("s3cret"),
        "{wrong}"
    );
    refusal(look(&mut fresh(&with(None))).await);
    assert!(!format!("{:?}", with(Some("s3cret")).login()).contains("s3cret"));

    let mut nowhere = Access::to(&node).user(SUPERUSER, None);
    "no_such_database".clone_into(&mut nowhere.database.dbname);
    assert!(refusal(look(&mut fresh(&nowhere)).await).contains("3D000"));
}

#[tokio::test]
async fn missing_table_is_a_refusal_and_is_not_created() {
    let node = primary(NodeOptions::default()).await;
    execute(&node, "DROP TABLE agent.heartbeat").await;
    let mut probe = own(&Access::to(&node));
    let why = refusal(look(&mut probe).await);
    assert!(why.contains("42P01") && why.contains("--grants"), "{why}");
    execute(&node, &table().create_sql()).await;
    assert!(refusal(look(&mut probe).await).contains("42501"));
    execute(
        &node,
        "GRANT SELECT, INSERT, UPDATE ON agent.heartbeat TO agent",
    )
    .await;
    assert!(answered(look(&mut probe).await).canary.is_some());
}

#[tokio::test]
async fn lock_of_a_person_is_told_from_a_canary_that_hangs() {
    let node = primary(NodeOptions::default()).await;
    let access = Access::to(&node).timeout(SHORT);
    let mut probe = own(&access);
    answered(look(&mut probe).await);

    let person = node.connect(SUPERUSER).await;
    person
        .batch_execute("SET application_name = 'maintenance'; BEGIN; LOCK TABLE agent.heartbeat")
        .await
        .unwrap();
    let seen = look(&mut probe).await;
    let DatabaseSeen::Locked { why } = seen else {
        panic!("{seen:?}");
    };
    assert!(why.contains("locked by maintenance"), "{why}");
    person.batch_execute("ROLLBACK").await.unwrap();
    answered(look(&mut probe).await);

    // What a canary that hangs in its commit leaves behind for the next one: its row's lock.
    let hung = node.connect(AGENT_ROLE).await;
    hung.batch_execute("BEGIN; UPDATE agent.heartbeat SET counter = 0")
        .await
        .unwrap();
    for _ in 0..2 {
        assert_eq!(look(&mut probe).await, timed_out("write"));
    }
    hung.batch_execute("ROLLBACK").await.unwrap();
    answered(look(&mut probe).await);
}

#[tokio::test]
async fn synchronous_standby_that_is_gone_is_no_dead_disk() {
    let node = primary(NodeOptions::default()).await;
    execute(
        &node,
        "ALTER SYSTEM SET synchronous_standby_names = 'nobody'",
    )
    .await;
    execute(&node, "SELECT pg_reload_conf()").await;
    wait_until("the setting is in effect", PATIENT, async || {
        fetch(&node, "SHOW synchronous_standby_names").await == "nobody"
    })
    .await;
    assert!(
        answered(look(&mut own(&Access::to(&node))).await)
            .canary
            .is_some()
    );
}

#[tokio::test]
async fn read_only_primary_cannot_write() {
    let node = primary(NodeOptions::default()).await;
    execute(&node, "ALTER SYSTEM SET default_transaction_read_only = on").await;
    execute(&node, "SELECT pg_reload_conf()").await;
    wait_until("the setting is in effect", PATIENT, async || {
        fetch(&node, "SHOW default_transaction_read_only").await == "on"
    })
    .await;
    let seen = look(&mut own(&Access::to(&node))).await;
    let DatabaseSeen::CannotWrite { report, fault, why } = seen else {
        panic!("{seen:?}");
    };
    assert_eq!(report.role, Role::Primary);
    assert!(why.starts_with("25006"), "{why}");
    // A setting: its disk has nothing to do with it.
    assert_eq!(fault, None);
}

#[tokio::test]
async fn node_that_accepts_no_connections_yet_is_starting() {
    let node = primary(NodeOptions::default()).await;
    let access = Access::to(&node);
    let mut probe = own(&access);
    answered(look(&mut probe).await);
    node.stop("fast");
    node.become_standby_at_next_start();
    node.append_setting("hot_standby", "off");
    node.append_setting("primary_conninfo", "host=127.0.0.1 port=1");
    node.start();
    assert_eq!(look(&mut fresh(&access)).await, DatabaseSeen::StartingUp);
    assert_eq!(look(&mut probe).await, DatabaseSeen::StartingUp);
}

#[tokio::test]
async fn node_in_a_smart_shutdown_is_shutting_down() {
    let node = primary(NodeOptions::default()).await;
    let access = Access::to(&node);
    let open = node.connect(SUPERUSER).await;
    // Smart shutdown: it waits for the open session, and turns new ones away.
    node.signal("TERM", &[node.postmaster_pid()]);
    wait_until("the node turns clients away", PATIENT, async || {
        look(&mut fresh(&access)).await == DatabaseSeen::ShuttingDown
    })
    .await;
    drop(open);
    wait_until("the node is down", PATIENT, async || {
        node.processes().is_empty()
    })
    .await;
    assert_eq!(
        look(&mut fresh(&access)).await,
        DatabaseSeen::NothingListens
    );
}

#[tokio::test]
async fn frozen_node_times_out_in_the_phase_that_hangs_and_thaws() {
    let node = primary(NodeOptions::default()).await;
    let access = Access::to(&node);
    let mut kept = own(&access);
    let mut fresh = fresh(&access);
    answered(look(&mut kept).await);

    // The postmaster alone: who is inside stays served, nobody new gets in.
    node.signal("STOP", &[node.postmaster_pid()]);
    assert!(answered(look(&mut kept).await).canary.is_some());
    assert_eq!(look_for(&mut fresh, SHORT).await, timed_out("startup"));

    // The whole node. The second look has no connection left and hangs in a new one.
    node.signal("STOP", &node.processes());
    assert_eq!(look_for(&mut kept, SHORT).await, timed_out("query"));
    assert_eq!(look_for(&mut kept, SHORT).await, timed_out("startup"));
    assert_eq!(look_for(&mut fresh, SHORT).await, timed_out("startup"));

    node.signal("CONT", &node.processes());
    assert!(answered(look(&mut kept).await).canary.is_some());
    answered(look(&mut fresh).await);
}

#[tokio::test]
async fn killed_node_does_not_listen() {
    let node = primary(NodeOptions::default()).await;
    let access = Access::to(&node);
    let mut kept = own(&access);
    answered(look(&mut kept).await);
    node.signal("KILL", &node.processes());
    wait_until("its processes are gone", PATIENT, async || {
        node.processes().is_empty()
    })
    .await;
    assert_eq!(look(&mut kept).await, DatabaseSeen::NothingListens);
    assert_eq!(
        look(&mut fresh(&access)).await,
        DatabaseSeen::NothingListens
    );
}

#[tokio::test]
async fn kept_connection_that_was_cut_is_opened_again_within_the_look() {
    let node = primary(NodeOptions::default()).await;
    let mut kept = own(&Access::to(&node));
    answered(look(&mut kept).await);
    let cut = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
               WHERE application_name = 'agent'";
    execute(&node, cut).await;
    let left = "SELECT count(*)::text FROM pg_stat_activity WHERE application_name = 'agent'";
    wait_until("the session has ended", PATIENT, async || {
        fetch(&node, left).await == "0"
    })
    .await;
    assert!(answered(look(&mut kept).await).canary.is_some());
}

#[tokio::test]
async fn s13_address_that_does_not_resolve_accuses_nobody() {
    let node = primary(NodeOptions::default()).await;
    let access = Access::to(&node).host("no-such-host.invalid");
    let seen = look_for(&mut fresh(&access), Duration::from_secs(2)).await;
    assert!(matches!(seen, DatabaseSeen::LocalFault { .. }), "{seen:?}");
    answered(look(&mut fresh(&Access::to(&node).host("localhost"))).await);
}
