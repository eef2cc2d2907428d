//! The agent's role and heartbeat table on a test node, with the least that it needs.

use std::time::Duration;

use failover_agent::config::secret::Secret;
use failover_agent::config::settings::{Control, Database, DatabaseTls, Node, ProbeTiming};
use failover_agent::effects::postgres::canary::HeartbeatTable;
use failover_agent::effects::postgres::client::Login;
use failover_agent::effects::probes::resolve::Resolver;

use super::postgres::{SUPERUSER, TestNode};

/// The role's name.
pub const AGENT_ROLE: &str = "agent";

/// The heartbeat table that [`install`] creates.
pub fn table() -> HeartbeatTable {
    HeartbeatTable::new("agent.heartbeat").expect("a plain name")
}

/// Creates role and table on a primary.
pub async fn install(primary: &TestNode) {
    let table = table();
    let sql = format!(
        "CREATE ROLE {AGENT_ROLE} LOGIN; GRANT pg_monitor TO {AGENT_ROLE}; \
         GRANT EXECUTE ON FUNCTION pg_promote(boolean, integer) TO {AGENT_ROLE}; \
         CREATE SCHEMA agent; GRANT USAGE ON SCHEMA agent TO {AGENT_ROLE}; \
         {create}; GRANT {privileges} ON {table} TO {AGENT_ROLE}",
        create = table.create_sql(),
        privileges = HeartbeatTable::PRIVILEGES.join(", "),
        table = table.quoted(),
    );
    primary
        .connect(SUPERUSER)
        .await
        .batch_execute(&sql)
        .await
        .expect("role and table can be created");
}

/// How the agent logs in to a node; change what matters, then [`Access::login`].
#[derive(Debug, Clone)]
pub struct Access {
    pub node: Node,
    pub database: Database,
}

impl Access {
    /// As [`AGENT_ROLE`], without password, with a patient timeout.
    pub fn to(node: &TestNode) -> Self {
        Self {
            node: Node {
                host: "127.0.0.1".to_owned(),
                port: node.port,
                data_dir: node.data_dir.clone(),
                bin_dir: None,
                os_user: None,
                control: Control::Local,
            },
            database: Database {
                user: AGENT_ROLE.to_owned(),
                password: None,
                dbname: "postgres".to_owned(),
                tls: DatabaseTls::Off,
                timing: ProbeTiming {
                    interval: Duration::from_secs(1),
                    fast_interval: Duration::from_millis(200),
                    timeout: Duration::from_secs(30),
                    fall: 3,
                    rise: 2,
                },
                fresh_interval: Duration::from_secs(5),
                heartbeat_table: "agent.heartbeat".to_owned(),
            },
        }
    }

    pub fn user(mut self, user: &str, password: Option<&str>) -> Self {
        user.clone_into(&mut self.database.user);
        self.database.password = password.map(Secret::new);
        self
    }

    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.database.timing.timeout = timeout;
        self
    }

    pub fn host(mut self, host: &str) -> Self {
        host.clone_into(&mut self.node.host);
        self
    }

    pub fn tls(mut self, tls: DatabaseTls) -> Self {
        self.database.tls = tls;
        self
    }

    pub fn login(&self) -> Login {
        Login::new(&self.node, &self.database, &Resolver::from_system()).expect("settings work")
    }
}
