//! `config::grants` against a real pair: its SQL is enough for everything that the agent does in
//! PostgreSQL, and no line of it can go.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "tests: a broken assumption is a failed test"
)]

use std::path::Path;
use std::time::Duration;

use failover_agent::config::{Config, MemberRole, grants, parse};
use failover_agent::effects::clock::boottime;
use failover_agent::effects::permit::Unconditional;
use failover_agent::effects::postgres::canary::{HeartbeatTable, write_canary};
use failover_agent::effects::postgres::client::Login;
use failover_agent::effects::postgres::promote::promote;
use failover_agent::effects::postgres::report::report;
use failover_agent::effects::probes::resolve::Resolver;
use failover_agent::model::{Epoch, Moment, Role, SiteName};
use tokio_postgres::Client;
use tokio_postgres::error::SqlState;

use crate::support::postgres::{NodeOptions, Pair, SUPERUSER, TestNode};
use crate::support::wait_until;

/// Bound on each thing asked of a node.
const PATIENCE: Duration = Duration::from_secs(20);

fn deadline() -> Moment {
    boottime() + PATIENCE
}

/// The settings of a cluster on these two nodes, whose agents log in as `user`.
fn settings(pair: &Pair, user: &str) -> Config {
    let text = format!(
        r#"
        [peer]
        secret = "a secret of enough bytes"
        [sites.fra]
        address = "127.0.0.1:7401"
        database = {{ port = {}, data_dir = "/srv/fra" }}
        [sites.old]
        address = "127.0.0.1:7402"
        database = {{ port = {}, data_dir = "/srv/old" }}
        [database]
        user = "{user}"
        heartbeat_table = "{user}_schema.heartbeat"
        timeout = "5s"
        "#,
        pair.primary.port, pair.standby.port
    );
    let file = Path::new("agent.toml");
    let loaded = parse(&text, file, Some("fra"), MemberRole::Agent, &|_| None);
    loaded.unwrap().config
}

async fn superuser(node: &TestNode) -> Client {
    node.connect(SUPERUSER).await
}

/// What the agent cannot do with its role, by name; empty when it can do everything.
async fn shortcomings(pair: &Pair, config: &Config) -> Vec<&'static str> {
    let mut missing = Vec::new();
    let table = HeartbeatTable::new(&config.database.heartbeat_table).unwrap();
    for (site, role) in config.sites.iter().zip([Role::Primary, Role::Standby]) {
        let login = Login::new(&site.node, &config.database, &Resolver::from_system()).unwrap();
        let mut connection = login.connect(deadline()).await.expect("role may log in");
        match report(&mut connection, deadline()).await {
            Ok(node) => {
                assert_eq!(node.role, role);
                if !node.streaming {
                    missing.push("see replication");
                }
            }
            Err(_) => missing.push("report"),
        }
        if role == Role::Primary {
            // The first writes the row, the second rewrites it.
            for _ in 0..2 {
                let site = SiteName::new("fra");
                let written =
                    write_canary(&mut connection, &table, &site, Epoch(1), deadline()).await;
                if written.is_err() {
                    missing.push("write the canary");
                    break;
                }
            }
        }
    }
    // On a primary, the question is refused by privilege or, if that is there, by state.
    let client = pair.primary.connect(&config.database.user).await;
    let refusal = client.simple_query("SELECT pg_promote(false)").await;
    match refusal.unwrap_err().code() {
        Some(code) if *code == SqlState::INSUFFICIENT_PRIVILEGE => missing.push("promote"),
        code => assert_eq!(code, Some(&SqlState::OBJECT_NOT_IN_PREREQUISITE_STATE)),
    }
    missing
}

#[tokio::test(flavor = "multi_thread")]
async fn granted_role_does_everything_and_no_grant_can_go() {
    let pair = Pair::start();
    let admin = superuser(&pair.primary).await;

    let config = settings(&pair, "agent");
    let sql = grants::sql(&config);
    // Idempotent.
    admin.batch_execute(&sql).await.unwrap();
    admin.batch_execute(&sql).await.unwrap();

    let lines: Vec<_> = sql
        .lines()
        .filter(|line| line.starts_with("GRANT"))
        .collect();
    assert!(lines.len() >= 6, "{sql}");
    let mut variants = Vec::new();
    for (index, line) in lines.iter().enumerate() {
        // A role and a table of its own for each grant that is left out.
        let user = format!("agent_{index}");
        let rename = |text: &str| {
            text.replace("\"agent_schema\"", &format!("\"{user}_schema\""))
                .replace("\"agent\"", &format!("\"{user}\""))
        };
        let config = settings(&pair, &user);
        let sql = grants::sql(&config);
        let left_out = rename(line);
        assert!(sql.contains(&left_out), "{left_out}");
        admin
            .batch_execute(&sql.replace(&left_out, ""))
            .await
            .unwrap();
        variants.push((config, left_out));
    }
    pair.wait_caught_up().await;
    // A sender that has just caught up may not say so yet.
    wait_until("the standby streams", PATIENCE, || async {
        let sql = "SELECT EXISTS (SELECT FROM pg_stat_replication WHERE state = 'streaming')";
        admin.query_one(sql, &[]).await.unwrap().get(0)
    })
    .await;

    assert_eq!(shortcomings(&pair, &config).await, Vec::<&str>::new());
    for (config, left_out) in &variants {
        let missing = shortcomings(&pair, config).await;
        assert!(!missing.is_empty(), "nothing fails without: {left_out}");
        // It was this line that was missing, not something else.
        admin.batch_execute(left_out).await.unwrap();
        pair.wait_caught_up().await;
        let missing = shortcomings(&pair, config).await;
        assert_eq!(missing, Vec::<&str>::new(), "even with: {left_out}");
    }

    let row = admin
        .query_one(
            "SELECT rolsuper OR rolcreaterole OR rolcreatedb OR rolreplication OR rolbypassrls, \
             has_table_privilege('agent', 'pg_authid', 'SELECT') OR \
             has_table_privilege('agent', 'agent_schema.heartbeat', 'DELETE, TRUNCATE') OR \
             has_schema_privilege('agent', 'agent_schema', 'CREATE') OR \
             pg_has_role('agent', 'pg_read_all_data', 'MEMBER') OR \
             pg_has_role('agent', 'pg_read_server_files', 'MEMBER') OR \
             pg_has_role('agent', 'pg_execute_server_program', 'MEMBER') \
             FROM pg_roles WHERE rolname = 'agent'",
            &[],
        )
        .await
        .unwrap();
    assert!(
        !row.get::<_, bool>(0),
        "the role is more than a plain login"
    );
    assert!(
        !row.get::<_, bool>(1),
        "the role may do what the agent never does"
    );

    let [_, standby] = &config.sites;
    let login = Login::new(&standby.node, &config.database, &Resolver::from_system()).unwrap();
    let promoted = promote(&login, None, &Unconditional, deadline()).await;
    assert_eq!(promoted.unwrap().role, Role::Primary);
}

/// A role that was there before keeps what it is: the SQL must never weaken a superuser.
#[tokio::test(flavor = "multi_thread")]
async fn role_that_exists_is_not_changed() {
    let node = TestNode::primary(NodeOptions::default());
    let admin = superuser(&node).await;
    admin
        .batch_execute("CREATE ROLE agent SUPERUSER LOGIN")
        .await
        .unwrap();
    let text = "[peer]\nsecret = \"a secret of enough bytes\"\n\
                [sites.a]\naddress = \"127.0.0.1:1\"\ndatabase.data_dir = \"/srv/a\"\n\
                [sites.b]\naddress = \"127.0.0.1:2\"\n\
                database = { port = 5433, data_dir = \"/srv/b\" }\n";
    let file = Path::new("agent.toml");
    let loaded = parse(text, file, Some("a"), MemberRole::Agent, &|_| None).unwrap();
    admin
        .batch_execute(&grants::sql(&loaded.config))
        .await
        .unwrap();
    let row = admin.query_one("SELECT rolsuper FROM pg_roles WHERE rolname = 'agent'", &[]);
    assert!(row.await.unwrap().get::<_, bool>(0));
}
