//! `StartOwn` (and the undo of `FenceOwn`): the own node runs as primary again.

use super::{Attempt, Tools};
use crate::effects::clock::boottime;
use crate::effects::error::EffectError;
use crate::effects::postgres::report::report;
use crate::model::Role;
use crate::model::event::Learned;

pub(super) async fn apply(tools: &Tools, attempt: Attempt<'_>) -> Result<Learned, EffectError> {
    let deadline = attempt.deadline;
    let timeout = boottime().until(deadline);
    tools
        .node
        .start_as_primary(attempt.epoch, attempt.permit, timeout)
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
    if node.role != Role::Primary {
        return Err(
            EffectError::permanent("the own node was started but runs as a standby")
                .hint("look for standby.signal or recovery.signal in its data directory"),
        );
    }
    Ok(Learned {
        note: format!("runs as primary on timeline {}", node.timeline),
        node: Some(node),
    })
}
