//! `StartStandby`: the own node, which died between its promotion and the proof of it, runs again
//! and has replayed what it has.

use super::{Attempt, Tools};
use crate::effects::clock::boottime;
use crate::effects::error::EffectError;
use crate::effects::postgres::report::report;
use crate::model::event::Learned;

pub(super) async fn apply(tools: &Tools, attempt: Attempt<'_>) -> Result<Learned, EffectError> {
    let deadline = attempt.deadline;
    let timeout = boottime().until(deadline);
    tools
        .node
        .start_as_standby(attempt.epoch, attempt.permit, timeout)
        .await?;
    let attempted = "read the started node's role";
    let mut connection = tools
        .login
        .connect(deadline)
        .await
        .map_err(|error| error.into_effect(attempted))?;
    let node = report(&mut connection, deadline)
        .await
        .map_err(|error| error.into_effect(attempted))?;
    connection.close(deadline).await;
    Ok(Learned {
        note: format!(
            "runs as {} on timeline {} at {}",
            node.role, node.timeline, node.lsn
        ),
        node: Some(node),
    })
}
