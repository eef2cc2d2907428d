//! The database probes: one that keeps its connection and writes the canary, one that opens a
//! fresh connection every time.
//!
//! Both are needed. When every slot is taken only the kept one gets through; when the postmaster is
//! frozen the kept one goes on working and only the fresh one hangs.

use async_trait::async_trait;
use tokio::sync::watch;

use super::Probe;
use crate::effects::postgres::canary::{HeartbeatTable, write_canary};
use crate::effects::postgres::client::{Connection, Login, Phase};
use crate::effects::postgres::failure::DatabaseError;
use crate::effects::postgres::report::report;
use crate::model::observation::{DatabaseSeen, NodeReport, Seen, Target};
use crate::model::{Epoch, Moment, Role, SiteName};

/// What the probe of the own node needs to write canaries.
#[derive(Debug, Clone)]
pub struct CanaryWriter {
    /// Where to.
    pub table: HeartbeatTable,
    /// Who writes.
    pub site: SiteName,
    /// The newest epoch this agent knows.
    pub epoch: watch::Receiver<Epoch>,
}

/// Keeps its connection; on the own node, when it is a primary, commits a canary at every look.
#[derive(Debug)]
pub struct PersistentProbe {
    target: Target,
    login: Login,
    canary: Option<CanaryWriter>,
    kept: Option<Connection>,
}

impl PersistentProbe {
    /// Prepares the probe; `canary` for the own node only: nobody writes into a peer's database.
    #[must_use]
    pub fn new(target: Target, login: Login, canary: Option<CanaryWriter>) -> Self {
        Self {
            target,
            login,
            canary,
            kept: None,
        }
    }

    /// Looks on the kept connection, or on a new one when there is none or it was cut while idle:
    /// a firewall that drops idle connections is no outage.
    async fn look_once(&mut self, deadline: Moment) -> DatabaseSeen {
        // Taken out while in use: a look that is dropped half-way leaves no half-used connection.
        if let Some(kept) = self.kept.take() {
            match self.look_on(kept, deadline).await {
                Ok(seen) => return seen,
                Err(error) if !error.may_be_a_stale_connection() => return error.into_seen(),
                Err(_) => {}
            }
        }
        match self.login.connect(deadline).await {
            Ok(new) => match self.look_on(new, deadline).await {
                Ok(seen) => seen,
                Err(error) => error.into_seen(),
            },
            Err(error) => error.into_seen(),
        }
    }

    async fn look_on(
        &mut self,
        mut connection: Connection,
        deadline: Moment,
    ) -> Result<DatabaseSeen, DatabaseError> {
        let node = match report(&mut connection, deadline).await {
            Ok(node) => node,
            Err(error) => {
                self.keep_if_usable(connection, &error);
                return Err(error);
            }
        };
        let writer = match (&self.canary, node.role) {
            (Some(writer), Role::Primary) => writer,
            (Some(_), Role::Standby) | (None, _) => {
                self.kept = Some(connection);
                return Ok(DatabaseSeen::Answered(node));
            }
        };
        let epoch = *writer.epoch.borrow();
        let written = write_canary(
            &mut connection,
            &writer.table,
            &writer.site,
            epoch,
            deadline,
        )
        .await;
        match written {
            Ok(canary) => {
                self.kept = Some(connection);
                Ok(DatabaseSeen::Answered(NodeReport {
                    canary: Some(canary.took),
                    ..node
                }))
            }
            Err(error) => {
                self.keep_if_usable(connection, &error);
                // A connection that answered a moment ago was not stale: this is the finding.
                Ok(error.into_seen_of_write(node))
            }
        }
    }

    fn keep_if_usable(&mut self, connection: Connection, error: &DatabaseError) {
        if error.leaves_connection_usable() {
            self.kept = Some(connection);
        }
    }
}

#[async_trait]
impl Probe for PersistentProbe {
    fn target(&self) -> Target {
        self.target.clone()
    }

    async fn look(&mut self, deadline: Moment) -> Seen {
        Seen::Database(self.look_once(deadline).await)
    }

    fn overdue(&self) -> Seen {
        overdue(Phase::Query)
    }
}

/// Opens a new connection for every look.
#[derive(Debug)]
pub struct FreshProbe {
    target: Target,
    login: Login,
}

impl FreshProbe {
    /// Prepares the probe.
    #[must_use]
    pub fn new(target: Target, login: Login) -> Self {
        Self { target, login }
    }
}

#[async_trait]
impl Probe for FreshProbe {
    fn target(&self) -> Target {
        self.target.clone()
    }

    async fn look(&mut self, deadline: Moment) -> Seen {
        let mut connection = match self.login.connect(deadline).await {
            Ok(connection) => connection,
            Err(error) => return Seen::Database(error.into_seen()),
        };
        let seen = match report(&mut connection, deadline).await {
            Ok(node) => {
                connection.close(deadline).await;
                DatabaseSeen::Answered(node)
            }
            Err(error) => error.into_seen(),
        };
        Seen::Database(seen)
    }

    fn overdue(&self) -> Seen {
        overdue(Phase::Startup)
    }
}

fn overdue(phase: Phase) -> Seen {
    Seen::Database(DatabaseSeen::TimedOut {
        phase: phase.to_string(),
    })
}
