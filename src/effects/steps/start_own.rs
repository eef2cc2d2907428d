//! `StartOwn` (and the undo of `FenceOwn`): the own node runs as primary again.

use super::Tools;
use crate::effects::clock::boottime;
use crate::effects::error::EffectError;
use crate::effects::postgres::report::report;
use crate::model::event::Learned;
use crate::model::{Epoch, Moment, Role};

pub(super) async fn apply(
    tools: &Tools,
    epoch: Epoch,
    deadline: Moment,
) -> Result<Learned, EffectError> {
    tools
        .node
        .start_as_primary(epoch, boottime().until(deadline))
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
