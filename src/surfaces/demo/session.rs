//! A client's connection to one node of the demo, as an app would have it.

use std::fmt;
use std::time::Duration;

use tokio_postgres::error::SqlState;
use tokio_postgres::{Client, Config, NoTls};

use crate::config::secret::Secret;
use crate::runtime::tasks::spawn_named;

/// The database of the demo's app.
pub(super) const DATABASE: &str = "shop";

/// Where a node is, and as whom to log in.
#[derive(Debug, Clone)]
pub(super) struct Login {
    pub(super) host: String,
    pub(super) port: u16,
    pub(super) user: &'static str,
    pub(super) password: Secret,
    pub(super) database: &'static str,
}

impl fmt::Display for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.host, self.port)
    }
}

impl Login {
    /// Connects. The connection lives as long as the client.
    pub(super) async fn connect(&self) -> Result<Client, tokio_postgres::Error> {
        let mut config = Config::new();
        config
            .host(&self.host)
            .port(self.port)
            .user(self.user)
            .password(self.password.reveal())
            .dbname(self.database)
            .application_name("agent-demo");
        let (client, connection) = config.connect(NoTls).await?;
        // Its error reaches the client, too, which is where it is looked at.
        spawn_named("demo session", async move { drop(connection.await) });
        Ok(client)
    }
}

/// What became of one attempt to commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Attempt {
    /// Acknowledged.
    Committed,
    /// The node said that it takes no writes; the session lives.
    ReadOnly,
    /// The session is gone, or the node did not answer in time: whether it committed is not known.
    Lost,
}

/// Runs one writing statement with a number and waits for its commit.
pub(super) async fn commit(
    client: &Client,
    sql: &tokio_postgres::Statement,
    number: i64,
    within: Duration,
) -> Attempt {
    match tokio::time::timeout(within, client.execute(sql, &[&number])).await {
        Ok(Ok(_)) => Attempt::Committed,
        Ok(Err(error)) if error.code() == Some(&SqlState::READ_ONLY_SQL_TRANSACTION) => {
            Attempt::ReadOnly
        }
        Ok(Err(_)) | Err(_) => Attempt::Lost,
    }
}
