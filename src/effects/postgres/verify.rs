//! Proof that a node takes writes: a canary that commits.

use std::time::Duration;

use super::canary::{HeartbeatTable, write_canary};
use super::client::{Connection, Login};
use super::failure::DatabaseError;
use super::report::report;
use crate::effects::clock::boottime;
use crate::effects::error::EffectError;
use crate::model::observation::NodeReport;
use crate::model::{Epoch, Moment, SiteName};

/// Pause between two attempts.
const RETRY_EVERY: Duration = Duration::from_millis(10);

/// Writes canaries to the node until one commits, and says what the node then is, with the time
/// that the commit took.
///
/// # Errors
///
/// `Retryable` when none commits by `deadline`: a canary too many harms nobody. `Permanent` when
/// the node refuses the agent's role, or holds a higher epoch than `epoch` (S8).
pub async fn verify_writes(
    login: &Login,
    table: &HeartbeatTable,
    site: &SiteName,
    epoch: Epoch,
    deadline: Moment,
) -> Result<NodeReport, EffectError> {
    let attempted = format!("commit a write on node {login}");
    let mut kept = None;
    let mut last = DatabaseError::Unreachable {
        why: "there was no time for an attempt".to_owned(),
    };
    while boottime() < deadline {
        match attempt(login, kept.take(), table, site, epoch, deadline).await {
            Ok((connection, seen, verified)) if seen <= epoch => {
                connection.close(deadline).await;
                return Ok(verified);
            }
            Ok((_, seen, _)) => {
                return Err(EffectError::permanent(format!(
                    "cannot {attempted}: epoch {epoch} is over, the database has seen epoch {seen}"
                ))
                .hint("another site has been active since; run `agent status`"));
            }
            Err((connection, error)) => {
                if is_permanent(&error) {
                    return Err(error.into_effect(&attempted));
                }
                kept = connection;
                last = error;
            }
        }
        tokio::time::sleep(RETRY_EVERY.min(boottime().until(deadline))).await;
    }
    Err(last.into_effect(&attempted))
}

type Attempt = Result<(Connection, Epoch, NodeReport), (Option<Connection>, DatabaseError)>;

async fn attempt(
    login: &Login,
    kept: Option<Connection>,
    table: &HeartbeatTable,
    site: &SiteName,
    epoch: Epoch,
    deadline: Moment,
) -> Attempt {
    let mut connection = match kept {
        Some(connection) => connection,
        None => login
            .connect(deadline)
            .await
            .map_err(|error| (None, error))?,
    };
    let written = match write_canary(&mut connection, table, site, epoch, deadline).await {
        Ok(canary) => report(&mut connection, deadline)
            .await
            .map(|node| (canary, node)),
        Err(error) => Err(error),
    };
    match written {
        Ok((canary, mut node)) => {
            node.canary = Some(canary.took);
            Ok((connection, canary.epoch, node))
        }
        Err(error) => Err((
            error.leaves_connection_usable().then_some(connection),
            error,
        )),
    }
}

/// Refusals do not go away by asking again; everything else may.
fn is_permanent(error: &DatabaseError) -> bool {
    use crate::model::outcome::FailureKind;
    match error.clone().into_effect("").kind {
        FailureKind::Permanent => true,
        FailureKind::Retryable | FailureKind::OutcomeUnknown => false,
    }
}
