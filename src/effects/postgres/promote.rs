//! Promotion by SQL.

use std::time::Duration;

use super::client::{Connection, Login, Phase};
use super::failure::DatabaseError;
use super::report::{in_recovery, report};
use crate::effects::clock::boottime;
use crate::effects::error::EffectError;
use crate::effects::exec::{CommandSpec, run};
use crate::effects::permit::Permit;
use crate::model::observation::NodeReport;
use crate::model::{Moment, Role};

/// How often a node that is being promoted is asked whether it is done: short against the some
/// 50 ms that a promotion takes, long against the 0.1 ms of the question.
const POLL_EVERY: Duration = Duration::from_millis(3);

/// Pause between attempts to get back to a node whose connection broke in the middle.
const RECONNECT_EVERY: Duration = Duration::from_millis(20);

/// Promotes the node and comes back as soon as it takes writes.
///
/// `pg_promote(wait => false)`: with `true` it comes back about 50 ms after the node takes writes,
/// because it polls; the same is asked here, more often. Source: PostgreSQL manual 9.27.4.
/// A node that is a primary already is left alone, so repeating this is harmless.
///
/// # Errors
///
/// `Retryable` or `Permanent` when nothing has been asked of the node (also because the `permit` is
/// over), `OutcomeUnknown` when it has
/// and is not seen as primary by `deadline`.
///
/// With `command` (a node that is controlled by commands) that is run instead of the function.
pub async fn promote(
    login: &Login,
    command: Option<&CommandSpec>,
    permit: &dyn Permit,
    deadline: Moment,
) -> Result<NodeReport, EffectError> {
    let attempted = format!("promote node {login}");
    let mut connection = login
        .connect(deadline)
        .await
        .map_err(|error| error.into_effect(&attempted))?;
    let before = report(&mut connection, deadline)
        .await
        .map_err(|error| error.into_effect(&attempted))?;
    match before.role {
        Role::Primary => {
            connection.close(deadline).await;
            return Ok(before);
        }
        Role::Standby => {
            permit.still_held()?;
            match command {
                None => ask(&mut connection, &attempted, deadline).await?,
                Some(command) => order(command, &attempted).await?,
            }
        }
    }
    match until_primary(login, connection, deadline).await {
        Ok(report) => Ok(report),
        Err(last) => Err(EffectError::unknown(format!(
            "node {login} was asked to promote but is not seen as primary in time: {last}"
        ))
        .hint("look at the node's log; `SELECT pg_is_in_recovery()` says what it is now")),
    }
}

/// Runs the configured command. Whatever it says, the node itself is asked afterwards.
async fn order(command: &CommandSpec, attempted: &str) -> Result<(), EffectError> {
    let ended = run(command).await?;
    if ended.success() {
        return Ok(());
    }
    Err(EffectError::unknown(format!(
        "cannot {attempted}: the promote command {}",
        ended.complaint()
    )))
}

async fn ask(
    connection: &mut Connection,
    attempted: &str,
    deadline: Moment,
) -> Result<(), EffectError> {
    let asked = connection
        .run(Phase::Query, deadline, |client| {
            client.simple_query("SELECT pg_promote(false)")
        })
        .await;
    match asked {
        Ok(_) => Ok(()),
        // "recovery is not in progress": somebody was faster. Whoever looks next sees it.
        Err(DatabaseError::Server { code, .. }) if code == "55000" => Ok(()),
        // The node said no, so it did not begin.
        Err(error @ DatabaseError::Server { .. }) => Err(error.into_effect(attempted)),
        Err(error) => Err(EffectError::unknown(format!(
            "cannot tell whether the request arrived to {attempted}: {error}"
        ))),
    }
}

/// Asks until the node is a primary; what stood in the way last, when the deadline comes first.
async fn until_primary(
    login: &Login,
    connection: Connection,
    deadline: Moment,
) -> Result<NodeReport, String> {
    let mut connection = Some(connection);
    let mut last = "still in recovery".to_owned();
    while boottime() < deadline {
        let looked = match connection.take() {
            Some(kept) => look(kept, deadline).await,
            None => match login.connect(deadline).await {
                Ok(new) => look(new, deadline).await,
                Err(error) => Err(error),
            },
        };
        let pause = match looked {
            Ok(Look::Primary(report)) => return Ok(report),
            Ok(Look::StillStandby(kept)) => {
                connection = Some(kept);
                POLL_EVERY
            }
            Err(error) => {
                last = error.to_string();
                RECONNECT_EVERY
            }
        };
        tokio::time::sleep(pause.min(boottime().until(deadline))).await;
    }
    Err(last)
}

enum Look {
    Primary(NodeReport),
    StillStandby(Connection),
}

async fn look(mut connection: Connection, deadline: Moment) -> Result<Look, DatabaseError> {
    if in_recovery(&mut connection, deadline).await? {
        return Ok(Look::StillStandby(connection));
    }
    let report = report(&mut connection, deadline).await?;
    Ok(Look::Primary(report))
}
